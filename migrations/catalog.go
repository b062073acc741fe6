package migrations

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/edgaze-ai/runcounter/store/watched"
)

// Catalog returns what the database says of a table, and false where there is
// none of that name. Any role may ask: it reads the system's catalog alone.
func (m *Migrator) Catalog(schema, name string) (watched.Catalog, bool, error) {
	if m.postgres == nil {
		return watched.Catalog{}, false, errors.New("a SQLite file has no table of an application")
	}
	c, there, err := readCatalog(m.postgres.ctx, m.postgres.db, schema, name)
	return c, there, sessionless(err)
}

// Override has Up, Print and Check take what an operator says of the watched
// table, over what was said of it before, which the database keeps.
func (m *Migrator) Override(o watched.Overrides) {
	if m.postgres != nil {
		m.postgres.given = o
	}
}

// Overrides returns what Up would go by: what was given to Override, over what
// the database keeps.
func (m *Migrator) Overrides() (said watched.Overrides, err error) {
	err = m.onTable(func(conn *sql.Conn) error {
		said, err = m.postgres.overrides(conn)
		return err
	})
	return said, err
}

// begins is a connection, or a pool of them.
type begins interface {
	BeginTx(ctx context.Context, options *sql.TxOptions) (*sql.Tx, error)
}

// readCatalog reads in one statement. The search path of its transaction keeps
// other schemas' operators and types out, and makes names the same in each
// session: an enum is always public.run_status.
//
// For a table that is being altered it waits two seconds, and no write waits
// behind it. A statement that had to wait saw columns as they were before, and
// expressions as they are: so it is asked until it says the same twice.
func readCatalog(ctx context.Context, db begins, schema, name string) (c watched.Catalog, there bool, err error) {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true, Isolation: sql.LevelReadCommitted})
	if err != nil {
		return c, false, fmt.Errorf("look at table %s.%s: %w", schema, name, err)
	}
	defer func() { _ = tx.Rollback() }() // it has written nothing
	_, err = tx.ExecContext(ctx, BeforeTableInCatalog)
	var text, before []byte
	for again := true; again && err == nil; again = !bytes.Equal(text, before) {
		before, text = text, nil
		err = tx.QueryRowContext(ctx, TableInCatalog, schema, name).Scan(&text)
	}
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return c, false, nil
	case err != nil:
		return c, false, fmt.Errorf("look at table %s.%s: %w", schema, name, err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, false, fmt.Errorf("read what the catalog says of table %s.%s: %w", schema, name, err)
	}
	return c, true, nil
}

// BeforeTableInCatalog is said in the transaction of TableInCatalog, before it.
const BeforeTableInCatalog = `set local search_path = pg_catalog, pg_temp; set local lock_timeout = '2s'`

// TableInCatalog makes the JSON of a watched.Catalog.
//
// base follows a domain to the type that it is over; the domains on the way may
// have a default, a NOT NULL and checks of their own, which hold for the column.
// A type outside pg_catalog keeps its schema, so that nothing takes it for one
// of PostgreSQL's: all but citext, which each database has where it likes.
//
// The partition key holds those of partitions that are partitioned again.
//
// Row security that is forced on an owner who bypasses it hides nothing.
var TableInCatalog = `
with recursive the as (
    select c.oid, n.nspname, c.relname, c.relkind,
           c.relrowsecurity and c.relforcerowsecurity and not (o.rolsuper or o.rolbypassrls) as forced
      from pg_class as c
      join pg_namespace as n on n.oid = c.relnamespace
      join pg_roles as o on o.oid = c.relowner
     where n.nspname = $1::text and c.relname = $2::text
), base as (
    select a.attnum, a.atttypid as type, a.atttypmod as modifier, 0 as depth
      from pg_attribute as a
      join the on the.oid = a.attrelid
     where a.attnum > 0 and not a.attisdropped
     union all
    select base.attnum, d.typbasetype, d.typtypmod, base.depth + 1
      from base
      join pg_type as d on d.oid = base.type and d.typtype = 'd'
), typed as (
    select distinct on (base.attnum) base.attnum, base.depth, base.modifier, t.oid, t.typtype,
           case when n.nspname = 'pg_catalog' or t.typname = 'citext' and t.typtype = 'b' then t.typname else n.nspname || '.' || t.typname end as name
      from base
      join pg_type as t on t.oid = base.type
      join pg_namespace as n on n.oid = t.typnamespace
     order by base.attnum, base.depth desc
), domains as (
    select base.attnum, base.depth, d.oid, d.typnotnull, pg_get_expr(d.typdefaultbin, 'pg_type'::regclass) as expression
      from base
      join pg_type as d on d.oid = base.type and d.typtype = 'd'
), checks as (
    select array(select a.attname from unnest(k.conkey) with ordinality as u (attnum, place)
                   join pg_attribute as a on a.attrelid = k.conrelid and a.attnum = u.attnum order by u.place) as columns,
           pg_get_constraintdef(k.oid) as definition
      from pg_constraint as k
      join the on the.oid = k.conrelid
     where k.contype = 'c'
     union all
    select array[a.attname], pg_get_constraintdef(k.oid)
      from domains as d
      join pg_constraint as k on k.contypid = d.oid and k.contype = 'c'
      join the on true
      join pg_attribute as a on a.attrelid = the.oid and a.attnum = d.attnum
)
select json_build_object(
    'schema', the.nspname, 'name', the.relname, 'kind', the.relkind,
    'columns', coalesce((
        select json_agg(json_build_object(
                   'name', a.attname, 'type', t.name, 'declared', format_type(a.atttypid, a.atttypmod), 'domain', t.depth > 0,
                   'base', case when t.depth > 0 then format_type(t.oid, t.modifier) else '' end,
                   'labels', (select json_agg(e.enumlabel order by e.enumsortorder) from pg_enum as e where e.enumtypid = t.oid),
                   'not_null', a.attnotnull or exists (select from domains as d where d.attnum = a.attnum and d.typnotnull),
                   'default', coalesce((select pg_get_expr(d.adbin, d.adrelid) from pg_attrdef as d where d.adrelid = a.attrelid and d.adnum = a.attnum),
                                       case when a.attidentity <> '' then 'identity' end,
                                       (select d.expression from domains as d where d.attnum = a.attnum and d.expression is not null order by d.depth limit 1), ''),
                   'generated', a.attgenerated <> '' or a.attidentity = 'a',
                   'nondeterministic', exists (select from pg_collation as l where l.oid = a.attcollation and not l.collisdeterministic),
                   'references', coalesce((
                       select n.nspname || '.' || r.relname
                         from pg_constraint as k
                         join pg_class as r on r.oid = k.confrelid
                         join pg_namespace as n on n.oid = r.relnamespace
                        where k.contype = 'f' and k.conrelid = a.attrelid and k.conkey = array[a.attnum] and k.conparentid = 0
                        order by k.oid limit 1), '')) order by a.attnum)
          from pg_attribute as a
          join typed as t on t.attnum = a.attnum
         where a.attrelid = the.oid and a.attnum > 0 and not a.attisdropped), '[]'),
    'checks', (select json_agg(json_build_object('columns', k.columns, 'definition', k.definition) order by k.columns, k.definition) from checks as k),
    'unique', (
        select json_agg(u.columns order by u.columns)
          from (select array(select a.attname from generate_series(0, i.indnkeyatts - 1) as place
                               join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[place] order by place) as columns
                  from pg_index as i
                 where i.indrelid = the.oid and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and i.indexprs is null) as u),
    'partition_key', (
        select json_agg(k.name order by k.level, k.place)
          from (select coalesce(a.attname, '') as name, min(t.level) as level, min(u.place) as place
                  from ` + watched.PartitionsOf("the.oid") + ` as t
                  join pg_partitioned_table as p on p.partrelid = t.relid
                 cross join unnest(p.partattrs::smallint[]) with ordinality as u (attnum, place)
                  left join pg_attribute as a on a.attrelid = p.partrelid and a.attnum = u.attnum and u.attnum > 0
                 group by 1) as k),
    'forced_row_security', the.forced,
    'zone', current_setting('timezone'))
  from the`
