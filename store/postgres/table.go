package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/internal/pgroots"
	"github.com/edgaze-ai/runcounter/store"
)

// Table reads the rows of a table of runs, to fill a mirror with them. It needs
// nothing of ours in the database, and no right but to select.
//
// Each page is a statement by itself. One snapshot over all of them would hold
// back vacuum on a live database for as long as the reading takes, would be
// lost with its connection, and would give a mirror nothing: a change that
// comes between two pages reaches it by webhook as well, and the merge takes
// both in any order (law 4).
type Table struct {
	pool  *pgxpool.Pool
	name  string // schema and table, quoted
	first string // the statement for the first page
	next  string // and for those after an id
	db    tableFacts
}

// TableOptions say what to read.
type TableOptions struct {
	Schema, Name string
	LeaseColumn  string // none where empty
	// Columns are the names of its columns, each with ours for it; nil where they
	// are the same.
	Columns map[string]string
}

// called returns the table's name of a column of ours, "" where it has none.
func (o TableOptions) called(ours string) string {
	if o.Columns == nil {
		return ours
	}
	for theirs, name := range o.Columns {
		if name == ours {
			return theirs
		}
	}
	return ""
}

// wanted are the names of the columns that are read: those that there must be,
// and all.
func (o TableOptions) wanted() (required, all []string) {
	for _, ours := range requiredColumns {
		if name := cmp.Or(o.called(ours), ours); o.called(ours) != "" || ours != "user_id" && ours != "workflow_id" {
			required = append(required, name) // without one of them it is said that there is none
		}
	}
	all = slices.Clone(required)
	for _, ours := range optionalColumns {
		if name := o.called(ours); name != "" {
			all = append(all, name)
		}
	}
	if o.LeaseColumn != "" && !slices.Contains(all, o.LeaseColumn) {
		all = append(all, o.LeaseColumn)
	}
	return required, all
}

// Record is a row: the columns on which anything depends, as one JSON object.
// They look as they do in a webhook, so that the same outcome, heard both ways,
// is the same.
type Record struct {
	ID   string // as the database prints it; it orders the pages
	JSON []byte
}

// tableFacts are the facts about a table that a reader asks for.
type tableFacts struct {
	usage    bool // of the schema
	hidden   bool // row-level security holds for this role
	idType   string
	columns  []string // of those that are wanted
	refused  []string // of those, what this role may not select
	estimate int64    // rows, of the last vacuum or analyze; 0 where unknown
	size     *int64   // bytes; nil for what is not stored, such as a view
}

// The columns of a run: those that there must be, and those that are read where
// the table has them.
var (
	requiredColumns = []string{"id", "user_id", "workflow_id", "status"}
	optionalColumns = []string{"draft_id", "created_at", "started_at", "completed_at", "updated_at", "duration_ms", "error_details"}
)

// OpenTable connects to the database at an address such as postgres://..., and
// looks at the table. The caller closes it. Errors never repeat the address,
// which may hold a password; they say what to do. An address that can't be read
// is [ErrAddress], a table that can't be is [store.ErrInvalid].
func OpenTable(ctx context.Context, address string, o TableOptions) (*Table, error) {
	pool, err := connect(ctx, address, nil, 1)
	if err != nil {
		return nil, err
	}
	t := &Table{pool: pool, name: pgx.Identifier{o.Schema, o.Name}.Sanitize()}
	if err := t.read(ctx, o); err != nil {
		pool.Close()
		return nil, err
	}
	return t, nil
}

// read finds out what the table has, from catalogs that every role can read.
func (t *Table) read(ctx context.Context, o TableOptions) error {
	plain := o.Schema + "." + o.Name
	required, wanted := o.wanted()
	h := &t.db
	err := t.pool.QueryRow(ctx, `
select has_schema_privilege(n.oid, 'usage'),
       row_security_active(c.oid),
       coalesce((select format_type(a.atttypid, a.atttypmod) from pg_attribute as a
                  where a.attrelid = c.oid and a.attname = $4::text and not a.attisdropped), ''),
       w.columns, w.refused, coalesce(s.rows, 0)::bigint, s.size::bigint
  from pg_class as c
  join pg_namespace as n on n.oid = c.relnamespace
 cross join lateral (
        select coalesce(array_agg(a.attname::text), '{}') as columns,
               coalesce(array_agg(a.attname::text order by a.attnum) filter (where not has_column_privilege(c.oid, a.attnum, 'select')), '{}') as refused
          from pg_attribute as a
         where a.attrelid = c.oid and a.attname = any ($3::text[]) and a.attnum > 0 and not a.attisdropped) as w
 cross join lateral (
        select sum(greatest(p.reltuples, 0)) as rows, sum(pg_relation_size(p.oid)) as size
          from pg_class as p
         where p.relkind in ('r', 'm') and (p.oid = c.oid or p.oid in (select relid from pg_partition_tree(c.oid)))) as s
 where n.nspname = $1::text and c.relname = $2::text and c.relkind in ('r', 'p', 'v', 'm', 'f')`,
		o.Schema, o.Name, wanted, required[0]).Scan(&h.usage, &h.hidden, &h.idType, &h.columns, &h.refused, &h.estimate, &h.size)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("%w: %s has no table %s: is it the right database? --table SCHEMA.TABLE reads another table", store.ErrInvalid, t.Where(), plain)
	}
	if err != nil {
		return t.unreachable(err)
	}
	var lacks []string
	for _, name := range required {
		if !slices.Contains(h.columns, name) {
			lacks = append(lacks, name)
		}
	}
	switch {
	case len(lacks) > 0:
		return fmt.Errorf("%w: %s has no column %s: --table SCHEMA.TABLE reads another table, or a view with these names", store.ErrInvalid, plain, strings.Join(lacks, ", "))
	case !h.usage:
		return fmt.Errorf("%w: the role of the address may not use the schema %s: as its owner, run grant usage on schema %s to that role", store.ErrInvalid, o.Schema, pgx.Identifier{o.Schema}.Sanitize())
	case len(h.refused) > 0:
		return fmt.Errorf("%w: the role of the address may not read %s of %s: as its owner, run grant select on %s to that role", store.ErrInvalid, strings.Join(h.refused, ", "), plain, t.name)
	}
	t.write(wanted, "r."+pgx.Identifier{required[0]}.Sanitize())
	return nil
}

// write writes the statements for the columns that there are. Values go through
// jsonb, as they do on their way into a webhook.
func (t *Table) write(wanted []string, id string) {
	var pairs []string
	for _, name := range wanted {
		if slices.Contains(t.db.columns, name) {
			pairs = append(pairs, "'"+strings.ReplaceAll(name, "'", "''")+"', r."+pgx.Identifier{name}.Sanitize())
		}
	}
	head := "select " + id + "::text, jsonb_build_object(" + strings.Join(pairs, ", ") + ")::text from " + t.name + " as r where "
	tail := " order by " + id + " limit $1::integer"
	t.first = head + id + " is not null" + tail
	t.next = head + id + " > $2::text::" + t.db.idType + tail
}

// Page returns the first rows by id, or those after one: fewer than limit at
// the end. The errors are those of a [store.Store].
func (t *Table) Page(ctx context.Context, after string, limit int) ([]Record, error) {
	text, args := t.first, []any{limit}
	if after != "" {
		text, args = t.next, []any{limit, after}
	}
	rows, _ := t.pool.Query(ctx, text, args...) // its error is that of the rows
	page, err := pgx.AppendRows(make([]Record, 0, limit), rows, func(row pgx.CollectableRow) (r Record, err error) {
		err = row.Scan(&r.ID, &r.JSON)
		return r, err
	})
	if err != nil {
		return nil, t.unreachable(err)
	}
	return page, nil
}

// countable is up to which size, in bytes, a table is counted: a moment's work.
const countable = 64 << 20

// Rows returns about how many rows there are, and whether they were counted; 0
// where it is not known.
func (t *Table) Rows(ctx context.Context) (n int64, counted bool, err error) {
	if t.db.size == nil || *t.db.size > countable {
		return t.db.estimate, false, nil
	}
	if err := t.pool.QueryRow(ctx, "select count(*) from "+t.name).Scan(&n); err != nil {
		return 0, false, t.unreachable(err)
	}
	return n, true, nil
}

// Hidden reports whether row-level security holds for this role, which then
// sees the rows that a policy shows it, and does not notice that there are more.
func (t *Table) Hidden() bool { return t.db.hidden }

// Has reports whether the table has a column.
func (t *Table) Has(column string) bool { return slices.Contains(t.db.columns, column) }

// Where says which database this is, for people: host, port and name.
func (t *Table) Where() string { return where(t.pool) }

// Identity tells this table from all others. The role belongs to it: through
// Supabase's pooler, projects differ in nothing else, and another role may see
// other rows.
func (t *Table) Identity() string {
	c := t.pool.Config().ConnConfig
	return fmt.Sprintf("%s as %s: %s", where(t.pool), c.User, t.name)
}

// Close closes the connection.
func (t *Table) Close() { t.pool.Close() }

// unreachable says what to do about an error of the database or on the way to
// it.
func (t *Table) unreachable(err error) error {
	code := codeOf(err)
	var connecting *pgconn.ConnectError
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case code == "28P01", code == "28000":
		return fmt.Errorf("%s refuses the role or its password: check both, and escape the password's special characters: %w", t.Where(), err)
	case code == "3D000":
		return fmt.Errorf("check the name at the end of the address: %w", err)
	case code == "42501":
		return fmt.Errorf("%w: the role of the address may not read %s: as its owner, run grant select on %s to that role: %w", store.ErrInvalid, t.name, t.name, err)
	case code == "57014":
		return fmt.Errorf("%w: a statement took too long for this role: is id the primary key of %s? %w", store.ErrUnavailable, t.name, err)
	case code == "" && pgroots.Fix(err) != "":
		return translate(err)
	case code == "" && errors.As(err, &connecting):
		return fmt.Errorf("%w: check host, port and sslmode of the address; the direct host of a Supabase project is reached over IPv6 alone, its pooler over IPv4 too: %w", store.ErrUnavailable, err)
	}
	return translate(err)
}

// Reading is a moment from which on a table is read: what was committed by then
// is in what is read.
type Reading struct{ snapshot, at string }

// Begin returns this moment, where a webhook of our own tells of the table; the
// zero Reading where none does.
func (t *Table) Begin(ctx context.Context) (r Reading, err error) {
	var there bool
	err = t.pool.QueryRow(ctx, `select to_regprocedure('run_counter_webhook.acknowledge(pg_snapshot, timestamptz)') is not null, pg_current_snapshot()::text, clock_timestamp()::text`).
		Scan(&there, &r.snapshot, &r.at)
	if err != nil || !there {
		return Reading{}, err
	}
	return r, nil
}

// Recovered tells the webhook that a mirror has all that was there when the reading
// began, and returns how many lost calls and statements are recovered by that: none
// where the role may not, or there is no webhook of this table.
func (t *Table) Recovered(ctx context.Context, r Reading) (n int64, err error) {
	if r == (Reading{}) {
		return 0, nil
	}
	err = t.pool.QueryRow(ctx, `
select run_counter_webhook.acknowledge($1::text::pg_snapshot, $2::text::timestamptz)
  from run_counter_webhook.settings
 where to_regclass(watched) = to_regclass($3::text)`, r.snapshot, r.at, t.name).Scan(&n)
	switch {
	case errors.Is(err, pgx.ErrNoRows), objectMissing(err), codeOf(err) == "42501", codeOf(err) == "25006":
		return 0, nil
	case err != nil:
		return 0, t.unreachable(err)
	}
	return n, nil
}
