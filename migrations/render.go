package migrations

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"text/template"
	"unicode"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
	"github.com/golang-migrate/migrate/v4/source"
)

// rendering is golang-migrate's source of the PostgreSQL migrations: what goes
// up is rendered for one watched table.
type rendering struct {
	source.Driver
	table watched.Table
	// reads is that table for golang-migrate, which after an Up that failed may go on
	// reading beside what looks at the table again.
	reads atomic.Pointer[watched.Table]
}

func (r *rendering) ReadUp(version uint) (io.ReadCloser, string, error) {
	for _, s := range scripts(postgresUp) {
		if s.version == version {
			sql, err := render(s.name, s.sql, *r.reads.Load())
			return io.NopCloser(strings.NewReader(sql)), s.name, err
		}
	}
	return nil, "", fmt.Errorf("migration %d: %w", version, fs.ErrNotExist)
}

// script is one migration, up or down.
type script struct {
	file    string // where it stands
	name    string // as golang-migrate knows it: 20250128000001_workflow_runs.up.sql
	version uint
	sql     string
}

// The migrations up of either kind of database.
const (
	postgresUp = "postgres/*.up.sql.tmpl"
	sqliteUp   = "sqlite/*.up.sql"
)

// scripts returns the embedded files of a pattern, in the order of their versions.
func scripts(pattern string) (all []script) {
	names, err := fs.Glob(files, pattern)
	for _, file := range names {
		text, readErr := files.ReadFile(file)
		name := strings.TrimSuffix(path.Base(file), ".tmpl")
		number, _, _ := strings.Cut(name, "_")
		version, numberErr := strconv.ParseUint(number, 10, 0)
		all, err = append(all, script{file, name, uint(version), string(text)}), errors.Join(err, readErr, numberErr)
	}
	if err != nil {
		panic(err) // they are part of the program
	}
	return all
}

// rendered returns all migrations up for a table, in their order.
func rendered(t watched.Table) ([]script, error) {
	all := scripts(postgresUp)
	for i, s := range all {
		var err error
		if all[i].sql, err = render(s.name, s.sql, t); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// render fills a template of SQL in for a table. A template knows, beside the
// methods of [watched.Table]:
//
//	new "draft"            the role's column of a row new, or a null of its type; so do old and r, and was of the guard's v_was
//	spelled "new"          that row's status as it is compared with what it was
//	status "new"           that row's status in our words; so do its terminal, active, ended, keyed, kind, ran and ref
//	runs "id"              the select of all runs in our words, with such columns
//	runsOf "parts" "id"    the same of a partition
//	stored "user_id = u"   counts + ledger of all keys, or of some; storedOf "n" of each key n
//	total "kind = k and …"   the same of a workflow over all its users
//	within "r" "a" "b"     the condition that a run of such a select ended from a moment on and before another
//	noRef                  the ref_id of the row in keys that is locked for all keys of a user
//	noUserWindow           what is said of a window that needs an index; so does noWorkflowWindow
//	of "draft" "u" "r"     the conditions on runs r that they are of a user's, or all users', runs of a workflow or draft: each has an index; one
//	                       for each kind of them where that is "", of which ofKinds "k" takes the one that k is, or all; ofKey is that of a key
//	table                  what the table is called
//	name "updated_at"      the role's column
//	idType                 the type of the ids of runs; so do userType, workflowType, draftType, and refType for the last two
//	userKey                the type of a column of ours that holds users; so does refKey
//	keyComments "counts"   the comments on the columns of that table which make up a key
//	uid                    who has signed in
//	byEndUser              whether an end user's role runs the statement
//	overriding             what lets an INSERT give an id that the table would draw
//	cast "error_details"   the cast from jsonb to what the role's column is
//	words "or" "pending"   the table's words for statuses of ours, for a person
//	unsayable              the branch of an if that refuses a p_status for which the table has no word
//	terminals              our terminal statuses, as a list; statuses are all of ours
//	ident "Name"           an identifier, quoted where it has to be
//	literal "it's"         a string constant
//	description            the table as JSON, as a string constant
//	anyDraft               whether there is no draft since the table has no such column
//	moment "new" "lease"   that row's time of the role, as timestamptz; clamped has infinities in place of what is no time
//	dated "new"            whether that row says when it ended; undated is the contrary
//	unsaid "new"           what the WHEN of the guard asks in place of undated
//	written "lease" "v"    the value of the role's column for the moment v, which rounded rounds alike
//	slack                  by how much a moment may be moved when it is written, behind a plus; "" for not at all
//	movedMarks             the statement that keeps the marks of presumed runs where the zone has changed
//	times                  the roles of when it was created, started, and written, as far as there are columns
//	begins                 those of them that are set when a run begins
//	beats "old" "new"      pairs of the two rows' heartbeats
//	stuck "v.details"      whether that says what a sweep has written
//	counted                the columns of which a count is made, with their types in ours
//	reads "seen" "guard" "" "new" what reads rows of such a trigger into variables of the type run_counter.seen, which writes nothing
//	reading                the columns that are read so
//	called "id"            the name of the role's column, without quotes
//	there                  what sets v_there: whether there is a run of that id
//	patched                what the guard has changed of a row new, as a statement has it in v_was: names and values
//	lastSign "new"         the last sign of life of a row, given v_now
//	indexes                those on the watched table
//
// and what a caller gives beside that. What is rendered stands between dollar quotes: a name that holds a dollar, or a
// character that is not printed, is an error.
func render(name, text string, t watched.Table, more ...template.FuncMap) (string, error) {
	if odd := unwritable(t); odd != "" {
		return "", fmt.Errorf("%s: %q holds a character that can't stand in a function", t, odd)
	}
	col := func(row string) func(watched.Role) string {
		return func(role watched.Role) string { return t.Col(row, role) }
	}
	all := template.New(name).Option("missingkey=error")
	for _, functions := range more {
		all.Funcs(functions)
	}
	parsed, err := all.Funcs(template.FuncMap{
		"new": col("new"), "old": col("old"), "was": col("v_was"), "r": col("r"), "spelled": t.Spelled,
		"status": t.Status, "terminal": t.Terminal, "active": t.Active, "ended": t.Ended, "named": t.Named, "keyed": t.Keyed, "kind": t.Kind, "ran": t.Ran, "ref": t.Ref,
		"defaultTable": func() string { return watched.DefaultTable },
		"runs":         t.Runs, "runsOf": t.RunsOf, "table": t.SQL, "stored": watched.Stored, "storedOf": watched.StoredOf, "total": watched.Total,
		"name": func(role watched.Role) (string, error) {
			c, there := t.Column(role)
			if !there {
				return "", fmt.Errorf("%s has no column for %s", t, role)
			}
			return watched.Ident(c.Name), nil
		},
		"idType": func() string { return t.Type(watched.ID) }, "userType": func() string { return t.Type(watched.User) },
		"workflowType": func() string { return t.Type(watched.Workflow) }, "draftType": func() string { return t.Type(watched.Draft) },
		"refType": func() string { return t.Type(watched.Workflow) }, "userKey": func() string { return t.KeyType(watched.User) },
		"refKey": func() string { return t.KeyType(watched.Workflow) }, "uid": func() string { return uid(t) }, "overriding": func() string { return overriding(t) },
		"cast":      func(role watched.Role) string { return cast(t, role) },
		"words":     func(and string, all ...store.Status) string { return listed(t, and, all) },
		"unsayable": func() string { return unsayable(t) },
		"terminals": func() string { return watched.Ours(store.Status.Terminal) },
		"statuses":  func() string { return watched.Ours(store.Status.Known) },
		"ident":     watched.Ident,
		"literal":   watched.Literal,
		"description": func() (string, error) {
			text, err := json.Marshal(t)
			return watched.Literal(string(text)), err
		},
		"noRef":        func() string { return noRef(t) },
		"within":       t.Within,
		"of":           func(kind store.Kind, user, ref string) []string { return of(t, kind, user, ref, "") },
		"ofKinds":      func(kind string) []string { return of(t, "", "p_user_id", "", kind) },
		"ofKey":        t.OfKey,
		"noUserWindow": func() string { return (&store.NoIndexError{Of: store.Scope{User: store.Absent}}).Error() },
		"noWorkflowWindow": func() string {
			return (&store.NoIndexError{Of: store.Scope{Kind: store.KindAll, Ref: store.Absent}}).Error()
		},
		"anyDraft": func() bool { _, said := t.Said.Columns[watched.Draft]; return !t.Has(watched.Draft) && !said },
		"moment":   t.Moment, "clamped": t.Clamped, "dated": t.Dated, "undated": t.Undated, "unsaid": t.Unsaid, "rounded": t.Rounded, "written": t.Written,
		"slack":      func() string { return slack(t) },
		"movedMarks": func() string { return movedMarks(t) },
		"times":      func() []watched.Role { return played(t, watched.CreatedAt, watched.StartedAt, watched.UpdatedAt) },
		"begins":     func() []watched.Role { return played(t, watched.CreatedAt, watched.UpdatedAt) },
		"beats":      func(was, is string) []string { return beats(t, was, is) },
		"stuck":      func(expression string) string { return stuck(t, expression) },
		"lastSign":   func(row string) string { return lastSign(t, row) },
		"patched":    func() string { return patched(t) },
		"indexes":    func() []index { return indexes(t) },
		"reads": func(typ, function, otherwise string, rows ...string) string {
			return reads(t, typ, function, otherwise, rows)
		},
		"reading":     func() []watched.Column { return readOf(t) },
		"counted":     func() []watched.Column { return counted(t) },
		"there":       func() string { return there(t) },
		"called":      func(role watched.Role) string { c, _ := t.Column(role); return c.Name },
		"keyComments": keyComments,
		"byEndUser":   func() string { return byEndUser },
	}).Parse(text)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := parsed.Execute(&b, t); err != nil {
		return "", err
	}
	return b.String(), nil
}

// of lists the conditions of which each run of a scope holds one: of a kind, or where
// that is empty of each that the table has, and among these of the one that an
// expression says, if any.
func of(t watched.Table, kind store.Kind, user, ref, expression string) (conditions []string) {
	if kind != "" {
		return []string{t.OfKey(kind, user, ref)}
	}
	for _, one := range t.Kinds() {
		condition := t.OfKey(one, user, ref)
		if expression != "" {
			condition += " and (" + expression + " is null or " + expression + " = " + watched.Literal(string(one)) + ")"
		}
		conditions = append(conditions, condition)
	}
	return conditions
}

// byEndUser stands in the WHEN of triggers, which PostgreSQL parses anew for each
// statement, byte by byte of its constants: a name has 64 of them, and a text its
// letters alone.
const byEndUser = `current_user::text = any ('{anon,authenticated}'::text[])`

// keyComments returns the statements that comment on the columns by which a table of ours names a key.
func keyComments(table string) string {
	on := "comment on column run_counter." + table
	return on + `.user_id is 'User of the key; empty where the watched table has no column for it.';
` + on + `.kind is 'What ref_id is: workflow, draft, or all where the watched table has no column for either.';
` + on + `.ref_id is 'The workflow or draft; empty where kind is all.';`
}

// noRef is what stands for no workflow in a row that has to have one.
func noRef(t watched.Table) string {
	switch typ := t.Type(watched.Workflow); typ {
	case "uuid":
		return "'00000000-0000-0000-0000-000000000000'::uuid"
	case "text":
		return "''::text"
	default:
		return "0::" + typ
	}
}

// overriding lets an id be given that the table would draw.
func overriding(t watched.Table) string {
	if c, _ := t.Column(watched.ID); c.Kind == watched.Integer {
		return "overriding system value "
	}
	return ""
}

// listed names the table's words for statuses of ours, for a person: "a, b or c".
func listed(t watched.Table, and string, all []store.Status) string {
	named := make([]string, len(all))
	for i, one := range all {
		named[i] = string(one)
		if word, there := t.Says(one); there {
			named[i] = word
		}
	}
	last := len(named) - 1
	if last == 0 {
		return named[0]
	}
	return strings.Join(named[:last], ", ") + " " + and + " " + named[last]
}

// unsayable refuses a status for which the table has no word, in one sentence,
// where PostgreSQL would say that something is no label of an enum.
func unsayable(t watched.Table) string {
	missing := t.Unsayable()
	if len(missing) == 0 {
		return ""
	}
	literals := make([]string, len(missing))
	for i, one := range missing {
		literals[i] = watched.Literal(string(one))
	}
	return `elsif p_status in (` + strings.Join(literals, ", ") + `) then
        raise invalid_parameter_value using
            message = pg_catalog.format('the table has no status that means %s', p_status),
            hint = 'Use another; or add one to the table, and run runcounter migrate up, with --status THEIRS=OURS where it has a name of its own.';
    `
}

// unwritable returns a name or a type of the table that can't be written into a
// function, "" where there is none.
func unwritable(t watched.Table) string {
	words := slices.Concat([]string{t.Schema, t.Name}, t.Heartbeats)
	for _, c := range t.Columns {
		words = append(words, c.Name, c.Type, c.Domain)
	}
	for _, w := range t.Statuses {
		words = append(words, w.Theirs)
	}
	for _, word := range words {
		if strings.ContainsFunc(word, func(r rune) bool { return r == '$' || !unicode.IsPrint(r) }) {
			return word
		}
	}
	return ""
}

// stuck is the condition that an expression of error_details says what a sweep
// has written. A json may hold escapes that raise when it is looked into, and a
// text anything.
func stuck(t watched.Table, expression string) string {
	condition := expression + " ->> 'code' = 'stuck'"
	switch c, _ := t.Column(watched.ErrorDetails); c.Kind {
	case watched.JSON:
		return "(case when " + expression + `::text !~* E'\\\\u(0000|d[89a-f])' then ` + condition + " else false end)"
	case watched.Text:
		return expression + ` like '{%"code": "stuck"%}'`
	}
	return condition
}

// cast makes a jsonb what the role's column is.
func cast(t watched.Table, role watched.Role) string {
	if c, _ := t.Column(role); c.Kind == watched.JSONB {
		return ""
	}
	return t.JSON(role)
}

// columns lists the table's columns for the roles, quoted where they have to be.
func columns(t watched.Table, roles ...watched.Role) (names []string) {
	for _, role := range roles {
		if c, there := t.Column(role); there {
			names = append(names, watched.Ident(c.Name))
		}
	}
	return names
}

// lastSign is the newest sign of life of a run, without those in the future; the time
// of its creation where there is none.
func lastSign(t watched.Table, row string) string {
	var signs []string
	sign := func(moment string) {
		signs = append(signs, fmt.Sprintf("case when %[1]s <= v_now then %[1]s end", moment))
	}
	for _, role := range played(t, watched.StartedAt, watched.UpdatedAt) {
		sign(t.Moment(row, role))
	}
	for _, name := range t.Heartbeats {
		sign(row + "." + watched.Ident(name))
	}
	if beatsOtherwise(t) {
		sign(t.Moment(row, watched.Lease))
	}
	return fmt.Sprintf("coalesce(greatest(%s), %s)", strings.Join(append(signs, "null::timestamptz"), ", "), t.Moment(row, watched.CreatedAt))
}

// beatsOtherwise reports a lease that is no timestamptz: it is none of the
// heartbeats, which are known by their names.
func beatsOtherwise(t watched.Table) bool {
	c, there := t.Column(watched.Lease)
	return there && c.Kind != watched.TimestampTZ
}

// beats are pairs of two rows' heartbeats, and of their lease.
func beats(t watched.Table, was, is string) (pairs []string) {
	for _, name := range t.Heartbeats {
		pairs = append(pairs, "("+was+"."+watched.Ident(name)+", "+is+"."+watched.Ident(name)+")")
	}
	if beatsOtherwise(t) {
		pairs = append(pairs, "("+t.Clamped(was, watched.Lease)+", "+t.Clamped(is, watched.Lease)+")")
	}
	return pairs
}

// played returns the roles that the table has a column for.
func played(t watched.Table, roles ...watched.Role) []watched.Role {
	return slices.DeleteFunc(roles, func(role watched.Role) bool { return !t.Has(role) })
}

// slack is the interval by which the end of a run may lie in the future, because its
// column rounds.
func slack(t watched.Table) string {
	if step := t.Step(watched.CompletedAt).Microseconds(); step > 1 {
		return fmt.Sprintf(" + interval '%d microseconds'", step)
	}
	return ""
}

// movedMarks is the statement that lets marks of presumed runs follow their ends
// where these are read in another zone than before, which the database still knows
// when it runs.
func movedMarks(t watched.Table) string {
	c, _ := t.Column(watched.CompletedAt)
	if c.Kind != watched.Timestamp {
		return ""
	}
	end, moment := t.Col("r", watched.CompletedAt), t.Moment("r", watched.CompletedAt)
	return `update run_counter.presumed as p set ended_at = ` + moment + `
  from ` + t.SQL() + ` as r, run_counter.settings as s
 where ` + t.Col("r", watched.ID) + ` = p.run_id and ` + t.Dated("r") + ` and ` + moment + ` <> p.ended_at
   and p.ended_at at time zone (s.described ->> 'timezone') = ` + end + `;
`
}

// patched lists the columns of a row that the guard has changed: a name and the
// statement's value each, as JSON, or null where it is the same. The details are changed
// where they are a sweep's alone: others may hold what raises where it is looked
// into.
func patched(t watched.Table) string {
	var notes []string
	note := func(role watched.Role, changed, was string) {
		if c, there := t.Column(role); there && c.Writable {
			name, _ := json.Marshal(c.Name) // a text can be written
			notes = append(notes, fmt.Sprintf("case when %s then %s || coalesce(%s::text, 'null') end", changed, watched.Literal(string(name)+": "), was))
		}
	}
	for _, role := range []watched.Role{watched.Status, watched.CompletedAt, watched.DurationMS} {
		note(role, t.Col("new", role)+" is distinct from "+t.Col("v_was", role), "to_json("+t.Col("v_was", role)+")")
	}
	details := t.Col("v_was", watched.ErrorDetails)
	if c, _ := t.Column(watched.ErrorDetails); c.Kind == watched.Text {
		details = "to_json(" + details + ")"
	}
	note(watched.ErrorDetails, "v_clears", details)
	return strings.Join(notes, ", ")
}
