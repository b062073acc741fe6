package postgres

import (
	"fmt"
	"slices"
	"strings"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// The footprint of a statement is made of two resources for each table: its data, as
// far as they are committed, and its locks. At READ COMMITTED a statement within a
// transaction reads data and takes locks, which others have to wait for; COMMIT
// publishes the data and gives the locks back. A statement in no transaction does all
// of that at once: it needs the locks, and keeps none. Of any other level of isolation
// nothing is said: there a statement's snapshot, which is of all tables, may be that of
// an earlier one.

// pending is what a transaction has done so far.
type pending struct {
	reads, writes engine.Resources // data
	locks, shares engine.Resources // that it holds
	everything    bool
}

// An isolated session may have another level.
var isolationWords = []string{"isolation", "serializable", "repeatable", "characteristics", "set_config"}

func mentionsIsolation(text string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc(isolationWords, func(word string) bool { return strings.Contains(text, word) })
}

func (d *Database) data(at object) engine.Resources {
	return d.host().Resource(fmt.Sprintf("postgres %p %d", d, at.OID))
}

func (d *Database) locks(at object) engine.Resources {
	return d.host().Resource(fmt.Sprintf("postgres %p %d locks", d, at.OID))
}

// touches returns what a statement touches. What changes that for others ends all
// reduction, and the exploration begins anew.
func (d *Database) touches(s sqlStatement) (t touched, c *catalog) {
	d.mu.Lock()
	c = d.catalog
	d.mu.Unlock()
	if c == nil {
		var err error
		if c, err = d.observer.readCatalog(d.stepped); err != nil {
			return touched{everything: true, defines: true}, nil
		}
		d.mu.Lock()
		d.catalog = c
		d.mu.Unlock()
	}
	if c.opaque {
		return touched{everything: true}, c
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	t, ok := c.seen[s.text]
	if !ok {
		t = c.touches(s)
		c.seen[s.text] = t
	}
	if t.defines && !d.opaque {
		d.opaque, d.opaqueNow = true, true
	}
	return t, c
}

// footprint returns that of a statement, and what its transaction has done then.
func (w *wire) footprint(what sqlStatement) (f engine.Footprint, after pending) {
	d := w.gate.now()
	w.mu.Lock()
	status, alone, isolated, tx := w.status, what.alone && !w.dividing, w.isolated, w.tx
	w.mu.Unlock()
	everything := engine.Footprint{Everything: true}
	d.mu.Lock()
	opaque := d.opaque || d.config.unreduced
	d.mu.Unlock()
	if opaque || w.proxy != nil || what.partial || what.count > 1 || !alone || isolated {
		return everything, pending{everything: true}
	}
	switch {
	case status == 'I' && what.begins():
		return f, pending{}
	case status == 'T' && tx.everything:
		return everything, tx
	case status == 'T' && what.commits():
		return engine.Footprint{Reads: tx.reads, Writes: tx.writes | tx.locks, Adds: tx.shares, Shows: tx.writes}, pending{}
	case status == 'T' && (what.word(0) == "rollback" || what.word(0) == "abort") && !slices.ContainsFunc(what.tokens, func(t token) bool { return t.text == "to" }):
		return engine.Footprint{Writes: tx.locks, Adds: tx.shares}, pending{}
	}
	t, c := d.touches(what)
	if t.everything || status != 'I' && status != 'T' {
		return everything, pending{everything: true}
	}
	var locks, shares engine.Resources
	for _, table := range t.tables {
		f.Reads |= d.data(table)
		if t.how == onlyReads {
			continue
		}
		locks |= d.locks(table)
		if t.how < writesRows {
			continue
		}
		f.Writes |= d.data(table)
		for _, parent := range c.parents[table] { // which must stay
			shares |= d.locks(parent)
		}
		for _, child := range c.children[table] { // of which there must be none
			f.Reads |= d.data(child)
			locks |= d.locks(child)
		}
	}
	if status == 'I' {
		f.Reads |= locks | shares
		f.Shows = f.Writes
		return f, pending{}
	}
	after = pending{reads: tx.reads | f.Reads, writes: tx.writes | f.Writes, locks: tx.locks | locks, shares: tx.shares | shares}
	// An error gives back what there is, and so does a connection that is closed.
	return engine.Footprint{Reads: f.Reads, Writes: after.locks, Adds: after.shares}, after
}
