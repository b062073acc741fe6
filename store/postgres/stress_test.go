package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// rounds is how often a race is run: as often as asked for in CI, less on a
// developer's machine and where every seed is slower.
func rounds(n int) int {
	if testing.Short() || os.Getenv("CI") == "" || os.Getenv("RUNCOUNTER_SEEDS") != "" {
		return n / 10
	}
	return n
}

// TestAHundredStartsAtLimitTenGiveTen runs them by Store.Begin and by the
// public function, over and over.
func TestAHundredStartsAtLimitTenGiveTen(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, pgtest.With(t, sourcetest.Installed(t), "pool_max_conns", "20"), Options{})
	limit := int64(10)
	for round := range rounds(1000) {
		user, workflow := storetest.MustID('a', round), storetest.MustID('c', 1)
		var created, refused atomic.Int64
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				got, err := begin(t.Context(), s, i%2 == 0, store.Begin{
					ID: storetest.MustID('1', round*100+i), User: user, Workflow: workflow, Limits: store.UpTo(limit), Now: time.Now(),
				})
				switch {
				case err != nil:
					t.Errorf("round %d: %v", round, err)
				case got:
					created.Add(1)
				default:
					refused.Add(1)
				}
			})
		}
		wg.Wait()
		if created.Load() != 10 || refused.Load() != 90 {
			t.Fatalf("round %d: %d runs were begun and %d refused, want 10 and 90", round, created.Load(), refused.Load())
		}
	}
	exact(t, s)
}

func begin(ctx context.Context, s *Store, byStore bool, b store.Begin) (created bool, err error) {
	if byStore {
		begun, err := s.Begin(ctx, b)
		return begun.Created, err
	}
	err = s.pool.QueryRow(ctx, `select begin_workflow_run($1::uuid, $2::uuid, p_limit => $3::integer, p_run_id => $4::uuid) is not null`,
		b.User.String(), b.Workflow.String(), b.Limits[0].Max, b.ID.String()).Scan(&created)
	return created, err
}

// TestATransactionHeldOpenForFiveSweepsCountsOnce commits what it wrote before
// them, while somebody compares all keys in one snapshot all the time.
func TestATransactionHeldOpenForFiveSweepsCountsOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.end(1)
	stop := f.watch()
	held := f.session()
	held.do(`begin`, f.insert(2))
	sweeper := sourcetest.SweeperOf(f.store)
	for n := range 5 {
		f.end(10 + n)
		if r, err := sweeper.Sweep(t.Context(), store.SweepOptions{Full: true}); err != nil || r.Drifting > 0 {
			t.Fatalf("sweep %d: %+v, %v", n, r, err)
		}
	}
	if c, err := f.store.Count(t.Context(), f.key.Scope(), store.AllTime); err != nil || c.Count != 6 {
		t.Errorf("before the commit: got %d, %v; want 6", c.Count, err)
	}
	held.do(`commit`)
	if c, err := f.store.Count(t.Context(), f.key.Scope(), store.AllTime); err != nil || c.Count != 7 {
		t.Errorf("after the commit: got %d, %v; want 7", c.Count, err)
	}
	if r, err := sweeper.Sweep(t.Context(), store.SweepOptions{Full: true}); err != nil || r.Drifting > 0 {
		t.Errorf("a sweep after it: %+v, %v", r, err)
	}
	stop()
	exact(t, f.store)
}

// watch compares all keys in one snapshot, over and over, until it is stopped.
// It returns how to, which fails the test if that never happened.
func (f *fixture) watch() (stop func()) {
	ended := make(chan struct{})
	var watchers sync.WaitGroup
	var looks atomic.Int64
	watchers.Go(func() {
		for {
			exact(f, f.store)
			looks.Add(1)
			select {
			case <-ended:
				return
			default:
			}
		}
	})
	return func() {
		f.Helper()
		close(ended)
		watchers.Wait()
		if looks.Load() == 0 {
			f.Error("nobody looked")
		}
	}
}

// TestRecountsBesideWritersFoldsAndRecounts runs eight at a time, for 200
// rounds: completions, hand-overs, deletes, rollbacks and late writes of users,
// against folds and recounts of spoiled and right counts. No snapshot may be
// wrong but for what was spoiled, and no deadlock may reach a user.
func TestRecountsBesideWritersFoldsAndRecounts(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const writers, perRound = 8, 6
	keys := []store.Key{f.key,
		store.KeyOf(storetest.MustID('a', 1), store.ID{}, storetest.MustID('d', 1)),
		store.KeyOf(storetest.MustID('b', 2), storetest.MustID('c', 1), store.ID{})}
	stop := f.watch()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(3, uint64(w)))
			session := f.session()
			for round := range rounds(2000) {
				if err := write1(t.Context(), session.conn, r, keys, w, round*perRound); err != nil {
					t.Errorf("a user's transaction: %v", err)
				}
			}
		})
	}
	background, cancel := context.WithCancel(t.Context())
	var others sync.WaitGroup
	for i := range writers {
		others.Go(func() {
			for background.Err() == nil {
				var err error
				if i%2 == 0 {
					_, err = f.store.Fold(background, time.Now(), 20)
				} else {
					_, err = f.store.recountLocked(background, f.db, keys[i%len(keys)], time.Now(), noCondition)
				}
				if err != nil && background.Err() == nil {
					t.Errorf("beside users: %v", err)
				}
			}
		})
	}
	wg.Wait()
	cancel()
	others.Wait()
	stop()
	exact(t, f.store)
	for _, key := range keys {
		if d, err := f.store.compare(t.Context(), f.db, key); err != nil || d.Stored != d.Actual {
			t.Errorf("in the end: %+v, %v", d, err)
		}
	}
}

// write1 is one transaction of an application, on runs of its own in the order
// of their ids: such transactions can't deadlock by themselves.
func write1(ctx context.Context, conn *pgx.Conn, r *rand.Rand, keys []store.Key, writer, first int) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for n := range 6 {
			id := storetest.MustID(byte(0x30+writer), first+n).String()
			key, to := keys[r.IntN(len(keys))], keys[r.IntN(len(keys))]
			statements := []string{
				`insert into workflow_runs (id, user_id, workflow_id, draft_id, status) values ($1::uuid, $2::uuid, $3::uuid, $4::uuid, 'running')`,
				`update workflow_runs set status = 'completed', completed_at = now() where id = $1::uuid and ($2::uuid, $3::uuid, $4::uuid) is not null`,
			}
			switch r.IntN(4) {
			case 0:
				statements = append(statements, `update workflow_runs set user_id = $2::uuid, workflow_id = $3::uuid, draft_id = $4::uuid where id = $1::uuid`)
			case 1:
				statements = append(statements, `delete from workflow_runs where id = $1::uuid and ($2::uuid, $3::uuid, $4::uuid) is not null`)
			case 2:
				statements = append(statements, `update workflow_runs set status = 'running', completed_at = null where id = $1::uuid and ($2::uuid, $3::uuid, $4::uuid) is not null`)
			}
			for i, sql := range statements {
				k := key
				if i == 2 {
					k = to
				}
				if _, err := tx.Exec(ctx, sql, id, k.User.String(), textArg(k.Workflow().String()), textArg(k.Draft().String())); err != nil {
					return fmt.Errorf("%s: %w", sql, err)
				}
			}
		}
		if r.IntN(5) == 0 {
			return errChangedItsMind
		}
		return nil
	})
	var e *pgconn.PgError
	if errors.Is(err, errChangedItsMind) {
		return nil
	}
	if errors.As(err, &e) && e.Code == "40P01" {
		return fmt.Errorf("a deadlock: %w", err)
	}
	return err
}

var errChangedItsMind = errors.New("rolled back")
