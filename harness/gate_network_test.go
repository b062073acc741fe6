package harness_test

import (
	"bufio"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"modernc.org/sqlite"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// serve has a toy in another process, as far as its clients can tell: a line for
// each statement, one for its answer.
func serve(t *testing.T) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	shared := newToy()
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = client.Close() }()
				raw, _ := shared.Connect(context.Background())
				conn := raw.(*toyConn)
				defer func() { _ = conn.Close() }()
				lines := bufio.NewScanner(client)
				for lines.Scan() {
					answer := conn.answer(lines.Text())
					if _, err := fmt.Fprintln(client, answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String()
}

func (c *toyConn) answer(line string) string {
	var n []int64
	var err error
	switch line {
	case "begin":
		c.inTx = true
	case "commit":
		err = c.end(true)
	case "rollback":
		err = c.end(false)
	default:
		n, err = c.run(context.Background(), line, []driver.NamedValue{{Value: int64(1)}})
	}
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(n)
}

// far is a driver for that server.
type far struct{ address string }

func (f far) Driver() driver.Driver            { return f }
func (f far) Open(string) (driver.Conn, error) { return f.Connect(context.Background()) }
func (f far) Connect(context.Context) (driver.Conn, error) {
	c, err := net.Dial("tcp", f.address)
	if err != nil {
		return nil, err
	}
	return &farConn{c, bufio.NewReader(c)}, nil
}

type farConn struct {
	conn  net.Conn
	lines *bufio.Reader
}

func (c *farConn) asks(line string) error {
	if _, err := fmt.Fprintln(c.conn, line); err != nil {
		return err
	}
	_, err := c.lines.ReadString('\n')
	return err
}

func (c *farConn) Prepare(string) (driver.Stmt, error) { return nil, errors.New("nothing is prepared") }
func (c *farConn) Close() error                        { return c.conn.Close() }
func (c *farConn) Begin() (driver.Tx, error)           { return c, c.asks("begin") }
func (c *farConn) Commit() error                       { return c.asks("commit") }
func (c *farConn) Rollback() error                     { return c.asks("rollback") }
func (c *farConn) ExecContext(_ context.Context, text string, _ []driver.NamedValue) (driver.Result, error) {
	return driver.RowsAffected(1), c.asks(text)
}

// TestGateOverTheNetworkSaysWhatItCannotTell: a statement without an answer for a
// while may wait for another actor, and the verdict names that. Where none waits
// it has nothing to say.
func TestGateOverTheNetworkSaysWhatItCannotTell(t *testing.T) {
	address := serve(t)
	scenario := func(names ...string) func(s *harness.Sim) {
		return func(s *harness.Sim) {
			db := sql.OpenDB(harness.Gate(s, far{address}))
			s.OnEnd(func() { _ = db.Close() })
			for i, name := range names {
				s.Go(fmt.Sprint("actor ", i), func(ctx context.Context) error { return inToyTx(ctx, db, "add "+name+" ?") })
			}
		}
	}
	apart := harness.Explore(t, scenario("a", "b"))
	harnesstest.MustPass(t, apart)
	if len(apart.Unexplored) > 0 || apart.Schedules() != 20 { // 6! / 3!²
		t.Errorf("none waits, and it says %s", apart)
	}
	steady := true
	r := harness.ExploreBefore(t, harness.Eyes{Schedule: func(seen harness.Seen) { steady = !seen.Unsteady() }}, scenario("a", "a"), harness.WithStrategies(harness.Exhaustive(0)))
	if r.Failure != nil || steady || r.Schedules() < 10 || !strings.Contains(r.String(), "without an answer for 200ms was taken to wait") {
		t.Errorf("it says %s\n%v", r, r.Report)
	}
}

// TestGateHandsErrorsThrough, as those of a database that is busy: SQLite without
// a package of its own.
func TestGateHandsErrorsThrough(t *testing.T) {
	scenario := func(text string) func(s *harness.Sim) {
		return func(s *harness.Sim) {
			db := sql.OpenDB(harness.Gate(s, byName{"file:/gated?vfs=memdb"}))
			s.OnEnd(func() { _ = db.Close() })
			if _, err := db.Exec(`drop table if exists counter; create table counter (n integer not null); insert into counter values (0)`); err != nil {
				panic(err)
			}
			both(s, func(ctx context.Context) error {
				n, err := harnesstest.Read(db)
				if err == nil {
					_, err = db.ExecContext(ctx, text, n+1)
				}
				return err
			}, harness.Needed())
			s.Eventually("both are counted", func() error {
				if n, err := harnesstest.Read(db); err != nil || n != 2 {
					return errors.Join(err, fmt.Errorf("n is %d", n))
				}
				return nil
			})
		}
	}
	r := harnesstest.MustFail(t, harness.Explore(t, scenario(`update counter set n = ?`)), "eventually", "n is 1")
	if r.Anomaly != "lost update" || !strings.Contains(r.Fix, "lock it before it is read") {
		t.Errorf("it is called %q, and mended by %q\n%s", r.Anomaly, r.Fix, r)
	}
	harnesstest.MustPass(t, harness.Explore(t, scenario(`update counter set n = n + 1 where ? > 0`)))
	busy := harness.Explore(t, func(s *harness.Sim) {
		scenario(`update counter set n = n + 1 where ? > 0`)(s)
		db := sql.OpenDB(harness.Gate(s, byName{"file:/gated?vfs=memdb"}))
		s.OnEnd(func() { _ = db.Close() })
		s.Go("holder", func(ctx context.Context) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, `update counter set n = n`)
			return errors.Join(err, tx.Commit())
		})
	})
	harnesstest.MustFail(t, busy, "error", "SQLITE_BUSY")
}

// byName opens SQLite as any driver is opened.
type byName struct{ dsn string }

func (n byName) Driver() driver.Driver                        { return &sqlite.Driver{} }
func (n byName) Connect(context.Context) (driver.Conn, error) { return n.Driver().Open(n.dsn) }
