package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// endsIn are columns of ends, with how a test writes a moment in one and reads it again.
var endsIn = []struct {
	name, alter, write, read string
	said                     watched.Overrides
}{
	{"timestamptz", `select 1`, `$`, `completed_at`, watched.Overrides{}},
	{"timestamptz(3)", `alter table workflow_runs alter completed_at type timestamptz(3)`, `$`, `completed_at`, watched.Overrides{}},
	{"a timestamp in UTC", `alter table workflow_runs alter completed_at type timestamp`, `$ at time zone 'UTC'`, `completed_at at time zone 'UTC'`, watched.Overrides{}},
	{
		"a timestamp where an hour comes twice", `alter table workflow_runs alter completed_at type timestamp`, `$ at time zone 'Europe/Berlin'`, `completed_at at time zone 'Europe/Berlin'`,
		watched.Overrides{Zone: "Europe/Berlin"},
	},
	{
		"a timestamp far from UTC", `alter table workflow_runs alter completed_at type timestamp`, `$ at time zone 'Pacific/Kiritimati'`, `completed_at at time zone 'Pacific/Kiritimati'`,
		watched.Overrides{Zone: "Pacific/Kiritimati"},
	},
	{
		"a timestamp west of UTC", `alter table workflow_runs alter completed_at type timestamp`, `$ at time zone 'America/Los_Angeles'`, `completed_at at time zone 'America/Los_Angeles'`,
		watched.Overrides{Zone: "America/Los_Angeles"},
	},
	{
		"milliseconds", `alter table workflow_runs alter completed_at type bigint using 1`, `floor(extract(epoch from $) * 1000)`, `to_timestamp(completed_at / 1000.0)`,
		watched.Overrides{Times: watched.Milliseconds},
	},
	{
		"seconds", `alter table workflow_runs alter completed_at type integer using 1`, `floor(extract(epoch from $))`, `to_timestamp(completed_at)`,
		watched.Overrides{Times: watched.Seconds},
	},
}

// moments are ends, and bounds of windows: midnights, the hours around a change of
// clocks, and what is a microsecond beside them.
var moments = func() (all []time.Time) {
	for _, text := range []string{
		"2026-09-30T22:00:00Z", "2026-10-01T00:00:00Z", "2026-10-24T23:30:00.5Z", "2026-10-25T00:00:00Z", "2026-10-25T00:30:00.123456Z", "2026-10-25T01:00:00Z",
		"2026-10-25T01:30:00.123456Z", "2026-10-25T02:00:00Z", "2026-10-31T10:00:00Z", "2026-10-31T23:00:00Z", "2026-11-01T00:00:00Z", "2026-03-29T01:00:00Z", "1999-12-31T23:59:59.999999Z",
	} {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			panic(err)
		}
		all = append(all, at.Add(-time.Microsecond), at, at.Add(time.Microsecond))
	}
	return all
}()

// endedRow is a run as the oracle reads it.
type endedRow struct {
	key      store.Key
	end      time.Time
	status   store.Status
	presumed bool
}

// tallies adds up the rows of a scope in a window.
func tallied(rows []endedRow, of store.Scope, in store.Window) (t store.Tallies) {
	for _, r := range rows {
		if r.status.Terminal() && of.Contains(r.key) && in.Contains(r.end) {
			e := store.Ended{Status: r.status, N: 1}
			e.AddTo(&t)
			if r.presumed {
				e.Presumed = true
				e.AddTo(&t)
				e.N, e.Presumed = -1, false
				e.AddTo(&t)
			}
		}
	}
	return t
}

// TestWindowsAreCountedAsTheRunsAre compares counts of drawn scopes and windows, by the
// store and in SQL, with the rows, for each kind of column that says when a run ended.
func TestWindowsAreCountedAsTheRunsAre(t *testing.T) {
	t.Parallel()
	for _, tt := range endsIn {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := pgtest.Database(t)
			pgtest.Exec(t, address, sourcetest.BareTable, `alter table workflow_runs alter user_id drop not null`, tt.alter)
			yes := true
			sourcetest.Migrate(t, address, func(m *migrations.Migrator) error {
				m.Override(tt.said)
				m.SetWindows(migrations.Windows{User: &yes, Workflow: &yes})
				m.SetPolicy("terminal-except-presumed")
				return m.Up()
			})
			s := mustOpen(t, address, Options{})
			r := rand.New(rand.NewPCG(16, uint64(len(tt.name))))
			drawEnds(t, address, r, func(value string) string { return strings.ReplaceAll(tt.write, "$", value) })
			if _, err := s.FailStuck(t.Context(), store.FailStuck{Now: moments[30], Limits: store.DefaultLimits(), Max: 1000}); err != nil {
				t.Fatal(err)
			}
			exact(t, s)
			rows := endsOf(t, s, tt.read)
			presumed := false
			for range 300 {
				of, in := drawScope(r), drawWindow(r)
				want := tallied(rows, of, in)
				presumed = presumed || in != store.AllTime && want.Presumed != (store.Tally{})
				got, err := s.Count(t.Context(), of, in)
				if err != nil || got.Tallies != want || got.Key != store.Key(of) {
					t.Fatalf("%s in %v: got %+v, %v; want %+v", of, in, got, err, want)
				}
				if of.User.IsZero() || of.Kind == "" || !of.Ref.IsZero() {
					var inSQL int64
					err = s.pool.QueryRow(t.Context(), `select get_workflow_run_count($1::uuid, $2::uuid, $3::uuid, $4::timestamptz, $5::timestamptz)`,
						textArg(of.User.String()), textArg(store.Key(of).Workflow().String()), textArg(store.Key(of).Draft().String()), timeArg(in.From), timeArg(in.To)).Scan(&inSQL)
					if err != nil || inSQL != got.Count {
						t.Fatalf("%s in %v, in SQL: got %d, %v; want %d", of, in, inSQL, err, got.Count)
					}
				}
			}
			if !presumed {
				t.Error("no window had a presumed run")
			}
			for _, bound := range []string{`p_from => '-infinity', p_to => 'infinity'`, `p_from => '4713-01-01 BC', p_to => '294276-12-31'`, `p_to => 'infinity'`, `p_from => '-infinity'`} {
				sourcetest.MustBe(t, address, `select get_workflow_run_count('`+ada+`') = get_workflow_run_count('`+ada+`', `+bound+`)`, "t")
			}
			sourcetest.MustBe(t, address, `select get_workflow_run_count('`+ada+`', p_from => 'infinity') + get_workflow_run_count('`+ada+`', p_to => '-infinity')`, "0")
		})
	}
}

// drawEnds inserts runs, ends them, hands some over, deletes some, and leaves some to a
// sweep. What can't be a time is among the ends.
func drawEnds(t testing.TB, address string, r *rand.Rand, written func(string) string) {
	t.Helper()
	var statements []string
	pick := func(all ...string) string { return all[r.IntN(len(all))] }
	users, refs := []string{"'" + ada + "'", "'" + bob + "'", "null"}, []string{"'" + adaFlow + "'", "'" + bobFlow + "'", "null"}
	for n := range 400 {
		id := "'" + storetest.MustID('1', n).String() + "'"
		end := written("timestamptz '" + moments[r.IntN(len(moments))].Format(time.RFC3339Nano) + "'")
		statements = append(statements, fmt.Sprintf(`insert into workflow_runs (id, user_id, workflow_id, draft_id, status, completed_at, updated_at) values (%s, %s, %s, %s, %s, %s, '2026-10-01')`,
			id, pick(users...), pick(refs...), pick(append(refs, "null", "null")...), pick("'completed'", "'failed'", "'cancelled'", "'timeout'", "'running'", "'odd'", "null"), pick(end, end, end, end, "null")))
		switch r.IntN(8) {
		case 0:
			statements = append(statements, `update workflow_runs set user_id = `+pick(users...)+` where id = `+id)
		case 1:
			statements = append(statements, `update workflow_runs set status = 'completed', completed_at = `+end+` where completed_at is null and id = `+id)
		case 2:
			statements = append(statements, `delete from workflow_runs where id = `+id)
		}
	}
	pgtest.Exec(t, address, `set timezone = 'UTC';`+strings.Join(statements, ";")+`; select 1`)
}

// endsOf reads what has ended, by an expression of the moment.
func endsOf(t testing.TB, s *Store, moment string) (all []endedRow) {
	t.Helper()
	rows, err := s.pool.Query(t.Context(), `
select r.user_id::text, r.workflow_id::text, r.draft_id::text, r.status, `+moment+`, exists (select from run_counter.presumed as p where p.run_id = r.id)
  from workflow_runs as r where completed_at is not null`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var one endedRow
		var user, flow, draft, status *string
		if err := rows.Scan(&user, &flow, &draft, &status, &one.end, &one.presumed); err != nil {
			t.Fatal(err)
		}
		id := func(text *string) (id store.ID) {
			if text != nil {
				id = sourcetest.MustParse(t, *text)
			}
			return id
		}
		if status != nil {
			one.status = store.Status(*status)
		}
		one.key, one.end = store.KeyOf(id(user), id(flow), id(draft)), store.Instant(one.end)
		all = append(all, one)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func drawScope(r *rand.Rand) store.Scope {
	user, ref := []string{ada, bob}[r.IntN(2)], []string{adaFlow, bobFlow}[r.IntN(2)]
	one := func(text string) store.ID { id, _ := store.ParseID(text); return id }
	kind := []store.Kind{store.KindWorkflow, store.KindDraft}[r.IntN(2)]
	return []store.Scope{
		{User: one(user)}, {User: one(user), Kind: kind}, {Kind: kind, Ref: one(ref)}, {User: one(user), Kind: kind, Ref: one(ref)},
	}[r.IntN(4)]
}

func drawWindow(r *rand.Rand) (in store.Window) {
	bounds := []time.Time{moments[r.IntN(len(moments))], moments[r.IntN(len(moments))]}
	slices.SortFunc(bounds, time.Time.Compare)
	if r.IntN(5) > 0 {
		in.From = bounds[0]
	}
	if r.IntN(5) > 0 {
		in.To = bounds[1]
	}
	return in
}

// TestAWindowWithoutItsIndexIsRefusedInSQL with a sentence that names the command, also of
// a limit.
func TestAWindowWithoutItsIndexIsRefusedInSQL(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	of := `'` + ada + `', '` + adaFlow + `', `
	for call, flag := range map[string]string{
		`get_workflow_run_count('` + ada + `', p_from => now())`:                          "--user-windows",
		`get_workflow_run_count(p_workflow_id => '` + adaFlow + `', p_to => now())`:       "--workflow-windows",
		`begin_workflow_run(` + of + `p_user_limit => 3, p_from => '2026-01-01')`:         "--user-windows",
		`get_workflow_run_allowance(` + of + `p_user_limit => 3, p_from => '2026-01-01')`: "--user-windows",
		`get_workflow_run_count(` + of + `p_from => now())`:                               "",
		`begin_workflow_run(` + of + `p_limit => 3, p_from => '2026-01-01')`:              "",
		`get_workflow_run_allowance(` + of + `p_limit => 3, p_from => '2026-01-01')`:      "",
		`begin_workflow_run(` + of + `p_limit => 3, p_from => now() + interval '1 hour')`: "still to come",
		`get_workflow_run_allowance(` + of + `p_limit => 3, p_from => 'infinity')`:        "still to come",
		`get_workflow_run_count()`: "a count needs",
		`get_workflow_run_count('` + ada + `', p_from => now(), p_to => '2026-01-01')`:   "exchange",
		`get_workflow_run_allowance('` + ada + `')`:                                      "needs a limit",
		`get_workflow_run_allowance('` + ada + `', p_limit => 3)`:                        "needs a user, and",
		`grant_workflow_runs('` + ada + `', 0, 'support', 'why')`:                        "1 to 1000000000",
		`grant_workflow_runs('` + ada + `', 1, '', 'why')`:                               "who decided",
		`grant_workflow_runs(null, 1, 'support', 'why')`:                                 "needs a user",
		`grant_workflow_runs('` + ada + `', 1, 'support', 'why', p_expires_at => now())`: "would have expired",
		`revoke_workflow_run_grant(1, 'support', '')`:                                    "who decided",
	} {
		var e *pgconn.PgError
		_, err := f.store.pool.Exec(t.Context(), `select `+call)
		switch {
		case flag == "" && err != nil:
			t.Errorf("%s: %v", call, err)
		case flag != "" && (!errors.As(err, &e) || e.Code != "22023" || !strings.Contains(e.Message, flag)):
			t.Errorf("%s: got %v, want 22023 with %q", call, err, flag)
		case strings.HasPrefix(flag, "--") && !strings.Contains(e.Hint, flag):
			t.Errorf("%s: got the hint %q", call, e.Hint)
		}
	}
}

// windowed makes a database with a table of this shape, and the indexes of all windows.
func windowed(t *testing.T, alter string, said watched.Overrides) (address string) {
	t.Helper()
	address = pgtest.Database(t)
	pgtest.Exec(t, address, sourcetest.BareTable, alter)
	yes := true
	sourcetest.Migrate(t, address, func(m *migrations.Migrator) error {
		m.Override(said)
		m.SetWindows(migrations.Windows{User: &yes, Workflow: &yes})
		return m.Up()
	})
	return address
}

// TestAWindowIsReadFromItsIndexAlone, whatever the bounds are turned into.
func TestAWindowIsReadFromItsIndexAlone(t *testing.T) {
	t.Parallel()
	for _, tt := range endsIn {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := windowed(t, tt.alter, tt.said)
			s := mustOpen(t, address, Options{})
			pgtest.Exec(t, address, `insert into workflow_runs (id, user_id, workflow_id, status, completed_at)
select gen_random_uuid(), u::uuid, f::uuid, 'completed', `+strings.ReplaceAll(tt.write, "$", "(timestamptz '2026-01-01' + n * interval '1 hour')")+` from generate_series(1, 5000) as n, unnest(array['`+ada+`', '`+bob+`']) as u, unnest(array['`+adaFlow+`', '`+bobFlow+`']) as f`)
			pgtest.Vacuum(t, address, "workflow_runs")
			db, err := s.features(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			within := ` and r.ended and ` + db.table.Within("r", "timestamptz '2026-02-01 00:00+00'", "timestamptz '2026-02-03 00:00+00'")
			user, flow := "'"+ada+"'::uuid", "'"+adaFlow+"'::uuid"
			for index, of := range map[string]string{
				"run_counter_ended": db.table.OfKey(store.KindWorkflow, user, flow), "run_counter_user_windows": db.table.OfKey(store.KindWorkflow, user, ""),
				"run_counter_workflow_windows": db.table.OfKey(store.KindWorkflow, "", flow),
			} {
				q := query{text: `select r.status, count(*) from ` + db.keyed() + ` as r where ` + of + within + ` group by 1`} // as in the functions
				plan := explained(t, s, q)
				found, rows := false, 0
				for _, line := range plan {
					if strings.Contains(line, "Index Only Scan using "+index+" ") {
						found = true
						_, after, _ := strings.Cut(line, "actual rows=")
						n, _, _ := strings.Cut(after, " ")
						number, err := strconv.ParseFloat(n, 64)
						if err != nil {
							t.Fatalf("%s: %v", line, err)
						}
						rows = max(rows, int(number))
					}
				}
				if !found || rows > 2*5*24 {
					t.Errorf("%s: %d rows are read, %v, by\n%s", of, rows, found, strings.Join(plan, "\n"))
				}
			}
		})
	}
}

func explained(t testing.TB, s *Store, q query) (lines []string) {
	t.Helper()
	err := send(context.WithoutCancel(t.Context()), s.pool, query{text: `explain (analyze, costs off, timing off) ` + q.text, args: q.args, read: all(&lines, func(rows pgx.Rows, line *string) error { return rows.Scan(line) })})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}
