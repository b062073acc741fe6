package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// itsNames are those by which an application writes its table.
type itsNames struct{ table, user, status, end string }

// writers are pooled sessions of an application, which write all the while.
type writers struct {
	names    atomic.Pointer[itsNames]
	altering atomic.Bool // an ALTER is under way, and the names of now may be those of before
	rounds   [2]atomic.Int64
	stop     atomic.Bool
	done     sync.WaitGroup
	mu       sync.Mutex
	failed   []string
}

func writing(t *testing.T, address string) *writers {
	t.Helper()
	w := &writers{}
	w.names.Store(&itsNames{"workflow_runs", "user_id", "status", "completed_at"})
	for n := range w.rounds {
		conn, err := pgx.Connect(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		w.done.Go(func() {
			ctx := context.WithoutCancel(t.Context())
			defer conn.Close(ctx)
			for !w.stop.Load() {
				w.round(ctx, conn, n)
			}
		})
	}
	t.Cleanup(w.end)
	return w
}

func (w *writers) end() {
	w.stop.Store(true)
	w.done.Wait()
}

// round is the life of two runs: one ends, is written over and stays as it was,
// and one is deleted.
func (w *writers) round(ctx context.Context, conn *pgx.Conn, n int) {
	round := w.rounds[n].Load()
	one, two := runID(int(round)*2+n*1_000_000), runID(int(round)*2+1+n*1_000_000)
	for _, statement := range []string{
		"insert into TABLE (id, USER, workflow_id, STATUS) values ('" + one + "', '" + sampleUser + "', '" + sampleWorkflow + "', 'pending')",
		"update TABLE set STATUS = 'running' where id = '" + one + "'",
		"update TABLE set STATUS = 'completed' where id = '" + one + "'", // dated by the guard
		"update TABLE set STATUS = 'running', END = null where id = '" + one + "'",
		"insert into TABLE (id, USER, workflow_id, STATUS, END, created_at) values ('" + two + "', '" + sampleUser + "', '" + sampleWorkflow + "', 'failed', now(), '2031-01-01')",
		"delete from TABLE where id = '" + two + "'",
	} {
		w.write(ctx, conn, statement)
	}
	w.rounds[n].Add(1)
}

// write runs a statement under the names of now. An application whose table is
// renamed beneath it tries again by the other name, with us or without.
func (w *writers) write(ctx context.Context, conn *pgx.Conn, statement string) {
	for {
		altering, is := w.altering.Load(), w.names.Load()
		_, err := conn.Exec(ctx, strings.NewReplacer("TABLE", is.table, "USER", is.user, "STATUS", is.status, "END", is.end).Replace(statement), pgx.QueryExecModeSimpleProtocol)
		var e *pgconn.PgError
		if errors.As(err, &e) && (e.Code == "42703" || e.Code == "42P01") && (altering || w.altering.Load() || w.names.Load() != is) {
			continue
		}
		if err != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.failed = append(w.failed, fmt.Sprintf("%s: %v", statement, err))
		}
		return
	}
}

// goOn waits until each session has begun and ended a round.
func (w *writers) goOn(t *testing.T) {
	t.Helper()
	for n := range w.rounds {
		from := w.rounds[n].Load()
		eventually(t, "the application writes", func() bool { return w.rounds[n].Load() > from+1 })
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.failed {
		t.Error(f)
	}
	w.failed = nil
}

// TestCaseT10_AlterTableInTenWaysBesideServe, which sweeps, and pooled sessions
// that write all the while. Each goes through, or is refused for what detach()
// takes off. No write fails, and the counts are exact or the next sweep names what
// they are not.
func TestCaseT10_AlterTableInTenWaysBesideServe(t *testing.T) {
	need.NoRaceDetector(t)
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, `
create type run_status as enum ('pending', 'running', 'cancelling', 'completed', 'failed', 'cancelled');
create table public.workflow_runs (
    id uuid not null, user_id uuid not null, workflow_id uuid, status run_status, started_at timestamptz, completed_at timestamptz,
    duration_ms integer, error_details jsonb, created_at timestamptz not null default now(), updated_at timestamptz not null default now(),
    primary key (id, created_at)
) partition by range (created_at);
create table public.others partition of public.workflow_runs default`)
	must(t, t.TempDir(), "", "migrate", "up", "--database-url", address)
	p := listens(t, t.TempDir(), []string{"DATABASE_URL=" + address}, "--stuck-after", "1h", "--sweep-every", "50ms")
	w := writing(t, address)
	w.goOn(t)
	degraded := func() string {
		return strings.Join(mustGet[struct{ Degraded []string }](t, p.url+"/readyz").Degraded, "\n")
	}
	for _, tt := range []struct {
		name, alter string
		now         itsNames
		refused     string // what PostgreSQL says while our triggers are there
		names       string // what a sweep says from then on
	}{
		{name: "rename who is counted", alter: `alter table workflow_runs rename user_id to owner_id`, now: itsNames{user: "owner_id"}, names: "user_id is gone"},
		{name: "rename the status", alter: `alter table workflow_runs rename status to state`, now: itsNames{status: "state"}, names: "status is gone"},
		{name: "rename the end", alter: `alter table workflow_runs rename completed_at to finished_at`, now: itsNames{end: "finished_at"}, names: "completed_at is gone"},
		{name: "rename the table", alter: `alter table workflow_runs rename to runs`, now: itsNames{table: "runs"}, names: "no table public.workflow_runs"},
		{name: "and all of it back", alter: `alter table runs rename to workflow_runs; alter table workflow_runs rename owner_id to user_id; alter table workflow_runs rename state to status; alter table workflow_runs rename finished_at to completed_at`,
			now: itsNames{"workflow_runs", "user_id", "status", "completed_at"}},
		{name: "add a column", alter: `alter table workflow_runs add cost numeric not null default 0`},
		{name: "add a value", alter: `alter type run_status add value 'timeout' before 'pending'`, names: "the words for its statuses are others"},
		{name: "another type", alter: `alter table workflow_runs alter duration_ms type bigint, alter error_details type json`, names: "duration_ms"},
		{name: "drop a column", alter: `alter table workflow_runs drop updated_at`, names: "updated_at is gone"},
		{name: "a new partition", alter: `begin; lock table workflow_runs; delete from workflow_runs where created_at >= '2030-01-01'; create table runs_2031 partition of workflow_runs for values from ('2030-01-01') to ('2032-01-01'); commit`},
		{name: "a rule", alter: `alter table workflow_runs add check (duration_ms >= 0), alter workflow_id set not null`},
		{name: "another type of the status", alter: `alter table workflow_runs alter status type text using status::text`, refused: "trigger definition", names: "run_counter.detach() has taken"},
	} {
		alter := tt.alter
		if tt.refused != "" {
			if err := altering(t, address, alter); err == nil || !strings.Contains(err.Error(), tt.refused) {
				t.Fatalf("%s: got %v, want %q", tt.name, err, tt.refused)
			}
			alter = "select run_counter.detach(); " + alter
		}
		is := *w.names.Load()
		for _, to := range []struct{ is, now *string }{{&is.table, &tt.now.table}, {&is.user, &tt.now.user}, {&is.status, &tt.now.status}, {&is.end, &tt.now.end}} {
			if *to.now != "" {
				*to.is = *to.now
			}
		}
		before := len(p.said())
		w.altering.Store(true)
		err := altering(t, address, alter)
		w.names.Store(&is)
		w.altering.Store(false)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		w.goOn(t)
		if tt.names != "" {
			eventually(t, tt.name+": a sweep names it", func() bool { return strings.Contains(p.said()[before:], tt.names) })
		}
		wrong := textOf(t, address, fmt.Sprintf(`
select (select coalesce(sum(k.n), 0) from (select n from run_counter.counts union all select n from run_counter.ledger) as k)
       - (select count(*) from %s as r where r.%s::text in ('completed', 'failed') and r.%s is not null) || ''`, is.table, is.status, is.end))
		if wrong != "0" && tt.refused == "" {
			t.Errorf("%s: the counts differ from the runs by %s", tt.name, wrong)
		}
	}
	must(t, t.TempDir(), "", "migrate", "up", "--database-url", address)
	w.goOn(t)
	w.end()
	eventually(t, "the counts are those of the runs, and no sweep says otherwise", func() bool {
		return !slices.ContainsFunc(strings.Split(degraded(), "\n"), func(s string) bool { return strings.Contains(s, "altered") }) &&
			fmt.Sprint(mustGet[struct{ Count int }](t, p.url+"/v1/counts?user_id="+sampleUser+"&workflow_id="+sampleWorkflow).Count) ==
				textOf(t, address, `select count(*)::text from workflow_runs where status in ('completed', 'failed') and completed_at is not null`)
	})
}

// altering alters the table in a session of its own.
func altering(t *testing.T, address, alter string) error {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), alter, pgx.QueryExecModeSimpleProtocol)
	return err
}
