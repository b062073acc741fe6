package anytable

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// altering is what the application has made of its tables. Statements are drawn
// in the names that the table was made with.
type altering struct {
	columns []string          // those that the application writes
	names   map[string]string // what was renamed, and to what
	undo    []string          // what takes alterations back that were made
	left    []watched.Role    // columns of a type that migrate up says to leave alone
}

func (a altering) clone() altering {
	return altering{slices.Clone(a.columns), maps.Clone(a.names), slices.Clone(a.undo), slices.Clone(a.left)}
}

var renamable = regexp.MustCompile(`\b(?:workflow_runs|id|user_id|workflow_id|draft_id|status|completed_at|started_at|created_at|updated_at|duration_ms|error_details|note)\b`)

// now writes a statement in the names of now.
func (a altering) now(statement string) string {
	if len(a.names) == 0 {
		return statement
	}
	return renamable.ReplaceAllStringFunc(statement, func(name string) string {
		if is, renamed := a.names[name]; renamed {
			return is
		}
		return name
	})
}

// tells reports whether a trigger of the application's names a column, and would
// fail where that is altered, with us maybe before another rule is met.
func (s shape) tells(column string) bool {
	return strings.Contains(s.ddl, "new."+column)
}

// alter alters both tables, in a way that PostgreSQL does not refuse for what is
// ours, or takes such an alteration back.
func (tw *twins) alter(t *testing.T) {
	t.Helper()
	if len(tw.is.undo) > 0 && tw.rand.IntN(2) == 0 {
		tw.takeBack(t)
		return
	}
	statement, then := tw.drawAlter()
	if tw.both(t, statement) {
		then()
	}
}

// takeBack takes the last alteration back.
func (tw *twins) takeBack(t *testing.T) {
	t.Helper()
	last := len(tw.is.undo) - 1
	undo := tw.is.undo[last]
	tw.is.undo = tw.is.undo[:last]
	if column, renamed := strings.CutPrefix(undo, "rename "); renamed {
		is := tw.is.names[column]
		delete(tw.is.names, column)
		undo = "alter table workflow_runs rename " + is + " to " + column
		if column == "workflow_runs" {
			undo = "alter table " + is + " rename to workflow_runs"
		}
	}
	if !tw.both(t, undo) {
		t.Fatalf("%s: can't be taken back", undo)
	}
}

// drawAlter draws what an application does to its table later, and what it means
// for the statements that come.
func (tw *twins) drawAlter() (statement string, then func()) {
	has := func(all ...string) []string {
		return slices.DeleteFunc(all, func(c string) bool { return !slices.Contains(tw.is.columns, c) })
	}
	back := func(undo string) func() { return func() { tw.is.undo = append(tw.is.undo, undo) } }
	to := func(alter string) string { return "alter table workflow_runs " + alter }
	switch tw.rand.IntN(12) {
	case 0:
		return to("add later " + tw.pick([]string{"text", "text not null default 'x'", "integer generated always as (length(note)) stored", "timestamptz not null default now()", "numeric check (later > 0)"})), back(to("drop later"))
	case 1: // of columns that are read: those that an index or a trigger of ours names can't be dropped, see refused
		gone := tw.pick(append(has("created_at", "updated_at", "duration_ms", "error_details"), "extra", "cost", "state_snapshot"))
		undone := func(undo string) bool { return strings.Contains(undo, gone) }
		if tw.shape.tells(gone) || slices.ContainsFunc(tw.is.undo, undone) || tw.rand.IntN(3) > 0 && slices.Contains(tw.is.columns, gone) {
			gone = "state_snapshot"
		}
		return to("drop if exists " + gone), func() {
			tw.is.columns = slices.DeleteFunc(tw.is.columns, func(c string) bool { return c == gone })
		}
	case 2, 3, 4:
		still := slices.DeleteFunc(append(slices.Clone(tw.is.columns), "workflow_runs"), func(name string) bool {
			return tw.is.names[name] != "" || tw.shape.tells(name)
		})
		if len(still) == 0 {
			break
		}
		column := tw.pick(still)
		statement := to("rename " + column + " to " + column + "_now")
		if column == "workflow_runs" {
			statement = to("rename to workflow_runs_now")
		}
		return statement, func() {
			tw.is.names[column] = column + "_now"
			back("rename " + column)()
		}
	case 5:
		column := tw.pick(append(has("created_at", "updated_at", "duration_ms", "error_details"), "note", "note"))
		if tw.shape.tells(column) {
			break
		}
		types := []string{"bigint", "numeric", "text"}
		switch {
		case column == "note":
			types = []string{"text", "varchar(2000)"}
		case column == "error_details":
			types = []string{"text", "jsonb using error_details::text::jsonb", "json using error_details::text::json"}
		case column == "duration_ms":
		case column == "updated_at" && tw.shape.times[column] != "bigint":
			types = []string{"timestamptz", "timestamp", "date"}
		default: // an index reads created_at, by a cast that is immutable for one type and not for the other
			types = []string{tw.shape.times[column]}
		}
		typ := tw.pick(types)
		return to("alter " + column + " type " + typ), func() {
			tw.is.left = slices.DeleteFunc(tw.is.left, func(role watched.Role) bool { return string(role) == column })
			if column == "duration_ms" && typ != "bigint" || typ == "date" {
				tw.is.left = append(tw.is.left, watched.Role(column))
			}
		}
	case 6:
		column := tw.pick(append(has("user_id", "workflow_id", "completed_at", "duration_ms", "error_details"), "status"))
		return to("alter " + column + " set not null"), back(to("alter " + column + " drop not null"))
	case 7:
		checks := []string{"(status = 'completed') = (completed_at is not null)", "status <> 'running' or completed_at is null", "status <> 'later'", "note <> 'b'"}
		if len(has("duration_ms")) > 0 {
			checks = append(checks, "duration_ms::bigint < 1000", "status <> 'failed' or duration_ms is null")
		}
		valid := tw.pick([]string{"", " not valid"})
		if tw.guarded { // where the rows are copied to the twin
			valid = ""
		}
		return to("add constraint later_check check (" + tw.shape.compares(tw.pick(checks)) + ")" + valid), back(to("drop constraint if exists later_check")) // it may go with a column
	case 8:
		return "alter type labels add value if not exists 'later'", func() {}
	case 9:
		def := tw.pick(append(has("completed_at", "duration_ms"), "status", "status", "note"))
		value := map[string]string{"completed_at": "default now()", "duration_ms": "default 5", "note": "default 'b'"}[def]
		switch {
		case def == "status":
			value = "default '" + tw.pick(twinTerminals) + "'"
		case def == "completed_at" && tw.shape.times[def] == "bigint":
			value = "default 1769853600123"
		}
		return to("alter " + def + " set " + value), back(to("alter " + def + " drop default"))
	case 10:
		index := tw.pick([]string{"unique index later_index on workflow_runs (note, status) where status = 'completed'", "index later_index on workflow_runs (status, completed_at)", "unique index later_index on workflow_runs (completed_at, note)", "index later_index on workflow_runs (lower(note))"})
		return "create " + tw.shape.compares(index), back("drop index later_index")
	}
	if len(has("draft_id")) > 0 && tw.rand.IntN(2) == 0 {
		return to("add constraint later_key foreign key (draft_id) references flows on delete " + tw.pick([]string{"cascade", "set null"})), back(to("drop constraint later_key"))
	}
	return to(tw.pick([]string{"replica identity full", "set (fillfactor = 80)", "alter note set statistics 10", "cluster on workflow_runs_pkey"})), func() {}
}

// both runs what is the same for both tables, and reports whether it worked.
func (tw *twins) both(t *testing.T, statement string) bool {
	t.Helper()
	statement = tw.is.now(statement)
	without, with := tw.run(t, "twin", statement), tw.run(t, "public", statement)
	if without.SQLState != with.SQLState {
		t.Errorf("%s\nwithout us: %+v\nwith us: %+v", statement, without, with)
	}
	tw.log = append(tw.log, statement+" -- "+without.SQLState)
	return without.SQLState == ""
}

// within begins what may be rolled back as a whole, with alterations in it, or
// ends it.
func (tw *twins) within(t *testing.T) {
	t.Helper()
	text := "savepoint outer_one"
	switch {
	case tw.saved == nil:
		saved := tw.is.clone()
		tw.saved = &saved
	case tw.rand.IntN(3) == 0:
		text, tw.saved = "release outer_one", nil
	default:
		text, tw.is, tw.saved = "rollback to outer_one; release outer_one", *tw.saved, nil
	}
	tw.mustTx(t, text)
	tw.log = append(tw.log, text)
}

// settle ends what may be rolled back, and takes back what was altered.
func (tw *twins) settle(t *testing.T) {
	t.Helper()
	if tw.saved != nil {
		tw.within(t)
	}
	for len(tw.is.undo) > 0 {
		tw.takeBack(t)
	}
}

// refused draws an alteration that PostgreSQL refuses for triggers and indexes of
// ours: it goes through behind detach(), after which nothing is kept or counted
// until migrate up has been run again.
func (tw *twins) refused(t *testing.T) {
	t.Helper()
	tw.settle(t)
	tw.mustTx(t, "commit; begin")
	drawn := []string{
		"alter status drop default, alter status type " + tw.pick([]string{"text", "varchar(300)"}) + " using status::text",
		"drop started_at", "drop draft_id",
	}
	if strings.HasPrefix(tw.shape.id, "varchar") { // an id of another type is counted anew, which migrate up says
		drawn = append(drawn, "alter id type text", "alter id type text")
	}
	if moment := tw.shape.times["completed_at"]; moment != "bigint" {
		drawn = append(drawn, "alter completed_at type timestamptz")
	}
	alter := tw.pick(drawn)
	statement := "alter table workflow_runs " + alter
	if without := tw.run(t, "twin", statement); without.SQLState != "" {
		tw.log = append(tw.log, statement+" -- "+without.SQLState)
		return
	}
	if with := tw.run(t, "public", "do $$ begin perform run_counter.detach(); "+statement+"; end $$"); with.SQLState != "" {
		t.Fatalf("%s behind detach(): %+v", statement, with)
	}
	tw.log = append(tw.log, statement+" -- behind detach()")
	column := strings.Fields(strings.TrimPrefix(strings.TrimPrefix(alter, "alter "), "drop "))[0]
	switch {
	case strings.HasPrefix(alter, "drop"):
		tw.is.columns = slices.DeleteFunc(tw.is.columns, func(c string) bool { return c == column })
	case column == "id":
		tw.shape.id = "text"
	case column == "completed_at":
		tw.shape.times[column] = "timestamptz"
	}
	for range 10 {
		tw.step(t)
	}
	tw.mustTx(t, "commit")
	tw.install(t)
	tw.mustTx(t, "begin")
}

func (tw *twins) install(t *testing.T) {
	t.Helper()
	sourcetest.Migrate(t, tw.address, func(m *migrations.Migrator) error {
		m.Override(tw.said())
		return windowed(m)
	})
	guard := watched.GuardOn
	switch {
	case tw.reports:
		guard = watched.GuardReports
	case !tw.guarded:
		guard = watched.GuardOff
	}
	pgtest.Exec(t, tw.address, fmt.Sprintf(`update run_counter.settings set guard = '%s', hardening = false`, guard))
	if !tw.guarded { // the trigger fills ends as well
		pgtest.Exec(t, tw.address, `alter table public.workflow_runs disable trigger zzzz_run_counter_guard; alter table public.workflow_runs disable trigger zzzz_run_counter_guard_insert`)
	}
}
