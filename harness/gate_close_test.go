package harness_test

import (
	"context"
	"database/sql/driver"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
)

// asked is a driver's connection that says whether it is valid, and must not be asked
// once it is closed.
type asked struct {
	driver.Conn
	t      *testing.T
	closed bool
}

func (c *asked) Close() error { c.closed = true; return c.Conn.Close() }

func (c *asked) IsValid() bool {
	if c.closed {
		c.t.Error("a connection is asked behind its end")
	}
	return true
}

type asking struct {
	driver.Connector
	t *testing.T
}

func (c asking) Connect(ctx context.Context) (driver.Conn, error) {
	raw, err := c.Connector.Connect(ctx)
	return &asked{Conn: raw, t: c.t}, err
}

// TestGateLetsNoClosedConnectionBeValid: a crash closes it under database/sql, which
// would keep it.
func TestGateLetsNoClosedConnectionBeValid(t *testing.T) {
	harness.Explore(t, func(s *harness.Sim) {
		conn, err := harness.Gate(s, asking{newToy(), t}).Connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		v, ok := conn.(driver.Validator)
		if !ok || !v.IsValid() {
			t.Fatal("an open connection is none")
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		if v.IsValid() {
			t.Error("a closed connection is valid")
		}
	})
}

// TestGateTakesNoStepOfAnotherGoroutine where that closes a connection with an open
// transaction, as a pool does in the background: what the actor does is the actor's.
func TestGateTakesNoStepOfAnotherGoroutine(t *testing.T) {
	toy := newToy()
	r := harness.Explore(t, func(s *harness.Sim) {
		db := gated(s, toy)
		s.Go("ann", func(ctx context.Context) error {
			conn, err := db.Conn(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			tx, err := conn.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			closed := make(chan error)
			go func() {
				closed <- conn.Raw(func(c any) error { return c.(driver.Conn).Close() }) //nolint:forcetypeassert // each is one
			}()
			if err := <-closed; err != nil {
				return err
			}
			_ = tx.Rollback() // whose connection is gone
			return nil
		})
	})
	if r.Failure != nil {
		t.Error(r.Failure, r.Report)
	}
}
