package postgres

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// slots is a key with a limit of 10, and how its runs are begun and ended: by
// our functions in SQL or by the store.
type slots struct {
	testing.TB
	store   *Store
	pool    *pgxpool.Pool // an application's
	limit   int64
	byStore bool
}

func (s *slots) key(round int) store.Key {
	return store.KeyOf(storetest.MustID('a', round), storetest.MustID('c', 1), store.ID{})
}

func newSlots(t testing.TB, address string) *slots {
	t.Helper()
	address = pgtest.With(t, address, "pool_max_conns", "30")
	s := &slots{TB: t, store: mustOpen(t, address, Options{}), limit: 10}
	var err error
	if s.pool, err = pgxpool.New(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.pool.Close)
	return s
}

// begin retries what the database asks to be tried again, as an application in
// REPEATABLE READ has to.
func (s *slots) begin(ctx context.Context, round, n int) (created bool, err error) {
	key, id := s.key(round), storetest.MustID('1', round*100+n)
	for {
		if s.byStore {
			var begun store.BeginResult
			begun, err = s.store.Begin(ctx, store.Begin{ID: id, User: key.User, Workflow: key.Ref, Limits: store.UpTo(s.limit), Now: time.Now()})
			created = begun.Created
		} else {
			err = s.pool.QueryRow(ctx, `select begin_workflow_run($1::uuid, $2::uuid, p_limit => $3::integer, p_run_id => $4::uuid) is not null`,
				key.User.String(), key.Ref.String(), s.limit, id.String()).Scan(&created)
		}
		if code(err) != "40001" {
			return created, err
		}
	}
}

func (s *slots) complete(ctx context.Context, round, n int) error {
	id := storetest.MustID('2', round*100+n)
	if s.byStore {
		_, err := s.store.Complete(ctx, store.Completion{ID: id, Outcome: store.Outcome{Status: store.Completed}, Now: time.Now()})
		return err
	}
	for {
		_, err := s.pool.Exec(ctx, `update workflow_runs set status = 'completed', completed_at = now() where id = $1::uuid`, id.String())
		if code(err) != "40001" {
			return err
		}
	}
}

func (s *slots) rounds(n, active int, complete bool) {
	s.Helper()
	for round := 0; round < n && !s.Failed(); round++ {
		s.round(round, active, 50, complete)
	}
}

// round has 50 begins beside the completion of 8 active runs, and wants all
// ten slots taken and no eleventh.
func (s *slots) round(round, active, begins int, complete bool) {
	s.Helper()
	ctx, key := s.Context(), s.key(round)
	for n := range active {
		_, err := s.pool.Exec(ctx, `insert into workflow_runs (id, user_id, workflow_id, status) values ($1::uuid, $2::uuid, $3::uuid, 'running')`,
			storetest.MustID('2', round*100+n).String(), key.User.String(), key.Ref.String())
		if err != nil {
			s.Fatal(err)
		}
	}
	var all sync.WaitGroup
	gate := make(chan struct{})
	for n := range begins {
		all.Go(func() {
			<-gate
			if _, err := s.begin(ctx, round, n); err != nil {
				s.Errorf("round %d: begin: %v", round, err)
			}
		})
	}
	for n := range active {
		if !complete {
			break
		}
		all.Go(func() {
			<-gate
			if err := s.complete(ctx, round, n); err != nil {
				s.Errorf("round %d: complete: %v", round, err)
			}
		})
	}
	close(gate)
	all.Wait()
	var taken int64
	if err := s.pool.QueryRow(ctx, `select count(*) from workflow_runs where user_id = $1::uuid`, key.User.String()).Scan(&taken); err != nil {
		s.Fatal(err)
	}
	if taken != s.limit {
		s.Errorf("round %d: %d of %d slots are taken", round, taken, s.limit)
	}
}

// TestCasesOfBegin holds the limit while runs end, in both isolations, with
// our migrations and without: never more than ten, and no slot is left unused.
func TestCasesOfBegin(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		bare     bool
		isolated bool // the default isolation is REPEATABLE READ
		byStore  bool
		active   int
		complete bool
	}{
		{name: "case T27: begins beside completions, in SQL", active: 8, complete: true},
		{name: "case T27: begins beside completions, by the store", active: 8, complete: true, byStore: true},
		{name: "case T27: begins beside completions in REPEATABLE READ", active: 8, complete: true, isolated: true},
		{name: "case T28: begins alone in REPEATABLE READ", active: 0, isolated: true},
		{name: "case T31: begins beside completions without migrations", active: 8, complete: true, byStore: true, bare: true},
		{name: "case T31: begins by the store where REPEATABLE READ is the default", active: 8, complete: true, byStore: true, isolated: true},
		{name: "case T31: begins by the store without migrations where REPEATABLE READ is the default", active: 8, complete: true, byStore: true, isolated: true, bare: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := pgtest.Database(t)
			if tt.bare {
				pgtest.Exec(t, address, sourcetest.BareTable)
			} else {
				address = sourcetest.Installed(t)
			}
			if tt.isolated {
				address = pgtest.With(t, address, "default_transaction_isolation", "repeatable read")
			}
			s := newSlots(t, address)
			s.byStore = tt.byStore
			s.rounds(12, tt.active, tt.complete)
			if !tt.bare {
				exact(t, s.store)
			}
		})
	}
}

// TestCaseT28_ARowThatAFoldWouldDrop has a fold come between a snapshot of
// REPEATABLE READ and its begin. The row of the key, which the begin in between
// has written, says that the snapshot is too old.
func TestCaseT28_ARowThatAFoldWouldDrop(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	begin := `select begin_workflow_run('` + f.key.User.String() + `', '` + f.key.Ref.String() + `', p_limit => 1)`
	pgtest.Exec(t, f.address, `delete from run_counter.keys`)
	old, other := f.session(), f.session()
	old.do(`begin isolation level repeatable read`, `select count(*) from workflow_runs`)
	other.do(begin)
	f.end(1)
	pgtest.Exec(t, f.address, `delete from workflow_runs where status = 'completed'`) // the counts are zeros
	if _, err := f.store.Fold(t.Context(), time.Now(), 10); err != nil {
		t.Fatal(err)
	}
	_, err := old.conn.Exec(t.Context(), begin)
	if got := code(err); got != "40001" {
		t.Errorf("got %q, %v; want 40001: its snapshot has no run, and the slot is taken", got, err)
	}
}

// code is the SQLSTATE of an error.
func code(err error) string {
	var e *pgconn.PgError
	errors.As(err, &e)
	if e == nil {
		return ""
	}
	return e.Code
}
