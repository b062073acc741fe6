package migrations

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// A transaction holds the table while others keep writing: they may wait for
// one try of the migration, and no longer.
func TestABusyTableDoesNotStallBehindUp(t *testing.T) {
	address := pgtest.Database(t)
	pgtest.Exec(t, address, tableWithDrafts, aliceHasThree)
	for _, i := range indexes(watched.Default()) { // building them waits, and holds nobody off
		pgtest.Exec(t, address, `create index `+i.Name+` `+i.Definition, `comment on index `+i.Name+` is `+watched.Literal(i.Comment()))
	}
	letGo := mustHold(t, address)
	m := mustPostgres(t, address)
	done := make(chan error, 1)
	go func() { done <- m.Up() }()
	stop := make(chan struct{})
	written := make(chan writes, 1)
	go func() { written <- keepWriting(address, stop) }()

	// One try has failed and another is under way when the lock is let go.
	const tries = ` from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query ~ '^(-- [^\n]*\n)*set local lock_timeout'`
	waitFor(t, address, `select count(*) = 1`+tries)
	waitFor(t, address, `select count(*) = 0`+tries)
	waitFor(t, address, `select count(*) = 1`+tries)
	letGo()
	if err := need.Await(t, "the end of Up", done); err != nil {
		t.Errorf("Up: %v", err)
	}
	close(stop)
	w := need.Await(t, "the end of the writer", written)
	if w.err != nil {
		t.Errorf("a writer: %v", w.err)
	}
	mustBeLatest(t, m)
	if limit := 4 * time.Second; w.longest > limit || w.n == 0 {
		t.Errorf("got %d writes, the longest of %v; want none longer than a try and a margin, %v", w.n, w.longest, limit)
	}
	mustCount(t, address, "3")
	// Bob's runs ended while Up was at work: none was lost, none counted twice.
	got := ask(t, address, `select public.get_user_workflow_run_count('`+bob+`', '`+flow+`')`)
	if diff := cmp.Diff(ask(t, address, `select count(*) from public.workflow_runs where user_id = '`+bob+`'`), got); diff != "" {
		t.Errorf("bob's runs and his count (-runs +count):\n%s", diff)
	}
}

// mustHold opens a transaction that has written to workflow_runs; letGo commits
// it.
func mustHold(t *testing.T, address string) (letGo func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	if _, err := conn.Exec(t.Context(), `begin; update public.workflow_runs set updated_at = now() where status = 'running'`); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if _, err := conn.Exec(t.Context(), `commit`); err != nil {
			t.Fatal(err)
		}
	}
}

type writes struct {
	n       int
	longest time.Duration
	err     error
}

// keepWriting ends runs of bob's, one after the other, until it is stopped.
func keepWriting(address string, stop chan struct{}) (w writes) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		return writes{err: err}
	}
	defer conn.Close(ctx)
	for {
		select {
		case <-stop:
			return w
		default:
		}
		start := time.Now()
		_, w.err = conn.Exec(ctx, `insert into public.workflow_runs (user_id, workflow_id, status, completed_at) values ($1, $2, 'completed', now())`, bob, flow)
		if w.err != nil {
			return w
		}
		w.n, w.longest = w.n+1, max(w.longest, time.Since(start))
	}
}

func waitFor(t *testing.T, address, question string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ask(t, address, question)[0] != "t"; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", question)
		}
	}
}

func TestUpSaysWhoHoldsTheLockThatItDidNotGet(t *testing.T) {
	address := pgtest.Database(t)
	pgtest.Exec(t, address, tableWithDrafts)
	holder, err := pgx.Connect(t.Context(), pgtest.With(t, address, "application_name", "nightly report"))
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(context.Background())
	up := mustUp(t, address)
	if err := up.Down(); err != nil {
		t.Fatal(err)
	}
	mustExec := func(statement string) {
		t.Helper()
		if _, err := holder.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range indexes(watched.Default()) {
		mustExec(`create index ` + i.Name + ` ` + i.Definition)
	}
	mustExec(`begin`)
	mustExec(`lock table public.workflow_runs in row exclusive mode`)
	m := mustPostgres(t, address)
	m.postgres.busyTimeout = time.Millisecond
	err = m.Up()
	for _, word := range []string{"lock", "workflow_runs is held by process", "nightly report", "idle in transaction", "goes on from where it stands", "55P03"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("Up: got %v, want it to say %q", err, word)
		}
	}
	if s, err := m.Status(); err != nil || s.Dirty {
		t.Errorf("Status: got %+v, %v; want it clean, since the file was rolled back", s, err)
	}
	mustExec(`commit`)
	if err := m.Up(); err != nil {
		t.Errorf("Up after it: %v", err)
	}
	mustExec(`begin`)
	mustExec(`lock table public.workflow_runs in row exclusive mode`)
	if err := m.Down(); err == nil || !strings.Contains(err.Error(), "nightly report") {
		t.Errorf("Down: got %v, want it to say who holds the lock", err)
	}
	mustExec(`commit`)
	if err := m.Down(); err != nil {
		t.Errorf("Down after it: %v", err)
	}
}

// What is built concurrently is what the migration makes.
func TestTheIndexesAreThoseOfTheMigration(t *testing.T) {
	for _, c := range []struct {
		name, table string
		described   watched.Table
	}{
		{"with drafts", tableWithDrafts, watched.Default()},
		{"without drafts", tableWithoutDrafts, watched.Default().Without(watched.Draft)},
	} {
		t.Run(c.name, func(t *testing.T) {
			const list = `select pg_get_indexdef(indexrelid) from pg_index where indrelid = 'public.workflow_runs'::regclass and not indisprimary order by 1`
			ours, theirs := pgtest.Database(t), pgtest.Database(t)
			pgtest.Exec(t, ours, c.table)
			pgtest.Exec(t, theirs, c.table)
			for _, i := range indexes(c.described) {
				pgtest.Exec(t, ours, `create index `+i.Name+` `+i.Definition)
			}
			text, err := PrintPostgres(c.described)
			if err != nil {
				t.Fatal(err)
			}
			pgtest.Exec(t, theirs, text)
			if diff := cmp.Diff(ask(t, theirs, list), ask(t, ours, list)); diff != "" {
				t.Errorf("-migration +concurrently:\n%s", diff)
			}
		})
	}
}

func TestAnIndexThatWasNotFinishedIsBuiltAnew(t *testing.T) {
	address := pgtest.Database(t)
	pgtest.Exec(t, address, tableWithDrafts, aliceHasThree)
	name := indexes(watched.Default())[0].Name
	pgtest.Exec(t, address, `create index `+name+` on public.workflow_runs (id)`,
		`update pg_index set indisvalid = false where indexrelid = '`+name+`'::regclass`)
	mustUp(t, address)
	got := ask(t, address, `select indisvalid, pg_get_indexdef(indexrelid) like '%(user_id%' from pg_index where indexrelid = '`+name+`'::regclass`)
	if got[0] != "t t" {
		t.Errorf("got valid and ours %v, want both", got)
	}
}

// Building an index waits for older transactions, and must not let writers
// wait meanwhile.
func TestIndexesAreBuiltBesideWriters(t *testing.T) {
	address := pgtest.Database(t)
	pgtest.Exec(t, address, tableWithDrafts, aliceHasThree)
	letGo := mustHold(t, address)
	m := mustPostgres(t, address)
	done := make(chan error, 1)
	go func() { done <- m.Up() }()
	waitFor(t, address, `select count(*) = 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like 'create index concurrently%'`)
	pgtest.Exec(t, address, `set lock_timeout = '1s'; insert into public.workflow_runs (user_id, workflow_id) values ('`+bob+`', '`+flow+`')`)
	letGo()
	if err := need.Await(t, "the end of Up", done); err != nil {
		t.Errorf("Up: %v", err)
	}
}

func TestUpFollowsATableThatGainsOrLosesDrafts(t *testing.T) {
	address := pgtest.Database(t)
	pgtest.Exec(t, address, tableWithoutDrafts, aliceHasThree)
	m := mustUp(t, address)
	pgtest.Exec(t, address, `alter table public.workflow_runs add column draft_id uuid`)
	if err := m.Up(); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, address, `insert into public.workflow_runs (user_id, draft_id, status) values ('`+alice+`', '`+draft+`', 'completed')`)
	if got := ask(t, address, `select public.get_user_workflow_run_count('`+alice+`', null, '`+draft+`')`); got[0] != "1" {
		t.Errorf("got %s runs of the draft, want 1", got[0])
	}
	mustCount(t, address, "3")
	if got, want := ask(t, address, `select draft_id from run_counter.settings`), "t"; got[0] != want {
		t.Errorf("settings: got draft_id %s, want %s", got[0], want)
	}
	const list = `select pg_get_indexdef(indexrelid) from pg_index where indrelid = 'public.workflow_runs'::regclass and not indisprimary order by 1`
	fresh := pgtest.Database(t)
	pgtest.Exec(t, fresh, tableWithDrafts)
	mustUp(t, fresh)
	if diff := cmp.Diff(ask(t, fresh, list), ask(t, address, list)); diff != "" {
		t.Errorf("indexes (-of a table that had drafts from the start +of this):\n%s", diff)
	}

	pgtest.Exec(t, address, `alter table public.workflow_runs drop column draft_id cascade`)
	if err := m.Up(); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, address, aliceHasThree)
	mustCount(t, address, "6")
	mustBeLatest(t, m)
	if err := m.Down(); err != nil {
		t.Errorf("Down: %v", err)
	}
}
