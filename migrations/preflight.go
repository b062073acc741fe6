package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// ErrTable is wrapped where a table is not one that the SQL of today understands.
// The error is one sentence, which names each column at fault with what it has to
// be. Nothing was changed.
var ErrTable = errors.New("can't be watched as it is")

// wanted is a column as the SQL of today needs it.
type wanted struct {
	name  string
	role  watched.Role
	types []string // by pg_type.typname: those that were proven
	add   string   // the type that a missing column is added with
	// optional is a column that is left out where it is not there, read one that
	// is never written, moves one that may change while a run lives, and nulled
	// one that is set to null when an outcome gives way to another.
	optional, read, moves, nulled bool
	// named is one that may have any name by which package watched finds it, or
	// the operator has, and yields one that the database may generate, since it is
	// left alone then.
	named, yields bool
	// enums is one that may be of an enum.
	enums bool
	// drawn is one that may be an identity, which the database draws.
	drawn bool
}

// forCounting lists the columns that migrate up understands. A column that is not
// listed plays no part. Half of what another name, type or word would need stops the
// application's writes: so what is not listed here is refused whole.
var forCounting = []wanted{
	{name: "id", role: watched.ID, types: ids, add: "uuid not null default gen_random_uuid() primary key", named: true, drawn: true},
	{name: "user_id", role: watched.User, types: ids, add: "uuid", named: true, moves: true},
	{name: "workflow_id", role: watched.Workflow, types: ids, add: "uuid", named: true, moves: true},
	{name: "draft_id", role: watched.Draft, types: ids, optional: true, named: true, moves: true},
	{name: "status", role: watched.Status, types: words, add: "text not null default 'pending'", named: true, moves: true, enums: true},
	{name: "created_at", role: watched.CreatedAt, types: moments, optional: true, named: true},
	{name: "started_at", role: watched.StartedAt, types: moments, optional: true, named: true, moves: true},
	{name: "updated_at", role: watched.UpdatedAt, types: moments, optional: true, named: true, moves: true},
	{name: "lease", role: watched.Lease, types: moments, add: "timestamptz", optional: true, named: true, read: true},
	{name: "completed_at", role: watched.CompletedAt, types: moments, add: "timestamptz", named: true, moves: true, nulled: true},
	{name: "duration_ms", role: watched.DurationMS, types: []string{"int4", "int8", "numeric"}, optional: true, named: true, yields: true, moves: true, nulled: true},
	{name: "error_details", role: watched.ErrorDetails, types: jsons, optional: true, named: true, yields: true, moves: true, nulled: true},
	{name: "state_snapshot", role: watched.StateSnapshot, types: jsons, optional: true, named: true, yields: true, moves: true},
}

// forSending lists the columns that the signed webhook understands: it only reads, so
// that a table may generate columns and choose its partitions by any. The mirror that is told
// takes statuses and durations of any type that prints one text for each.
var forSending = reading(forCounting)

func reading(all []wanted) (read []wanted) {
	for _, w := range all {
		w.read, w.moves, w.nulled = true, false, false
		switch w.role {
		case watched.StateSnapshot: // it is not sent
			continue
		case watched.DurationMS:
			w.types = append(slices.Clone(w.types), "int2")
		}
		read = append(read, w)
	}
	return read
}

var (
	ids     = []string{"uuid", "int8", "int4", "int2", "text", "varchar"}
	words   = []string{"text", "varchar", "bpchar", "citext"}
	moments = []string{"timestamptz", "timestamp"}
	jsons   = []string{"jsonb", "json", "text"}
)

// casts say how a column is given another type, from one to the other; $ is the
// column. An id or an enum has none: what else depends on its type is for the
// application to know.
var casts = map[[2]string]string{
	{"json", "jsonb"}:   "type jsonb using $::jsonb",
	{"varchar", "text"}: "type text",
	{"bpchar", "text"}:  "type text",
	{"int2", "int4"}:    "type integer",
}

// fault is a reason why a table can't be watched.
type fault struct {
	what string // a clause
	// help is the action of an ALTER TABLE by which it is gone, and "" where
	// there is none to be advised.
	help string
}

// understood returns what keeps a table from being watched by the SQL of today,
// where the operator has said so much of it.
func understood(c watched.Catalog, all []wanted, said watched.Overrides) (faults []fault) {
	if c.Kind != "r" && c.Kind != "p" {
		return []fault{{what: "it is no table but a " + kindOf(c.Kind) + ", on which no trigger fires for each run"}}
	}
	all = slices.Clone(all)
	for i, w := range all {
		if w.named {
			all[i].name = columnOf(c, w, said)
		}
	}
	for i, w := range all {
		if column, there := c.Column(w.name); there && w.isTime() && w.counted(column, said) {
			all[i].types = []string{column.Type}
		}
	}
	// As it would be once each column is as it should be, and without those that
	// play no part.
	fixed := c
	fixed.Columns = slices.DeleteFunc(slices.Clone(c.Columns), func(column watched.CatalogColumn) bool {
		_, named := said.Role(column.Name)
		return !named && !slices.ContainsFunc(all, func(w wanted) bool { return w.name == column.Name })
	})
	for _, w := range all {
		column, there := c.Column(w.name)
		var one fault
		switch {
		case there:
			one = w.unlike(column, slices.Contains(c.PartitionKey, w.name))
		case !w.optional || w.add != "" && said.Columns[w.role] != "":
			one = w.absent(c, said)
		}
		if one == (fault{}) {
			continue
		}
		faults = append(faults, one)
		fixed = w.repaired(fixed)
	}
	writes := slices.ContainsFunc(all, func(w wanted) bool { return !w.read })
	if table := watched.Describe(c, said).Table; writes && table.Has(watched.Draft) && table.Has(watched.Workflow) && table.Type(watched.Draft) != table.Type(watched.Workflow) {
		faults = append(faults, fault{what: fmt.Sprintf("drafts are known by %s and workflows by %s, and one type has to hold both", table.Type(watched.Draft), table.Type(watched.Workflow))})
	}
	if writes && slices.Contains(c.PartitionKey, "") {
		faults = append(faults, fault{what: "an expression chooses the row's partition, and what that depends on can't be told: partition by the column created_at"})
	}
	if odd := unwritable(watched.Describe(c, said).Table); writes && odd != "" {
		faults = append(faults, fault{what: fmt.Sprintf("%q holds a character that can't stand in a function, such as $: rename it", odd)})
	}
	// And what is wrong beside the columns: these sentences say what helps.
	for _, problem := range watched.Describe(fixed, said).Problems {
		faults = append(faults, fault{what: problem})
	}
	return faults
}

// columnOf is the name of the column that plays the role, or that a column which
// is missing is to be added with.
func columnOf(c watched.Catalog, w wanted, said watched.Overrides) string {
	if name, named := said.Columns[w.role]; named {
		return name
	}
	if found := watched.Found(c, w.role); found != "" || w.optional {
		return found
	}
	return w.name
}

// repaired returns the catalog with the column as it should be.
func (w wanted) repaired(c watched.Catalog) watched.Catalog {
	i := slices.IndexFunc(c.Columns, func(m watched.CatalogColumn) bool { return m.Name == w.name })
	if i >= 0 {
		c.Columns[i] = watched.CatalogColumn{Name: w.name, Type: w.types[0], NotNull: c.Columns[i].NotNull}
		return c
	}
	c.Columns = append(c.Columns, watched.CatalogColumn{Name: w.name, Type: w.types[0], NotNull: true})
	if w.role == watched.ID {
		c.Unique = append(slices.Clone(c.Unique), []string{w.name})
	}
	return c
}

func kindOf(relkind string) string {
	if kind, known := map[string]string{"v": "view", "m": "materialized view", "f": "foreign table"}[relkind]; known {
		return kind
	}
	return "relation of another kind (" + relkind + ")"
}

// alone says what is counted without a role.
var alone = map[watched.Role]string{
	watched.User:     "and runs are counted by workflow alone",
	watched.Workflow: "and all runs of a user are one count",
}

// absent says that there is no such column, and which one may be meant by it.
func (w wanted) absent(c watched.Catalog, said watched.Overrides) fault {
	counts := w.role == watched.User || w.role == watched.Workflow // one of them is enough
	if name, named := said.Columns[w.role]; named && name == "" {
		if counts {
			return fault{}
		}
		return fault{what: fmt.Sprintf("--column %s= says that no column plays the role %[1]s, and one has to", w.role)}
	}
	guess, guessed := watched.Describe(c, said).Guessed.Columns[w.role]
	switch {
	case counts && guess == "" && w.named && said.Columns[w.role] == "":
		one := fault{what: fmt.Sprintf("there is no column %s: another that plays the role is named with --column %s=NAME, and where there is none, %s, with --column %[2]s=", w.name, w.role, alone[w.role])}
		if !guessed {
			one.help = "add column " + bareIdent(w.name) + " " + w.add
		}
		return one
	case said.Columns[w.role] != "" || guess == "" && !w.named:
		return fault{"there is no column " + w.name, "add column " + bareIdent(w.name) + " " + w.add}
	case guess == "":
		return fault{fmt.Sprintf("there is no column %s: another that plays the role is named with --column %s=NAME", w.name, w.role), "add column " + bareIdent(w.name) + " " + w.add}
	case w.named:
		return fault{what: fmt.Sprintf("there is no column %s: if %s is what plays the role %s, say --column %[3]s=%[2]s", w.name, guess, w.role)}
	}
	return fault{what: fmt.Sprintf("there is no column %s, and %s can't stand for it yet", w.name, guess)}
}

// crossed are the roles by which a run may move to another partition: it stays
// the same run, and no trigger of ours sets them before a row is first stored.
var crossed = []watched.Role{watched.User, watched.Workflow, watched.Draft, watched.Status}

// unlike says what is wrong with a column that is there. PostgreSQL refuses a
// trigger that moves a row to another partition before it is stored.
func (w wanted) unlike(column watched.CatalogColumn, partitions bool) fault {
	alter := "alter column " + bareIdent(w.name) + " "
	frozen := column.Generated && !w.read && !w.yields && (!w.drawn || column.Default != "identity")
	known := slices.Contains(w.types, column.Type) || w.enums && len(column.Labels) > 0
	fits := known && !column.Nondeterministic && (w.read || !short.MatchString(column.Stored()))
	switch {
	case !fits && w.isTime() && slices.Contains([]string{"int4", "int8"}, column.Type) && !frozen:
		return w.uncounted(column)
	case !fits && frozen:
		return fault{what: fmt.Sprintf("%s is %s, generated always, and has to be %s and writable", w.name, described(column), w.need())}
	case !fits:
		one := fault{what: fmt.Sprintf("%s is %s and has to be %s", w.name, described(column), w.need())}
		cast, helps := casts[[2]string{column.Type, w.types[0]}]
		if helps && !column.Nondeterministic && !partitions {
			one.help = alter + strings.ReplaceAll(cast, "$", bareIdent(w.name))
		} else if column.Type == "citext" && slices.Contains(w.types, "uuid") {
			one.what += ": the database's locale says which spellings of a citext are one id, and neither tokens nor mirrors know it; " +
				"as text each spelling is an id of its own, so let the application write small letters"
			if !partitions {
				one.help = alter + "type text using lower(" + bareIdent(w.name) + "::text)"
			}
		} else if w.optional && w.named {
			one.what += fmt.Sprintf(", or is left alone with --column %s=", w.role)
		}
		return one
	case !w.read && w.role == watched.DurationMS && tooShort(column):
		return fault{fmt.Sprintf("%s is %s, which is too short for %d, the longest duration that Run Counter writes", w.name, described(column), store.MaxMillis), alter + "type numeric"}
	case frozen:
		return fault{w.name + " is generated always and has to be writable", alter + "drop expression"}
	case partitions && w.moves && !slices.Contains(crossed, w.role):
		return fault{what: w.name + " chooses the row's partition, and Run Counter may write it, which PostgreSQL refuses in a trigger: partition by created_at"}
	case w.nulled && column.NotNull && !column.Generated:
		if column.Domain { // whose it may be
			return fault{w.name + " is " + described(column) + ", not null, and has to take null", alter + "type " + column.Stored()}
		}
		return fault{w.name + " is not null and has to take null", alter + "drop not null"}
	}
	return fault{}
}

// isTime reports a role that is a time.
func (w wanted) isTime() bool { return slices.Contains(w.types, "timestamptz") }

// counted reports an integer that counts since 1970 what it is said to, and can:
// one of four bytes ends within a month of milliseconds, and in 2038 of seconds.
func (w wanted) counted(column watched.CatalogColumn, said watched.Overrides) bool {
	return column.Type == "int8" && said.Times != "" || column.Type == "int4" && said.Times == watched.Seconds
}

// uncounted is the fault of an integer of which the operator has not said what it counts, or
// that can't count so far.
func (w wanted) uncounted(column watched.CatalogColumn) fault {
	if column.Type == "int4" {
		return fault{what: fmt.Sprintf("%s is %s, which is too short for milliseconds: if it counts seconds since 1970, say --times seconds; else make it bigint", w.name, described(column))}
	}
	return fault{what: fmt.Sprintf("%s is %s: say what it counts since 1970, with --times milliseconds or --times seconds", w.name, described(column))}
}

// short are texts that can't hold the longest of our words, cancelling.
var short = regexp.MustCompile(`^character(?: varying)?\([0-9]\)$`)

// tooShort reports a numeric that can't hold every duration.
func tooShort(column watched.CatalogColumn) bool {
	var digits, behind int
	n, _ := fmt.Sscanf(column.Stored(), "numeric(%d,%d)", &digits, &behind)
	return n == 2 && !column.Generated && digits-behind < len(strconv.Itoa(store.MaxMillis))
}

// need names the types that a column may have.
func (w wanted) need() string {
	types := w.types
	if w.enums {
		types = append(slices.Clone(types), "an enum")
	}
	return strings.NewReplacer("int4", "integer", "int8", "bigint", "int2", "smallint", "bpchar", "char").Replace(strings.Join(types, " or "))
}

// described is a column's type, with what is special about it.
func described(column watched.CatalogColumn) string {
	switch {
	case column.Domain:
		return column.Declared + " (a domain over " + column.Stored() + ")"
	case len(column.Labels) > 0:
		return column.Declared + " (an enum)"
	case column.Nondeterministic:
		return column.Declared + " under a collation by which values that differ can be equal"
	}
	return column.Declared
}

// sqlName is the table's name as SQL writes it, with quotes where it has to
// have them.
func sqlName(c watched.Catalog) string {
	parts := []string{c.Schema, c.Name}
	for i, part := range parts {
		parts[i] = bareIdent(part)
	}
	return strings.Join(parts, ".")
}

// bareIdent is an identifier for a person: without quotes where it needs none.
func bareIdent(name string) string {
	if bare.MatchString(name) {
		return name
	}
	return pgx.Identifier{name}.Sanitize()
}

var bare = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

// requireUnderstood refuses a table that migrate up does not understand. One that is not there
// is made by the migrations.
func requireUnderstood(ctx context.Context, db begins, schema, name string, said watched.Overrides) error {
	c, there, err := readCatalog(ctx, db, schema, name)
	if err != nil {
		return err
	}
	if !there && schema+"."+name != watched.DefaultTable {
		return fmt.Errorf("%s.%s %w: there is no such table: --table SCHEMA.TABLE names one that is there", schema, name, ErrTable)
	}
	if !there {
		if len(said.Columns)+len(said.Statuses) > 0 {
			return fmt.Errorf("%s.%s %w: there is no such table yet, and the one that migrate up makes needs no --column and no --status", schema, name, ErrTable)
		}
		return nil
	}
	return refused(c, "runcounter migrate up", forCounting, said)
}

// refused says why a table is not understood, and names the command that it is for;
// nil where it is.
func refused(c watched.Catalog, command string, all []wanted, said watched.Overrides) error {
	faults := understood(c, all, said)
	if len(faults) == 0 {
		return nil
	}
	guessed := watched.Describe(c, said).Guessed
	if args := guessed.Args(); len(understood(c, all, guessed)) == 0 {
		faults = append(faults, fault{what: "with every mapping that could be guessed it can be, check each: " + command + " " + strings.Join(args, " ")})
	}
	return refusal(c, faults)
}

// refusal is the sentence that names all faults, and one ALTER TABLE of all that
// helps.
func refusal(c watched.Catalog, faults []fault) error {
	var what, help []string
	for _, f := range faults {
		what = append(what, f.what)
		if f.help != "" {
			help = append(help, f.help)
		}
	}
	said := strings.Join(what, "; ")
	switch len(help) {
	case 0:
	case len(faults):
		said += "; what helps: "
	default:
		said += "; what helps with a part of it: "
	}
	if len(help) > 0 {
		said += "alter table " + sqlName(c) + " " + strings.Join(help, ", ")
	}
	return fmt.Errorf("%s.%s %w: %s", c.Schema, c.Name, ErrTable, said+". Nothing was changed.")
}

// preflight looks at the watched table before anything is made.
func (m *Migrator) preflight(conn *sql.Conn) error {
	said, err := m.postgres.overrides(conn)
	if err != nil {
		return err
	}
	schema, name := said.SchemaAndName()
	was, counted, err := m.postgres.described(conn)
	switch {
	case err != nil:
		return err
	case counted && was.Name != "" && (was.Schema != schema || was.Name != name):
		return fmt.Errorf("%s.%s %w: the counts here are those of %s, and of one table alone: runcounter migrate down --yes forgets them, and up begins anew", schema, name, ErrTable, was)
	}
	if err := m.postgres.knows(conn, said.Zone); err != nil {
		return err
	}
	err = m.retryWhileBusy(conn, func() error {
		return requireUnderstood(m.postgres.ctx, conn, schema, name, said)
	}, func() error { return nil })
	if !errors.Is(err, ErrTable) {
		return err
	}
	installed, readErr := m.postgres.installed(m.postgres.ctx, conn)
	if readErr == nil && installed { // it was altered, and our triggers stand on it
		return fmt.Errorf("the table has Run Counter's triggers, which read of it what they can, and counts may be wrong until this is fixed or runcounter migrate down --yes has taken them off: %w", err)
	}
	return err
}

// knows refuses a time zone that the database doesn't know: its list is not ours.
func (p *postgres) knows(conn *sql.Conn, zone string) error {
	if zone == "" {
		return nil
	}
	var at time.Time
	err := conn.QueryRowContext(p.ctx, `select timestamptz '2000-01-01 00:00:00+00' at time zone $1::text`, zone).Scan(&at)
	var e *pgconn.PgError
	if errors.As(err, &e) && e.Code == "22023" {
		return fmt.Errorf("%s %w: the database knows no time zone %q: pg_timezone_names has those that --timezone takes. Nothing was changed", watched.DefaultTable, ErrTable, zone)
	}
	return err
}

// Print returns the script that does what Up does on the table that is there.
// Like Up it refuses one that is not understood.
func (m *Migrator) Print() (script string, err error) {
	err = m.onTable(func(conn *sql.Conn) error {
		if err := m.preflight(conn); err != nil {
			return err
		}
		if err := m.postgres.describe(conn); err != nil {
			return err
		}
		script, err = PrintPostgres(m.postgres.rendering.table)
		return err
	})
	return script, err
}

// Check looks at the watched table as Up does, and changes nothing. The error
// wraps [ErrTable] where the table is not understood.
func (m *Migrator) Check() error {
	return m.onTable(m.preflight)
}

// onTable reads a PostgreSQL database over a connection of its own.
func (m *Migrator) onTable(read func(conn *sql.Conn) error) (err error) {
	if m.postgres == nil {
		return nil
	}
	conn, err := m.postgres.db.Conn(m.postgres.ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return sessionless(read(conn))
}
