package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// Altered says in a sentence what was changed of the watched table since the
// migrations were applied to it, and what to do; "" where nothing was. What they
// made was made for the table as it was. A sweep asks first, so the store looks
// again here at what an operator says of it.
func (s *Store) Altered(ctx context.Context) (string, error) {
	s.forget()
	return installed(ctx, s, func(db features, sentence *string) error {
		// A rule that has come since; where this role may not settle that, or a lock was
		// not had at once, it is named.
		_, err := s.pool.Exec(ctx, `select run_counter.settle_yields()`)
		if e := (*pgconn.PgError)(nil); err != nil && !errors.As(err, &e) {
			return translate(err)
		}
		return pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			changes, err := altered(ctx, tx, db)
			if len(changes) > 0 {
				*sentence = fmt.Sprintf("%s was altered since runcounter migrate up: %s. Run runcounter migrate up again.", db.table, strings.Join(changes, "; "))
			}
			return translate(err)
		})
	})
}

// altered compares the table, as it was read with db, with what the migrations have
// noted of it. Reading the catalog once more would cost a sweep twice what all else
// here does.
func altered(ctx context.Context, tx pgx.Tx, db features) ([]string, error) {
	switch {
	case !db.noted:
		return nil, nil
	case !db.there:
		return []string{"it is gone"}, nil
	}
	changes := db.was.Changes(db.is)
	var detached string
	var ruled bool
	err := tx.QueryRow(ctx, `
select coalesce(to_jsonb(s) ->> 'detached_at', ''), coalesce(r.rules & 7 <> 0 and r.rules & 8 = 0, false)
  from run_counter.settings as s
 cross join lateral (select case when has_function_privilege('run_counter.read_rules(oid)', 'execute') then run_counter.read_rules(`+regclass(db.was)+`) end as rules) as r`).Scan(&detached, &ruled)
	switch {
	case detached != "":
		changes = append(changes, "run_counter.detach() has taken our triggers off at "+detached+", and nothing is counted since")
	case ruled:
		changes = append(changes, "a check, an index or a policy of it looks at what the guard keeps, and the guard gives way to it whole")
	}
	return changes, err
}

// watchedTable is the table as the migrations have noted it, and the one that they make
// where they have not, or this role may not look.
func watchedTable(ctx context.Context, tx pgx.Tx) (t watched.Table, err error) {
	var there bool
	err = tx.QueryRow(ctx, `
select exists (select from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
                where n.nspname = 'run_counter' and c.relname = 'settings' and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'))`).Scan(&there)
	if err == nil && there {
		t, _, err = described(ctx, tx)
	}
	if t.Name == "" {
		t = watched.Default()
	}
	return t, err
}

// regclass is an expression for the oid of a table, null where it is gone.
func regclass(t watched.Table) string { return "to_regclass(" + watched.Literal(t.SQL()) + ")" }

// described returns the table as the migrations have noted it.
func described(ctx context.Context, tx pgx.Tx) (was watched.Table, noted bool, err error) {
	var text []byte
	err = tx.QueryRow(ctx, `select described from run_counter.settings`).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) {
		return was, false, nil
	}
	if err != nil {
		return was, false, err
	}
	if err := json.Unmarshal(text, &was); err != nil {
		return was, false, fmt.Errorf("read what the table was: %w", err)
	}
	return was, true, nil
}

// catalogOf reads what the database says of the watched table, and false where
// there is none.
func catalogOf(ctx context.Context, tx pgx.Tx, schema, name string) (c watched.Catalog, there bool, err error) {
	if _, err := tx.Exec(ctx, migrations.BeforeTableInCatalog, pgx.QueryExecModeSimpleProtocol); err != nil {
		return c, false, err
	}
	var found, before []byte
	for again := true; again && err == nil; again = !bytes.Equal(found, before) { // as migrations do
		before, found = found, nil
		err = tx.QueryRow(ctx, migrations.TableInCatalog, schema, name).Scan(&found)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return c, false, nil
	}
	if err == nil {
		err = json.Unmarshal(found, &c)
	}
	return c, err == nil, err
}
