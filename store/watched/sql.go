package watched

import (
	"fmt"
	"slices"
	"strings"

	"github.com/edgaze-ai/runcounter/store"
)

// What a table is in SQL. All that reads runs reads [Table.Runs]; what looks at a
// row as it is written, in a trigger, an index or an UPDATE, writes the same
// expressions over the table's own columns. row is the name by which a row is
// known there, such as new, old or r; "" is for the columns alone.

// Ident writes an identifier as SQL does: in quotes, since it may be a keyword,
// but for the names of the table that the migrations make.
func Ident(name string) string {
	if slices.Contains(bare, name) {
		return name
	}
	return quote(name)
}

var bare = []string{
	"public", "workflow_runs", "id", "user_id", "workflow_id", "draft_id", "status", "started_at", "completed_at", "duration_ms",
	"error_details", "state_snapshot", "created_at", "updated_at",
}

// Literal writes a string constant, whatever standard_conforming_strings is where
// it is read.
func Literal(s string) string {
	quoted := "'" + strings.ReplaceAll(strings.ReplaceAll(s, `\`, `\\`), "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return "E" + quoted
	}
	return quoted
}

// SQL is the table's name.
func (t Table) SQL() string { return Ident(t.Schema) + "." + Ident(t.Name) }

// nulls stand in place of a column that the table does not have.
var nulls = map[Role]string{
	CreatedAt: "timestamptz", StartedAt: "timestamptz", UpdatedAt: "timestamptz", Lease: "timestamptz",
	DurationMS: "integer", ErrorDetails: "jsonb", StateSnapshot: "jsonb",
}

// Absent reports whether the table has no column for the role, and counts all the
// same: each of its runs is then that of the one user or workflow [store.Absent].
func (t Table) Absent(role Role) bool { return (role == User || role == Workflow) && !t.Has(role) }

// absent stands for that in SQL. No other key has an empty id.
const absent = "''::text"

// Col is the role's column of a row, and where the table has none, what stands for
// a user or a workflow that is absent, or a null of its type.
func (t Table) Col(row string, role Role) string {
	c, there := t.Column(role)
	if t.Absent(role) {
		return absent
	}
	if !there && role == Draft {
		return "null::" + t.Type(role)
	}
	if !there {
		return "null::" + nulls[role]
	}
	if row == "" {
		return Ident(c.Name)
	}
	return row + "." + Ident(c.Name)
}

// Base is Col, and the base type's value of what is in a domain, which an operator
// of enums takes for none, and a program for a type that it does not know. It can't
// be assigned to.
func (t Table) Base(row string, role Role) string {
	switch c, _ := t.Column(role); {
	case c.Kind == AnyCase: // a citext is compared as its schema has it, which is not in our path
		return t.Col(row, role) + "::text"
	case c.Domain == "":
	case c.Kind == UUID || c.Kind == Integer || c.Kind == Enum: // types without a length, to which a cast would cut
		return t.Col(row, role) + "::" + c.Type
	}
	return t.Col(row, role)
}

// Type returns the type of the role's ids as parameters of SQL: uuid, an integer type,
// or text. A draft that no column holds has the type of a workflow.
func (t Table) Type(role Role) string {
	c, there := t.Column(role)
	switch {
	case t.Absent(role):
		return "text"
	case !there && role == Draft:
		return t.Type(Workflow)
	case there && c.Kind == Integer:
		return c.Type
	case there && c.Kind == Text:
		return "text"
	}
	return "uuid"
}

// JSON is the cast of JSON, as text or jsonb, to what the role's column is. A text
// holds what a string says, and any other value as JSON.
func (t Table) JSON(role Role) string {
	switch c, _ := t.Column(role); c.Kind {
	case JSON:
		return "::json"
	case Text:
		return "::jsonb #>> '{}'"
	}
	return "::jsonb"
}

// Sequence is the sequence from which an integer id is drawn, null where it is
// drawn from none.
func (t Table) Sequence() string {
	c, _ := t.Column(ID)
	return "pg_get_serial_sequence(" + Literal(t.SQL()) + ", " + Literal(c.Name) + ")"
}

// Draw is an id for a run that is begun without one.
func (t Table) Draw() string {
	switch c, _ := t.Column(ID); c.Kind {
	case Integer:
		return "nextval(" + t.Sequence() + ")"
	case Text:
		return "gen_random_uuid()::text"
	}
	return "gen_random_uuid()"
}

// KeyType is the type of a column of ours that holds such ids. Texts are ordered
// by their bytes, as Go orders them.
func (t Table) KeyType(role Role) string {
	if typ := t.Type(role); typ != "text" {
		return typ
	}
	return `text collate "C"`
}

// key is the role's id of a row, by which runs are counted, in the order of
// KeyType.
func (t Table) key(row string, role Role) string {
	if c, there := t.Column(role); there && c.Kind == Text {
		return t.Col(row, role) + `::text collate "C"`
	} else if t.Absent(role) {
		return absent + ` collate "C"`
	}
	return t.Base(row, role)
}

// has is the condition that a row has an id for the role. A text has to be one of
// 1 to 255 bytes: an empty one names no user, and a longer one can't be a key.
func (t Table) has(row string, role Role) string {
	c, there := t.Column(role)
	switch {
	case t.Absent(role):
		return "true"
	case !there:
		return "false"
	case c.Kind == Text:
		return "octet_length(" + t.Col(row, role) + ") between 1 and 255"
	}
	return t.Col(row, role) + " is not null"
}

// isMissing is the negation of has, and never null.
func (t Table) isMissing(row string, role Role) string {
	c, there := t.Column(role)
	switch {
	case t.Absent(role):
		return "false"
	case !there:
		return "true"
	case c.Kind == Text:
		return "(" + t.Col(row, role) + " is null or octet_length(" + t.Col(row, role) + ") not between 1 and 255)"
	}
	return t.Col(row, role) + " is null"
}

// fits is has, as a condition of an index and of what is read by it, where the planner
// expects it of nearly all rows: of a range of a length it would expect one in two
// hundred, of three ids none, and choose among our indexes by chance.
func (t Table) fits(row string, role Role) string {
	if c, there := t.Column(role); there && c.Kind == Text {
		return "nullif(" + t.has(row, role) + ", false) is not null"
	}
	return t.has(row, role)
}

// Fits is the condition, behind an and, that those of a row's ids fit into an index which
// may be longer than PostgreSQL lets an entry be; "" where none may. A longer text is no
// key, and our index must not stop the application from writing it (law 8).
func (t Table) Fits(row string, roles ...Role) (conditions string) {
	for _, role := range roles {
		if c, there := t.Column(role); there && c.Kind == Text {
			conditions += " and " + t.fits(row, role)
		}
	}
	return conditions
}

// Slot is the role's id of a row as the index of open runs holds it: that index has all
// of them, and in place of a text that does not fit a null.
func (t Table) Slot(row string, role Role) string { return t.valid(row, role) }

// valid is key where the row has one, and else null.
func (t Table) valid(row string, role Role) string {
	if c, there := t.Column(role); there && c.Kind == Text {
		return "(case when " + t.has(row, role) + " then " + t.key(row, role) + " end)" // PL/pgSQL's IF ends at a bare then
	}
	return t.key(row, role)
}

// Named is the condition that a program can name a row's run by its id.
func (t Table) Named(row string) string {
	if c, _ := t.Column(ID); c.Kind == Text {
		return t.has(row, ID)
	}
	return "true"
}

// hasUser is the condition that a row has a user, and an id of its own by which
// it is known.
func (t Table) hasUser(row string) string {
	if c, _ := t.Column(ID); c.Kind == Text {
		return t.has(row, User) + " and " + t.has(row, ID)
	}
	return t.has(row, User)
}

// Counted is the kind of the keys of runs that are of no draft.
func (t Table) Counted() store.Kind {
	if t.Absent(Workflow) {
		return store.KindAll
	}
	return store.KindWorkflow
}

// Kinds lists the kinds of keys that the table has.
func (t Table) Kinds() []store.Kind {
	if t.Has(Draft) {
		return []store.Kind{t.Counted(), store.KindDraft}
	}
	return []store.Kind{t.Counted()}
}

// OfKey is the condition on a run r of [Table.Runs] that it is of a key, of whose user and
// id there are expressions: "" for those of all users, or of all the kind. Each kind has
// indexes of its own, and by this they are found. It reads user_id, has_user, and of
// drafts draft_id and has_draft, else workflow_id, has_workflow and no_draft.
func (t Table) OfKey(kind store.Kind, user, ref string) string {
	condition := "r.has_user"
	if user != "" {
		condition = "r.user_id = " + user + " and " + condition
	}
	column, has := "r.workflow_id", "r.has_workflow and r.no_draft"
	if kind == store.KindDraft {
		column, has = "r.draft_id", "r.has_draft"
	}
	if ref != "" {
		condition += " and " + column + " = " + ref
	}
	return condition + " and " + has
}

// Kind is the kind of a row's key, of one that has a key.
func (t Table) Kind(row string) string {
	if !t.Has(Draft) {
		return "'" + string(t.Counted()) + "'::text"
	}
	return "case when " + t.isMissing(row, Draft) + " then 'workflow' else 'draft' end"
}

// Ran returns the id of the workflow or draft that a row is a run of.
func (t Table) Ran(row string) string {
	if !t.Has(Draft) {
		return t.valid(row, Workflow)
	}
	return "coalesce(" + t.valid(row, Draft) + ", " + t.valid(row, Workflow) + ")"
}

// Keyed is the condition that a row has a key: a user, and a workflow or draft.
func (t Table) Keyed(row string) string {
	return t.hasUser(row) + " and " + t.Ran(row) + " is not null"
}

// Ref is the id of a row's key, and null for a run without a key.
func (t Table) Ref(row string) string {
	return "case when " + t.hasUser(row) + " then " + t.Ran(row) + " end"
}

// Word is an expression for the table's word, of the column's type, where another
// expression is one of our statuses. It is null for what the table has no word
// for, if that can be told: see [Table.Unsayable].
func (t Table) Word(expression string) string {
	var whens strings.Builder
	for _, one := range ours {
		if word, there := t.Says(one); there && word != string(one) {
			fmt.Fprintf(&whens, " when %s then %s", Literal(string(one)), Literal(word))
		}
	}
	word := expression
	if whens.Len() > 0 {
		word = "case " + expression + whens.String() + " else " + expression + " end"
	}
	if c, _ := t.Column(Status); c.Kind == Enum {
		return "(" + word + ")::" + c.Type
	}
	return word
}

// Says returns the table's word for a status of ours, the one that is written;
// false where it has none.
func (t Table) Says(one store.Status) (string, bool) {
	i := slices.IndexFunc(t.Statuses, func(w Word) bool { return w.Ours == one })
	if i < 0 {
		return "", false
	}
	return t.Statuses[i].Theirs, true
}

// Ambiguous reports whether the table has two words for one status, or two spellings.
func (t Table) Ambiguous() bool {
	if c, _ := t.Column(Status); c.Kind == AnyCase {
		return true
	}
	seen := map[store.Status]bool{}
	return slices.ContainsFunc(t.Statuses, func(w Word) bool {
		twice := seen[w.Ours]
		seen[w.Ours] = true
		return twice
	})
}

// First is the table's word for a run that has begun: pending, or where it has no
// word for that, the first of the active ones that it has.
func (t Table) First() string {
	for _, one := range []store.Status{store.Pending, store.Running, store.Cancelling} {
		if word, there := t.Says(one); there {
			return word
		}
	}
	return string(store.Pending)
}

// Unsayable are the statuses of ours that the table has no word for.
func (t Table) Unsayable() (missing []store.Status) {
	for _, one := range ours {
		if _, there := t.Says(one); !there {
			missing = append(missing, one)
		}
	}
	return missing
}

// Runs is the select of the table's runs in our words, in brackets: what follows
// gives it a name. Each column is called as in the table that the migrations
// make, whatever this table calls it, and is null where it has none; lease_at is
// the lease, and end_order is completed_at as the table has it, in the order of an
// index. Beside them stand kind, ref_id (null for a run without a key),
// has_user, has_workflow, no_workflow, has_draft, no_draft, slot_user (the user of a run that may be
// one's, by whom the open ones are found), ended, open, active, terminal, odd
// and too_soon. PostgreSQL puts it into the query around it, and finds its indexes
// as if that had named the table itself. The columns are those that are named; one
// that there is not is left out, and its reader fails.
func (t Table) Runs(columns ...string) string { return t.RunsOf(t.SQL(), columns...) }

// RunsOf is that of a partition, which is called otherwise.
func (t Table) RunsOf(name string, columns ...string) string {
	const row = "t"
	var list []string
	for _, name := range columns {
		if expression := t.Run(row, name); expression != "" {
			list = append(list, expression+" as "+name)
		}
	}
	from := " from " + name + " as " + row
	if c, _ := t.Column(ID); c.Kind == Text {
		from += " where " + t.fits(row, ID) // no program can name another
	}
	return "(select " + strings.Join(list, ", ") + from + ")"
}

// Run is the expression of a column of [Table.Runs] over a row of the table, and
// "" where there is no such column.
func (t Table) Run(row, name string) string {
	switch name {
	case "id", "duration_ms", "error_details", "state_snapshot":
		return t.Base(row, Role(name))
	case "created_at", "started_at", "updated_at", "completed_at":
		return t.Moment(row, Role(name))
	case "end_order":
		return t.Col(row, CompletedAt)
	case "user_id":
		return t.key(row, User)
	case "workflow_id":
		return t.key(row, Workflow)
	case "draft_id":
		return t.key(row, Draft)
	case "has_user":
		return t.fits(row, User) + t.Fits(row, ID)
	case "has_workflow":
		return t.fits(row, Workflow)
	case "no_workflow":
		return t.isMissing(row, Workflow)
	case "has_draft":
		return t.fits(row, Draft)
	case "slot_user":
		return t.Slot(row, User)
	case "no_draft":
		return t.isMissing(row, Draft)
	case "lease_at":
		return t.Moment(row, Lease) + "::timestamptz"
	case "status":
		return t.Status(row)
	case "kind":
		return t.Kind(row)
	case "ref_id":
		return t.Ref(row)
	case "ended":
		return t.Ended(row)
	case "open":
		return "(" + t.Open(row) + ")"
	case "active":
		return t.Active(row)
	case "terminal":
		return t.Terminal(row)
	case "odd":
		return "(" + t.Odd(row) + ")"
	case "too_soon":
		return t.TooSoon(row)
	}
	return ""
}
