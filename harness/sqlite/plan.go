package sqlite

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// plan is what a statement touches, as SQLite's own EXPLAIN tells.
type plan struct {
	reads, writes engine.Resources
	opens         bool // it reads what is committed, where its transaction has not yet
	write         bool // it takes the write lock
	exclusive     bool // and no reader may be there
	begin         bool
	end           bool
	rollback      bool
	other         bool     // schema changes, attached databases: anything
	own           bool     // it reads what only its connection has
	leaves        bool     // it leaves something on its connection
	virtual       bool     // it touches virtual tables
	clock         bool     // it reads the clock
	undoes        bool     // where it fails, it may roll back its transaction
	inside        []string // what can't be told of it
	savepoint     savepoint
	point         string // its name
	read, written []string
}

// reader reports whether a statement does nothing but read what all
// connections share.
func (p *plan) reader() bool {
	return !p.write && !p.begin && !p.end && !p.other && !p.own && !p.leaves && p.savepoint == noSavepoint
}

// A savepoint is what a statement does with one.
type savepoint int

const (
	noSavepoint savepoint = iota
	setSavepoint
	releaseSavepoint
	backToSavepoint
)

// planNow is the plan of a statement given what its connection is in: a
// savepoint outside of a transaction begins one, and its release ends it.
func (p *physical) planNow(text string, args []driver.NamedValue) (*plan, error) {
	plan, err := p.planOf(text, args)
	if err != nil || plan.savepoint == noSavepoint {
		return plan, err
	}
	now := *plan
	switch {
	case plan.savepoint == setSavepoint:
		now.begin = !p.inTx
	case plan.savepoint == releaseSavepoint && !p.nameless:
		now.end = p.inTx && p.place(plan.point) == 0
	}
	return &now, nil
}

// place is where a savepoint is among those of a transaction: the last of that
// name.
func (p *physical) place(point string) int {
	for i, name := range slices.Backward(p.points) {
		if name == point {
			return i
		}
	}
	return -1
}

// pointed notes what a statement did with a savepoint.
func (p *physical) pointed(plan *plan) {
	at := p.place(plan.point)
	switch {
	case !p.inTx: // it was the first of its transaction
	case plan.savepoint == setSavepoint:
		p.points = append(p.points, plan.point)
	case plan.savepoint == releaseSavepoint && at >= 0:
		p.points = p.points[:at]
	case plan.savepoint == backToSavepoint && at >= 0:
		p.points = p.points[:at+1]
	}
}

// pointOf reads what a statement does with a savepoint. Each of these has a
// name of its own where an ORM draws it, so that no plan of it is kept.
func pointOf(text string) (does savepoint, point string) {
	words := make([]string, 0, 5)
	for text != "" && len(words) < 5 {
		var word string
		if word, text = cutWord(text); word != "" {
			words = append(words, word)
		}
	}
	take := func(word string) bool {
		if len(words) == 0 || words[0] != word {
			return false
		}
		words = words[1:]
		return true
	}
	switch {
	case take("savepoint"):
		does = setSavepoint
	case take("release"):
		does = releaseSavepoint
		if len(words) > 1 {
			take("savepoint")
		}
	case take("rollback"):
		take("transaction")
		if !take("to") {
			return noSavepoint, ""
		}
		does = backToSavepoint
		if len(words) > 1 {
			take("savepoint")
		}
	}
	if does == noSavepoint || len(words) != 1 {
		return noSavepoint, ""
	}
	return does, words[0]
}

// cutWord returns the first word or quoted name of a text, in small letters and
// without its quotes, and the rest.
func cutWord(text string) (word, rest string) {
	text = afterComments(text)
	if text == "" {
		return "", ""
	}
	if at := strings.IndexByte("\"`'[", text[0]); at >= 0 {
		closing := "\"`']"[at : at+1]
		word, rest, _ = strings.Cut(text[1:], closing)
		for closing != "]" && strings.HasPrefix(rest, closing) { // a quote in a name is written twice
			var more string
			more, rest, _ = strings.Cut(rest[1:], closing)
			word += closing + more
		}
		return strings.ToLower(word), rest
	}
	end := strings.IndexFunc(text, func(r rune) bool {
		return r < 128 && r != '_' && r != '$' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
	switch {
	case end < 0:
		end = len(text)
	case end == 0:
		end = 1
	}
	return strings.ToLower(text[:end]), text[end:]
}

// harmlessPragmas ask for something by an argument, and set nothing.
var harmlessPragmas = []string{"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list", "foreign_key_check", "integrity_check", "quick_check"}

// planOf asks SQLite what a statement touches, once for each text.
func (p *physical) planOf(text string, args []driver.NamedValue) (*plan, error) {
	plans := p.plans
	if !p.special {
		plans = p.db.sideOf(p.query).plans
	} else if plans == nil {
		p.plans = map[string]*plan{}
		plans = p.plans
	}
	if plan, ok := plans[text]; ok {
		return plan, nil
	}
	first, rest := cutWord(text)
	made, keep := &plan{}, true
	var err error
	switch first {
	case "explain": // it tells what a statement would do, and doesn't
	case "savepoint", "release", "rollback":
		if made.savepoint, made.point = pointOf(text); made.savepoint != noSavepoint {
			keep = false
			break
		}
		made, err = p.explain(text, args)
	case "attach", "detach":
		made.other, made.leaves = true, true
	case "pragma":
		name, rest := cutWord(rest)
		if strings.ContainsAny(rest, "=(") && !slices.Contains(harmlessPragmas, name) {
			if made, err = p.explainOn(p, text, args); err == nil { // which sets some of them
				made.leaves = true
			}
		} else if made, err = p.explain(text, args); err == nil {
			made.own = !made.opens // a setting of its connection
		}
	default:
		made, err = p.explain(text, args)
	}
	if err == nil && keep {
		plans[text] = made
	}
	return made, err
}

// explain asks on a connection that no lock holds up, unless this one has what
// that lacks.
func (p *physical) explain(text string, args []driver.NamedValue) (*plan, error) {
	if !p.special {
		reader, err := p.db.committed(p.query)
		if err != nil {
			return nil, err
		}
		if made, err := p.explainOn(reader, text, args); err == nil {
			return made, nil
		}
	}
	return p.explainOn(p, text, args)
}

func (p *physical) explainOn(on *physical, text string, args []driver.NamedValue) (*plan, error) {
	w := &watcher{}
	p.db.watcher = w
	explained, err := on.queryRaw("explain "+text, args)
	p.db.watcher = nil
	if s, ok := on.stmts["explain "+text]; ok {
		err = errors.Join(err, s.Close())
		delete(on.stmts, "explain "+text)
	}
	if err != nil {
		return nil, err
	}
	made := &plan{}
	for _, row := range explained.Values {
		if name, _, ok := strings.Cut(fmt.Sprint(row[5]), "("); ok && (row[1] == "Function" || row[1] == "PureFunc") {
			_, clock := clockFunctions[strings.ToLower(name)]
			made.clock = made.clock || clock
		}
		made.opcode(p.db, row[1].(string), row[2].(int64), row[3].(int64), row[4].(int64))
	}
	made.named(p.db, w)
	if made.begin { // which names the database of temporary tables too
		made.own, made.leaves = false, false
	}
	return made, nil
}

// opcode adds what one instruction of SQLite's touches.
func (p *plan) opcode(d *Database, name string, p1, p2, p3 int64) {
	switch name {
	case "OpenRead", "ReopenIdx":
		switch {
		case p3 > 1:
			p.other = true
		case p3 == 1:
			p.own = true
		case p2 == 1: // the schema, and what changes it touches everything
		default:
			p.reads |= d.resource(p2, p, &p.read)
		}
	case "OpenWrite":
		if p3 == 0 {
			p.writes |= d.resource(p2, p, &p.written)
		}
	case "Clear":
		if p2 == 0 {
			p.writes |= d.resource(p1, p, &p.written)
		}
	case "Transaction":
		switch p1 {
		case 0:
			p.opens = true
			p.write, p.exclusive = p.write || p2 > 0, p.exclusive || p2 > 1
		case 1:
			p.own, p.leaves = true, p.leaves || p2 > 0
		default:
			p.other = true
		}
	case "AutoCommit":
		p.begin, p.end, p.rollback = p1 == 0, p1 == 1, p2 == 1
	case "ReadCookie":
		if p1 == 0 {
			p.reads |= d.host.Resource(d.name + "cookie")
		}
	case "SetCookie":
		if p1 == 0 {
			p.writes |= d.host.Resource(d.name + "cookie")
		}
	case "VOpen", "VUpdate":
		p.virtual = true
	case "Halt", "HaltIfNull":
		const failAndRollBack = 1 // OE_Rollback
		p.undoes = p.undoes || p1 != 0 && p2 == failAndRollBack
	case "JournalMode":
		p.other = p.other || p3 >= 0 // or it is asked for
	case "Savepoint", "CreateBtree", "ParseSchema", "Destroy", "DropTable", "VCreate", "VDestroy", "VRename", "Vacuum", "IncrVacuum", "Checkpoint", "Pagecount", "MaxPgcnt":
		p.other = true
	}
}

func (d *Database) resource(root int64, plan *plan, names *[]string) engine.Resources {
	table, ok := d.roots[root]
	if !ok {
		plan.other = true
		return 0
	}
	return d.named(table, names)
}

func (d *Database) named(table string, names *[]string) engine.Resources {
	if !slices.Contains(*names, table) {
		*names = append(*names, table)
	}
	return d.host.Resource(d.name + table)
}

// footprint says what a statement touches, given what its connection holds.
func (p *physical) footprint(plan *plan) engine.Footprint {
	f := p.footprintOf(plan)
	if plan.clock {
		f.Reads |= p.db.host.Resource("clock")
	}
	if plan.undoes && p.inTx {
		f = f.And(p.ending(true))
	}
	return f
}

func (p *physical) footprintOf(plan *plan) engine.Footprint {
	d := p.db
	switch {
	case plan.other:
		return engine.Footprint{Everything: true}
	case plan.begin:
		if plan.write {
			return p.taking(plan)
		}
		return engine.Footprint{}
	case plan.end:
		return p.ending(plan.rollback)
	case p.locked:
		return engine.Footprint{} // no other connection sees it before the commit
	case p.inTx && plan.write:
		return p.taking(plan)
	case p.inTx && (p.snapshot || !plan.opens):
		return engine.Footprint{}
	case p.inTx:
		f := engine.Footprint{Reads: d.published}
		if !d.config.WAL {
			f.Reads |= d.lock
		}
		return f
	case plan.write:
		// The lock is given back at once, so that it is read: who holds it
		// longer writes it. What is published grows: who takes a snapshot reads
		// that, and two who add to it don't notice each other.
		f := engine.Footprint{Reads: plan.reads | d.lock, Adds: d.published, Writes: plan.writes, Shows: plan.writes}
		if !d.config.WAL {
			f.Reads |= d.readers
		}
		return f
	case !plan.opens:
		return engine.Footprint{}
	}
	f := engine.Footprint{Reads: plan.reads}
	if !d.config.WAL {
		f.Reads |= d.lock
	}
	return f
}

func (p *physical) taking(plan *plan) engine.Footprint {
	f := engine.Footprint{Reads: p.db.published, Writes: p.db.lock}
	if plan.exclusive && !p.db.config.WAL {
		f.Reads |= p.db.readers
	}
	return f
}

func (p *physical) ending(rollback bool) engine.Footprint {
	var f engine.Footprint
	if p.locked {
		f.Writes = p.db.lock
		if !rollback {
			f.Writes |= p.db.published | p.wrote
			f.Shows = p.wrote
			if !p.db.config.WAL {
				f.Reads |= p.db.readers
			}
		}
	}
	if p.snapshot && !p.db.config.WAL {
		f.Writes |= p.db.readers
	}
	return f
}
