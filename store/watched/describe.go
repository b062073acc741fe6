package watched

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/edgaze-ai/runcounter/store"
)

// Table is the description of a watched table.
type Table struct {
	Schema      string `json:"schema"`
	Name        string `json:"name"`
	Partitioned bool   `json:"partitioned,omitempty"`
	// Columns are in the order of Roles.
	Columns []Column `json:"columns"`
	// Statuses are those words of the table that mean one of ours, in the order of
	// ours. Of several for the same the first is the one that is written.
	Statuses []Word `json:"statuses"`
	// Heartbeats are the timestamptz columns by whose names a worker seems to say
	// that it is alive, whether or not one plays the role of the lease.
	Heartbeats []string `json:"heartbeats,omitempty"`
	// Zone is the one that timestamps without zone are in.
	Zone string `json:"timezone"`
	// Fingerprint changes when the table is altered in what matters to its
	// description: names, types, nulls, checks, keys. It is "" where the
	// table was not looked at.
	Fingerprint string `json:"fingerprint"`
	// Claim names the claim of a signed-in user's token that says whose counts they may
	// read; "" where the users who are counted may be organisations, which no token names.
	Claim string `json:"claim,omitempty"`
	// Guard is the mode that the operator chose. By default it is on, but only reports
	// where a status has another word than ours: such an application may reuse a row.
	Guard Guard `json:"guard"`
	// Said holds what the operator has said of it.
	Said Overrides `json:"said,omitzero"`
}

// Column is one that plays a role.
type Column struct {
	Role     Role   `json:"role"`
	Name     string `json:"name"`
	Kind     Kind   `json:"kind"`
	Type     string `json:"type"` // as the database declares it, or what its domain is over
	Writable bool   `json:"writable"`
	// Domain is the domain that the column is in, "" for none. PostgreSQL holds its
	// rules wherever a value is written; what is read is of the base type.
	Domain string `json:"domain,omitempty"`
}

// Declared is the column's type as the database declares it.
func (c Column) Declared() string { return cmp.Or(c.Domain, c.Type) }

// Default describes the table that the migrations make where there is none.
func Default() Table { return Made("") }

// Made is Default with what is said of the guard, "" for nothing.
func Made(guard Guard) Table { return Describe(made(), Overrides{Guard: guard}).Table }

// Assumed describes a table that was not looked at: the one that the migrations
// make, but for what the operator says: --times and --timezone are of all its times.
// Its status is compared as text, since it may be of any type.
func Assumed(o Overrides) Table {
	c := made()
	for _, was := range Default().Columns {
		i := slices.IndexFunc(c.Columns, func(column CatalogColumn) bool { return column.Name == was.Name })
		if name, named := o.Columns[was.Role]; named && name == "" {
			c.Columns = slices.Delete(c.Columns, i, i+1)
		} else if named {
			c.Columns[i].Name = name
		}
	}
	if lease := o.Columns[Lease]; lease != "" {
		if _, there := c.Column(lease); !there {
			c.Columns = append(c.Columns, CatalogColumn{Name: lease, Type: "timestamptz", Declared: zoned})
		}
	}
	for i, column := range c.Columns {
		switch {
		case column.Type != "timestamptz":
		case o.Times != "":
			c.Columns[i].Type, c.Columns[i].Declared = "int8", "bigint"
		case o.Zone != "":
			c.Columns[i].Type, c.Columns[i].Declared = "timestamp", "timestamp without time zone"
		}
	}
	c.Unique = [][]string{{cmp.Or(o.Columns[ID], string(ID))}}
	t := Describe(c, o).Table
	for i := range t.Columns {
		if t.Columns[i].Role == Status && !o.AnyCase {
			t.Columns[i].Kind = Enum
		}
	}
	return t
}

const zoned = "timestamp with time zone"

// made is the catalog of the table that the migrations make.
func made() Catalog {
	c := Catalog{Schema: "public", Name: "workflow_runs", Kind: "r", Unique: [][]string{{"id"}}}
	for _, column := range []struct {
		name, declared, typ string
		required            bool
	}{
		{"id", "uuid", "uuid", true}, {"user_id", "uuid", "uuid", true}, {"workflow_id", "uuid", "uuid", false}, {"draft_id", "uuid", "uuid", false},
		{"status", "text", "text", true}, {"started_at", zoned, "timestamptz", false}, {"completed_at", zoned, "timestamptz", false},
		{"duration_ms", "integer", "int4", false}, {"error_details", "jsonb", "jsonb", false}, {"state_snapshot", "jsonb", "jsonb", false},
		{"created_at", zoned, "timestamptz", true}, {"updated_at", zoned, "timestamptz", true},
	} {
		c.Columns = append(c.Columns, CatalogColumn{Name: column.name, Type: column.typ, Declared: column.declared, NotNull: column.required})
	}
	return c
}

// Found returns the name by which a column is found for a role where the operator
// says nothing of it, "" where there is none.
func Found(c Catalog, role Role) string {
	d := describer{catalog: c}
	return d.first(factsOf(role).names)
}

// Has reports whether a column plays the role.
func (t Table) Has(role Role) bool {
	_, there := t.Column(role)
	return there
}

// InDomain reports whether a column that plays one of the roles is in a domain: to
// assign to it may raise.
func (t Table) InDomain(roles ...Role) bool {
	return slices.ContainsFunc(t.Columns, func(c Column) bool { return c.Domain != "" && slices.Contains(roles, c.Role) })
}

// Writes reports whether a column plays the role that may be written.
func (t Table) Writes(role Role) bool {
	c, there := t.Column(role)
	return there && c.Writable
}

// Without is the same table where no column plays the role.
func (t Table) Without(role Role) Table {
	t.Columns = slices.DeleteFunc(slices.Clone(t.Columns), func(c Column) bool { return c.Role == role })
	return t
}

// Word is a status in the table's words and in ours.
type Word struct {
	Theirs string       `json:"theirs"`
	Ours   store.Status `json:"ours"`
}

// Report says what was found of a table.
type Report struct {
	Table Table `json:"table"`
	// Missing are the roles that no column plays, with what is lost by that.
	Missing []Missing `json:"missing"`
	// Unmapped are the words of the table that mean nothing yet: a run with such
	// a status is not counted, is never ended, and takes a slot of a limit.
	Unmapped []string `json:"unmapped"`
	// Problems keep the table from being watched: a sentence each.
	Problems []string `json:"problems"`
	// Notes are worth knowing, and keep nothing from working.
	Notes []string `json:"notes"`
	// Guessed are the overrides in force, and every one that could be guessed
	// beside them.
	Guessed Overrides `json:"guessed"`
}

// Missing is a role that no column plays.
type Missing struct {
	Role Role   `json:"role"`
	Lost string `json:"lost"`
}

// Foreign returns what an operator would say of the table who can't show it: the names
// and words that are not ours, the columns that are left alone, and the kind of its times.
func (t Table) Foreign() (o Overrides) {
	o = Overrides{Columns: map[Role]string{}, Statuses: map[string]store.Status{}}
	if t.String() != DefaultTable {
		o.Table = t.String()
	}
	ours := Default()
	for _, c := range t.Columns {
		if known, there := ours.Column(c.Role); !there || known.Name != c.Name {
			o.Columns[c.Role] = c.Name
		}
		switch c.Kind {
		case Timestamp:
			if !isUTC(t.Zone) {
				o.Zone = t.Zone
			}
		case Milliseconds, Seconds:
			o.Times = c.Kind
		}
	}
	for _, c := range ours.Columns {
		if name, said := t.Said.Columns[c.Role]; said && name == "" || t.Absent(c.Role) {
			o.Columns[c.Role] = ""
		}
	}
	for _, w := range t.Statuses {
		if t.fold(w.Theirs) != string(w.Ours) {
			o.Statuses[w.Theirs] = w.Ours
		}
	}
	c, _ := t.Column(Status)
	o.AnyCase = c.Kind == AnyCase
	if t.Claim != Assumed(o).Claim {
		o.Claim = cmp.Or(t.Claim, NoClaim)
	}
	return o
}

// Quoted returns the table's name as SQL writes it.
func (t Table) Quoted() string { return quote(t.Schema) + "." + quote(t.Name) }

// String returns schema.name.
func (t Table) String() string { return t.Schema + "." + t.Name }

// Column returns the column that plays the role.
func (t Table) Column(role Role) (Column, bool) {
	i := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Role == role })
	if i < 0 {
		return Column{}, false
	}
	return t.Columns[i], true
}

// Describe finds out which column of a table plays which role, and what keeps
// the table from being watched.
func Describe(c Catalog, o Overrides) Report {
	d := describer{catalog: c, overrides: o}
	d.report.Guessed = o.Over(Overrides{}) // a copy
	d.report.Table = Table{Schema: c.Schema, Name: c.Name, Partitioned: c.Kind == "p", Zone: cmp.Or(o.Zone, "UTC"), Said: o}
	switch c.Kind {
	case "r", "p":
	default:
		d.refuse("%s is no table but a %s, on which no trigger counts: name the table behind it with --table SCHEMA.TABLE", d.report.Table, kinds[c.Kind])
	}
	if c.ForcedRowSecurity {
		d.refuse("row security is forced on its owner too, and would hide runs from the counts: alter table %s no force row level security", d.report.Table.Quoted())
	}
	for i := range allRoles {
		d.find(&allRoles[i])
	}
	if d.overrides.Columns[Draft] == "" && !d.report.Table.Has(Workflow) { // all runs of a user are one count
		d.report.Table = d.report.Table.Without(Draft)
	}
	d.guessAbsent()
	d.checkRoles()
	if user, there := d.report.Table.Column(User); there {
		column, _ := c.Column(user.Name)
		switch {
		case o.Claim == NoClaim:
		case o.Claim != "":
			d.report.Table.Claim = o.Claim
		case column.References == "auth.users" || slices.Contains(factsOf(User).names, user.Name):
			d.report.Table.Claim = Subject
		default:
			d.note("signed-in users see no counts, since %s may be that of organisations: --claim sub, or one such as --claim org_id, says by what of their token they see them", user.Name)
		}
	} else if o.Claim != "" && o.Claim != NoClaim {
		d.refuse("--claim %s says whose counts a signed-in user may read, and no column says whose a run is: leave it out", o.Claim)
	}
	d.statuses()
	d.guard()
	d.times()
	for _, column := range c.Columns {
		if role, _ := d.playing(column.Name); column.Type == "timestamptz" && (role == Lease || heartbeat.MatchString(column.Name)) {
			d.report.Table.Heartbeats = append(d.report.Table.Heartbeats, column.Name)
		}
	}
	d.report.Table.Fingerprint = d.fingerprint()
	return d.report
}

// heartbeat is a name with heartbeat, or with a word in it that begins with lease.
var heartbeat = regexp.MustCompile(`(^|_)lease|heartbeat`)

var kinds = map[string]string{"v": "view", "m": "materialized view", "f": "foreign table", "S": "sequence", "c": "type", "t": "TOAST table", "i": "index", "I": "index"}

type describer struct {
	catalog   Catalog
	overrides Overrides
	report    Report
}

func (d *describer) refuse(format string, args ...any) {
	d.report.Problems = append(d.report.Problems, fmt.Sprintf(format, args...))
}

func (d *describer) note(format string, args ...any) {
	d.report.Notes = append(d.report.Notes, fmt.Sprintf(format, args...))
}

// find gives a role to a column.
func (d *describer) find(f *roleFacts) {
	name, named := d.overrides.Columns[f.role]
	if !named {
		name = d.first(f.names)
	}
	if name == "" {
		d.miss(f, named)
		return
	}
	column, there := d.catalog.Column(name)
	if !there {
		d.refuse("--column %s=%s: there is no column %s; its columns are %s", f.role, name, name, d.names())
		return
	}
	if taken, twice := d.playing(name); twice {
		d.refuse("the column %s can't be %s and %s at once: name another with --column %s=NAME", name, taken, f.role, f.role)
		return
	}
	kind := f.fits(column, d.overrides)
	if kind == "" {
		d.misfit(f, column)
		return
	}
	plays := Column{Role: f.role, Name: name, Kind: kind, Type: column.Stored(), Writable: !column.Generated}
	if column.Domain {
		plays.Domain = column.Declared
	}
	d.report.Table.Columns = append(d.report.Table.Columns, plays)
}

func (d *describer) miss(f *roleFacts, named bool) {
	if f.lost != "" {
		d.report.Missing = append(d.report.Missing, Missing{f.role, f.lost})
	}
	if guess := d.first(f.guesses); guess != "" && !named {
		if column, _ := d.catalog.Column(guess); f.fits(column, d.overrides) != "" {
			d.report.Guessed.Columns[f.role] = guess
		}
	}
}

// guessAbsent proposes to count by workflow alone, or by user alone, where a table
// has no column by whose name it could be the other. It proposes a column for the
// user if that is the only one that could be, and not the id of a thing.
func (d *describer) guessAbsent() {
	t, guessed := d.report.Table, d.report.Guessed.Columns
	for _, roles := range [][2]Role{{User, Workflow}, {Workflow, User}} {
		role, other := roles[0], roles[1]
		if _, said := guessed[role]; said || t.Has(role) || !t.Has(other) && guessed[other] == "" {
			continue
		}
		var could []string
		for _, column := range d.catalog.Columns {
			if d.maybe(role)(column) {
				could = append(could, column.Name)
			}
		}
		people := slices.DeleteFunc(slices.Clone(could), func(name string) bool { return role != User || things.MatchString(name) })
		switch {
		case len(could) == 0:
			guessed[role] = ""
		case len(people) == 1:
			guessed[role] = people[0]
		}
	}
}

// things matches ids of what is no person and no organisation.
var things = regexp.MustCompile(`(?i)(run|flow|job|task|step|node|batch|queue|trace|span|request|session|correlation|idempotency|external|parent|root|previous|retry|worker|version|deployment|` +
	`event|message|thread|trigger|schedule|agent|template|model|file|snapshot|execution|invocation|project|environment|plan|subscription|invoice)(_by|_id|_uid|By|Id|ID)$`)

// maybe says of a column that plays no role whether it could be for one.
func (d *describer) maybe(role Role) func(CatalogColumn) bool {
	f := factsOf(role)
	return func(c CatalogColumn) bool {
		_, plays := d.playing(c.Name)
		return !plays && f.fits(c, d.overrides) != "" && f.likes.MatchString(c.Name) && !slices.Contains(slices.Collect(maps.Values(d.report.Guessed.Columns)), c.Name)
	}
}

func (d *describer) misfit(f *roleFacts, column CatalogColumn) {
	switch {
	case column.Nondeterministic:
		d.refuse("%s has a non-deterministic collation, under which two ids that differ can be equal", column.Name)
	case isInteger(column) && f.wants == wantsTime:
		d.report.Guessed.Times = Milliseconds
		d.refuse("%s is %s: say what it counts since 1970, with --times milliseconds or --times seconds", column.Name, column.Declared)
	default:
		d.refuse("%s is %s, and as %s it has to be %s: name another column with --column %s=NAME", column.Name, column.Declared, f.role, f.wants, f.role)
	}
}

// checkRoles refuses a table without what a count needs.
func (d *describer) checkRoles() {
	t := d.report.Table
	_, user := t.Column(User)
	_, workflow := t.Column(Workflow)
	if !user && !workflow && d.overrides.Columns[User] == "" {
		d.refuse("there is no column to count by: name the one of who is counted with --column user=NAME%s, or add one: alter table %s add column user_id uuid",
			d.hint(User), t.Quoted())
	}
	if name := d.overrides.Columns[Draft]; name != "" && t.Has(Draft) && !workflow {
		d.refuse("%s can't be %s where no column is %s: drafts are counted apart from workflows, so name those with --column %[3]s=NAME", name, Draft, Workflow)
	}
	for _, role := range []Role{ID, Status, CompletedAt} {
		f := factsOf(role)
		if _, there := t.Column(role); there || d.overrides.Columns[role] != "" || d.first(f.names) != "" {
			continue // a column that does not fit was refused already
		}
		d.refuse("there is no %s: name the column with --column %s=NAME%s, or add one: alter table %s add column %s %s",
			role, role, d.hint(role), t.Quoted(), role, f.add)
	}
	id, there := t.Column(ID)
	switch {
	case !there || d.catalog.Kind != "r" && d.catalog.Kind != "p" || d.unique(id.Name):
	case d.catalog.Kind == "p":
		d.refuse("%s is not unique but for the partition key, in an index that is not deferrable, and two rows of one run can't be told apart", id.Name)
	default:
		d.refuse("%s is not unique, by an index that is not deferrable, and two rows of one run can't be told apart: alter table %s add primary key (%s)", id.Name, t.Quoted(), quote(id.Name))
	}
}

// hint names the column that a role may be meant for.
func (d *describer) hint(role Role) string {
	if guess := d.report.Guessed.Columns[role]; guess != "" {
		return " (" + guess + "?)"
	}
	return ""
}

// unique reports whether a unique index holds the column to one row. That of a
// partitioned table has to have the partition key beside it.
func (d *describer) unique(name string) bool {
	column, _ := d.catalog.Column(name)
	return column.NotNull && slices.ContainsFunc(d.catalog.Unique, func(columns []string) bool {
		return slices.Contains(columns, name) && !slices.ContainsFunc(columns, func(other string) bool {
			return other != name && !slices.Contains(d.catalog.PartitionKey, other)
		})
	})
}

// first returns the first of the names that the table has a column of.
func (d *describer) first(names []string) string {
	for _, name := range names {
		if _, there := d.catalog.Column(name); there {
			return name
		}
	}
	return ""
}

// playing returns the role that a column has already.
func (d *describer) playing(name string) (Role, bool) {
	for _, c := range d.report.Table.Columns {
		if c.Name == name {
			return c.Role, true
		}
	}
	return "", false
}

func (d *describer) names() string {
	names := make([]string, len(d.catalog.Columns))
	for i, c := range d.catalog.Columns {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}

// quote writes an identifier as SQL does.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
