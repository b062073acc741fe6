package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// processVariable has this test program do one of what [deeds] names, and nothing
// else: it is the other process.
const processVariable = "RUNCOUNTER_TEST_PROCESS"

// deeds are what a process does, or an actor within this one.
var deeds = map[string]func(ctx context.Context, c *pgx.Conn) error{
	"read and write": func(ctx context.Context, c *pgx.Conn) error {
		var n int
		if err := c.QueryRow(ctx, `select n from accounts where id = 1`).Scan(&n); err != nil {
			return err
		}
		_, err := c.Exec(ctx, `update accounts set n = $1 where id = 1`, n+1)
		return err
	},
	"add": func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, `update accounts set n = n + 1 where id = 1`)
		return err
	},
	"add twice in a transaction": func(ctx context.Context, c *pgx.Conn) error {
		return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
			for range 2 {
				if _, err := tx.Exec(ctx, `update accounts set n = n + 1 where id = 1`); err != nil {
					return err
				}
			}
			return nil
		})
	},
	"exit in a transaction": func(ctx context.Context, c *pgx.Conn) error {
		if _, err := c.Exec(ctx, `begin`); err != nil {
			return err
		}
		if _, err := c.Exec(ctx, `update accounts set n = 100 where id = 1`); err != nil {
			return err
		}
		os.Exit(0)
		return nil
	},
	"compute": func(ctx context.Context, c *pgx.Conn) error {
		var n int
		if err := c.QueryRow(ctx, `select n from accounts where id = 1`).Scan(&n); err != nil {
			return err
		}
		for start := time.Now(); time.Since(start) < time.Second; n++ {
		}
		_, err := c.Exec(ctx, `update accounts set n = n + 1 where id = 1`)
		return err
	},
	"listen": func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, `listen news`)
		return err
	},
	"cancel": func(ctx context.Context, c *pgx.Conn) error {
		done := make(chan error, 1)
		go func() {
			_, err := c.Exec(ctx, `select pg_sleep(15)`)
			done <- err
		}()
		for {
			if err := c.PgConn().CancelRequest(ctx); err != nil {
				return err
			}
			select {
			case err := <-done:
				if codeOf(err) != "57014" {
					return fmt.Errorf("it was not cancelled: %w", err)
				}
				return nil
			case <-time.After(10 * time.Millisecond): // it may not have begun
			}
		}
	},
	"hang up in a transaction": func(ctx context.Context, c *pgx.Conn) error {
		other, err := pgx.ConnectConfig(ctx, c.Config().Copy())
		if err != nil {
			return err
		}
		if _, err := other.Exec(ctx, `begin`); err != nil {
			return err
		}
		if _, err := other.Exec(ctx, `update accounts set n = 100 where id = 1`); err != nil {
			return err
		}
		if err := other.Close(ctx); err != nil {
			return err
		}
		_, err = c.Exec(ctx, `update accounts set n = n + 1 where id = 1`)
		return err
	},
	"two connections at once": func(ctx context.Context, c *pgx.Conn) error {
		other, err := pgx.ConnectConfig(ctx, c.Config().Copy())
		if err != nil {
			return err
		}
		done := make(chan error, 2)
		for _, c := range []*pgx.Conn{c, other} {
			go func() {
				_, err := c.Exec(ctx, `update accounts set n = n + 1 where id = 1`)
				done <- err
			}()
		}
		return errors.Join(<-done, <-done, other.Close(ctx))
	},
	"two connections, of which one waits": func(ctx context.Context, c *pgx.Conn) error {
		other, err := pgx.ConnectConfig(ctx, c.Config().Copy())
		if err != nil {
			return err
		}
		tx, err := c.Begin(ctx)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `update accounts set n = n + 1 where id = 1`); err != nil {
			return err
		}
		done := make(chan error, 1)
		go func() {
			_, err := other.Exec(ctx, `update accounts set n = n + 1 where id = 1`)
			done <- err
		}()
		_, err = tx.Exec(ctx, `select n from accounts where id = 2`)
		return errors.Join(err, tx.Commit(ctx), <-done, other.Close(ctx))
	},
}

// process is this program as another process.
func process(what string) int {
	ctx := context.Background()
	c, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err == nil {
		err = errors.Join(deeds[what](ctx, c), c.Close(ctx))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// inProcess runs this program until it has done what is said.
func inProcess(ctx context.Context, what, address string) error {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), processVariable+"="+what, "DATABASE_URL="+address)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// counting is a scenario in which two processes do the same to a value, which is
// right at the end.
func counting(t *testing.T, what string, right func(n int) bool, options ...harness.ActorOption) func(s *harness.Sim) {
	return countingBy(t, right, func(db *Database, name string) func(context.Context) error {
		address := db.Proxy(name)
		return func(ctx context.Context) error { return inProcess(ctx, what, address) }
	}, options...)
}

func countingBy(t *testing.T, right func(n int) bool, actor func(db *Database, name string) func(context.Context) error, options ...harness.ActorOption) func(s *harness.Sim) {
	config := accountsConfig(t)
	var look *pgxpool.Pool
	return func(s *harness.Sim) {
		db := New(s, config)
		if look == nil {
			look = gatedPool(t, db)
			t.Cleanup(look.Close)
		}
		for _, name := range []string{"first", "second"} {
			s.Go(name, actor(db, name), append(options, harness.Needed())...)
		}
		s.Eventually("both are counted", func() error {
			if n := valueOf(look, 1); !right(n) {
				return fmt.Errorf("n is %d", n)
			}
			return nil
		})
	}
}

func is(want int) func(int) bool { return func(n int) bool { return n == want } }

// TestAnotherProcessIsExplored has the lost update of ordinary code in two other
// processes, told as that of two goroutines is, and what mends it.
func TestAnotherProcessIsExplored(t *testing.T) {
	there := harnesstest.MustFail(t, harness.Explore(t, counting(t, "read and write", is(2))), "eventually", "both are counted")
	var conns []*pgx.Conn
	here := harnesstest.MustFail(t, harness.Explore(t, countingBy(t, is(2), func(db *Database, name string) func(context.Context) error {
		at := 0
		if name == "second" {
			at = 1
		}
		for len(conns) <= at {
			config, err := pgx.ParseConfig(db.Address())
			if err != nil {
				t.Fatal(err)
			}
			db.Gate(config)
			c, err := pgx.ConnectConfig(context.WithoutCancel(t.Context()), config)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close(context.Background()) })
			conns = append(conns, c)
		}
		return func(ctx context.Context) error { return deeds["read and write"](ctx, conns[at]) }
	})), "eventually", "both are counted")
	if got, want := story(there), story(here); got != want {
		t.Errorf("got\n%s\nwant, as in one process,\n%s", got, want)
	}
	pass := harness.Explore(t, counting(t, "add", is(2)))
	if pass.Failure != nil {
		t.Fatal(pass.Report)
	}
	if pass.Schedules() != 2 || !pass.Covered[0].Complete || len(pass.Unexplored) > 0 {
		t.Error(pass)
	}
}

// story is what a report tells of the steps and of the search.
func story(r *harness.Report) string {
	_, text, _ := strings.Cut(r.String(), "MINIMAL")
	text, _, _ = strings.Cut(text, "REPLAY")
	return text
}

// TestAProcessWaits for a lock, as a goroutine does, and computes for as long as it
// likes.
func TestAProcessWaits(t *testing.T) {
	r := harness.Explore(t, counting(t, "add twice in a transaction", is(4)), harness.WithStrategies(harness.Preemptions(1, 0)))
	if r.Failure != nil {
		t.Fatal(r.Report)
	}
	if r.Schedules() < 4 || !r.Covered[0].Complete || r.Steps < 9 || len(r.Unexplored) > 0 { // a wait is a step of its own
		t.Errorf("%s, of %d steps", r, r.Steps)
	}
	r = harness.Explore(t, counting(t, "compute", is(2)), harness.WithStrategies(harness.Preemptions(0, 0)))
	if r.Failure != nil || r.Schedules() < 2 {
		t.Error(r, r.Report)
	}
}

// TestAProcessThatEndsInATransaction has what it did rolled back before another's
// next step.
func TestAProcessThatEndsInATransaction(t *testing.T) {
	r := harness.Explore(t, counting(t, "exit in a transaction", is(0)))
	if r.Failure != nil {
		t.Fatal(r.Report)
	}
	if r.Schedules() < 2 || !r.Covered[0].Complete || len(r.Unexplored) > 0 {
		t.Error(r)
	}
}

// TestAProcessCrashes at each of its statements, and is started again.
func TestAProcessCrashes(t *testing.T) {
	seen := map[int]bool{}
	r := harness.Explore(t, counting(t, "add twice in a transaction", func(n int) bool { seen[n] = true; return n >= 4 }, harness.Restarts()),
		harness.WithStrategies(harness.Preemptions(0, 0)))
	if r.Failure != nil {
		t.Fatal(r.Report)
	}
	if !seen[4] || !seen[6] || len(seen) != 2 { // a crash after the COMMIT counts once more
		t.Errorf("n was %v in %s", seen, r)
	}
}

// TestAProcessWithTwoConnections is explored as if they took turns, and says so.
func TestAProcessWithTwoConnections(t *testing.T) {
	r := harness.Explore(t, counting(t, "two connections at once", is(4)), harness.WithStrategies(harness.Preemptions(0, 0)))
	if r.Failure != nil {
		t.Fatal(r.Report)
	}
	if want := "the statements that the process of first sends at once"; !strings.Contains(r.String(), want) {
		t.Errorf("%q is not in %s", want, r)
	}
	r = harness.Explore(t, counting(t, "two connections, of which one waits", is(4)), harness.WithStrategies(harness.Preemptions(0, 0)))
	if r.Failure == nil || !strings.Contains(r.Failure.Message, "on another connection while one waits for a lock") { // whose steps are as they come
		t.Errorf("%s: %v", r, r.Failure)
	}
}

// TestAServerIsAnActor while it answers: it lives on from schedule to schedule, and
// so do its connections.
func TestAServerIsAnActor(t *testing.T) {
	servers := map[string]*httptest.Server{}
	opened := 0
	serve := func(db *Database, name string) func(ctx context.Context) error {
		if servers[name] == nil {
			pool, err := pgxpool.New(context.WithoutCancel(t.Context()), db.Proxy(name))
			if err != nil {
				t.Fatal(err)
			}
			opened++
			servers[name] = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				err := pool.AcquireFunc(context.WithoutCancel(r.Context()), func(c *pgxpool.Conn) error { return deeds[r.URL.Query().Get("do")](r.Context(), c.Conn()) })
				if err != nil {
					http.Error(w, err.Error(), http.StatusInternalServerError)
				}
			}))
			t.Cleanup(func() { servers[name].Close(); pool.Close() })
		}
		db.Proxy(name)
		return func(ctx context.Context) error { return get(ctx, servers[name].URL+"?do=read+and+write") }
	}
	harnesstest.MustFail(t, harness.Explore(t, countingBy(t, is(2), serve)), "eventually", "both are counted")
	if opened != 2 {
		t.Errorf("%d pools", opened)
	}
}

func get(ctx context.Context, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	return errors.Join(err, response.Body.Close())
}

// TestAStatementWithoutItsActor fails the schedule: it comes at a moment that
// nothing has chosen.
func TestAStatementWithoutItsActor(t *testing.T) {
	config := accountsConfig(t)
	r := harness.Explore(t, func(s *harness.Sim) {
		db := New(s, config)
		address := db.Proxy("early")
		s.Go("other", func(ctx context.Context) error {
			if err := inProcess(ctx, "add", address); err == nil {
				return errors.New("it was carried out")
			}
			return nil
		})
	})
	harnesstest.MustFail(t, r, "unscheduled", "the address of the actor early, whose function does not run")
}

// TestTheFunctionOfAProcess takes no steps on the database, but others.
func TestTheFunctionOfAProcess(t *testing.T) {
	config := accountsConfig(t)
	slept := false
	r := harness.Explore(t, func(s *harness.Sim) {
		address := New(s, config).Proxy("process")
		begin := s.Now()
		s.Go("process", func(ctx context.Context) error {
			err := s.Sleep(time.Hour)
			slept = s.Now().Sub(begin) == time.Hour
			return errors.Join(err, s.Step("begins"), s.Op(func() error { return inProcess(ctx, "add", address) }))
		})
	})
	if r.Failure != nil || r.Steps != 4 || !slept {
		t.Errorf("%s, of %d steps; slept: %v\n%s", r, r.Steps, slept, r.Report)
	}
	var pool *pgxpool.Pool
	r = harness.Explore(t, func(s *harness.Sim) {
		db := New(s, config)
		db.Proxy("process")
		if pool == nil {
			pool = gatedPool(t, db)
			t.Cleanup(pool.Close)
		}
		s.Go("process", func(ctx context.Context) error {
			_, err := pool.Exec(ctx, `update accounts set n = 1`)
			return err
		})
	})
	harnesstest.MustFail(t, r, "unscheduled", "the function of the actor process, whose statements come by its address, uses the database")
}

// TestWhatOfAProcessIsNotExplored stands in the verdict: what comes at moments that
// nothing has chosen. The process logs in with a password, and asks for encryption
// first.
func TestWhatOfAProcessIsNotExplored(t *testing.T) {
	address := Start(t).Database(t, `create table accounts (id int primary key, n int not null); insert into accounts values (1, 0)`)
	for what, want := range map[string]string{
		"listen": "a wait for notifications in the process of it",
		"cancel": "a request of the process of it to cancel a statement",
		"add":    "",
	} {
		r := harness.Explore(t, func(s *harness.Sim) {
			proxied := strings.Replace(New(s, Config{Address: address}).Proxy("it"), "sslmode=disable", "sslmode=prefer", 1)
			s.Go("it", func(ctx context.Context) error { return inProcess(ctx, what, proxied) })
		})
		if got := strings.Join(r.Unexplored, ", "); r.Failure != nil || got != want {
			t.Errorf("%s: got %q, want %q; %s", what, got, want, r.Report)
		}
	}
}

// TestAProcessHangsUp in a transaction, which is rolled back before its next
// statement.
func TestAProcessHangsUp(t *testing.T) {
	r := harness.Explore(t, counting(t, "hang up in a transaction", is(2)), harness.WithStrategies(harness.Preemptions(1, 0)))
	if r.Failure != nil || r.Schedules() < 2 {
		t.Error(r, r.Report)
	}
}

// TestATransactionThatOutlivesItsFunction is one of a server that does not wait for
// it.
func TestATransactionThatOutlivesItsFunction(t *testing.T) {
	config := accountsConfig(t)
	var conn *pgx.Conn
	r := harness.Explore(t, func(s *harness.Sim) {
		address := New(s, config).Proxy("server")
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = pgx.Connect(context.WithoutCancel(t.Context()), address); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close(context.Background()) })
		}
		s.Go("server", func(ctx context.Context) error {
			_, err := conn.Exec(ctx, `begin`)
			if err != nil && conn.IsClosed() {
				return nil // when the schedule is run again
			}
			return err
		})
	})
	if r.Failure == nil || !strings.Contains(r.Failure.Message, "the function of the actor server has returned, and its process has a transaction open") {
		t.Errorf("%s: %v", r, r.Failure)
	}
}

func TestTheSettingsOfAnAddress(t *testing.T) {
	got := settingsOf(map[string]string{"search_path": `a, "b c"`, "options": "-c work_mem=4MB", "application_name": `x\y`})
	if want := `-c application_name=x\\y -c search_path=a,\ "b\ c" -c work_mem=4MB`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := settingsOf(nil); got != "" {
		t.Errorf("got %q of none", got)
	}
}
