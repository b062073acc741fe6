package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

	"modernc.org/sqlite"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// remember keeps what the setup left.
func (d *Database) remember() error {
	if err := d.rememberVirtual(); err != nil {
		return err
	}
	d.roots, d.tables, d.fill = map[int64]string{}, nil, map[string]string{}
	var err error
	if d.schema, err = textsOf(d.keeper, `select coalesce(sql, name) from sqlite_master order by rowid`); err != nil {
		return err
	}
	rows, err := d.keeper.QueryContext(context.Background(), `select tbl_name, coalesce(rootpage, 0), type = 'table' from sqlite_master where type in ('table', 'index') order by rowid`)
	if err != nil {
		return err
	}
	for rows.Next() {
		var name string
		var root int64
		var table bool
		if err := rows.Scan(&name, &root, &table); err != nil {
			return errors.Join(err, rows.Close())
		}
		if root > 0 {
			d.roots[root] = d.tableOf(name)
		}
		if table && root > 0 { // one without is virtual
			d.tables = append(d.tables, name)
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	if i := slices.Index(d.tables, sequences); i >= 0 { // the last, since filling others writes it
		d.tables = append(slices.Delete(d.tables, i, i+1), sequences)
	}
	if d.resetter, err = d.open(""); err != nil {
		return err
	}
	if err := withoutTriggers(d.resetter.conn); err != nil {
		return err
	}
	if _, err := d.resetter.execRaw(`attach ':memory:' as saved`, nil); err != nil {
		return err
	}
	for i, table := range d.tables {
		if err := d.save(i, table); err != nil {
			return fmt.Errorf("keep the rows of %s: %w", table, err)
		}
	}
	return nil
}

// save copies a table to where the resetter finds it: within SQLite, since a
// value is not the same when it has been through the driver (an empty blob, a
// time), and with the numbers of its rows.
func (d *Database) save(i int, table string) error {
	// Generated columns can't be written: the names that can.
	cols, err := textsOf(d.keeper, `select name from pragma_table_xinfo(?) where hidden = 0`, table)
	if err != nil {
		return err
	}
	without, err := textsOf(d.keeper, `select wr from pragma_table_list where schema = 'main' and name = ?`, table)
	if err != nil {
		return err
	}
	key := slices.IndexFunc(cols, func(col string) bool { return strings.EqualFold(col, "rowid") })
	if key < 0 && table != sequences && len(without) == 1 && without[0] == "0" {
		cols = append([]string{"rowid"}, cols...)
	}
	list := make([]string, len(cols))
	named := make([]string, len(cols))
	for i, col := range cols {
		list[i] = quoted(col)
		named[i] = fmt.Sprintf("%s as c%d", list[i], i)
	}
	from, to := "main."+quoted(table), fmt.Sprintf("saved.t%d", i)
	if _, err := d.resetter.execRaw("create table "+to+" as select "+strings.Join(named, ", ")+" from "+from, nil); err != nil {
		return err
	}
	some, err := d.resetter.queryRaw("select 1 from "+to+" limit 1", nil)
	if err == nil && len(some.Values) > 0 {
		d.fill[table] = "insert into " + from + " (" + strings.Join(list, ", ") + ") select * from " + to
	}
	return err
}

func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func textsOf(db *sql.DB, query string, args ...any) (list []string, err error) {
	rows, err := db.QueryContext(context.Background(), query, args...)
	if err != nil {
		return nil, err
	}
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, errors.Join(err, rows.Close())
		}
		list = append(list, s)
	}
	return list, errors.Join(rows.Err(), rows.Close())
}

// reset puts back what the setup left: it empties the tables, which is a
// hundred times faster than making a database.
func (d *Database) reset() {
	clear(d.used)
	for key, pool := range d.pool {
		for i, p := range pool {
			p.clean()
			if !p.special {
				continue
			}
			_ = p.conn.Close() // it has settings that the next schedule would find
			fresh, err := d.open(p.query)
			if err == nil {
				err = fresh.hook(fresh.conn)
			}
			if err != nil {
				panic(fmt.Sprintf("harness: open a connection anew: %v", err))
			}
			d.pool[key][i] = fresh
		}
	}
	if len(d.dirty) == 0 && !d.unknown {
		return
	}
	if d.unknown {
		d.sameSchema()
	}
	if err := d.restore(); err != nil {
		panic(fmt.Sprintf("harness: put a SQLite database back to its beginning: %v", err))
	}
	clear(d.dirty)
	d.unknown = false
}

// sameSchema panics where an actor has changed it: the next schedule would find
// what this one has made.
func (d *Database) sameSchema() {
	now, err := textsOf(d.keeper, `select coalesce(sql, name) from sqlite_master order by rowid`)
	if err != nil {
		panic(fmt.Sprintf("harness: look at the schema: %v", err))
	}
	for i, text := range now {
		if i >= len(d.schema) || d.schema[i] != text {
			panic(fmt.Sprintf("harness: the scenario has changed the schema (%s), which every schedule would do anew: make tables in Setup", engine.Clip(text, 80)))
		}
	}
	if len(now) < len(d.schema) {
		panic(fmt.Sprintf("harness: the scenario has dropped a table (%s), which every schedule would do anew: leave the schema to Setup", engine.Clip(d.schema[len(now)], 80)))
	}
}

func (d *Database) restore() error {
	if _, err := d.resetter.execRaw("begin immediate", nil); err != nil {
		return err
	}
	if err := d.refill(); err != nil {
		_, _ = d.resetter.execRaw("rollback", nil)
		return err
	}
	_, err := d.resetter.execRaw("commit", nil)
	return err
}

// refill puts back the rows of the tables that were written. The last of them is
// that of the sequences, which filling others writes.
func (d *Database) refill() error {
	for _, table := range d.tables {
		if !d.unknown && !d.dirty[d.tableOf(table)] && table != sequences {
			continue
		}
		if _, err := d.resetter.execRaw("delete from "+quoted(table), nil); err != nil {
			return fmt.Errorf("empty %s: %w", table, err)
		}
		if fill := d.fill[table]; fill != "" {
			if _, err := d.resetter.execRaw(fill, nil); err != nil {
				return fmt.Errorf("fill %s: %w", table, err)
			}
		}
	}
	return nil
}

// withoutTriggers has a connection leave out what triggers do: the authorizer
// has SQLite compile none of it.
func withoutTriggers(raw driver.Conn) error {
	return raw.(sqlite.AuthorizerRegisterer).RegisterAuthorizer(func(_ sqlite.AuthorizerActionCode, _, _, _, trigger string) sqlite.AuthorizerReturnCode {
		if trigger != "" {
			return sqlite.AuthorizerIgnore
		}
		return sqlite.AuthorizerOK
	})
}
