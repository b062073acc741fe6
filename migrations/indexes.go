package migrations

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/edgaze-ai/runcounter/store/watched"
)

// index is an index that the migrations make on the watched table.
type index struct {
	Name       string
	Definition string // from "on" on
}

// Comment says what an index was made for, so that one for other columns or words
// is known.
func (i index) Comment() string { return "Run Counter: " + i.Definition }

// indexes lists the indexes for a table. The ended ones answer last_run_at
// and what an audit counts, from the index alone; the open one has the slots that
// are taken, and what a sweep looks through; the odd one has what is not counted,
// or looks wrong, and is reported.
func indexes(t watched.Table) []index {
	on := func(roles ...watched.Role) string {
		list := columns(t, roles...)
		for i, role := range slices.DeleteFunc(roles, func(role watched.Role) bool { return !t.Has(role) }) {
			if role != watched.ID && t.Type(role) == "text" {
				list[i] += ` collate "C"` // as the select has it
			}
		}
		return "on " + t.SQL() + " (" + strings.Join(list, ", ")
	}
	end, status := t.Col("", watched.CompletedAt), t.Col("", watched.Status)
	ended := func(ran watched.Role) string {
		return on(watched.User, ran) + ", " + end + " desc) include (" + status + ") where " + t.MayHaveEnded("")
	}
	open := index{"run_counter_open", on(watched.User, watched.Workflow, watched.Draft) + ") where " + t.Open("")}
	odd := index{"run_counter_odd", on(watched.ID) + ") where " + t.Odd("")}
	all := []index{{"run_counter_ended", ended(watched.Workflow)}, open, odd}
	if t.Has(watched.Draft) {
		all = []index{
			{"run_counter_ended", ended(watched.Workflow) + " and " + t.Run("", "no_draft")},
			{"run_counter_ended_draft", ended(watched.Draft) + " and " + t.Run("", "has_draft")},
			open, odd,
		}
	}
	return append(all, windowIndexes(t, on)...)
}

// windowIndexes are those that an operator asks for: by them the runs of a user, and of
// a workflow or draft over all its users, are counted in a window, from the index alone.
func windowIndexes(t watched.Table, on func(...watched.Role) string) (all []index) {
	ended := func(name string, of watched.Role, and string, with ...watched.Role) {
		by := on(of)
		if t.Has(of) { // else all runs are one workflow's
			by += ", "
		}
		all = append(all, index{name, by + t.Col("", watched.CompletedAt) + " desc) include (" +
			strings.Join(columns(t, append([]watched.Role{watched.Status}, with...)...), ", ") + ") where " + t.MayHaveEnded("") + and})
	}
	if t.UserWindows() && !t.Absent(watched.Workflow) {
		ended("run_counter_user_windows", watched.User, "", watched.Workflow, watched.Draft)
	}
	switch {
	case !t.WorkflowWindows() || t.Absent(watched.User):
	case t.Has(watched.Draft):
		ended("run_counter_workflow_windows", watched.Workflow, " and "+t.Run("", "no_draft"), watched.User)
		ended("run_counter_draft_windows", watched.Draft, " and "+t.Run("", "has_draft"), watched.User)
	default:
		ended("run_counter_workflow_windows", watched.Workflow, "", watched.User)
	}
	return all
}

// altered compares the table with the one that the migrations were applied to:
// whether it differs in what all that they made was made from. The functions that
// they made would stop every write to a table that has lost a column.
func (p *postgres) altered(conn *sql.Conn) (altered bool, err error) {
	was, there, err := p.described(conn)
	if err != nil || !there {
		return false, err
	}
	now := p.rendering.table
	var detached bool // an older program has made no such column
	err = conn.QueryRowContext(p.ctx, `select coalesce(to_jsonb(s) ->> 'detached_at', '') <> '' from run_counter.settings as s`).Scan(&detached)
	if err != nil || detached {
		return detached, err
	}
	was.Said.Guard = now.Said.Guard // which nothing is made from
	return len(was.Changes(now)) > 0 || !slices.Equal(was.Said.Args(), now.Said.Args()), nil
}

// described returns the table that the migrations were applied to, and false where
// they were not.
func (p *postgres) described(conn *sql.Conn) (was watched.Table, there bool, err error) {
	var text []byte
	err = conn.QueryRowContext(p.ctx, `select to_regclass('run_counter.settings') is not null`).Scan(&there)
	if err == nil && there {
		err = conn.QueryRowContext(p.ctx, `select described from run_counter.settings`).Scan(&text)
	}
	if errors.Is(err, sql.ErrNoRows) || err == nil && !there {
		return was, false, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &was)
	}
	if err != nil {
		return was, false, fmt.Errorf("read what the table was when the migrations were applied: %w", err)
	}
	return was, true, nil
}

// buildIndexes builds the indexes on a table that exists without holding its
// writers off, which the migration alone could not do: CREATE INDEX
// CONCURRENTLY runs outside a transaction.
func (p *postgres) buildIndexes(conn *sql.Conn) error {
	var kind string
	err := conn.QueryRowContext(p.ctx, `select coalesce((select relkind::text from pg_class where oid = to_regclass($1)), '')`, p.rendering.table.SQL()).Scan(&kind)
	if err != nil {
		return fmt.Errorf("look for %s: %w", p.rendering.table, err)
	}
	if kind != "r" { // none yet; or partitioned, where PostgreSQL can't do it concurrently
		return nil
	}
	// It waits for all transactions that are older, but no writer waits for it.
	if _, err := conn.ExecContext(p.ctx, `set lock_timeout = '30s'`); err != nil {
		return fmt.Errorf("set the lock timeout: %w", err)
	}
	for _, i := range indexes(p.rendering.table) {
		if err := p.buildIndex(conn, i); err != nil {
			return fmt.Errorf("build index %s: %w", i.Name, err)
		}
	}
	return nil
}

func (p *postgres) buildIndex(conn *sql.Conn, i index) error {
	schema := watched.Ident(p.rendering.table.Schema)
	var there, valid bool
	err := conn.QueryRowContext(p.ctx, `
select count(*) > 0, coalesce(bool_and(x.indisvalid and obj_description(c.oid, 'pg_class') = $2), false)
  from pg_class as c
  join pg_index as x on x.indexrelid = c.oid
 where c.relnamespace = $3::regnamespace and c.relname = $1`, i.Name, i.Comment(), schema).Scan(&there, &valid)
	if err != nil {
		return err
	}
	if there && valid {
		return nil
	}
	if there { // not usable: what built it was interrupted, or it is for other words
		if _, err := conn.ExecContext(p.ctx, `drop index concurrently if exists `+schema+`.`+i.Name); err != nil {
			return err
		}
	}
	if _, err := conn.ExecContext(p.ctx, `create index concurrently if not exists `+i.Name+` `+i.Definition); err != nil {
		return err
	}
	_, err = conn.ExecContext(p.ctx, `comment on index `+schema+`.`+i.Name+` is `+watched.Literal(i.Comment()))
	return err
}
