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
//
// None holds a text of any length, or the application could not write it (law 8): what
// is read by an index implies that its ids fit. A run's own id fits, since the table
// has an index of it.
func indexes(t watched.Table) []index {
	all := []index{endedIndex(t, "run_counter_ended", watched.Workflow, []watched.Role{watched.User, watched.Workflow})}
	if t.Has(watched.Draft) {
		all = append(all, endedIndex(t, "run_counter_ended_draft", watched.Draft, []watched.Role{watched.User, watched.Draft}))
	}
	return append(append(all,
		index{"run_counter_open", "on " + t.SQL() + " (" + strings.Join(slotColumns(t), ", ") + ") where " + t.Open("")},
		index{"run_counter_odd", "on " + t.SQL() + " (" + t.Col("", watched.ID) + ") where " + t.Odd("")},
	), windowIndexes(t)...)
}

// endedIndex is an index of the runs of workflows, or of drafts, that have ended, by
// some of their ids and the end, and with others beside it.
func endedIndex(t watched.Table, name string, ran watched.Role, by []watched.Role, with ...watched.Role) index {
	var key []string
	for _, role := range by {
		for _, column := range columns(t, role) {
			if t.Type(role) == "text" {
				column += ` collate "C"` // as the select has it
			}
			key = append(key, column)
		}
	}
	of := " and " + t.Run("", "has_draft")
	if ran == watched.Workflow {
		of = t.Fits("", watched.Workflow)
		if t.Has(watched.Draft) {
			of = " and " + t.Run("", "no_draft") + of
		}
	}
	return index{name, "on " + t.SQL() + " (" + strings.Join(append(key, t.Col("", watched.CompletedAt)+" desc"), ", ") +
		") include (" + strings.Join(columns(t, append([]watched.Role{watched.Status}, with...)...), ", ") +
		") where " + t.MayHaveEnded("") + of + t.Fits("", watched.ID, watched.User)}
}

// slotColumns lists what the index of open runs holds. A sweep looks for all of them
// there, whatever their ids are.
func slotColumns(t watched.Table) (list []string) {
	for _, role := range []watched.Role{watched.User, watched.Workflow, watched.Draft} {
		if c, there := t.Column(role); there && c.Kind == watched.Text {
			list = append(list, t.Slot("", role))
		} else {
			list = append(list, columns(t, role)...)
		}
	}
	return list
}

// windowIndexes are those that an operator asks for: by them the runs of a user, and of
// a workflow or draft over all its users, are counted in a window, from the index alone.
// That a run has the other id of its key is said by the condition of the index where
// that id is a text, and else by the id in the index.
func windowIndexes(t watched.Table) (all []index) {
	add := func(name string, ran, by, other watched.Role) {
		var with []watched.Role
		if c, there := t.Column(other); there && c.Kind != watched.Text && other != watched.Draft {
			with = []watched.Role{other}
		}
		if ran != watched.Draft || t.Has(watched.Draft) {
			all = append(all, endedIndex(t, name, ran, []watched.Role{by}, with...))
		}
	}
	if t.UserWindows() && !t.Absent(watched.Workflow) {
		add("run_counter_user_windows", watched.Workflow, watched.User, watched.Workflow)
		add("run_counter_user_draft_windows", watched.Draft, watched.User, watched.Draft)
	}
	if t.WorkflowWindows() && !t.Absent(watched.User) {
		add("run_counter_workflow_windows", watched.Workflow, watched.Workflow, watched.User)
		add("run_counter_draft_windows", watched.Draft, watched.Draft, watched.User)
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
