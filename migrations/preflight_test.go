package migrations

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// unusual is a table that the SQL of today does not understand.
type unusual struct {
	name string
	// table makes it, and life is what its application does: it creates, ends and
	// deletes a run. Empty, they are those of a plain table.
	table, alter, life string
	want               []string // parts of the sentence; one that ends it is the whole
	// say are the flags with which Up takes the table, where the sentence has not
	// the command.
	say []string
}

const aLife = `
insert into public.workflow_runs (user_id, workflow_id, status) values ('` + alice + `', '` + flow + `', 'running');
update public.workflow_runs set status = 'completed', completed_at = now();
delete from public.workflow_runs;`

// said by each refusal.
const (
	refusedHead = "public.workflow_runs can't be watched as it is: "
	refusedTail = ". Nothing was changed."
)

var unusualTables = []unusual{
	{
		name: "case T4: ids of numeric", alter: `alter table workflow_runs alter id drop default, alter id type numeric using 1, alter id set default random()`,
		want: []string{refusedHead + "id is numeric and has to be uuid or bigint or integer or smallint or text or varchar" + refusedTail},
	},
	{
		name: "case T4: workflows and drafts of two types", alter: `alter table workflow_runs alter workflow_id type bigint using 1`, life: strings.ReplaceAll(aLife, "'"+flow+"'", "7"),
		want: []string{refusedHead + "drafts are known by uuid and workflows by bigint, and one type has to hold both" + refusedTail},
	},
	{
		name: "case T5: an enum by which nothing ends", alter: `create type run_status as enum ('running', 'done'); alter table workflow_runs alter status drop default, alter status type run_status using 'running'`,
		life: strings.ReplaceAll(aLife, "'completed'", "'done'"),
		want: []string{refusedHead + "none of running, done means that a run has ended: say which does with --status THEIRS=OURS, such as done=completed; " +
			"with every mapping that could be guessed it can be, check each: runcounter migrate up --status done=completed" + refusedTail},
	},
	{
		name: "case T5: varchar", alter: `alter table workflow_runs alter status type varchar(9)`,
		want: []string{refusedHead + "status is character varying(9) and has to be text or varchar or char or citext or an enum; what helps: alter table public.workflow_runs alter column status type text" + refusedTail},
	},
	{
		name: "case T5: a short char", alter: `alter table workflow_runs alter status type char(9)`,
		want: []string{"status is character(9) and has to be text or varchar or char or citext or an enum; what helps: alter table public.workflow_runs alter column status type text"},
	},
	{
		name: "case T5: users of citext", alter: `create extension citext; alter table workflow_runs alter user_id type citext`,
		want: []string{refusedHead + "user_id is public.citext and has to be uuid or bigint or integer or smallint or text or varchar: the database's locale says which spellings of a citext are one id, and neither tokens nor mirrors know it; " +
			"as text each spelling is an id of its own, so let the application write small letters; what helps: alter table public.workflow_runs alter column user_id type text using lower(user_id::text)" + refusedTail},
	},
	{
		name: "case T5: a domain over a short text", alter: `create domain word as varchar(9); alter table workflow_runs alter status type word`,
		want: []string{refusedHead + "status is public.word (a domain over character varying(9)) and has to be text or varchar or char or citext or an enum; what helps: alter table public.workflow_runs alter column status type text" + refusedTail},
	},
	{
		name: "case T9: a domain without null, of a time that a run gets as it ends", alter: `create domain clock as timestamptz not null default 'infinity'; alter table workflow_runs alter completed_at type clock using 'infinity'`,
		life: strings.ReplaceAll(aLife, "(user_id, workflow_id, status) values (", "(completed_at, user_id, workflow_id, status) values ('infinity', "),
		want: []string{refusedHead + "completed_at is public.clock (a domain over timestamp with time zone), not null, and has to take null; what helps: alter table public.workflow_runs alter column completed_at type timestamp with time zone" + refusedTail},
	},
	{
		name:  "case T5: a collation under which words that differ are equal",
		alter: `create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false); alter table workflow_runs alter status type text collate blind`,
		want:  []string{"status is text under a collation by which values that differ can be equal and has to be text or varchar or char or citext or an enum"},
	},
	{
		name: "durations of a short numeric", alter: `alter table workflow_runs alter duration_ms type numeric(9, 3)`,
		want: []string{refusedHead + "duration_ms is numeric(9,3), which is too short for 2147483647, the longest duration that Run Counter writes; what helps: alter table public.workflow_runs alter column duration_ms type numeric" + refusedTail},
	},
	{name: "case T6: error_details of varchar", alter: `alter table workflow_runs alter error_details type varchar(80)`, want: []string{"error_details is character varying(80) and has to be jsonb or json or text, or is left alone with --column error_details=" + refusedTail}, say: []string{"--column", "error_details="}},
	{name: "case T6: state_snapshot of varchar", alter: `alter table workflow_runs alter state_snapshot type varchar(80)`, want: []string{"state_snapshot is character varying(80) and has to be jsonb or json or text, or is left alone with --column state_snapshot=" + refusedTail}, say: []string{"--column", "state_snapshot="}},
	{
		name: "case T8: completed_at is generated", alter: `alter table workflow_runs drop completed_at, add ended timestamptz, add completed_at timestamptz generated always as (ended) stored`,
		life: strings.ReplaceAll(aLife, "completed_at", "ended"), want: []string{"completed_at is generated always and has to be writable; what helps: "},
	},
	{
		name: "case T8: user_id is generated", alter: `alter table workflow_runs drop user_id, add owner uuid, add user_id uuid generated always as (owner) stored`,
		life: strings.ReplaceAll(aLife, "user_id", "owner"), want: []string{"user_id is generated always and has to be writable"},
	},
	{
		name: "case T9: integers of which nobody has said what they count", alter: `alter table workflow_runs alter completed_at type bigint using 1`,
		life: strings.ReplaceAll(aLife, "completed_at = now()", "completed_at = extract(epoch from now()) * 1000"),
		want: []string{refusedHead + "completed_at is bigint: say what it counts since 1970, with --times milliseconds or --times seconds; " +
			"with every mapping that could be guessed it can be, check each: runcounter migrate up --times milliseconds" + refusedTail},
	},
	{
		name: "case T9: integers that are too short", alter: `alter table workflow_runs alter started_at type integer using 1`, life: strings.ReplaceAll(aLife, "started_at", "created_at"),
		want: []string{"started_at is integer, which is too short for milliseconds: if it counts seconds since 1970, say --times seconds; else make it bigint"}, say: []string{"--times", "seconds"},
	},
	{
		name: "case T13: partitions by the last write", table: partitioned("range (updated_at)", "id, updated_at"),
		want: []string{refusedHead + "updated_at chooses the row's partition, and Run Counter may write it, which PostgreSQL refuses in a trigger: partition by created_at" + refusedTail},
	},
	{name: "case T13: partitions by the end", table: partitioned("range (completed_at)", ""), want: []string{"completed_at chooses the row's partition"}},
	{name: "case T13: partitions by an expression", table: partitioned("range ((created_at at time zone 'UTC'))", ""), want: []string{"an expression chooses the row's partition"}},
	{
		name: "case T13: partitions by the last write within those by creation", table: strings.Replace(partitioned("range (created_at)", "id, created_at, updated_at"), " default;",
			" default partition by range (updated_at); create table the_rest partition of parts default;", 1),
		want: []string{"updated_at chooses the row's partition"},
	},
	{name: "a column that is not null, and has to give way", alter: `alter table workflow_runs alter error_details set default '{}', alter error_details set not null`,
		want: []string{refusedHead + "error_details is not null and has to take null; what helps: alter table public.workflow_runs alter column error_details drop not null" + refusedTail}},
	{name: "no key", alter: `alter table workflow_runs drop constraint workflow_runs_pkey`,
		want: []string{"id is not unique", `alter table "public"."workflow_runs" add primary key ("id")` + refusedTail}},
	{
		name: "a heartbeat by whose name a function would end", alter: `alter table workflow_runs add "lease$fn$;commit;create role pwned" timestamptz`,
		want: []string{`"lease$fn$;commit;create role pwned" holds a character that can't stand in a function, such as $: rename it`},
	},
	{name: "a key that is deferrable", alter: `alter table workflow_runs drop constraint workflow_runs_pkey; alter table workflow_runs add unique (id) deferrable`,
		want: []string{"id is not unique, by an index that is not deferrable"}},
	{name: "a view", table: strings.ReplaceAll(tableWithDrafts, "workflow_runs", "runs") + `create view public.workflow_runs as select * from runs;`,
		want: []string{refusedHead + "it is no table but a view, on which no trigger fires for each run" + refusedTail}},
}

// partitioned is a plain table with one partition.
func partitioned(by, key string) string {
	if key != "" {
		key = "alter table public.workflow_runs add primary key (" + key + ");"
	}
	return strings.NewReplacer("id uuid primary key", "id uuid not null", "\n);", "\n) partition by "+by+";").Replace(tableWithDrafts) +
		key + `create table parts partition of public.workflow_runs default;`
}

func TestCasesOfTablesThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, u := range slices.Concat(unusualTables, realTables) {
		t.Run(u.name, func(t *testing.T) {
			t.Parallel()
			address := pgtest.Database(t)
			if u.table == "" {
				u.table = tableWithDrafts
			}
			if u.life == "" {
				u.life = aLife
			}
			if strings.Contains(u.alter, "extension citext") && !pgtest.Offers(t, address, "citext") {
				need.Missing(t, "PostgreSQL's extension citext")
			}
			pgtest.Exec(t, address, u.table, u.alter, u.life)
			before := catalog(t, address)
			said := mustRefuse(t, address, u.want...)
			if diff := cmp.Diff(before, catalog(t, address)); diff != "" {
				t.Errorf("something was made (-before +after):\n%s", diff)
			}
			pgtest.Exec(t, address, u.life)
			if err := mustPostgres(t, address).Check(); err == nil || err.Error() != said {
				t.Errorf("Check: got %v, want what Up says", err)
			}
			if _, command, helps := strings.Cut(said, "runcounter migrate up "); helps {
				u.say = append(strings.Fields(strings.TrimSuffix(command, refusedTail)), u.say...)
			}
			if len(u.say) > 0 {
				mustCountWith(t, address, u)
			} else if _, help, helps := strings.Cut(said, "; what helps: "); helps {
				pgtest.Exec(t, address, strings.TrimSuffix(help, refusedTail))
				mustBeLatest(t, mustUp(t, address))
				if u.life == aLife {
					pgtest.Exec(t, address, aLife, aliceHasThree)
					mustCount(t, address, "3")
				}
			}
		})
	}
}

// mustCountWith wants a right count by one command, which needs not be said again,
// and writes of the application that go on.
func mustCountWith(t *testing.T, address string, u unusual) {
	t.Helper()
	var said watched.Overrides
	for i := 0; i < len(u.say); i += 2 {
		set := map[string]func(string) error{"--column": said.SetColumn, "--status": said.SetStatus, "--times": said.SetTimes}[u.say[i]]
		if err := set(u.say[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	ends, _, _ := strings.Cut(u.life, "delete from")
	pgtest.Exec(t, address, ends)
	m := mustPostgres(t, address)
	m.Override(said)
	if err := m.Up(); err != nil {
		t.Fatal(err)
	}
	mustBeLatest(t, mustUp(t, address))
	pgtest.Exec(t, address, ends)
	if got := ask(t, address, `select sum(total_count) || ' of ' || (select count(*) from workflow_runs) from workflow_run_counts`); !slices.Equal(got, []string{"2 of 2"}) {
		t.Errorf("got %s counted, want 2 of 2", got)
	}
	pgtest.Exec(t, address, u.life)
	if got := ask(t, address, `select count(*)::text from workflow_run_counts`); !slices.Equal(got, []string{"0"}) {
		t.Errorf("got %s keys with a count when all runs were deleted, want none", got)
	}
	if err := mustPostgres(t, address).Down(); err != nil {
		t.Errorf("Down: %v", err)
	}
}

// mustRefuse returns the sentence by which Up refuses the table.
func mustRefuse(t *testing.T, address string, want ...string) string {
	t.Helper()
	err := mustPostgres(t, address).Up()
	if !errors.Is(err, ErrTable) {
		t.Fatalf("Up: got %v, want a refusal", err)
	}
	said := err.Error()
	for _, part := range want {
		whole := strings.HasPrefix(part, refusedHead) && strings.HasSuffix(part, refusedTail)
		if whole && said != part || !strings.Contains(said, part) {
			t.Errorf("Up:\n got %s\nwant %s", said, part)
		}
	}
	if !strings.HasSuffix(said, refusedTail) || strings.Count(said, refusedTail) != 1 {
		t.Errorf("Up: got %q, want one sentence that ends with %q", said, refusedTail)
	}
	return said
}

// TestCasesOfTablesThatAreUnderstood has tables that differ from ours in what
// does no harm; store/postgres/anytable proves that on them.
func TestCasesOfTablesThatAreUnderstood(t *testing.T) {
	t.Parallel()
	for name, table := range map[string]string{
		"no table yet":                                                    ``,
		"case T4: uuid ids, with draft_id":                                tableWithDrafts,
		"case T7: no draft_id":                                            tableWithoutDrafts,
		"case T4: ids of text":                                            tableWithDrafts + `alter table workflow_runs alter id drop default, alter id type text, alter id set default gen_random_uuid()::text, alter user_id type text`,
		"case T4: ids of bigint, drawn always":                            tableWithDrafts + `alter table workflow_runs alter id drop default, alter id type bigint using 1, alter id add generated always as identity`,
		"case T1: a user that may be null":                                tableWithDrafts + `alter table workflow_runs alter user_id drop not null, alter created_at drop not null, alter updated_at drop not null`,
		"columns of the application":                                      tableWithDrafts + `alter table workflow_runs add cost numeric(12, 4) not null default 0, add word varchar(20), add at timestamp, add ids bigint generated always as identity`,
		"durations of bigint, times of micros":                            tableWithDrafts + `alter table workflow_runs alter duration_ms type bigint, alter completed_at type timestamptz(6)`,
		"durations of numeric":                                            tableWithDrafts + `alter table workflow_runs alter duration_ms type numeric`,
		"durations of numeric(13, 3)":                                     tableWithDrafts + `alter table workflow_runs alter duration_ms type numeric(13, 3)`,
		"case T5: varchar":                                                tableWithDrafts + `alter table workflow_runs alter status type varchar(20)`,
		"case T5: a domain":                                               tableWithDrafts + `create domain run_status as text check (value <> ''); alter table workflow_runs alter status type run_status`,
		"case T9: a domain over times without zone":                       tableWithDrafts + `create domain clock as timestamp(3); alter table workflow_runs alter completed_at type clock`,
		"case T6: error_details and state_snapshot of json":               tableWithDrafts + `alter table workflow_runs alter error_details type json, alter state_snapshot type json`,
		"case T7: no duration_ms":                                         tableWithDrafts + `alter table workflow_runs drop duration_ms`,
		"case T7: no state_snapshot":                                      tableWithDrafts + `alter table workflow_runs drop state_snapshot`,
		"case T7: no error_details":                                       tableWithDrafts + `alter table workflow_runs drop error_details`,
		"case T7: no updated_at":                                          tableWithDrafts + `alter table workflow_runs drop updated_at`,
		"case T7: no started_at":                                          tableWithDrafts + `alter table workflow_runs drop started_at`,
		"case T7: no created_at":                                          tableWithDrafts + `alter table workflow_runs drop created_at`,
		"case T7: none of them":                                           tableWithDrafts + `alter table workflow_runs drop duration_ms, drop state_snapshot, drop error_details, drop updated_at, drop started_at, drop created_at, drop draft_id`,
		"case T8: duration_ms is generated":                               tableWithDrafts + `alter table workflow_runs drop duration_ms, add duration_ms integer generated always as ((extract(epoch from completed_at - started_at) * 1000)::integer) stored`,
		"case R4: what a completion writes is not there":                  r4,
		"other names":                                                     tableWithDrafts + `alter table workflow_runs rename duration_ms to "durationMs"; alter table workflow_runs rename updated_at to "updatedAt"; alter table workflow_runs rename started_at to "startedAt"`,
		"case T13: partitions by creation":                                partitioned("range (created_at)", "id, created_at"),
		"case T13: partitions by creation, which stands first in the key": partitioned("range (created_at)", "created_at, id"),
		"times of milliseconds of a creation":                             tableWithDrafts + `alter table workflow_runs alter created_at type timestamptz(3)`,
		"case T13: partitions by id":                                      partitioned("hash (id)", "id"),
		"case T13: partitions by status":                                  partitioned("list (status)", "id, status"),
		"case T13: partitions by user":                                    partitioned("list (user_id)", "id, user_id"),
		"case T13: partitions by status within those by creation": strings.Replace(partitioned("range (created_at)", "id, created_at, status"), " default;",
			" default partition by list (status); create table the_rest partition of parts default;", 1),
		"partitions by a column that plays no part": strings.Replace(partitioned("list (archived)", "id, archived"), "id uuid not null default", "archived boolean not null default false, id uuid not null default", 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(table, "hash (id)") {
				table = strings.ReplaceAll(table, " default;", " for values with (modulus 1, remainder 0);")
			}
			address := pgtest.Database(t)
			pgtest.Exec(t, address, table)
			if err := mustPostgres(t, address).Check(); err != nil {
				t.Errorf("Check: %v", err)
			}
			mustBeLatest(t, mustUp(t, address))
			three := aliceHasThree
			if strings.Contains(table, "check (status in (") { // 'timeout' is none of its words
				three = strings.Replace(three, "'running', 'timeout'", "'running', 'cancelled'", 1)
			}
			pgtest.Exec(t, address, aLife, three)
			mustCount(t, address, "3")
			mustBeLatest(t, mustUp(t, address))
		})
	}
}

// TestCaseT26_UpNamesTheStatusesWithoutAMeaning, which a check allows.
func TestCaseT26_UpNamesTheStatusesWithoutAMeaning(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, r4)
	const want = "finds statuses that have no meaning, queued: such runs are not counted, are never ended, and each takes a slot of a limit; if that is what they mean: runcounter migrate up --status queued=pending"
	if said := mustUp(t, address).Said(); !slices.Contains(said, want) {
		t.Errorf("Up said %q, want %q", said, want)
	}
}

// TestCaseT10_ATableThatWasAlteredAfterwards has what PostgreSQL lets through.
func TestCaseT10_ATableThatWasAlteredAfterwards(t *testing.T) {
	t.Parallel()
	const since = "the table has Run Counter's triggers, which read of it what they can, and counts may be wrong until this is fixed or runcounter migrate down --yes has taken them off: " + refusedHead
	for name, c := range map[string]struct{ alter, want, back string }{
		"a column is renamed away": {`rename status to state`,
			since + "there is no column status: if state is what plays the role status, say --column status=state; " +
				"with every mapping that could be guessed it can be, check each: runcounter migrate up --column status=state" + refusedTail, `rename state to status`},
		"a column is renamed": {`rename completed_at to "when"`,
			since + "there is no column completed_at: another that plays the role is named with --column completed_at=NAME; " +
				"what helps: alter table public.workflow_runs add column completed_at timestamptz" + refusedTail, `rename "when" to completed_at`},
		"a type is changed": {`alter error_details type varchar(80)`,
			since + "error_details is character varying(80) and has to be jsonb or json or text, or is left alone with --column error_details=" + refusedTail, `alter error_details type jsonb using error_details::jsonb`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := pgtest.Database(t)
			pgtest.Exec(t, address, tableWithDrafts)
			without := catalog(t, address)
			mustUp(t, address)
			pgtest.Exec(t, address, `alter table workflow_runs `+c.alter)
			before := catalog(t, address)
			if err := mustPostgres(t, address).Up(); !errors.Is(err, ErrTable) || err.Error() != c.want {
				t.Errorf("Up:\n got %v\nwant %s", err, c.want)
			}
			if diff := cmp.Diff(before, catalog(t, address)); diff != "" {
				t.Errorf("our objects were changed (-before +after):\n%s", diff)
			}
			if err := mustPostgres(t, address).Down(); err != nil {
				t.Errorf("Down: %v", err)
			}
			pgtest.Exec(t, address, `alter table workflow_runs `+c.back)
			if diff := cmp.Diff(without, catalog(t, address)); diff != "" {
				t.Errorf("down left something (-before +after):\n%s", diff)
			}
			mustBeLatest(t, mustUp(t, address))
		})
	}
}

// TestCaseATableThatIsBeingAlteredIsWaitedFor: the look takes a lock, which an
// ALTER TABLE holds off for as long as its transaction is open.
func TestCaseATableThatIsBeingAlteredIsWaitedFor(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(t *testing.T, address string) error{
		"up": func(t *testing.T, address string) error { return mustPostgres(t, address).Up() },
		"webhook install": func(t *testing.T, address string) error {
			s, err := OpenWebhook(t.Context(), address)
			if err != nil {
				return err
			}
			_, err = s.Install(theWebhook())
			return errors.Join(err, s.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := pgtest.Supabase(t)
			pgtest.Exec(t, address, tableWithDrafts+`alter table workflow_runs drop completed_at`)
			pgtest.InstallNet(t, address)
			pgtest.InstallVault(t, address)
			conn, err := pgx.Connect(t.Context(), address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(context.Background())
			if _, err := conn.Exec(t.Context(), `begin; alter table workflow_runs add completed_at timestamptz`); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- begin(t, address) }()
			const looks = ` from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%with recursive the as%' and pid <> pg_backend_pid()`
			waitFor(t, address, `select count(*) = 1`+looks)
			waitFor(t, address, `select count(*) = 0`+looks)
			waitFor(t, address, `select count(*) = 1`+looks)
			if _, err := conn.Exec(t.Context(), `commit`); err != nil {
				t.Fatal(err)
			}
			if err := need.Await(t, "the end of it", done); err != nil {
				t.Errorf("got %v, want the table as it was altered", err)
			}
		})
	}
}

// TestCaseT10_DownTakesAllBackWhateverTheVersionSays: an Up that makes all anew
// begins at nothing, and may be killed or fail there.
func TestCaseT10_DownTakesAllBackWhateverTheVersionSays(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]string{
		"nothing":                     `truncate run_counter.schema_migrations`,
		"the first":                   `update run_counter.schema_migrations set version = 20250128000001`,
		"in the middle of the second": `update run_counter.schema_migrations set version = 20250128000002, dirty = true`,
		"in the middle of the last":   `update run_counter.schema_migrations set dirty = true`,
		"nothing, and an unfit table": `truncate run_counter.schema_migrations; alter table workflow_runs rename completed_at to gone`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := pgtest.Database(t)
			pgtest.Exec(t, address, tableWithDrafts, aliceHasThree)
			before := catalog(t, address)
			mustUp(t, address)
			pgtest.Exec(t, address, version)
			if strings.Contains(version, "gone") {
				if err := mustPostgres(t, address).Up(); !errors.Is(err, ErrTable) || !strings.Contains(err.Error(), "runcounter migrate down --yes") {
					t.Errorf("Up: got %v, want a refusal that says how to get out", err)
				}
			}
			if err := mustPostgres(t, address).Down(); err != nil {
				t.Fatalf("Down: %v", err)
			}
			if strings.Contains(version, "gone") {
				pgtest.Exec(t, address, `alter table workflow_runs rename gone to completed_at`)
			}
			if diff := cmp.Diff(before, catalog(t, address)); diff != "" {
				t.Errorf("down left something (-before +after):\n%s", diff)
			}
			pgtest.Exec(t, address, aLife)
		})
	}
}

// TestCaseT10_ATableThatIsGoneIsMadeAgain by the next Up.
func TestCaseT10_ATableThatIsGoneIsMadeAgain(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, tableWithDrafts)
	mustUp(t, address)
	pgtest.Exec(t, address, `drop table workflow_runs cascade`)
	mustUp(t, address)
	pgtest.Exec(t, address, aliceHasThree)
	mustCount(t, address, "3")
}
