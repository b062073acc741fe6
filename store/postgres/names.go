package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// namesWithin bounds the time of one look into one table of the application.
const namesWithin = 500 * time.Millisecond

// nameColumns are those by which people know a user, a workflow or a draft.
var nameColumns = map[watched.Role][]string{
	watched.User:     {"email", "username", "full_name", "display_name", "name", "title", "slug"},
	watched.Workflow: {"title", "name", "slug", "key"},
	watched.Draft:    {"title", "name", "slug", "key"},
}

// namedIn is a table of the application that names users, workflows or drafts.
type namedIn struct {
	role   watched.Role
	table  string // as SQL writes it
	key    string
	shown  string // for people
	listed []string
}

// namedInSQL finds them: what a foreign key of one column refers to, and for users
// auth.users, with the columns of text that the role may read.
const namedInSQL = `
with refers (role, rel, key) as (
    select w.role, c.confrelid, c.confkey[1]
      from unnest($2::text[], $3::text[]) as w (role, name)
      join pg_attribute as a on a.attrelid = $1::regclass and a.attname = w.name
      join pg_constraint as c on c.conrelid = a.attrelid and c.contype = 'f' and cardinality(c.conkey) = 1 and c.conkey[1] = a.attnum
     union
    select 'user', a.attrelid, a.attnum
      from pg_attribute as a
      join pg_attribute as u on u.attrelid = $1::regclass and u.attname = ($3::text[])[1] and u.atttypid = a.atttypid
     where a.attrelid = to_regclass('auth.users') and a.attname = 'id'
)
select r.role, format('%I.%I', n.nspname, t.relname), n.nspname || '.' || t.relname, format('%I', k.attname),
       array_agg(v.attname::text order by v.attname)
  from refers as r
  join pg_class as t on t.oid = r.rel
  join pg_namespace as n on n.oid = t.relnamespace
  join pg_attribute as k on k.attrelid = t.oid and k.attnum = r.key
  join pg_attribute as v on v.attrelid = t.oid and not v.attisdropped and v.attnum > 0
  join pg_type as y on y.oid = v.atttypid and y.typcategory = 'S'
 where has_schema_privilege(n.oid, 'usage') and has_column_privilege(t.oid, k.attnum, 'select') and has_column_privilege(t.oid, v.attnum, 'select')
   and v.attname = any (case when r.role = 'user' then $4::text[] else $5::text[] end)
 group by r.role, n.nspname, t.relname, k.attname
 order by array_position($2::text[], r.role), 2`

// namedTables lists the tables of the application that name what runs belong to.
func (s *Store) namedTables(ctx context.Context) (all []namedIn, err error) {
	err = s.attempt(ctx, func(db features) error {
		all = nil
		var roles, columns []string
		for _, role := range []watched.Role{watched.User, watched.Workflow, watched.Draft} { // the user first: see the statement
			c, there := db.table.Column(role)
			if !there {
				c.Name = "" // which no column has
			}
			roles, columns = append(roles, string(role)), append(columns, c.Name)
		}
		return s.snapshot(ctx, within(namesWithin, query{
			text: namedInSQL, args: []any{db.table.SQL(), roles, columns, nameColumns[watched.User], nameColumns[watched.Workflow]},
			read: func(rows pgx.Rows) error {
				var n namedIn
				if err := rows.Scan((*string)(&n.role), &n.table, &n.shown, &n.key, &n.listed); err != nil {
					return err
				}
				order := nameColumns[n.role]
				slices.SortFunc(n.listed, func(a, b string) int { return slices.Index(order, a) - slices.Index(order, b) })
				all = append(all, n)
				return nil
			},
		})...)
	})
	return all, err
}

// looks are the statements for a table: the first is answered by an index on a column,
// where there is one, and the second reads the table.
func (n namedIn) looks() [2]string {
	var same, begins, whens []string
	for _, name := range n.listed {
		column := "t." + watched.Ident(name)
		begin := "starts_with(lower(" + column + "::text), lower($1::text))"
		same = append(same, column+" in ($1, lower($1))")
		begins = append(begins, begin)
		whens = append(whens, "when "+begin+" then "+column+"::text")
	}
	find := "select t." + n.key + "::text, left(case " + strings.Join(whens, " ") + " end, 200) from " + n.table + " as t where $1::text <> '' and ("
	return [2]string{find + strings.Join(same, " or ") + ") limit $2::integer", find + strings.Join(begins, " or ") + ") limit $2::integer"}
}

// FindNamed implements [store.Namer].
func (s *Store) FindNamed(ctx context.Context, begins string, limit int) (names store.Names, err error) {
	tables, err := s.namedTables(ctx)
	if errors.Is(tooSlow(err, namesWithin), store.ErrTooSlow) {
		return store.Names{Partly: true}, nil
	}
	if err != nil {
		return names, fmt.Errorf("look for the tables that name users and workflows: %w", err)
	}
	known := map[store.Named]bool{}
	for _, table := range tables {
		for _, text := range table.looks() {
			found, err := s.look(ctx, table, text, begins, limit+1)
			// A table's policy may call what the role may not, or fail: it keeps nothing else
			// from being found.
			if _, refused := errors.AsType[*pgconn.PgError](err); errors.Is(err, store.ErrTooSlow) || refused && !errors.Is(err, store.ErrUnavailable) {
				names.Partly = true
				continue
			}
			if err != nil {
				return names, fmt.Errorf("look for a name in %s: %w", table.shown, err)
			}
			for _, one := range found {
				if known[one] {
					continue
				}
				if len(names.Found) == limit {
					names.Partly = true
					break
				}
				known[one] = true
				names.Found = append(names.Found, one)
			}
		}
	}
	return names, nil
}

func (s *Store) look(ctx context.Context, table namedIn, text, begins string, limit int) (found []store.Named, err error) {
	err = s.attempt(ctx, func(features) error {
		found = nil
		err := s.snapshot(ctx, within(namesWithin, query{text: text, args: []any{begins, limit}, read: func(rows pgx.Rows) error {
			one := store.Named{What: string(table.role), In: table.shown}
			if err := rows.Scan((*anyID)(&one.ID), &one.Name); err != nil {
				return err
			}
			if !one.ID.IsZero() {
				found = append(found, one)
			}
			return nil
		}})...)
		return tooSlow(err, namesWithin)
	})
	return found, err
}
