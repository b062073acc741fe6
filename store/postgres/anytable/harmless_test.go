package anytable

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// TestCaseLaw8_AStatementThatWorksWithoutUsWorksWithUs draws tables and
// statements of an application, its later ALTERs among them, and runs each
// statement on the watched table and on a twin of it that has nothing of ours.
//
// With guard and hardening off, the outcome is the same: the SQLSTATE and the
// constraint, the number of rows, what RETURNING returns, and all columns of all
// rows. With the guard on, each statement begins from equal tables: what works on
// the twin works with us, a failure is the same one or is none because the
// guard kept a row, and rows differ in status, end, duration and error alone,
// where a run had ended before or an end was filled in; where the guard only
// reports, in end and duration alone, where an end was filled in.
//
// RUNCOUNTER_STATEMENTS draws more than CI does: 100000 are a night's work. A
// failure names its seed, which RUNCOUNTER_SEED runs alone; with both, the
// statements are those of that seed and the ones after it.
func TestCaseLaw8_AStatementThatWorksWithoutUsWorksWithUs(t *testing.T) {
	need.NoRaceDetector(t)
	t.Parallel()
	const each = 200 // statements of a table
	statements := 2800
	if text := os.Getenv("RUNCOUNTER_STATEMENTS"); text != "" {
		var err error
		if statements, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	first, last := uint64(1), uint64(max(statements/each, 1))
	if text := os.Getenv("RUNCOUNTER_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if first = seed; os.Getenv("RUNCOUNTER_STATEMENTS") == "" {
			last = first
		} else {
			last += first - 1
		}
	}
	kept, keeps := 0, false
	for seed := first; seed <= last; seed++ {
		guarded := seed%2 == 0
		t.Run(fmt.Sprintf("seed %d, guard %t", seed, guarded), func(t *testing.T) {
			tw := newTwins(t, seed)
			keeps = keeps || guarded && !tw.reports
			defer func() { kept += tw.kept }()
			for n := range each {
				switch {
				case n == each/2 && seed%7 == 1 && !strings.Contains(tw.shape.ddl, "set not null"): // which migrate up refuses, and it takes its time
					tw.refused(t)
				case tw.rand.IntN(12) == 0:
					tw.alter(t)
				case tw.rand.IntN(24) == 0:
					tw.within(t)
				default:
					tw.step(t)
				}
				if t.Failed() {
					t.Logf("the table:\n%s\nand then:\n%s", tw.shape.ddl, strings.Join(tw.log, "\n"))
					return
				}
			}
			tw.settle(t)
			sourcetest.Exact(t, tw.conn)
			tw.tally(t)
		})
	}
	if keeps && kept == 0 {
		t.Error("the guard kept nothing in any statement: want enough to tell")
	}
}

// said is what an operator says of such a table.
func (tw *twins) said() watched.Overrides {
	said := watched.Overrides{Times: watched.Milliseconds, Zone: "Europe/Berlin", Columns: map[watched.Role]string{}}
	for _, role := range append([]watched.Role{tw.shape.lacks}, tw.is.left...) {
		if role != "" {
			said.Columns[role] = ""
		}
	}
	return said
}

// twins are the two tables, and one transaction in which all is done.
type twins struct {
	shape   shape
	rand    *rand.Rand
	address string
	conn    *pgx.Conn
	guarded bool // the guard is on, or
	reports bool // it only reports
	ids     []string
	is      altering
	saved   *altering // what the tables were when a savepoint began that is open
	log     []string  // how they were altered
	// How the statements went.
	worked, failed, kept int
}

var (
	twinUsers = []string{ada, bob, "00000000-0000-0000-0000-000000000001"}
	twinFlows = []string{adaFlow, bobFlow}
	twinWords = []string{"pending", "running", "cancelling", "completed", "failed", "cancelled", "timeout", "completed", "running", "queued", ""}
)

func newTwins(t *testing.T, seed uint64) *twins {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 8))
	tw := &twins{shape: drawShape(r), rand: r, address: pgtest.Database(t), guarded: seed%2 == 0, reports: seed%4 == 0}
	tw.is = altering{columns: tw.shape.columns, names: map[string]string{}}
	for i := range 12 {
		tw.ids = append(tw.ids, fmt.Sprintf("00000000-0000-4000-8000-%012d", i+1))
	}
	const types = `create function fine(timestamptz) returns boolean language plpgsql immutable as $$ begin if $1 > '2026-01-31' and $1 < '9999-01-01' then raise 'not now'; end if; return true; end $$;
create type labels as enum ('queued', 'timeout', 'pending', 'running', 'cancelling', 'completed', 'failed', 'cancelled');
create domain words as text; create domain a_label as labels check (value <> 'queued'); create domain word as a_label; create domain run_key as uuid;
create domain moments as timestamptz(3); create domain early as timestamptz check (fine(value));`
	const parents = `create table flows (id uuid primary key); ` + types
	flows := `insert into flows values ('` + adaFlow + `'), ('` + bobFlow + `')`
	pgtest.Exec(t, tw.address, parents+tw.shape.ddl+";"+flows,
		`create schema twin; set search_path = twin, public;`+strings.Replace(parents, types, "", 1)+tw.shape.ddl+";"+flows)
	tw.install(t)
	for _, alter := range tw.shape.later {
		pgtest.Exec(t, tw.address, alter, `set search_path = twin, public; `+alter)
		tw.shape.ddl += ";\n" + alter
	}
	tw.conn = sourcetest.MustConnect(t, tw.address)
	tw.mustTx(t, "begin")
	return tw
}

func (tw *twins) mustTx(t *testing.T, text string) {
	t.Helper()
	if _, err := tw.conn.Exec(t.Context(), text, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v\n%s\n%s", text, err, tw.shape.ddl, strings.Join(tw.log, "\n"))
	}
}

func (tw *twins) pick(of []string) string { return of[tw.rand.IntN(len(of))] }

// value draws a value for a column, as SQL writes it.
func (tw *twins) value(column string) string {
	switch column {
	case "id":
		if tw.shape.id != "uuid" && tw.shape.id != "run_key" && tw.rand.IntN(8) == 0 {
			return tw.pick([]string{"''", "repeat('r', 256)", "'it''s'", "'" + hex(tw.rand, 2690) + "'"}) // of which one can be named, and one fills its index
		}
		return "'" + tw.pick(tw.ids) + "'"
	case "user_id":
		if tw.shape.texts && tw.rand.IntN(3) == 0 {
			return tw.pick([]string{"''", "repeat('ä', 128)", "repeat('u', 255)", "'auth0|it''s'", tw.long(), tw.long()}) // of which two are a key, and one fits into no index
		}
		return tw.pick([]string{"null", "'" + tw.pick(twinUsers) + "'", "'" + tw.pick(twinUsers) + "'", "'" + tw.pick(twinUsers) + "'"})
	case "workflow_id", "draft_id":
		if tw.shape.flows == "text" && tw.rand.IntN(4) == 0 {
			return tw.pick([]string{"''", "repeat('f', 256)", tw.long(), tw.long()})
		}
		return tw.pick([]string{"null", "'" + tw.pick(twinFlows) + "'", "'" + tw.pick(twinFlows) + "'"})
	case "status":
		if tw.rand.IntN(40) == 0 {
			return tw.long()
		}
		return tw.pick([]string{"null", "default", "'" + tw.pick(twinWords) + "'", "'" + tw.pick(twinWords) + "'", "'" + tw.pick(twinWords) + "'", "'" + tw.pick(twinWords) + "'"})
	case "completed_at", "created_at", "started_at", "updated_at":
		if tw.shape.times[column] == "bigint" {
			return tw.pick([]string{"null", "null", "extract(epoch from now()) * 1000", "extract(epoch from now()) * 1000 - 3600000", "1769853600123", "9223372036854775807", "-9223372036854775808", "-62135596800000", "0"})
		}
		return tw.pick([]string{"null", "null", "now()", "now() - interval '1 hour'", "'2026-01-31 12:00:00.123456+02'", "'infinity'", "'-infinity'", "now() + interval '1 day'", "'294276-12-31 23:59:59+00'", "'0001-01-01 00:00+00'", "'4000-01-01 BC'"})
	case "duration_ms":
		return tw.pick([]string{"null", "0", "-5", "2147483647", "777"})
	case "error_details":
		return tw.pick([]string{"null", `'{"code": "stuck"}'`, `'{"code": "E", "n": 1e400}'`, `'"text"'`, `'[1]'`})
	}
	return tw.pick([]string{"null", "'a'", "'b'", "'forbidden'", "'it''s'"})
}

// long draws a text that no index can hold.
func (tw *twins) long() string { return "'" + hex(tw.rand, 6000) + "'" }

func (tw *twins) some() []string {
	columns := slices.Clone(tw.is.columns)
	tw.rand.Shuffle(len(columns), func(i, j int) { columns[i], columns[j] = columns[j], columns[i] })
	return columns[:1+tw.rand.IntN(min(4, len(columns)))]
}

func (tw *twins) where() string {
	whose := "user_id = '" + tw.pick(twinUsers) + "'"
	if tw.shape.lacks == watched.User {
		whose = "note = 'a'"
	}
	return tw.shape.compares(tw.pick([]string{
		"id = " + tw.value("id"), "id = " + tw.value("id"), "status = '" + tw.pick(twinWords) + "'", whose,
		"completed_at is null and status in ('pending', 'running')", "id in (" + tw.value("id") + ", " + tw.value("id") + ")", "true",
	}))
}

func (tw *twins) sets() string {
	var sets []string
	for _, column := range tw.some() {
		value := tw.value(column)
		sets = append(sets, column+" = "+value)
	}
	return strings.Join(sets, ", ")
}

// statement draws one of an application. The table has no schema: the search
// path says which of the twins it is.
func (tw *twins) statement() string {
	insert := func() string {
		columns := append([]string{"id"}, slices.DeleteFunc(tw.some(), func(c string) bool { return c == "id" })...)
		var rows []string
		for range 1 + tw.rand.IntN(2) {
			var values []string
			for _, column := range columns {
				values = append(values, tw.value(column))
			}
			rows = append(rows, "("+strings.Join(values, ", ")+")")
		}
		return "insert into workflow_runs (" + strings.Join(columns, ", ") + ") values " + strings.Join(rows, ", ")
	}
	switch tw.rand.IntN(16) {
	case 0, 1, 2:
		return insert() + " returning *"
	case 3, 4:
		columns := []string{"note = excluded.note", "status = excluded.status", "completed_at = coalesce(workflow_runs.completed_at, excluded.completed_at)"}
		return insert() + " on conflict (id) do update set " + strings.Join(columns[:1+tw.rand.IntN(3)], ", ") + " returning id, note"
	case 5:
		return insert() + " on conflict do nothing"
	case 6:
		return "delete from workflow_runs where " + tw.where() + " returning id"
	case 7:
		return "delete from flows where id = '" + tw.pick(twinFlows) + "'"
	case 8:
		return "insert into flows values ('" + tw.pick(twinFlows) + "') on conflict do nothing"
	case 9:
		return "with w as (update workflow_runs set " + tw.sets() + " where " + tw.where() + " returning id, note) select * from w order by 1"
	case 10:
		return "merge into workflow_runs as r using (values (" + tw.value("id") + "::" + tw.shape.id + ", '" + tw.pick(twinWords) + "')) as v (id, word) on r.id = v.id " +
			"when matched and " + tw.shape.compares("r.status = 'running'") + " then delete when matched then update set status = v.word when not matched then insert (id, status) values (v.id, v.word)"
	case 11:
		if tw.rand.IntN(6) == 0 {
			return "truncate workflow_runs"
		}
		return "do $do$ begin update workflow_runs set " + tw.sets() + " where " + tw.where() + "; raise exception 'never mind'; exception when raise_exception then null; end $do$"
	}
	return "update workflow_runs set " + tw.sets() + " where " + tw.where() + " returning id, note"
}

// outcome is what a statement came to.
type outcome struct {
	SQLState, Constraint, Tag string
	Rows                      []string
	said                      string
}

// run runs a statement on one of the twins, in a savepoint.
func (tw *twins) run(t *testing.T, schema, statement string) (o outcome) {
	t.Helper()
	tw.mustTx(t, `savepoint one; set local search_path = `+schema+`, public`)
	rows, err := tw.conn.Query(t.Context(), statement, pgx.QueryExecModeSimpleProtocol)
	if err == nil {
		for rows.Next() {
			var cells []string
			for _, cell := range rows.RawValues() {
				cells = append(cells, string(cell))
			}
			o.Rows = append(o.Rows, strings.Join(cells, "|"))
		}
		rows.Close()
		slices.Sort(o.Rows) // their order is the plan's, and the plans differ by our indexes
		err, o.Tag = rows.Err(), rows.CommandTag().String()
	}
	var failure *pgconn.PgError
	switch {
	case errors.As(err, &failure):
		o = outcome{SQLState: failure.Code, Constraint: failure.ConstraintName}
		o.said = failure.Message + "; " + failure.Where
		tw.mustTx(t, `rollback to one`)
	case err != nil:
		t.Fatalf("%s: %v", statement, err)
	}
	tw.mustTx(t, `release one; set local search_path = public`)
	return o
}

// content returns each row of a table of one of the twins, by its id.
func (tw *twins) content(t *testing.T, schema string) map[string]map[string]string {
	t.Helper()
	theirs := map[string]string{}
	for name, is := range tw.is.names {
		theirs[is] = name
	}
	rows, err := tw.conn.Query(t.Context(), `select r.`+tw.is.now("id")+`::text, (select jsonb_object_agg(key, value) from json_each_text(row_to_json(r))) from `+tw.is.now(schema+".workflow_runs")+` as r`)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]string{}
	for rows.Next() {
		var id string
		var row map[string]*string
		if err := rows.Scan(&id, &row); err != nil {
			t.Fatal(err)
		}
		all[id] = map[string]string{}
		for name, value := range row {
			if value != nil {
				if was, renamed := theirs[name]; renamed {
					name = was
				}
				all[id][name] = *value
			}
		}
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return all
}

func (tw *twins) step(t *testing.T) {
	t.Helper()
	before := tw.content(t, "twin")
	statement := tw.is.now(tw.statement())
	without, with := tw.run(t, "twin", statement), tw.run(t, "public", statement)
	theirs, ours := tw.content(t, "twin"), tw.content(t, "public")
	switch {
	case without.SQLState != "":
		tw.failed++
	default:
		tw.worked++
	}
	if !tw.guarded {
		if without.SQLState == "23505" && with.SQLState == "23505" {
			with.Constraint = without.Constraint // which of two rows is met first is the plan's choice, and so which key they have in common
		}
		if diff := cmp.Diff(without, with, cmpopts.IgnoreUnexported(outcome{})); diff != "" {
			t.Errorf("%s\n(-without us +with us)\n%s", statement, diff)
		}
		if diff := cmp.Diff(theirs, ours); diff != "" {
			t.Errorf("%s\nleaves (-without us +with us)\n%s", statement, diff)
		}
		return
	}
	if without.SQLState != "" && with.SQLState == "" {
		// As where a status of null is refused, and the guard keeps the one that was;
		// or where an outcome has to have an end, and the guard fills it.
		undone := strings.HasPrefix(statement, "do ") // with what was filled
		if !undone && !tw.hadEnded(before) && !tw.ends(before, ours) && !tw.keepsAnEnd(before, ours) {
			t.Errorf("%s\nworks, and without us: %+v", statement, without)
		}
		tw.kept++
		tw.align(t)
		return
	}
	changed := tw.guardKept(t, statement, before, theirs, ours)
	switch {
	case without.SQLState == "" && with.SQLState != "":
		t.Errorf("%s\nworks without us, and with us: %+v", statement, with)
	case without.SQLState != with.SQLState && !tw.hadEnded(before) && !both(without, with, "23"): // else another check, or row, may have been met first
		t.Errorf("%s\n(-without us +with us)\n%s%s", statement, cmp.Diff(without, with, cmpopts.IgnoreUnexported(outcome{})), with.said)
	}
	if changed {
		tw.kept++
	}
	tw.align(t)
}

var twinTerminals = []string{"completed", "failed", "cancelled", "timeout"}

// isTime reports whether a run has ended by a completed_at.
func (s shape) isTime(text string) bool {
	year, _, _ := strings.Cut(text, "-")
	if s.times["completed_at"] == "bigint" {
		return len(text) < 15 && text != ""
	}
	return len(year) == 4 && year != "0001" && !strings.HasSuffix(text, "BC")
}

// hadEnded reports whether there was a run that the guard may keep.
func (tw *twins) hadEnded(rows map[string]map[string]string) bool {
	for _, row := range rows {
		if !tw.reports && row["completed_at"] != "" && slices.Contains(twinTerminals, row["status"]) {
			return true
		}
	}
	return false
}

// both reports whether two failures are of one class.
func both(a, b outcome, class string) bool {
	return strings.HasPrefix(a.SQLState, class) && strings.HasPrefix(b.SQLState, class)
}

// ends reports whether a run has ended that had not.
func (tw *twins) ends(before, after map[string]map[string]string) bool {
	for id, row := range after {
		if row["completed_at"] != "" && slices.Contains(twinTerminals, row["status"]) && before[id]["completed_at"] != row["completed_at"] {
			return true
		}
	}
	return false
}

// keepsAnEnd reports whether a row was written that had ended and is left an end
// that was there: where the guard only reports, it fills one that was taken by that.
func (tw *twins) keepsAnEnd(before, after map[string]map[string]string) bool {
	for id, row := range after {
		if was := before[id]; tw.reports && row["completed_at"] != "" && row["completed_at"] == was["completed_at"] && !cmp.Equal(was, row) {
			return true
		}
	}
	return false
}

// guardKept reports whether rows differ, which they may where the guard is there
// for it.
func (tw *twins) guardKept(t *testing.T, statement string, before, theirs, ours map[string]map[string]string) (changed bool) {
	t.Helper()
	for id, is := range theirs {
		with, there := ours[id]
		if !there || cmp.Equal(is, with) {
			continue
		}
		changed = true
		was := before[id]
		ended := !tw.reports && was["completed_at"] != "" && slices.Contains(twinTerminals, was["status"])
		if _, there := before[id]; !there { // a run may have been given another id
			ended = tw.hadEnded(before)
		}
		filled := !tw.shape.isTime(is["completed_at"]) && slices.Contains(twinTerminals, is["status"])
		for _, name := range tw.is.columns {
			guards := slices.Contains([]string{"status", "completed_at", "duration_ms", "error_details"}, name)
			if may := guards && (ended || filled && (name != "status" || !tw.reports)); is[name] != with[name] && !may {
				t.Errorf("%s\nleaves run %s with %s %q, and without us %q", statement, id, name, with[name], is[name])
			}
		}
	}
	if len(theirs) != len(ours) {
		t.Errorf("%s\nleaves %d rows, and without us %d", statement, len(ours), len(theirs))
	}
	return changed
}

// align makes the twin what the watched table is.
func (tw *twins) align(t *testing.T) {
	t.Helper()
	columns := strings.Join(tw.is.columns, ", ")
	for _, text := range []string{
		`alter table twin.workflow_runs disable trigger user`,
		`insert into twin.flows select * from public.flows on conflict do nothing`,
		`delete from twin.workflow_runs`,
		`insert into twin.workflow_runs (` + columns + `) select ` + columns + ` from public.workflow_runs`,
		`alter table twin.workflow_runs enable trigger user`,
	} {
		tw.mustTx(t, tw.is.now(text))
	}
}

// tally fails where the statements show too little.
func (tw *twins) tally(t *testing.T) {
	t.Helper()
	t.Logf("%d worked, %d failed, the guard kept something in %d", tw.worked, tw.failed, tw.kept)
	if tw.worked < 60 {
		t.Errorf("%d worked: want enough to tell", tw.worked)
	}
}
