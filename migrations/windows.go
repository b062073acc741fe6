package migrations

import (
	"cmp"
	"database/sql"
	"fmt"
	"slices"
)

// Windows says which of the optional indexes Up makes, by which the runs in a window
// are counted: those of a user, and those of a workflow or draft over all its users.
// True makes one, false drops it, and nil leaves what is there. A window of one key
// needs neither.
type Windows struct{ User, Workflow *bool }

// SetWindows has Up make or drop the indexes of windows.
func (m *Migrator) SetWindows(w Windows) { m.windows = w }

// TotalsFor lists who may ask for a workflow's count over all its users: service_role
// and API keys, also whoever is signed in, or everyone.
func TotalsFor() []string { return []string{"keys", "users", "everyone"} }

// SetTotalsFor has Up set who may ask a PostgreSQL database for a workflow's count over
// all its users: keys, users or everyone. "" leaves it as it is, at first keys.
func (m *Migrator) SetTotalsFor(who string) {
	if m.postgres != nil {
		m.postgres.totalsFor = who
	}
}

// sayWindows adds the windows to what is said of the watched table, which the database
// keeps.
func (m *Migrator) sayWindows() {
	m.postgres.given.UserWindows = cmp.Or(m.windows.User, m.postgres.given.UserWindows)
	m.postgres.given.WorkflowWindows = cmp.Or(m.windows.Workflow, m.postgres.given.WorkflowWindows)
}

// requireTotalsFor refuses another word before anything is changed.
func (p *postgres) requireTotalsFor() error {
	if p.totalsFor != "" && !slices.Contains(TotalsFor(), p.totalsFor) {
		return fmt.Errorf("%q is not who may ask for totals: say keys, users or everyone", p.totalsFor)
	}
	return nil
}

// setTotalsFor sets who may ask for totals, and gives and takes the privileges for it.
func (p *postgres) setTotalsFor(conn *sql.Conn) error {
	if p.totalsFor == "" {
		return nil
	}
	tx, err := conn.BeginTx(p.ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // of no effect after the commit
	if _, err := tx.ExecContext(p.ctx, `update run_counter.settings set totals_for = $1 where totals_for <> $1`, p.totalsFor); err != nil {
		return err
	}
	if _, err := tx.ExecContext(p.ctx, `select run_counter.settle_totals_for()`); err != nil {
		return err
	}
	return tx.Commit()
}
