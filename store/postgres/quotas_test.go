package postgres

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// quotas are a user's keys, each with a limit, under a limit of the user over all of them.
type quotas struct {
	testing.TB
	f       *fixture
	pool    *pgxpool.Pool // an application's
	keys    int
	perKey  int64
	perUser int64
	ofKey   bool // the key's limit is of a window
	ofUser  bool // and the user's, by the store
	byStore bool
}

func newQuotas(t testing.TB, f *fixture, isolation string) *quotas {
	t.Helper()
	address := pgtest.With(t, f.address, "pool_max_conns", "30", "default_transaction_isolation", isolation)
	f.store = mustOpen(t, address, Options{})
	q := &quotas{TB: t, f: f, keys: 10, perKey: 4, perUser: 25}
	var err error
	if q.pool, err = pgxpool.New(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.pool.Close)
	return q
}

func (q *quotas) user(round int) store.ID { return storetest.MustID('a', round) }

func (q *quotas) key(round, n int) store.Key {
	ref := storetest.MustID('c', 1+n%q.keys)
	if q.keys > 1 && n%q.keys == q.keys-1 {
		return store.KeyOf(q.user(round), store.ID{}, ref)
	}
	return store.KeyOf(q.user(round), ref, store.ID{})
}

// since is the beginning of a window, zero where there is none.
func since(windowed bool) (from time.Time) {
	if windowed {
		from = time.Now().Add(-time.Hour)
	}
	return from
}

func (q *quotas) begin(ctx context.Context, round, n int) error {
	key, id := q.key(round, n), storetest.MustID('1', round*1000+n)
	for {
		var err error
		if q.byStore {
			_, err = q.f.store.Begin(ctx, store.Begin{
				ID: id, User: key.User, Workflow: key.Workflow(), Draft: key.Draft(), Now: time.Now(),
				Limits: []store.Limit{{Scope: store.KeyLimit, Max: q.perKey, From: since(q.ofKey)}, {Scope: store.UserLimit, Max: q.perUser, From: since(q.ofUser)}},
			})
		} else {
			_, err = q.pool.Exec(ctx, `select begin_workflow_run($1::uuid, $2::uuid, $3::uuid, p_limit => $4::integer, p_user_limit => $5::integer, p_run_id => $6::uuid, p_from => $7::timestamptz)`,
				key.User.String(), textArg(key.Workflow().String()), textArg(key.Draft().String()), q.perKey, q.perUser, id.String(), timeArg(since(q.ofKey)))
		}
		if code(err) != "40001" { // which an application in REPEATABLE READ has to try again
			return err
		}
	}
}

func (q *quotas) complete(ctx context.Context, round, n int) error {
	id := storetest.MustID('2', round*1000+n)
	if q.byStore {
		_, err := q.f.store.Complete(ctx, store.Completion{ID: id, Outcome: store.Outcome{Status: store.Completed}, Now: time.Now()})
		return err
	}
	for {
		_, err := q.pool.Exec(ctx, `update workflow_runs set status = 'completed', completed_at = now() where id = $1::uuid`, id.String())
		if code(err) != "40001" {
			return err
		}
	}
}

func (q *quotas) rounds(n int) {
	q.Helper()
	for round := 0; round < n && !q.Failed(); round++ {
		q.round(round)
	}
}

// round has 100 begins on the keys beside the completion of 10 active runs, folds and
// recounts, and wants every slot of the user taken, and no key above its limit.
func (q *quotas) round(round int) {
	q.Helper()
	ctx := q.Context()
	const active = 10
	for n := range active {
		key := q.key(round, n)
		pgtest.Exec(q, q.f.address, fmt.Sprintf(`insert into workflow_runs (id, user_id, workflow_id, draft_id, status) values ('%s', '%s', %s, %s, 'running')`,
			storetest.MustID('2', round*1000+n), key.User, quoted(key.Workflow()), quoted(key.Draft())))
	}
	var all sync.WaitGroup
	gate := make(chan struct{})
	try := func(what string, do func() error) {
		all.Go(func() {
			<-gate
			if err := do(); err != nil {
				q.Errorf("round %d: %s: %v", round, what, err)
			}
		})
	}
	for n := range 100 {
		try("begin", func() error { return q.begin(ctx, round, n) })
	}
	for n := range active {
		try("complete", func() error { return q.complete(ctx, round, n) })
	}
	for n := range 4 {
		try("fold", func() error { _, err := q.f.store.Fold(ctx, time.Now(), 1000); return err })
		try("recount", func() error {
			_, err := q.f.store.Recount(ctx, q.key(round, n), time.Now())
			return err
		})
	}
	close(gate)
	all.Wait()
	q.filled(round)
}

func quoted(id store.ID) string {
	if id.IsZero() {
		return "null"
	}
	return "'" + id.String() + "'"
}

func (q *quotas) filled(round int) {
	q.Helper()
	var all, most int64
	err := q.pool.QueryRow(q.Context(), `
select coalesce(sum(n), 0), coalesce(max(n), 0) from (select count(*) as n from workflow_runs where user_id = $1::uuid group by workflow_id, draft_id) as k`, q.user(round).String()).Scan(&all, &most)
	if err != nil {
		q.Fatal(err)
	}
	if want := min(q.perUser, int64(q.keys)*q.perKey); all != want || most > q.perKey {
		q.Errorf("round %d: %d of the user's %d slots are taken, and %d of a key's %d", round, all, want, most, q.perKey)
	}
}

// quotaRounds is how many rounds a case has.
func quotaRounds(t testing.TB) int {
	n, err := strconv.Atoi(os.Getenv("RUNCOUNTER_ROUNDS"))
	if err != nil && os.Getenv("RUNCOUNTER_ROUNDS") != "" {
		t.Fatalf("RUNCOUNTER_ROUNDS: %v", err)
	}
	return max(n, 4)
}

// TestTwoLimitsHold while runs end, are folded and recounted: never above either, no slot
// left unused, no deadlock. RUNCOUNTER_ROUNDS sets the number of rounds.
func TestTwoLimitsHold(t *testing.T) {
	need.Serial(t)
	t.Parallel()
	for _, tt := range []struct {
		name, isolation   string
		byStore, windowed bool
	}{
		{"in SQL", "read committed", false, false},
		{"in SQL, in a window", "read committed", false, true},
		{"in SQL, in REPEATABLE READ", "repeatable read", false, false},
		{"by the store, in a window", "read committed", true, true},
		{"by the store where REPEATABLE READ is the default", "repeatable read", true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := newQuotas(t, newFixtureOn(t, mustInstallWindows(t)), tt.isolation)
			q.byStore, q.ofKey, q.ofUser = tt.byStore, tt.windowed, tt.windowed
			q.rounds(quotaRounds(t))
			exact(t, q.f.store)
		})
	}
}

// TestTheUsersLimitIsTakenInTurns has a begin wait for another of the same user that has
// not committed, on another key. Under the lock of the key alone both get the last slot.
// Another user does not wait.
func TestTheUsersLimitIsTakenInTurns(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		locks bool
		runs  int
	}{"ours": {true, 1}, "under the key's lock alone": {false, 2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			if !tt.locks {
				f.replace("run_counter."+beginRun, "perform run_counter.lock_key(p_user_id, '', ", "perform (p_user_id, '', ")
			}
			begin := func(user, flow string) string {
				return `select begin_workflow_run('` + user + `', '` + flow + `', p_limit => 10, p_user_limit => 1)`
			}
			a, b, other := f.session(), f.session(), f.session()
			a.do(`begin`, begin(ada, adaFlow))
			b.begin(func() error { _, err := b.conn.Exec(t.Context(), begin(ada, bobFlow)); return err })
			other.do(`set lock_timeout = '20s'`, begin(bob, adaFlow))
			a.do(`commit`)
			b.finish()
			sourcetest.MustBe(t, f.address, `select count(*) from workflow_runs where user_id = '`+ada+`'`, strconv.Itoa(tt.runs))
		})
	}
}

// TestAnOldSnapshotPassesNoLimitOfAUser has a begin in REPEATABLE READ whose snapshot is
// older than one on another key of the user.
func TestAnOldSnapshotPassesNoLimitOfAUser(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		lock, want string
	}{
		"ours":                         {"", "40001"},
		"with a lock that writes none": {"perform from run_counter.keys", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			begin := func(flow string) string {
				return `select begin_workflow_run('` + ada + `', '` + flow + `', p_user_limit => 2)`
			}
			pgtest.Exec(t, f.address, begin(adaFlow)) // makes the user's row
			if tt.lock != "" {
				f.replace("run_counter.lock_key(uuid,text,uuid)", "update run_counter.keys set kind = kind", tt.lock)
				// The mark of a limit that is nearly used up would serve as the lock by chance.
				f.replace("run_counter.mark_limit(uuid,text,uuid,bigint,timestamptz,bigint,bigint,timestamptz)", "if p_used >= ", "if false and p_used >= ")
			}
			old := f.session()
			old.do(`begin isolation level repeatable read`, `select count(*) from workflow_runs`)
			pgtest.Exec(t, f.address, begin(adaFlow))
			if _, err := old.conn.Exec(t.Context(), begin(bobFlow)); code(err) != tt.want {
				t.Errorf("got %v, want the code %q: the last slot is taken", err, tt.want)
			}
		})
	}
}

// TestABeginWaitsForNoGrant has grants given and revoked by transactions that are still
// open, and begins that do not see them.
func TestABeginWaitsForNoGrant(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	begin := `select coalesce(begin_workflow_run('` + ada + `', '` + adaFlow + `', p_limit => 1, p_user_limit => 1)::text, 'full')`
	pgtest.Exec(t, f.address, begin)
	giver := f.session()
	giver.do(`begin`, `select grant_workflow_runs('`+ada+`', 1, 'support', 'a refill', p_workflow_id => '`+adaFlow+`')`)
	sourcetest.MustBe(t, f.address, begin, "full")
	giver.do(`commit`)
	giver.do(`begin`, `select revoke_workflow_run_grant(1, 'support', 'a mistake')`)
	sourcetest.MustBe(t, f.address, strings.Replace(begin, "'full')", "'full') <> 'full'", 1), "t")
	giver.do(`commit`)
	sourcetest.MustBe(t, f.address, begin, "full")
	sourcetest.MustBe(t, f.address, `select string_agg(concat_ws(' ', scope, "limit", granted, counted, active, remaining), ', ') from get_workflow_run_allowance('`+ada+`', '`+adaFlow+`', p_limit => 1, p_user_limit => 1)`,
		"key 1 0 0 2 0, user 1 0 0 2 0") // what was begun stays, and nothing is negative
}

// mustInstallWindows is mustInstall with the indexes of windows.
func mustInstallWindows(t testing.TB) string {
	t.Helper()
	return pgtest.Copy(t, "installed with windows", func(address string) { windows(t, address) })
}

// windows makes the indexes of windows.
func windows(t testing.TB, address string) {
	t.Helper()
	yes := true
	sourcetest.Migrate(t, address, func(m *migrations.Migrator) error {
		m.SetWindows(migrations.Windows{User: &yes, Workflow: &yes})
		return m.Up()
	})
}
