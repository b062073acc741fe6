package anytable

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// mute leaves a table of which no column says that a run is alive.
const mute = `alter table workflow_runs drop duration_ms, drop error_details, drop state_snapshot, drop started_at, drop updated_at, drop created_at`

type variant struct {
	name, alter string
	said        watched.Overrides
	ids         storetest.OtherIDs // where they are no UUIDs
}

// open opens a store on the variant's table, whose ids it turns.
func (v variant) open() storetest.Open {
	if v.ids.Name == "" {
		return openVariant(v)
	}
	return v.ids.Open(openVariant(v))
}

// theirs are a table's names and words for all that a run is.
var theirs = watched.Overrides{
	Columns: map[watched.Role]string{
		watched.ID: "run's id", watched.User: "org_id", watched.Workflow: "flow", watched.Draft: "draft", watched.Status: "state",
		watched.StartedAt: "began at", watched.CompletedAt: "order",
	},
	Statuses: map[string]store.Status{
		"new": store.Pending, "scheduled": store.Pending, "waiting": store.Running, "stopping": store.Cancelling,
		"it's over": store.Completed, "error": store.Failed, "canceled": store.Cancelled, "timed_out": store.Timeout,
	},
	Guard: watched.GuardOn,
}

// theirNames give the table that the migrations make these names, and theirWords
// what may be a status.
const (
	theirNames = `alter table workflow_runs rename id to "run's id"; alter table workflow_runs rename user_id to org_id; alter table workflow_runs rename workflow_id to flow;
alter table workflow_runs rename draft_id to draft; alter table workflow_runs rename status to state; alter table workflow_runs rename started_at to "began at";
alter table workflow_runs rename completed_at to "order"; `
	theirWords = `('new', 'queued', 'scheduled', 'running', 'waiting', 'stopping', 'it''s over', 'error', 'canceled', 'timed_out', 'paused', 'archived')`
)

// inTheirs writes a statement of the application in their names and words.
var inTheirs = strings.NewReplacer("(id, user_id, workflow_id, status", `("run's id", org_id, flow, state`, "set status = 'completed'", "set state = 'it''s over'",
	"set status = 'running'", "set state = 'waiting'", "where id =", `where "run's id" =`, "where status::text = 'completed' and completed_at", `where state = 'it''s over' and "order"`,
	"started_at", `"began at"`, "'running'", "'waiting'")

// The times of a table in other types: all without zone, in a database that is in
// another than they are; integers; and each in a type of its own.
var (
	inZone = timesOf("timestamp", "$ at time zone 'Europe/Berlin'", "now() at time zone 'Europe/Berlin'") +
		`; do $$ begin execute format('alter database %I set timezone to ''Asia/Tokyo''', current_database()); end $$`
	mixedTimes = `alter table workflow_runs alter created_at type bigint using 1, alter started_at type timestamp using started_at at time zone 'America/New_York',
alter updated_at type timestamptz(3), alter completed_at type timestamp(3) using completed_at at time zone 'America/New_York'`
	inSeconds = `alter table workflow_runs alter created_at type integer using 1, alter started_at type timestamptz(0), alter updated_at type timestamp(0) using now(), alter completed_at type bigint using 1`
)

// timesOf gives all times of the table another type, by an expression over each.
func timesOf(typ, using, now string) string {
	var alters []string
	for _, name := range []string{"created_at", "started_at", "updated_at", "completed_at"} {
		if name == "created_at" || name == "updated_at" {
			alters = append(alters, "alter "+name+" drop default")
		}
		alters = append(alters, "alter "+name+" type "+typ+" using "+strings.ReplaceAll(using, "$", name))
	}
	return "alter table workflow_runs " + strings.Join(alters, ", ") + "; alter table workflow_runs alter created_at set default " + now + ", alter updated_at set default " + now
}

// integerTimes are integers that count so many in a second.
func integerTimes(each int) string {
	per := " * " + strconv.Itoa(each) + ")::bigint"
	return timesOf("bigint", "(extract(epoch from $)"+per, "(extract(epoch from now())"+per)
}

// time writes a moment as the application does into a column, by what the catalog
// says of it.
func (v variant) time(t *testing.T, address, column, moment string) string {
	t.Helper()
	var typ string
	sourcetest.MustScan(t, address, `select coalesce((select atttypid::regtype::text from pg_attribute where attrelid = 'workflow_runs'::regclass and attname = '`+column+`'), '')`, &typ)
	switch typ {
	case "timestamp without time zone":
		return "((" + moment + ") at time zone '" + cmp.Or(v.said.Zone, "UTC") + "')"
	case "bigint", "integer":
		return "floor(extract(epoch from " + moment + ") * " + map[watched.Kind]string{watched.Milliseconds: "1000", watched.Seconds: "1"}[v.said.Times] + ")"
	}
	return moment
}

// in writes a statement of the application for the variant's table.
func (v variant) in(statement string) string {
	if len(v.said.Columns) == 0 {
		return statement
	}
	return inTheirs.Replace(statement)
}

// shaped are how many of the variants, the first of them, differ in their names,
// words and ids.
const shaped = 7

// variants are tables that differ from the one that the migrations make in what
// a run carries besides its outcome.
var variants = []variant{
	{name: "case R1, R5, T26: other names and words", alter: theirNames + `alter table workflow_runs add check (state in ` + theirWords + `)`, said: theirs},
	{name: "case T5: an enum of other words", alter: theirNames + `alter table workflow_runs alter state drop default; create type run_state as enum ` + theirWords + `;
alter table workflow_runs alter state type run_state using state::run_state`, said: theirs},
	{name: "case T4: ids of bigint, which the table draws", alter: `alter table workflow_runs alter id drop default, alter id type bigint using 1, alter id add generated always as identity,
alter user_id type bigint using 1, alter workflow_id type bigint using 1, alter draft_id type bigint using 1`, ids: storetest.BigintIDs},
	{name: "case T4: ids of text", alter: `alter table workflow_runs alter id drop default, alter id type text, alter user_id type text, alter workflow_id type varchar(255), alter draft_id type text`, ids: storetest.TextIDs},
	{name: "case T9: times without zone, in a database of another", alter: inZone, said: watched.Overrides{Zone: "Europe/Berlin"}},
	{name: "case T9, R11: times of milliseconds since 1970", alter: integerTimes(1000), said: watched.Overrides{Times: watched.Milliseconds}},
	{name: "case T9: each time of another type", alter: mixedTimes, said: watched.Overrides{Times: watched.Milliseconds, Zone: "America/New_York"}},
	{name: "case T9: times of three digits, as Prisma makes them", alter: timesOf("timestamp(3)", "$ at time zone 'UTC'", "now() at time zone 'UTC'")},
	{name: "case T9: times of seconds", alter: inSeconds, said: watched.Overrides{Times: watched.Seconds}},
	{name: "case T5: an enum of ours", alter: `create type run_state as enum ('archived', 'queued', 'paused', 'pending', 'running', 'cancelling', 'completed', 'failed', 'cancelled', 'timeout');
alter table workflow_runs alter status drop default, alter status type run_state using status::run_state`},
	{name: "case T5: status is varchar", alter: `alter table workflow_runs alter status type varchar(10)`},
	{name: "case T5: status is in a domain", alter: `create domain run_status as text check (value <> ''); alter table workflow_runs alter status type run_status`},
	{name: "case T4, T5, T9: all in domains", alter: `create type run_state as enum ('archived', 'queued', 'paused', 'pending', 'running', 'cancelling', 'completed', 'failed', 'cancelled', 'timeout');
create domain inner_word as run_state check (value <> 'pending' or value = 'pending'); create domain word as inner_word not null; create domain key as uuid check (value is not null or value is null); create domain moment as timestamptz check (value > '1900-01-01');
create domain millis as integer check (value >= 0); create domain details as jsonb; alter table workflow_runs alter status drop default, alter status type word using status::run_state, alter id type key, alter user_id type key, alter workflow_id type key,
alter draft_id type key, alter created_at type moment, alter started_at type moment, alter updated_at type moment, alter completed_at type moment, alter duration_ms type millis, alter error_details type details, alter state_snapshot type details`},
	{name: "case T26: statuses in any case", alter: `alter table workflow_runs alter status type varchar(20)`, said: watched.Overrides{AnyCase: true}},
	{name: "case T5: status is char", alter: `alter table workflow_runs alter status type char(12)`},
	{name: "case T6: error_details is json", alter: `alter table workflow_runs alter error_details type json`},
	{name: "case T6: error_details and state_snapshot are text", alter: `alter table workflow_runs alter error_details type text, alter state_snapshot type text`},
	{name: "case T6: state_snapshot is json", alter: `alter table workflow_runs alter state_snapshot type json`},
	{name: "case T7: there is no duration_ms", alter: `alter table workflow_runs drop duration_ms`},
	{name: "case T7: there is no error_details", alter: `alter table workflow_runs drop error_details`},
	{name: "case T7: there is no state_snapshot", alter: `alter table workflow_runs drop state_snapshot`},
	{name: "case T7: there is none of them", alter: `alter table workflow_runs drop duration_ms, drop error_details, drop state_snapshot`},
	{name: "case T7: there is no started_at", alter: `alter table workflow_runs drop started_at`},
	{name: "case T7: there is no created_at", alter: `alter table workflow_runs drop created_at`},
	{name: "case T7: there is no updated_at", alter: `alter table workflow_runs drop updated_at`},
	{name: "case T7: there is nothing but an outcome", alter: mute},
	{name: "case T7: there is nothing but an outcome and a creation", alter: mute + `, add created_at timestamptz`},
	{name: "case T8: duration_ms is generated", alter: `alter table workflow_runs drop duration_ms, add duration_ms bigint generated always as
  ((extract(epoch from completed_at at time zone 'UTC') - extract(epoch from started_at at time zone 'UTC'))::bigint * 1000) stored`},
	{name: "other names", alter: `alter table workflow_runs rename duration_ms to "durationMs"; alter table workflow_runs rename error_details to "errorDetails"`},
	{name: "duration_ms is bigint", alter: `alter table workflow_runs alter duration_ms type bigint`},
}

func openVariant(v variant) func(testing.TB) storetest.Backend {
	return func(t testing.TB) storetest.Backend {
		t.Helper()
		return backend(t, v.migrated(t))
	}
}

// migrated returns the address of the variant's table with the migrations on it.
func (v variant) migrated(t testing.TB) string {
	t.Helper()
	return pgtest.Copy(t, v.name, func(address string) {
		pgtest.Exec(t, address, sourcetest.BareTable, v.alter)
		sourcetest.Migrate(t, address, sourcetest.UpWith(v.said))
	})
}

// TestCasesOfVariants_Chaos: the laws hold on each of them.
func TestCasesOfVariants_Chaos(t *testing.T) {
	need.NoRaceDetector(t)
	t.Parallel()
	for i, v := range variants {
		seeds := uint64(2)
		if i < shaped {
			seeds = 4
		}
		if v.alter == mute || v.alter == inSeconds {
			continue // law 3 can't hold: nothing says which run is stuck; and the drawn times are of milliseconds
		}
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			storetest.SourceChaos(t, v.open(), true, seeds)
		})
	}
}

// TestCasesOfVariants_TheApplicationsOwnWrites: each statement of a run's life
// works with us as it does without, and each function of ours besides.
func TestCasesOfVariants_TheApplicationsOwnWrites(t *testing.T) {
	need.Serial(t)
	t.Parallel()
	for _, v := range variants {
		if v.ids.Name != "" {
			continue // these are told of in UUIDs
		}
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			address := v.migrated(t)
			const run, other, third = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002", "00000000-0000-4000-8000-000000000003"
			times := []string{"created_at", "started_at", "updated_at"}
			times = slices.DeleteFunc(times, func(name string) bool {
				return strings.Contains(v.alter, "drop "+name) && !strings.Contains(v.alter, "add "+name)
			})
			begins := func(id string) string {
				columns, values := "", ""
				for _, name := range times {
					columns, values = columns+", "+name, values+", "+v.time(t, address, name, "now() - interval '1 hour'")
				}
				return `insert into workflow_runs (id, user_id, workflow_id, status` + columns + `) values ('` + id + `', '` + ada + `', '` + adaFlow + `', 'running'` + values + `)`
			}
			pgtest.Exec(t, address, v.in(begins(run)),
				v.in(`update workflow_runs set status = 'completed' where id = '`+run+`'`),
				v.in(`update workflow_runs set status = 'running' where id = '`+run+`'`), // the first outcome wins
				v.in(begins(other)))
			s := mustOpen(t, address, postgres.Options{})
			if _, err := sourcetest.SweeperOf(s).Sweep(t.Context(), store.SweepOptions{}); err != nil { // presumes the other failed
				t.Fatal(err)
			}
			presumed := "1"
			if len(times) == 0 { // nothing says how long it has been silent
				presumed = "0"
			}
			sourcetest.MustBe(t, address, `select count(*) from run_counter.presumed where status = 'failed'`, presumed)
			pgtest.Exec(t, address, v.in(`update workflow_runs set status = 'completed' where id = '`+other+`'`)) // supersedes it
			sourcetest.MustBe(t, address, `select count(*) from run_counter.presumed`, "0")
			sourcetest.MustBe(t, address, v.in(`select count(*) from workflow_runs where status::text = 'completed' and completed_at between `+
				v.time(t, address, "completed_at", "now() - interval '1 minute'")+` and `+v.time(t, address, "completed_at", "now() + interval '1 second'")), "2")
			sourcetest.MustBe(t, address, `select public.begin_workflow_run('`+ada+`', '`+adaFlow+`', null, 10, null, '`+third+`')`, third)
			sourcetest.MustBe(t, address, `select public.complete_workflow_run('`+third+`', 'failed', 5, '{"a":1}', '{"code":"E"}')`, "t")
			sourcetest.MustBe(t, address, `select run_counter.amend_run('`+third+`', 'running', 'support', 'again')`, "t")
			sourcetest.MustBe(t, address, `select new_count from public.complete_workflow_run_and_get_count('`+third+`', 'completed')`, "3")
			pgtest.Exec(t, address, v.in(`delete from workflow_runs where id = '`+run+`'`))
			sourcetest.MustBe(t, address, `select public.get_user_workflow_run_count('`+ada+`', '`+adaFlow+`')`, "2")
			sourcetest.ExactAt(t, address)
			sourcetest.Migrate(t, address, (*migrations.Migrator).Up) // what was said is kept
			sourcetest.Migrate(t, address, (*migrations.Migrator).Down)
			sourcetest.Migrate(t, address, sourcetest.UpWith(v.said))
			sourcetest.MustBe(t, address, `select public.get_user_workflow_run_count('`+ada+`', '`+adaFlow+`')`, "2")
		})
	}
}

// TestCasesOfVariants_WithoutMigrations: the store works by direct queries too.
func TestCasesOfVariants_WithoutMigrations(t *testing.T) {
	need.Serial(t)
	t.Parallel()
	for _, v := range variants {
		if v.ids.Name != "" {
			continue // these are told of in UUIDs
		}
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			address := pgtest.Database(t)
			pgtest.Exec(t, address, sourcetest.BareTable, v.alter)
			s := mustOpen(t, address, postgres.Options{Said: v.said})
			user, ref, run := sourcetest.MustParse(t, ada), sourcetest.MustParse(t, adaFlow), storetest.MustID('1', 1)
			if _, err := s.Begin(t.Context(), store.Begin{ID: run, User: user, Workflow: ref, Now: time.Now()}); err != nil {
				t.Fatal(err)
			}
			outcome := store.Outcome{
				Status: store.Failed, DurationMS: store.Millis{MS: 5, Valid: true},
				ErrorDetails: `{"code": "E"}`, Snapshot: `{"a": 1}`,
			}
			got, err := s.Complete(t.Context(), store.Completion{ID: run, Outcome: outcome, Now: time.Now()})
			if err != nil || !got.Won || got.Count.Count != 1 {
				t.Errorf("got %+v, %v; want it won, and the count 1", got, err)
			}
		})
	}
}
