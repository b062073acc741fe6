package anytable

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
)

// alters are what an application does to the table behind our back. refused is
// what PostgreSQL says to it while our triggers or indexes are there, which
// detach() takes off.
var alters = []struct {
	name, alter, status, completed, table, refused string
}{
	{name: "rename a column that is counted by", alter: `alter table workflow_runs rename user_id to owner_id`},
	{name: "rename the status", alter: `alter table workflow_runs rename status to state`, status: "state"},
	{name: "rename the end", alter: `alter table workflow_runs rename completed_at to finished_at`, completed: "finished_at"},
	{name: "rename the id, and another to it", alter: `alter table workflow_runs rename id to run_id; alter table workflow_runs rename workflow_id to id`},
	{name: "rename what is read beside it", alter: `alter table workflow_runs rename started_at to begun_at; alter table workflow_runs rename updated_at to touched_at`},
	{name: "drop columns", alter: `alter table workflow_runs drop started_at, drop updated_at, drop duration_ms, drop error_details, drop state_snapshot`},
	{name: "another type of a number", alter: `alter table workflow_runs alter duration_ms type bigint`},
	{name: "another type of a number to text", alter: `alter table workflow_runs alter duration_ms type text`},
	{name: "another type of a time", alter: `alter table workflow_runs alter updated_at type date, alter created_at drop default, alter created_at type bigint using 1, alter created_at set default 1`},
	{name: "another type of a time that an index looks at", alter: `alter table workflow_runs alter started_at type bigint using 1`, refused: "operator does not exist"},
	{name: "another type of the details", alter: `alter table workflow_runs alter error_details type text using error_details::text`},
	{name: "rename the table", alter: `alter table workflow_runs rename to runs`, table: "runs"},
	{name: "another schema", alter: `create schema app; alter table workflow_runs set schema app`, table: "app.workflow_runs"},
	{name: "add a column and a check", alter: `alter table workflow_runs add cost numeric, add constraint c check (completed_at >= started_at)`},
	{name: "not null", alter: `update workflow_runs set started_at = now(), error_details = '{}'; alter table workflow_runs alter started_at set default now(), alter started_at set not null, alter error_details set default '{}', alter error_details set not null`},
	{name: "another type of the status", alter: `alter table workflow_runs alter status type varchar(300)`, refused: "trigger definition"},
	{name: "an id of another type", alter: `alter table workflow_runs alter user_id type text`, refused: "trigger definition"},
	{name: "drop the end", alter: `alter table workflow_runs drop completed_at`, completed: "-", refused: "depend on it"},
}

// TestCaseT10_AnAlterStopsNoWrite: in sessions that have run our triggers and in
// new ones; counts are right, or the next sweep says that the table was altered.
// What PostgreSQL refuses goes through behind detach().
func TestCaseT10_AnAlterStopsNoWrite(t *testing.T) {
	need.Serial(t)
	t.Parallel()
	for _, tt := range alters {
		for _, detach := range []bool{false, true} {
			if detach != (tt.refused != "") {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				address := sourcetest.Installed(t)
				pooled := []*pgx.Conn{sourcetest.MustConnect(t, address), sourcetest.MustConnect(t, address)}
				s := mustOpen(t, address, postgres.Options{})
				w := writes{"workflow_runs", "status", "completed_at"}
				for n, conn := range pooled {
					w.all(t, conn, n)
				}
				key := store.Key{User: sourcetest.MustParse(t, ada), Kind: store.KindWorkflow, Ref: sourcetest.MustParse(t, adaFlow)}
				if _, err := s.Count(t.Context(), key.Scope(), store.AllTime); err != nil {
					t.Fatal(err)
				}
				const triggers = `select count(*) from pg_trigger where tgname like 'zzz%run\_counter%' and tgrelid = 'workflow_runs'::regclass`
				var had int
				if detach {
					sourcetest.MustScan(t, address, triggers, &had)
					_, err := pooled[0].Exec(t.Context(), tt.alter, pgx.QueryExecModeSimpleProtocol)
					var e *pgconn.PgError
					if !errors.As(err, &e) || !strings.Contains(e.Message+e.Detail, tt.refused) {
						t.Fatalf("got %v, want %q", err, tt.refused)
					}
					pgtest.Exec(t, address, `select run_counter.detach(); `+tt.alter)
				} else {
					pgtest.Exec(t, address, tt.alter)
				}
				for _, to := range []struct {
					is  *string
					now string
				}{{&w.table, tt.table}, {&w.status, tt.status}, {&w.completed, tt.completed}} {
					if to.now != "" {
						*to.is = to.now
					}
				}
				for n, conn := range append(pooled, sourcetest.MustConnect(t, address)) {
					w.all(t, conn, 10+n)
				}
				// Each round leaves one run that has ended.
				ruled := strings.Contains(tt.alter, "add constraint") // the guard gives way until the sweep
				if want := int64(5); !detach && !ruled {
					sourcetest.MustScan(t, address, `select sum(n) from (select n from run_counter.counts union all select n from run_counter.ledger) as k`, &want)
					if want != 5 {
						t.Errorf("got %d counted, want 5", want)
					}
				}
				r, err := sourcetest.SweeperOf(s).Sweep(t.Context(), store.SweepOptions{})
				gone := err != nil && (tt.table != "" && strings.Contains(err.Error(), "no table public.workflow_runs") ||
					tt.completed == "-" && strings.Contains(err.Error(), "no column of public.workflow_runs says when a run ended"))
				if ruled {
					w.all(t, pooled[0], 20)
					audited(t, address)
					sourcetest.MustBe(t, address, `select count(*) from workflow_runs where status = 'running'`, "3")
				}
				if !strings.Contains(r.Altered, "runcounter migrate up") && !gone && !ruled {
					t.Errorf("a sweep says %q, %v; want the table named", r.Altered, err)
				}
				if detach && !gone && !strings.Contains(r.Altered, "detach()") {
					t.Errorf("a sweep says %q, want it to say that nothing is counted", r.Altered)
				}
				if detach && tt.name == "another type of the status" {
					sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
					audited(t, address)
					sourcetest.MustBe(t, address, triggers, strconv.Itoa(had))
					if r, _ := sourcetest.SweeperOf(s).Sweep(t.Context(), store.SweepOptions{}); r.Altered != "" {
						t.Errorf("after migrate up a sweep says %q, want nothing", r.Altered)
					}
				}
			})
		}
	}
}

// TestCaseT10_AnAlterOfAPartitionedTableStopsNoEndUser: hardening reads by number
// too, and so does what follows a run to another partition.
func TestCaseT10_AnAlterOfAPartitionedTableStopsNoEndUser(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, sourcetest.BareTable, sourcetest.Partitioned, `drop table all_runs; create table old_runs (other text, like workflow_runs); alter table old_runs drop other; alter table workflow_runs attach partition old_runs default`,
		`grant all on workflow_runs to authenticated; grant usage on schema public to authenticated`)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	insert := func(id string) string {
		return `insert into workflow_runs (id, user_id, workflow_id, status) values ('` + id + `', '` + bob + `', '` + bobFlow + `', 'running')`
	}
	pgtest.Exec(t, address, sourcetest.AsBob(insert(runOne)), `alter table workflow_runs rename completed_at to ended_at; alter table workflow_runs rename started_at to begun; alter table workflow_runs rename updated_at to touched`,
		sourcetest.AsBob(insert(runTwo)), sourcetest.AsBob(`update workflow_runs set status = 'completed'`), sourcetest.AsBob(`update workflow_runs set status = 'running'`),
		`alter table workflow_runs rename to runs`, sourcetest.AsBob(`update runs set status = 'running'`), `truncate old_runs`,
		sourcetest.AsBob(`insert into runs (id, user_id, workflow_id, status) values ('`+runOne+`', '`+bob+`', '`+bobFlow+`', 'completed')`))
	sourcetest.MustBe(t, address, `select count(*) from runs where status = 'completed' and ended_at is not null`, "1")
	_, err := sourcetest.MustConnect(t, address).Exec(t.Context(), sourcetest.AsBob(`update runs set user_id = '`+ada+`'`), pgx.QueryExecModeSimpleProtocol)
	if err == nil || !strings.Contains(err.Error(), "hand a workflow run") {
		t.Errorf("got %v, want hardening to hold", err)
	}
	sourcetest.MustBe(t, address, `select count(*) from run_counter.audits_due`, "1")
}

// TestCaseT10_AnAlterWithinATransactionStopsNoWrite that the guard patched before:
// what turns JSON into a row remembers what the row was.
func TestCaseT10_AnAlterWithinATransactionStopsNoWrite(t *testing.T) {
	t.Parallel()
	address := sourcetest.Installed(t)
	run := func(id string) string {
		return `insert into workflow_runs (id, user_id, workflow_id, status) values ('` + id + `', '` + ada + `', '` + adaFlow + `', 'running'); update workflow_runs set status = 'failed' where id = '` + id + `'; `
	}
	pgtest.Exec(t, address, `alter table workflow_runs add check (status <> 'failed' or completed_at is null); select run_counter.settle_yields()`, // the guard gives way to it
		`begin; `+run(runOne)+`alter table workflow_runs add later text; `+run(runTwo)+`commit`)
}

// TestCaseT10_AColumnInADomainGoes from a table that is read by numbers already: a
// function of a session has one type for what it reads.
func TestCaseT10_AColumnInADomainGoes(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, sourcetest.BareTable, `create domain moments as timestamptz; alter table workflow_runs alter updated_at type moments`)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	ends := func(id string) string {
		return sourcetest.Begun(id) + `; update workflow_runs set status = 'failed' where id = '` + id + `'; `
	}
	pgtest.Exec(t, address, `alter table workflow_runs rename draft_id to draft; `+ends(runOne)+`alter table workflow_runs drop updated_at; `+ends(runTwo))
	sourcetest.MustBe(t, address, `select count(*) from workflow_runs where completed_at is not null`, "2")
	audited(t, address)
}

// writes are an application's, by the names of its table.
type writes struct{ table, status, completed string }

// all is what comes of a run, of each kind of write that a trigger of ours looks at;
// columns that have gone are left out.
func (w writes) all(t *testing.T, conn *pgx.Conn, n int) {
	t.Helper()
	names := map[string]string{}
	rows, err := conn.Query(t.Context(), `select attnum::text, quote_ident(attname) from pg_attribute where attrelid = '`+w.table+`'::regclass and attnum > 0 and not attisdropped`, pgx.QueryExecModeSimpleProtocol)
	var number, name string
	if _, err := pgx.ForEachRow(rows, []any{&number, &name}, func() error { names[number] = name; return nil }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	id, user, flow := names["1"], names["2"], names["3"]
	ended := func(set string) string {
		if w.completed == "-" {
			return ""
		}
		return set
	}
	one, two := "00000000-0000-4000-9000-0000000000"+string(rune('a'+n/10))+string(rune('0'+n%10)), "00000000-0000-4000-9000-0000000001"+string(rune('a'+n/10))+string(rune('0'+n%10))
	insert := func(id_, status, completed string) string {
		columns, values := id+", "+user+", "+flow+", "+w.status, "'"+id_+"', '"+ada+"', '"+adaFlow+"', '"+status+"'"
		if w.completed != "-" {
			columns, values = columns+", "+w.completed, values+", "+completed
		}
		return "insert into " + w.table + " (" + columns + ") values (" + values + ")"
	}
	where := " where " + id + " = '" + one + "'"
	for _, text := range []string{
		insert(one, "pending", "null"),
		"update " + w.table + " set " + w.status + " = 'running'" + where,
		"update " + w.table + " set " + w.status + " = 'completed'" + where, // dated by the guard
		"update " + w.table + " set " + w.status + " = 'running'" + ended(", "+w.completed+" = null") + where,
		"update " + w.table + " set " + user + " = '" + bob + "'" + where,
		insert(two, "failed", "now()"),
		insert(two, "failed", "null") + " on conflict (" + id + ") do update set " + w.status + " = excluded." + w.status,
		"delete from " + w.table + " where " + id + " = '" + two + "'",
	} {
		if _, err := conn.Exec(t.Context(), text, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}
