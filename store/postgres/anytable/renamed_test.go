package anytable

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// ofEnum makes the status an enum of words of the application's own.
const ofEnum = `alter table workflow_runs alter id set default gen_random_uuid(); create type run_state as enum ('pending', 'running', 'done', 'failed'); alter table workflow_runs alter status drop default;
alter table workflow_runs alter status type run_state using status::run_state`

// TestCaseT5_ALabelThatIsRenamedStopsNoWrite: what looked for the old label would
// raise in each write that it looks at.
func TestCaseT5_ALabelThatIsRenamedStopsNoWrite(t *testing.T) {
	t.Parallel()
	for name, partitioned := range map[string]bool{"a plain table": false, "a partitioned one": true} {
		t.Run(name, func(t *testing.T) {
			address := pgtest.Supabase(t)
			pgtest.Exec(t, address, sourcetest.BareTable, ofEnum)
			if partitioned {
				pgtest.Exec(t, address, sourcetest.Partitioned)
			}
			pgtest.Exec(t, address, `grant all on workflow_runs to authenticated`)
			sourcetest.Migrate(t, address, sourcetest.UpWith(watched.Overrides{Statuses: map[string]store.Status{"done": store.Completed}}))
			pgtest.Exec(t, address, sourcetest.Begun(runOne), sourcetest.Begun(runTwo), `update workflow_runs set status = 'done' where id = '`+runOne+`'`)
			pgtest.Exec(t, address, `alter type run_state rename value 'done' to 'success'`,
				`update workflow_runs set status = 'success', completed_at = now() where id = '`+runTwo+`'`,
				`update workflow_runs set user_id = gen_random_uuid() where id = '`+runTwo+`'`,
				`insert into workflow_runs (user_id, workflow_id, status) values ('`+ada+`', '`+adaFlow+`', 'success')`,
				`insert into workflow_runs (user_id, workflow_id, status, completed_at) values ('`+ada+`', '`+adaFlow+`', 'failed', now())`,
				sourcetest.AsBob(`update workflow_runs set updated_at = now()`), `update run_counter.settings set hardening = false`, sourcetest.AsBob(`delete from workflow_runs where id = '`+runTwo+`'`))
			if partitioned {
				pgtest.Exec(t, address, `truncate all_runs`)
			}
			pgtest.Exec(t, address, sourcetest.Begun(runTwo), `update workflow_runs set status = 'success' where id = '`+runTwo+`'`)
			// What the database has kept of the old word keeps nothing from being said of the new.
			sourcetest.Migrate(t, address, sourcetest.UpWith(watched.Overrides{Statuses: map[string]store.Status{"success": store.Completed}}))
			sourcetest.MustBe(t, address, `select described -> 'said' ->> 'statuses' from run_counter.settings`, `{"success": "completed"}`)
			pgtest.Exec(t, address, `update workflow_runs set completed_at = now() where completed_at is null`)
			audited(t, address)
		})
	}
}

// TestCaseT26_APresumedRunWhoseWordMeansSomethingElse: its mark says what it means
// now, or is gone where it is not presumed any more.
func TestCaseT26_APresumedRunWhoseWordMeansSomethingElse(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		said  watched.Overrides
		marks string
	}{
		"another end":    {watched.Overrides{Statuses: map[string]store.Status{"failed": store.Cancelled, "cancelled": store.Failed}}, "1"},
		"no end at all":  {watched.Overrides{Statuses: map[string]store.Status{"failed": store.Running}}, "0"},
		"another moment": {watched.Overrides{Columns: map[watched.Role]string{watched.CompletedAt: "ended_on"}}, "0"},
	} {
		t.Run(name, func(t *testing.T) {
			address := pgtest.Database(t)
			pgtest.Exec(t, address, sourcetest.BareTable, `alter table workflow_runs add ended_on timestamptz`)
			sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
			pgtest.Exec(t, address, sourcetest.Begun(runOne), `update workflow_runs set created_at = now() - interval '1 day', started_at = null, updated_at = now() - interval '1 day'`)
			s := mustOpen(t, address, postgres.Options{})
			if _, err := sourcetest.SweeperOf(s).Sweep(t.Context(), store.SweepOptions{}); err != nil {
				t.Fatal(err)
			}
			sourcetest.MustBe(t, address, `select count(*) from run_counter.presumed`, "1")
			sourcetest.Migrate(t, address, sourcetest.UpWith(tt.said))
			sourcetest.MustBe(t, address, `select count(*) from run_counter.presumed`, tt.marks)
			audited(t, address)
			pgtest.Exec(t, address, `update workflow_runs set status = 'completed', completed_at = now(), user_id = gen_random_uuid()`)
			audited(t, address)
			pgtest.Exec(t, address, `delete from workflow_runs`)
			audited(t, address)
		})
	}
}

// TestCaseT26_AColumnCalledAsAVariableOfOurs: no function takes one for the other.
func TestCaseT26_AColumnCalledAsAVariableOfOurs(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, sourcetest.BareTable, `alter table workflow_runs rename id to p_run_id; alter table workflow_runs rename user_id to "new"; alter table workflow_runs rename status to p_status;
alter table workflow_runs rename completed_at to v_end; alter table workflow_runs rename started_at to found; alter table workflow_runs rename error_details to p_error_details;
alter table workflow_runs rename updated_at to v_now; alter table workflow_runs rename workflow_id to old;
alter table workflow_runs add v_run text, add p_now text, add p_who text, add won text, add active text, add counted text, add v_opens text, add id bigint, add user_id text, add status text, add v_was text`)
	sourcetest.Migrate(t, address, sourcetest.UpWith(watched.Overrides{Columns: map[watched.Role]string{
		watched.ID: "p_run_id", watched.User: "new", watched.Workflow: "old", watched.Status: "p_status", watched.CompletedAt: "v_end", watched.StartedAt: "found",
		watched.ErrorDetails: "p_error_details", watched.UpdatedAt: "v_now",
	}}))
	sourcetest.MustBe(t, address, `select public.begin_workflow_run('`+ada+`', '`+adaFlow+`', null, 10, 'key', '`+runOne+`')`, runOne)
	sourcetest.MustBe(t, address, `select new_count from public.complete_workflow_run_and_get_count('`+runOne+`', 'completed', null, '{"a": 1}')`, "1")
	sourcetest.MustBe(t, address, `select run_counter.amend_run('`+runOne+`', 'running', 'support', 'again')`, "t")
	sourcetest.MustBe(t, address, `select public.complete_workflow_run('`+runOne+`', 'failed')`, "t")
	s := mustOpen(t, address, postgres.Options{})
	if run, err := s.Run(t.Context(), sourcetest.MustParse(t, runOne)); err != nil || run.Status != store.Failed || time.Since(run.CompletedAt) > time.Hour {
		t.Errorf("got %+v, %v; want it failed now", run, err)
	}
	audited(t, address)
}

// TestCaseT26_AWordWithABackslash is the same word in a session of the application
// where a backslash in a constant is an escape.
func TestCaseT26_AWordWithABackslash(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, sourcetest.BareTable)
	sourcetest.Migrate(t, address, sourcetest.UpWith(watched.Overrides{Guard: watched.GuardOn, Statuses: map[string]store.Status{`it's 100 %s\`: store.Completed}}))
	const word = `E'it\'s 100 %s\\'`
	pgtest.Exec(t, address, sourcetest.Begun(runOne), sourcetest.Begun(runTwo), `set standard_conforming_strings = off; update workflow_runs set status = `+word+` where id = '`+runOne+`'; delete from workflow_runs where id = '`+runTwo+`'`,
		`update workflow_runs set status = 'running'`)
	sourcetest.MustBe(t, address, `select public.get_user_workflow_run_count('`+ada+`', '`+adaFlow+`')`, "1")
	sourcetest.MustBe(t, address, `select count(*) from workflow_runs where status = `+word+` and completed_at is not null`, "1")
}

// TestCaseT26_ASweepKeepsTheApplicationsWord: of two words for one status a repair
// leaves the row's own, and it writes none that means something else.
func TestCaseT26_ASweepKeepsTheApplicationsWord(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, sourcetest.BareTable, sourcetest.Begun(runOne), sourcetest.Begun(runTwo),
		`update workflow_runs set status = 'finished', updated_at = '2026-01-01' where id = '`+runOne+`'`, `update workflow_runs set completed_at = '2026-01-01' where id = '`+runTwo+`'`)
	sourcetest.Migrate(t, address, sourcetest.UpWith(watched.Overrides{Guard: watched.GuardOn, Statuses: map[string]store.Status{"completed": store.Running, "done": store.Failed, "finished": store.Failed}}))
	for _, dry := range []bool{true, false} {
		r, err := sourcetest.SweeperOf(mustOpen(t, address, postgres.Options{})).Sweep(t.Context(), store.SweepOptions{DryRun: dry})
		if err != nil || r.Unwritable != 1 || len(r.Refused) != 1 || !strings.Contains(r.Refused[0].Refused, "no status that means completed") {
			t.Errorf("dry %v: got %+v, %v; want the run refused that can't be said to have completed", dry, r, err)
		}
	}
	sourcetest.MustBe(t, address, `select count(*) from workflow_runs where status = 'finished' and completed_at = '2026-01-01'`, "1")
	sourcetest.MustBe(t, address, `select count(*) from workflow_runs where status = 'running' and completed_at = '2026-01-01'`, "1")
}

// TestCaseT26_ALeaseIsAMoment: a sweep compares it with others.
func TestCaseT26_ALeaseIsAMoment(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, sourcetest.BareTable, `alter table workflow_runs add beat bigint, add seen_at timestamptz; grant all on workflow_runs to authenticated`, sourcetest.Begun(runOne), `update workflow_runs set user_id = '`+bob+`', seen_at = now(), beat = extract(epoch from now()) * 1000`)
	m, err := migrations.Postgres(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	lease := func(name string) watched.Overrides {
		return watched.Overrides{Columns: map[watched.Role]string{watched.Lease: name}}
	}
	m.Override(lease("beat"))
	if err := m.Up(); !errors.Is(err, migrations.ErrTable) || !strings.Contains(err.Error(), "beat is bigint: say what it counts since 1970, with --times milliseconds or --times seconds") {
		t.Errorf("got %v, want the lease refused", err)
	}
	counted := lease("beat")
	counted.Times = watched.Milliseconds
	for _, tt := range []struct {
		said watched.Overrides
		back string
	}{
		{lease("seen_at"), `update workflow_runs set seen_at = now() - interval '1 hour'`},
		{counted, `update workflow_runs set beat = floor(extract(epoch from now() - interval '1 hour') * 1000)`},
		{counted, `update workflow_runs set beat = -9223372036854775808`},
	} {
		sourcetest.Migrate(t, address, sourcetest.UpWith(tt.said))
		if _, err := sourcetest.MustConnect(t, address).Exec(t.Context(), sourcetest.AsBob(tt.back), pgx.QueryExecModeSimpleProtocol); err == nil || !strings.Contains(err.Error(), "into the past") {
			t.Errorf("%s: got %v, want an end user's lease held where it is", tt.back, err)
		}
	}
}

// TestCaseT26_WhatIsSaidWhileAStoreIsOpen: the store that looked before it was said
// repairs no count that is right by now, and writes no word that means something else.
func TestCaseT26_WhatIsSaidWhileAStoreIsOpen(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(s *postgres.Store, key store.Key) error{
		"a recount": func(s *postgres.Store, key store.Key) error {
			_, err := s.Recount(t.Context(), key, time.Now())
			return err
		},
		"a sweep": func(s *postgres.Store, _ store.Key) error {
			r, err := sourcetest.SweeperOf(s).Sweep(t.Context(), store.SweepOptions{Full: true})
			if r.Drifting > 0 {
				t.Errorf("got %d keys that drift, want none", r.Drifting)
			}
			return err
		},
		"a repair": func(s *postgres.Store, _ store.Key) error {
			_, err := s.FailStuck(t.Context(), store.FailStuck{Now: time.Now(), Max: 10})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			address := pgtest.Database(t)
			pgtest.Exec(t, address, sourcetest.BareTable)
			sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
			s := mustOpen(t, address, postgres.Options{})
			key := store.Key{User: sourcetest.MustParse(t, ada), Kind: store.KindWorkflow, Ref: sourcetest.MustParse(t, adaFlow)}
			if _, err := s.Count(t.Context(), key.Scope(), store.AllTime); err != nil { // it has looked
				t.Fatal(err)
			}
			pgtest.Exec(t, address, sourcetest.Begun(runOne), `update workflow_runs set status = 'failed' where id = '`+runOne+`'`, sourcetest.Begun(runTwo), `update workflow_runs set completed_at = '2026-01-01' where id = '`+runTwo+`'`)
			sourcetest.Migrate(t, address, sourcetest.UpWith(watched.Overrides{Statuses: map[string]store.Status{"failed": store.Timeout, "completed": store.Failed, "done": store.Completed}}))
			if err := do(s, key); err != nil {
				t.Fatal(err)
			}
			sourcetest.MustBe(t, address, `select count(*) from run_counter.recounts`, "0")
			sourcetest.MustBe(t, address, `select count(*) from workflow_runs where status = 'completed'`, "0") // which means failed
			audited(t, address)
		})
	}
}

// TestCaseT26_IndexesFollowTheWords: migrate up can't build those of a partitioned
// table beforehand, and a script that is pasted builds them itself.
func TestCaseT26_IndexesFollowTheWords(t *testing.T) {
	t.Parallel()
	said := watched.Overrides{Statuses: map[string]store.Status{"archived": store.Completed}}
	for name, tt := range map[string]struct {
		alter string
		do    func(address string, m *migrations.Migrator) error
	}{
		"a partitioned table": {sourcetest.Partitioned, func(_ string, m *migrations.Migrator) error { return m.Up() }},
		"a plain one":         {"", func(_ string, m *migrations.Migrator) error { return m.Up() }},
		"a script": {"", func(address string, m *migrations.Migrator) error {
			script, err := m.Print()
			pgtest.Exec(t, address, script)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			address := pgtest.Database(t)
			pgtest.Exec(t, address, sourcetest.BareTable, tt.alter)
			sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
			sourcetest.Migrate(t, address, func(m *migrations.Migrator) error {
				m.Override(said)
				return tt.do(address, m)
			})
			const made = `select count(*) from pg_indexes where tablename = 'workflow_runs' and indexname like 'run\_counter\_%' and indexdef like '%archived%'`
			sourcetest.MustBe(t, address, made, "4")
			before := `select string_agg(indexrelid::text, ' ' order by indexrelid) from pg_index where indrelid = 'workflow_runs'::regclass`
			var kept string
			sourcetest.MustScan(t, address, before, &kept)
			sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
			sourcetest.MustBe(t, address, before, kept) // none is built twice
		})
	}
}

// TestCaseT26_ALeaseOfTheOptionsIsAMoment: a column of another type is a sentence,
// and not each sweep's failure.
func TestCaseT26_ALeaseOfTheOptionsIsAMoment(t *testing.T) {
	t.Parallel()
	address := sourcetest.Installed(t)
	pgtest.Exec(t, address, `alter table workflow_runs add beats bigint`)
	_, err := postgres.Open(t.Context(), address, postgres.Options{LeaseColumn: "beats"})
	if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "the column beats is bigint, and a lease has to be timestamptz") {
		t.Errorf("got %v, want it to say what the column has to be", err)
	}
}
