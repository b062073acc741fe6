package migrations

import (
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// indexFile is where the indexes on the watched table are defined.
const indexFile = "postgres/20260101000001_indexes.up.sql"

// index is one that the migrations make on the watched table.
type index struct {
	name       string
	definition string // from "on" on
}

var (
	draftOnly = regexp.MustCompile(`/\*draft\*/.*?/\*end\*/`)
	markers   = strings.NewReplacer("/*draft*/", "", "/*end*/", "")
	indexLine = regexp.MustCompile(`(?m)^create index if not exists (\w+) (on public\.workflow_runs .*);$`)
)

// indexes reads the definitions from the migration, one a line, and makes them
// fit a table with or without draft_id as run_counter.fit does.
func indexes(draft bool) ([]index, error) {
	text, err := files.ReadFile(indexFile)
	if err != nil {
		return nil, err
	}
	fit := string(text)
	if !draft {
		fit = draftOnly.ReplaceAllString(fit, "")
	}
	var all []index
	for _, found := range indexLine.FindAllStringSubmatch(markers.Replace(fit), -1) {
		all = append(all, index{name: found[1], definition: found[2]})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s defines no index in the form that is read here", indexFile)
	}
	return all, nil
}

// draftChanged reports whether the table has gained or lost draft_id since the
// migrations were applied. The functions that they made would stop every write
// to a table without it, and count drafts as workflows with it.
func (p *postgres) draftChanged(conn *sql.Conn) (changed bool, err error) {
	var installed bool
	err = conn.QueryRowContext(p.ctx, `select to_regclass('run_counter.settings') is not null and to_regclass('public.workflow_runs') is not null`).Scan(&installed)
	if err == nil && installed {
		err = conn.QueryRowContext(p.ctx, `
select s.draft_id <> exists (select from pg_attribute
                              where attrelid = 'public.workflow_runs'::regclass and attname = 'draft_id' and not attisdropped)
  from run_counter.settings as s`).Scan(&changed)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return false, fmt.Errorf("look whether workflow_runs has draft_id: %w", err)
	}
	return changed, nil
}

// buildIndexes builds the indexes on a table that exists without holding its
// writers off, which the migration alone could not do: CREATE INDEX
// CONCURRENTLY runs outside a transaction. anew is for a table whose columns
// have changed.
func (p *postgres) buildIndexes(conn *sql.Conn, anew bool) error {
	var kind string
	var draft bool
	err := conn.QueryRowContext(p.ctx, `
select coalesce((select relkind::text from pg_class where oid = to_regclass('public.workflow_runs')), ''),
       exists (select from pg_attribute
                where attrelid = to_regclass('public.workflow_runs') and attname = 'draft_id' and not attisdropped)`).Scan(&kind, &draft)
	if err != nil {
		return fmt.Errorf("look for workflow_runs: %w", err)
	}
	if kind != "r" { // none yet; or partitioned, where PostgreSQL can't do it concurrently
		return nil
	}
	all, err := indexes(draft)
	if err != nil {
		return err
	}
	// It waits for all transactions that are older, but holds nobody off.
	if _, err := conn.ExecContext(p.ctx, `set lock_timeout = '30s'`); err != nil {
		return fmt.Errorf("set the lock timeout: %w", err)
	}
	for _, i := range all {
		if err := p.buildIndex(conn, i, anew); err != nil {
			return fmt.Errorf("build index %s: %w", i.name, err)
		}
	}
	return nil
}

func (p *postgres) buildIndex(conn *sql.Conn, i index, anew bool) error {
	var there, valid bool
	err := conn.QueryRowContext(p.ctx, `
select count(*) > 0, coalesce(bool_and(x.indisvalid), false)
  from pg_class as c
  join pg_index as x on x.indexrelid = c.oid
 where c.relnamespace = 'public'::regnamespace and c.relname = $1`, i.name).Scan(&there, &valid)
	if err != nil {
		return err
	}
	if there && valid && !anew {
		return nil
	}
	if there { // not usable: what built it was interrupted
		if _, err := conn.ExecContext(p.ctx, `drop index concurrently if exists public.`+i.name); err != nil {
			return err
		}
	}
	_, err = conn.ExecContext(p.ctx, `create index concurrently if not exists `+i.name+` `+i.definition)
	return err
}
