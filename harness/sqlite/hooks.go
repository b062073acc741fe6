package sqlite

import (
	"database/sql/driver"
	"errors"

	"modernc.org/sqlite"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// deeds are what SQLite did in a statement, as its hooks tell.
type deeds struct {
	changed    engine.Resources // tables of which it changed rows
	tables     []string         // their names
	committed  bool
	rolledBack bool
}

// hook has SQLite tell what it does on a connection.
func (p *physical) hook(raw driver.Conn) error {
	h, ok := raw.(sqlite.HookRegisterer)
	if !ok {
		return errors.New("the driver has no hooks")
	}
	d := p.db
	h.RegisterPreUpdateHook(func(change sqlite.SQLitePreUpdateData) {
		if change.DatabaseName != "main" {
			return
		}
		r := d.host.Resource(d.name + d.tableOf(change.TableName))
		if p.did.changed&r == 0 {
			p.did.changed |= r
			p.did.tables = append(p.did.tables, d.tableOf(change.TableName))
		}
	})
	h.RegisterCommitHook(func() int32 { p.did.committed = true; return 0 })
	h.RegisterRollbackHook(func() { p.did.rolledBack = true })
	return nil
}

// verify holds what SQLite did to what was scheduled: it changed rows of the
// tables that the plan names, and ended the transaction where the footprint
// says so. A lie there would make a proof of something false.
func (p *physical) verify(text string, plan *plan) {
	if plan.other {
		return
	}
	may := plan.writes
	if p.inTx {
		may |= p.wrote // a virtual table writes at the end
	}
	if p.did.changed&^may != 0 {
		for _, table := range p.did.tables {
			if p.db.host.Resource(p.db.name+table)&^may != 0 {
				p.db.host.Unscheduled(engine.Clip(text, 60) + " changed rows of " + table + ", which was not planned")
			}
		}
	}
	mayCommit := plan.leaves || plan.end && !plan.rollback || plan.write && !p.inTx
	if p.did.committed && !mayCommit {
		p.db.host.Unscheduled(engine.Clip(text, 60) + " committed, which was not planned")
	}
	if p.did.rolledBack && p.inTx && !plan.rollback && !plan.undoes {
		p.db.host.Unscheduled(engine.Clip(text, 60) + " rolled back its transaction, which was not planned")
	}
}
