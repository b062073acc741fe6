package postgres

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
)

// The rows of cases/tables.md that a source alone can have.

// rowOf is a row of the watched table as JSON has it.
func rowOf(t testing.TB, address, id string) map[string]any {
	t.Helper()
	var text string
	sourcetest.MustScan(t, address, `select to_jsonb(r) from workflow_runs as r where id = '`+id+`'`, &text)
	var row map[string]any
	if err := json.Unmarshal([]byte(text), &row); err != nil {
		t.Fatal(err)
	}
	return row
}

const (
	oneRun = "00000000-0000-4000-8000-0000000000c1"
	oneKey = `'` + ada + `', '` + adaFlow + `'`
)

func TestCaseT20_ArgumentsThatAreNullLeaveWhatIsThere(t *testing.T) {
	t.Parallel()
	installed, bare := sourcetest.Installed(t), pgtest.Database(t)
	pgtest.Exec(t, bare, sourcetest.BareTable)
	exec := func(sql string) func(string) { return func(address string) { pgtest.Exec(t, address, sql) } }
	complete := func(address string) {
		got, err := mustOpen(t, address, Options{}).Complete(t.Context(), store.Completion{ID: sourcetest.MustParse(t, oneRun), Outcome: store.Outcome{Status: store.Completed}, Now: time.Now()})
		if err != nil || !got.Won {
			t.Errorf("Complete: got %+v, %v; want it won", got, err)
		}
	}
	for _, tt := range []struct {
		name, address string
		complete      func(address string)
	}{
		{"complete_workflow_run_and_get_count", installed, exec(`do $$ begin perform public.complete_workflow_run_and_get_count('` + oneRun + `', 'completed', null,null,null); end $$`)},
		{"complete_workflow_run", installed, exec(`do $$ begin perform public.complete_workflow_run('` + oneRun + `', 'completed'); end $$`)},
		{"Complete", installed, complete},
		{"Complete without migrations", bare, complete},
		{"an UPDATE that supersedes a presumed outcome", installed, func(address string) {
			f := store.FailStuck{Now: time.Now(), Limits: store.DefaultLimits(), Max: 10}
			if got, err := mustOpen(t, address, Options{}).FailStuck(t.Context(), f); err != nil || len(got) != 1 {
				t.Fatalf("FailStuck: got %+v, %v; want the run", got, err)
			}
			exec(`update workflow_runs set status = 'completed'`)(address)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pgtest.Exec(t, tt.address, `delete from workflow_runs; insert into workflow_runs (id, user_id, workflow_id, status, started_at, created_at, updated_at, duration_ms, error_details, state_snapshot)
values ('`+oneRun+`', `+oneKey+`, 'running', now() - interval '1 hour', now() - interval '1 hour', now() - interval '1 hour', 777, '{"warnings": 3}', '{"nodes": 1}')`)
			tt.complete(tt.address)
			got := rowOf(t, tt.address, oneRun)
			for column, want := range map[string]any{
				"status": "completed", "duration_ms": 777.0, "error_details": map[string]any{"warnings": 3.0}, "state_snapshot": map[string]any{"nodes": 1.0},
			} {
				if diff := cmp.Diff(want, got[column]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", column, diff)
				}
			}
		})
	}
}

// guests is a project that lets guests run: user_id may be null, and a user who
// is deleted leaves the runs behind.
const guests = `
create table people (id uuid primary key);
insert into people values ('` + ada + `'), ('` + bob + `');
create table workflow_runs (
    id uuid primary key, user_id uuid references people (id) on delete set null, workflow_id uuid, draft_id uuid, status text,
    started_at timestamptz, completed_at timestamptz, duration_ms integer, error_details jsonb, state_snapshot jsonb,
    created_at timestamptz not null default now(), updated_at timestamptz not null default now());
insert into workflow_runs (id, user_id, workflow_id, status, completed_at, updated_at) values
    ('` + guestRun + `', null, '` + adaFlow + `', 'completed', now(), now()),
    ('` + adasRun + `', ` + oneKey + `, 'completed', now(), now()),
    ('` + oneRun + `', ` + oneKey + `, 'running', null, now() - interval '1 hour');`

const guestRun = "00000000-0000-4000-8000-0000000000c0"

// mustGuests is that project, with our migrations.
func mustGuests(t testing.TB) (address string, s *Store) {
	t.Helper()
	address = pgtest.Database(t)
	pgtest.Exec(t, address, guests)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	return address, mustOpen(t, address, Options{})
}

// wantKeyless compares what is counted, and what is reported as having no key.
func wantKeyless(t testing.TB, s *Store, want int64, counted int64) {
	t.Helper()
	exact(t, s)
	h, err := s.Health(t.Context())
	if err != nil || h.NoKey != want {
		t.Errorf("runs without a key: got %d, %v; want %d", h.NoKey, err, want)
	}
	odd, err := s.SearchRuns(t.Context(), store.RunQuery{State: store.OddRuns, Limit: 100})
	if err != nil || int64(len(odd)) != want {
		t.Errorf("the list of odd runs: got %d, %v; want %d", len(odd), err, want)
	}
	key := store.KeyOf(sourcetest.MustParse(t, ada), sourcetest.MustParse(t, adaFlow), store.ID{})
	if c, err := s.Count(t.Context(), key.Scope(), store.AllTime); err != nil || c.Count != counted {
		t.Errorf("ada's count: got %d, %v; want %d", c.Count, err, counted)
	}
	audited, err := s.Audit(t.Context(), store.Audit{Max: 100})
	if err != nil || len(audited.Drifts) != 0 {
		t.Errorf("drifts: %+v, %v", audited.Drifts, err)
	}
}

func TestCaseT1_ARunWithoutAUserIsNobodys(t *testing.T) {
	t.Parallel()
	address, s := mustGuests(t)
	key := store.KeyOf(sourcetest.MustParse(t, ada), sourcetest.MustParse(t, adaFlow), store.ID{})
	for _, step := range []struct {
		name, sql        string
		keyless, counted int64
	}{
		{"an INSERT", `insert into workflow_runs (id, user_id, workflow_id, status) values (gen_random_uuid(), null, '` + adaFlow + `', 'completed')`, 2, 1},
		{"an UPDATE that ends one", `insert into workflow_runs (id, user_id, workflow_id, status) values (gen_random_uuid(), null, '` + adaFlow + `', 'running');
			update workflow_runs set status = 'failed' where user_id is null and status = 'running'`, 3, 1},
		{"an UPDATE of an ended one", `update workflow_runs set status = 'running', completed_at = null where user_id is null`, 3, 1},
		{"a guest who signs up", `update workflow_runs set user_id = '` + ada + `' where id = '` + guestRun + `'`, 2, 2},
		{"a user who becomes a guest", `update workflow_runs set user_id = null where id = '` + guestRun + `'`, 3, 1},
		{"a guest's run moves to a draft", `update workflow_runs set draft_id = workflow_id, workflow_id = null where user_id is null`, 3, 1},
		{"a DELETE", `delete from workflow_runs where id = '` + guestRun + `'`, 2, 1},
		{"complete_workflow_run", `insert into workflow_runs (id, user_id, workflow_id, status) values ('` + guestRun + `', null, '` + adaFlow + `', 'running');
			do $$ begin
				if (select new_count from complete_workflow_run_and_get_count('` + guestRun + `', 'completed')) <> 0 then
					raise 'a guest has a count';
				end if;
			end $$`, 3, 1},
		{"amend_run", `select run_counter.amend_run('` + guestRun + `', 'running', 'support', 'a retry');
			select complete_workflow_run('` + guestRun + `', 'failed')`, 3, 1},
		{"a TRUNCATE", `truncate workflow_runs`, 0, 0},
	} {
		pgtest.Exec(t, address, step.sql)
		wantKeyless(t, s, step.keyless, step.counted)
		if t.Failed() {
			t.Fatalf("after %s", step.name)
		}
	}
	if _, err := s.Recount(t.Context(), key, time.Now()); err != nil {
		t.Error(err)
	}
	if n, err := s.Fold(t.Context(), time.Now(), 1000); err != nil {
		t.Errorf("Fold: %d, %v", n, err)
	}
	wantKeyless(t, s, 0, 0)
}

func TestCaseT1_WithoutMigrationsARunWithoutAUserIsNobodys(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, guests)
	s := mustOpen(t, address, Options{})
	counts, err := s.SearchCounts(t.Context(), store.CountQuery{Limit: 10})
	if err != nil || len(counts) != 1 || counts[0].Count != 1 || counts[0].Key.User != sourcetest.MustParse(t, ada) {
		t.Errorf("SearchCounts: got %+v, %v; want ada's one", counts, err)
	}
	if h, err := s.Health(t.Context()); err != nil || h.NoKey != 1 {
		t.Errorf("Health: got %+v, %v; want one run without a key", h, err)
	}
	got, err := s.Complete(t.Context(), store.Completion{ID: sourcetest.MustParse(t, guestRun), Outcome: store.Outcome{Status: store.Failed}, Now: time.Now()})
	if err != nil || got.Won || !got.Count.Key.IsZero() {
		t.Errorf("Complete: got %+v, %v; want it lost, without a count", got, err)
	}
}

func TestCaseT1_OurWebhookTellsOfARunWithoutAUser(t *testing.T) {
	t.Parallel()
	p := newTelling(t)
	p.installs()
	p.exec(`alter table workflow_runs alter user_id drop not null`,
		`insert into workflow_runs (id, user_id, workflow_id, status) values ('`+guestRun+`', null, '`+adaFlow+`', 'running')`,
		`update workflow_runs set status = 'completed'`)
	if got := p.text(`select string_agg(convert_from(body, 'UTF8')::jsonb -> 0 -> 'record' ->> 'status' || ' ' ||
		(convert_from(body, 'UTF8')::jsonb -> 0 -> 'record' -> 'user_id')::text, ', ' order by id) from net.http_request_queue`); got != "running null, completed null" {
		t.Errorf("what is sent: %s", got)
	}
	if got := p.text(`select count(*)::text from run_counter_webhook.failures`); got != "0" {
		t.Errorf("%s failures, want 0", got)
	}
}

func TestCaseT2_AUserWhoIsDeletedLeavesRunsBehind(t *testing.T) {
	t.Parallel()
	address, s := mustGuests(t)
	wantKeyless(t, s, 1, 1)
	if got, err := s.FailStuck(t.Context(), store.FailStuck{Now: time.Now(), Limits: store.DefaultLimits(), Max: 10}); err != nil || len(got) != 1 {
		t.Fatalf("FailStuck: got %+v, %v; want the run that is silent", got, err)
	}
	wantKeyless(t, s, 1, 2)
	pgtest.Exec(t, address, `delete from people where id = '`+ada+`'`)
	wantKeyless(t, s, 3, 0)
	if run, err := s.Run(t.Context(), sourcetest.MustParse(t, oneRun)); err != nil || !run.Presumed || !run.User.IsZero() {
		t.Errorf("the presumed run: got %+v, %v; want it presumed still, and nobody's", run, err)
	}
	pgtest.Exec(t, address, `update workflow_runs set status = 'completed' where id = '`+oneRun+`'`)
	wantKeyless(t, s, 3, 0)
	if run, err := s.Run(t.Context(), sourcetest.MustParse(t, oneRun)); err != nil || run.Presumed || run.Status != store.Completed {
		t.Errorf("the superseded run: got %+v, %v; want it completed", run, err)
	}
	// A run that is silent and has no user is ended like any other.
	pgtest.Exec(t, address, `insert into workflow_runs (id, workflow_id, status, updated_at) values (gen_random_uuid(), '`+adaFlow+`', 'running', now() - interval '1 hour')`)
	if got, err := s.FailStuck(t.Context(), store.FailStuck{Now: time.Now(), Limits: store.DefaultLimits(), Max: 10}); err != nil || len(got) != 1 {
		t.Errorf("FailStuck: got %+v, %v; want the guest's run", got, err)
	}
	wantKeyless(t, s, 4, 0)
	pgtest.Exec(t, address, `update workflow_runs set user_id = '`+bob+`' where id = '`+oneRun+`'`, `delete from people`)
	wantKeyless(t, s, 4, 0)
}

func TestCaseT3_FinishedRunsWithoutAUserAreThereBeforeMigrateUp(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, guests)
	// An earlier function of the same name is asked for each key, and compared.
	pgtest.Exec(t, address, `create function get_user_workflow_run_count(p_user_id uuid, p_workflow_id uuid) returns integer language sql as
$$ select count(*)::integer from workflow_runs where user_id = p_user_id and workflow_id = p_workflow_id and status = 'completed' $$`)
	sourcetest.Migrate(t, address, func(m *migrations.Migrator) error {
		err := m.Up()
		if diff := cmp.Diff(&migrations.Totals{Function: "get_user_workflow_run_count(uuid,uuid)", Compared: 1}, m.Totals()); diff != "" {
			t.Errorf("totals (-want +got):\n%s", diff)
		}
		return err
	})
	wantKeyless(t, mustOpen(t, address, Options{}), 1, 1)
}

// upsert is a run that began a minute ago, and how clients write its end.
const (
	minuteOld = `delete from workflow_runs; insert into workflow_runs (id, user_id, workflow_id, status, started_at, created_at)
values ('` + oneRun + `', ` + oneKey + `, 'running', now() - interval '1 minute', now() - interval '1 minute');`
	upsert = `insert into workflow_runs (id, user_id, workflow_id, status, started_at) values ('` + oneRun + `', ` + oneKey + `, 'completed', now()) `
)

func TestCaseT12_WhatIsFilledInAnInsertDoesNotShowInAnUpsert(t *testing.T) {
	t.Parallel()
	address := sourcetest.Installed(t)
	pgtest.Exec(t, address, `alter table workflow_runs add column order_id uuid unique`)
	for _, tt := range []struct{ name, sql, want string }{
		{"the end and the duration of an upsert", upsert + `on conflict (id) do update set status = excluded.status, completed_at = excluded.completed_at, duration_ms = excluded.duration_ms`,
			"completed, dated, 60"},
		{"an upsert that takes the time alone", upsert + `on conflict (id) do update set completed_at = excluded.completed_at`, "running, null, null"},
		{"an upsert of a run that is dated", upsert + `on conflict (id) do update set status = excluded.status, completed_at = now(), duration_ms = 777000`, "completed, dated, 777"},
		{"an upsert over another column", `update workflow_runs set order_id = id; insert into workflow_runs (id, user_id, workflow_id, status, started_at, order_id)
			values (gen_random_uuid(), ` + oneKey + `, 'completed', now(), '` + oneRun + `')
			on conflict (order_id) do update set status = excluded.status, completed_at = excluded.completed_at, duration_ms = excluded.duration_ms`, "completed, dated, null"},
		{"an INSERT of a new run", `delete from workflow_runs; ` + upsert, "completed, dated, null"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pgtest.Exec(t, address, minuteOld+tt.sql)
			var got string
			sourcetest.MustScan(t, address, `select concat_ws(', ', status, case when completed_at between now() - interval '30 seconds' and clock_timestamp() then 'dated' else coalesce(completed_at::text, 'null') end,
  coalesce((duration_ms / 1000)::text, 'null')) from workflow_runs where id = '`+oneRun+`' or status = 'completed'`, &got)
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
