package postgres

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// session is one connection of an interleaving, stepped by hand.
type session struct {
	testing.TB
	conn    *pgx.Conn
	watcher *pgx.Conn // sees what the session waits for
	done    chan error
}

func newSession(t testing.TB, address string) *session {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	s := &session{TB: t}
	for _, conn := range []**pgx.Conn{&s.conn, &s.watcher} {
		c, err := pgx.Connect(ctx, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(ctx) })
		*conn = c
	}
	return s
}

// do runs statements that must succeed at once.
func (s *session) do(statements ...string) {
	s.Helper()
	for _, sql := range statements {
		if _, err := s.conn.Exec(s.Context(), sql); err != nil {
			s.Fatalf("%s: %v", sql, err)
		}
	}
}

// begin starts what may have to wait, and returns when it waits for a lock or
// has ended. finish waits for its end.
func (s *session) begin(what func() error) {
	s.Helper()
	s.done = make(chan error, 1)
	pid := s.conn.PgConn().PID()
	go func() { s.done <- what() }()
	until(s, func() bool {
		select {
		case err := <-s.done:
			s.done <- err
			return true
		default:
		}
		return waits(s, s.watcher, `pid = `+strconv.FormatUint(uint64(pid), 10))
	})
}

func (s *session) finish() {
	s.Helper()
	if err := need.Await(s, "the end of what a session began", s.done); err != nil {
		s.Fatal(err)
	}
}

// waits reports whether sessions wait for a lock.
func waits(t testing.TB, watcher *pgx.Conn, which string) bool {
	t.Helper()
	var waiting bool
	err := watcher.QueryRow(t.Context(), `select exists (select from pg_stat_activity
 where datname = current_database() and wait_event_type = 'Lock' and `+which+`)`).Scan(&waiting)
	if err != nil {
		t.Fatal(err)
	}
	return waiting
}

// until waits for a condition, for at most half a minute.
func until(t testing.TB, holds func() bool) {
	t.Helper()
	for deadline := time.After(30 * time.Second); !holds(); {
		select {
		case <-deadline:
			t.Fatal("half a minute passed, and nothing happened")
		case <-time.After(time.Millisecond):
		}
	}
}

// TestReadCommitted puts the usual ways to recount into the order that DESIGN
// measured: two transactions each end a run and recount the same key, and the
// second recounts while the first has not committed. Those that look in the
// statement in which they wait end with a count of 1.
func TestReadCommitted(t *testing.T) {
	t.Parallel()
	const recount = `(select count(*) from runs where done)`
	for _, tt := range []struct {
		name    string
		row     bool // the key has a row in counts
		recount []string
		want    int
	}{
		{"an upsert with a subselect is stale", true,
			[]string{`insert into counts values (1, ` + recount + `) on conflict (key) do update set n = excluded.n`}, 1},
		{"an update with a subselect is stale", true, []string{`update counts set n = ` + recount + ` where key = 1`}, 1},
		{"to lock and count in one statement is stale", true,
			[]string{`with l as (select key from counts where key = 1 for update) update counts as c set n = ` + recount + ` from l where c.key = l.key`}, 1},
		{"an advisory lock and the count in one statement are stale", true,
			[]string{`with l as materialized (select pg_advisory_xact_lock(1)), n as (select count(*) as n from l, runs where done) update counts set n = n.n from n`}, 1},
		{"to lock the row and count in the next statement is right", true,
			[]string{`select from counts where key = 1 for update`, `update counts set n = ` + recount + ` where key = 1`}, 2},
		{"but stale where there was no row to lock", false,
			[]string{`select from counts where key = 1 for update`,
				`insert into counts values (1, ` + recount + `) on conflict (key) do update set n = excluded.n`}, 1},
		{"to make the row, lock it and count in the next statement is right", false,
			[]string{`insert into counts values (1, 0) on conflict do nothing`, `select from counts where key = 1 for update`,
				`update counts set n = ` + recount + ` where key = 1`}, 2},
		{"an advisory lock, and the count in the next statement, are right", false,
			[]string{`select pg_advisory_xact_lock(1)`,
				`insert into counts values (1, ` + recount + `) on conflict (key) do update set n = excluded.n`}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := pgtest.Database(t)
			pgtest.Exec(t, address, `create table runs (id int primary key, done bool not null)`, `insert into runs values (1, false), (2, false)`,
				`create table counts (key int primary key, n int not null)`)
			if tt.row {
				pgtest.Exec(t, address, `insert into counts values (1, 0)`)
			}
			a, b := newSession(t, address), newSession(t, address)
			a.do(`begin`, `update runs set done = true where id = 1`)
			a.do(tt.recount...)
			b.do(`begin`, `update runs set done = true where id = 2`)
			b.begin(func() error {
				for _, sql := range tt.recount {
					if _, err := b.conn.Exec(t.Context(), sql); err != nil {
						return err
					}
				}
				return nil
			})
			a.do(`commit`)
			b.finish()
			b.do(`commit`)
			var got int
			if err := b.conn.QueryRow(t.Context(), `select n from counts`).Scan(&got); err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("the count is %d, want %d of 2", got, tt.want)
			}
		})
	}
}

// TestARecountLooksAfterItsLock has a recount wait for a fold that moves what
// was committed only after the recount began to wait. Ours is right; the same
// statement without its lock before it goes wrong in the same order.
func TestARecountLooksAfterItsLock(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		locks bool
		wrong int
	}{"ours": {true, 0}, "with its lock in the same statement": {false, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.end(1)
			if _, err := f.store.Fold(t.Context(), time.Now(), 10); err != nil {
				t.Fatal(err)
			}
			fold := f.session()
			fold.do(`begin`, `select from run_counter.keys for update`) // as lockableSQL does
			recount := f.session()
			recount.begin(func() error {
				key := f.key
				if tt.locks {
					if _, err := recount.conn.Exec(t.Context(), `begin`); err != nil {
						return err
					}
					if _, err := recount.conn.Exec(t.Context(), `select run_counter.lock_key($1::uuid, $2::text, $3::uuid)`, f.db.keyArgs(key)...); err != nil {
						return err
					}
				}
				text := recountSQL(f.db, key)
				if !tt.locks {
					of := f.db.keySQL()
					text = strings.Replace(text, "with gone as (", "with locked as (update run_counter.keys set kind = kind where "+of+" returning true), gone as (", 1)
					text = strings.Replace(text, of+" returning *", of+" and (select count(*) from locked) = 1 returning *", 1)
				}
				if _, err := recount.conn.Exec(t.Context(), text, f.db.keyArgs(key)...); err != nil {
					return err
				}
				if tt.locks {
					_, err := recount.conn.Exec(t.Context(), `commit`)
					return err
				}
				return nil
			})
			f.end(2) // committed while the recount waits
			if _, err := fold.conn.Exec(t.Context(), f.db.foldSQL(), f.db.keyArrays([]store.Key{f.key})...); err != nil {
				t.Fatal(err)
			}
			fold.do(`commit`)
			recount.finish()
			if got := f.drifts(); got != tt.wrong {
				t.Errorf("%d keys drift, want %d", got, tt.wrong)
			}
		})
	}
}

// TestTheStoresRecountWaitsForAFold is the same order through Store.Recount.
func TestTheStoresRecountWaitsForAFold(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.end(1)
	pgtest.Exec(t, f.address, miscountSQL) // or the recount finds nothing to do
	fold := f.session()
	fold.do(`begin`, `select from run_counter.keys for update`)
	ended := make(chan error, 1)
	go func() {
		_, err := f.store.Recount(t.Context(), f.key, time.Now())
		ended <- err
	}()
	until(t, func() bool { return waits(t, fold.watcher, `application_name = 'runcounter'`) })
	f.end(2)
	if _, err := fold.conn.Exec(t.Context(), f.db.foldSQL(), f.db.keyArrays([]store.Key{f.key})...); err != nil {
		t.Fatal(err)
	}
	fold.do(`commit`)
	if err := need.Await(t, "the end of the recount", ended); err != nil {
		t.Fatal(err)
	}
	exact(t, f.store)
}

// TestBeginsAtALimitTakeTurns has one begin wait for another that has not
// committed. Without the lock of the key both get the last slot.
func TestBeginsAtALimitTakeTurns(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		locks bool
		runs  int
	}{"ours": {true, 1}, "without the lock": {false, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			if !tt.locks {
				f.replace("run_counter."+beginRun, "perform run_counter.lock_key(p_user_id, v_kind, v_ref);", "null;")
			}
			a, b := f.session(), f.session()
			begin := `select begin_workflow_run('` + f.key.User.String() + `', '` + f.key.Ref.String() + `', p_limit => 1)`
			a.do(`begin`, begin)
			b.begin(func() error { _, err := b.conn.Exec(t.Context(), begin); return err })
			a.do(`commit`)
			b.finish()
			var runs int
			if err := a.conn.QueryRow(t.Context(), `select count(*) from workflow_runs`).Scan(&runs); err != nil {
				t.Fatal(err)
			}
			if runs != tt.runs {
				t.Errorf("%d runs at a limit of 1, want %d", runs, tt.runs)
			}
		})
	}
}

// TestTheFillHoldsOffFolds runs the migration's fill while a fold is under way,
// and a run ends that the fill does not see and the fold moves.
func TestTheFillHoldsOffFolds(t *testing.T) {
	t.Parallel()
	text := mustScript(t, "20260101000002_fill_counts")
	const lock = `lock table run_counter.counts, run_counter.totals in share row exclusive mode;`
	const limit = `set local lock_timeout = '2s';`
	for _, part := range []string{lock, limit} {
		if !strings.Contains(text, part) {
			t.Fatalf("the fill has no %q any more", part)
		}
	}
	patient := strings.Replace(text, limit, "", 1) // the test decides how long it waits
	for name, tt := range map[string]struct {
		fill  string
		wrong int
	}{"ours": {patient, 0}, "without its lock": {strings.Replace(patient, lock, "", 1), 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.end(1)
			if _, err := f.store.Fold(t.Context(), time.Now(), 10); err != nil {
				t.Fatal(err)
			}
			fold := f.session()
			fold.do(`begin`, `update run_counter.keys set kind = kind`, `update run_counter.counts set n = n`) // the locks of a fold that writes
			fill := f.session()
			fill.begin(func() error {
				_, err := fill.conn.Exec(t.Context(), tt.fill, pgx.QueryExecModeSimpleProtocol)
				return err
			})
			f.end(2)
			if _, err := fold.conn.Exec(t.Context(), f.db.foldSQL(), f.db.keyArrays([]store.Key{f.key})...); err != nil {
				t.Fatal(err)
			}
			fold.do(`commit`)
			fill.finish()
			if got := f.drifts(); got != tt.wrong {
				t.Errorf("%d keys drift, want %d", got, tt.wrong)
			}
		})
	}
}

// TestAFillBesideWritersLosesAndDoublesNone has a writer commit after the fill
// what it wrote before it.
func TestAFillBesideWritersLosesAndDoublesNone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.end(1)
	writer := f.session()
	writer.do(`begin`, f.insert(2))
	text := mustScript(t, "20260101000002_fill_counts")
	pgtest.Exec(t, f.address, text)
	exact(t, f.store)
	writer.do(`commit`)
	exact(t, f.store)
	pgtest.Exec(t, f.address, text)
	exact(t, f.store)
}

// TestTwoCompletionsOfAPresumedRunHaveOneWinner has the second wait for the
// first, and look at what it left.
func TestTwoCompletionsOfAPresumedRunHaveOneWinner(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := storetest.MustID('1', 1).String()
	pgtest.Exec(t, f.address, `insert into workflow_runs (id, user_id, workflow_id, status, updated_at) values ('`+id+`', '`+
		f.key.User.String()+`', '`+f.key.Ref.String()+`', 'running', now() - interval '1 day')`)
	if r, err := f.store.FailStuck(t.Context(), store.FailStuck{Now: time.Now(), Limits: store.DefaultLimits(), Max: 10}); err != nil || len(r) != 1 {
		t.Fatalf("FailStuck: got %+v, %v; want the one run", r, err)
	}
	a, b := f.session(), f.session()
	a.do(`begin`, `select complete_workflow_run('`+id+`', 'completed')`)
	var won bool
	b.begin(func() error {
		return b.conn.QueryRow(t.Context(), `select complete_workflow_run('`+id+`', 'cancelled')`).Scan(&won)
	})
	a.do(`commit`)
	b.finish()
	run, err := f.store.Run(t.Context(), storetest.MustID('1', 1))
	if err != nil || won || run.Status != store.Completed || run.Presumed {
		t.Errorf("the second won: %v; the run is %+v, %v; want completed, for real", won, run, err)
	}
	exact(t, f.store)
}

// fixture is a database with one key, for orders that are stepped by hand.
type fixture struct {
	testing.TB
	address string
	store   *Store
	db      features
	key     store.Key
}

func newFixture(t testing.TB) *fixture { return newFixtureOn(t, sourcetest.Installed(t)) }

func newFixtureOn(t testing.TB, address string) *fixture {
	t.Helper()
	f := &fixture{TB: t, address: address, key: store.KeyOf(storetest.MustID('a', 1), storetest.MustID('c', 1), store.ID{})}
	f.store = mustOpen(t, f.address, Options{})
	var err error
	if f.db, err = f.store.features(t.Context()); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, f.address, `insert into run_counter.keys (user_id, kind, ref_id) values ('`+f.key.User.String()+`', 'workflow', '`+f.key.Ref.String()+`')`)
	return f
}

func (f *fixture) session() *session { return newSession(f, f.address) }

func (f *fixture) insert(n int) string {
	return `insert into workflow_runs (id, user_id, workflow_id, status, completed_at) values ('` +
		storetest.MustID('2', n).String() + `', '` + f.key.User.String() + `', '` + f.key.Ref.String() + `', 'completed', now())`
}

// end commits a run that has ended.
func (f *fixture) end(n int) { pgtest.Exec(f, f.address, f.insert(n)) }

// drifts returns how many keys are wrong.
func (f *fixture) drifts() (n int) {
	f.Helper()
	if err := f.store.pool.QueryRow(f.Context(), `select count(*) from (`+sourcetest.ExactSQL+`) as wrong`).Scan(&n); err != nil {
		f.Fatal(err)
	}
	return n
}

// replace changes a function in the database by its text, which must be there.
func (f *fixture) replace(function, old, text string) { f.replaceN(function, old, text, 1) }

func (f *fixture) replaceN(function, old, text string, n int) {
	f.Helper()
	var definition string
	if err := f.store.pool.QueryRow(f.Context(), `select pg_get_functiondef($1::regprocedure)`, function).Scan(&definition); err != nil {
		f.Fatal(err)
	}
	if !strings.Contains(definition, old) {
		panic(function + " does not say any more: " + old) // not a complaint that a guard's test may take for red
	}
	pgtest.Exec(f, f.address, strings.Replace(definition, old, text, n))
}
