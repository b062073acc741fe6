package sqlmodel

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// Config says which database [New] makes.
type Config struct {
	// Schema is statements that create tables, indexes and sequences, and fill
	// them: each schedule finds what they leave.
	Schema string
	// Faults are what the database may do beside what it was asked to:
	// [harness.Refused] ends a statement that writes or locks with 40001,
	// [harness.Deadlock] with 40P01, and its transaction with it;
	// [harness.LostBefore] and [harness.LostAfter] fail a COMMIT whose outcome
	// the actor can't know.
	Faults []harness.Fault
}

// Database is the model of a PostgreSQL database, whose every statement is a
// step.
type Database struct {
	host   engine.Host
	config Config
	name   string
	cat    *catalog
	rows   [][][]any // what the schema's text has left
	seqs   []sequence
	drawn  int
	plans  map[string]compiled
	st     *state
	conns  []*conn

	touchables       map[*table]touchable
	advisory, random engine.Resources
}

// compiled is a plan, or why there is none.
type compiled struct {
	plan *plan
	err  error
}

type touchable struct{ data, locks engine.Resources }

// New returns the database of this schedule. The scenario calls it in the same
// order each time. It panics where the model does not know a statement of the
// schema.
func New(s *harness.Sim, config Config) *Database {
	host := s.Engine()
	d := engine.Next(host, func(number int) *Database {
		d := &Database{host: host, config: config, name: fmt.Sprintf("sql%d.", number), plans: map[string]compiled{}, touchables: map[*table]touchable{}}
		if err := d.make(alone{host}); err != nil {
			panic(fmt.Sprintf("harness: set up the model: %v", err))
		}
		d.advisory, d.random = host.Resource(d.name+"advisory locks"), host.Resource(d.name+"sequences")
		return d
	})
	d.host, d.conns = host, nil
	d.st = newState(d.cat, d.rows, d.seqs)
	d.st.drawn = d.drawn
	return d
}

// Open returns a handle on a database that these statements make. Every
// statement through it is a step; see [New] for more.
func Open(s *harness.Sim, schema ...string) *sql.DB {
	return New(s, Config{Schema: strings.Join(schema, ";\n")}).Open()
}

// make carries out the schema's text.
func (d *Database) make(p parker) error {
	list, err := parse(d.config.Schema)
	if err != nil {
		return err
	}
	d.cat = newCatalog()
	st := newState(d.cat, nil, nil)
	s := &session{st: st, parker: p}
	for _, p := range list {
		if err := setUp(s, p); err != nil {
			return fmt.Errorf("%s: %w", engine.Clip(p.text, 60), err)
		}
	}
	d.rows, d.seqs, d.drawn = st.contents(), st.seqs, st.drawn
	return nil
}

// setUp carries out a statement of a schema.
func setUp(s *session, p parsed) error {
	switch p.stmt.(type) {
	case *createTable, *createIndex, *createSequence, *alterTable:
		for _, h := range s.st.heaps {
			if _, table := p.stmt.(*createTable); len(h) > 0 && !table {
				return refuse("constraints and indexes of tables with rows: write the inserts last")
			}
		}
		if err := s.st.cat.define(p.stmt); err != nil {
			return err
		}
		for len(s.st.heaps) < len(s.st.cat.list) {
			s.st.heaps = append(s.st.heaps, nil)
		}
		for len(s.st.seqs) < len(s.st.cat.seqs) {
			s.st.seqs = append(s.st.seqs, sequence{})
		}
		return nil
	}
	plan, err := compile(s.st.cat, p)
	if err != nil {
		return err
	}
	if len(plan.params) > 0 {
		return stateError("42P02", "there is no parameter $1")
	}
	_, err = s.run(plan, nil)
	return err
}

// alone is the parker of the schema's text, which never waits.
type alone struct{ engine.Host }

func (alone) park(*session, func() []*tx) error {
	return errors.New("the schema's text waits for itself")
}
func (a alone) now() time.Time { return a.Now() }

// plan compiles a text, once.
func (d *Database) plan(text string) (*plan, error) {
	if c, ok := d.plans[text]; ok {
		return c.plan, c.err
	}
	c := compiled{}
	c.plan, c.err = compileText(d.cat, text)
	d.plans[text] = c
	return c.plan, c.err
}

func compileText(cat *catalog, text string) (*plan, error) {
	list, err := parse(text)
	switch {
	case err != nil:
		return nil, err
	case len(list) > 1:
		return nil, refuse("several statements in one text")
	case len(list) == 0:
		return &plan{run: func(*exec) (*answer, error) { return &answer{}, nil }}, nil
	}
	return compile(cat, list[0])
}

// Open returns a handle on the database: give it to actors, and to oracles,
// whose statements are no steps, and read what is committed.
func (d *Database) Open() *sql.DB {
	db := sql.OpenDB(d.Connector())
	d.host.OnEnd(func() { _ = db.Close() })
	return db
}

// Connector returns what [sql.OpenDB] needs.
func (d *Database) Connector() driver.Connector { return connector{d, d.st, d.host.Schedule()} }

type connector struct {
	d    *Database
	st   *state
	born any
}

// Connect opens a connection.
func (k connector) Connect(context.Context) (driver.Conn, error) {
	c := &conn{session: &session{st: k.st}, db: k.d, host: k.d.host, born: k.born}
	c.parker = c
	k.d.conns = append(k.d.conns, c)
	return c, nil
}

// Driver is for database/sql.
func (k connector) Driver() driver.Driver { return opener{k} }

type opener struct{ k connector }

// Open opens a connection, whatever its name.
func (o opener) Open(string) (driver.Conn, error) { return o.k.Connect(context.Background()) }

// Crashed rolls back what a dead process had open.
func (d *Database) Crashed(a engine.Actor) {
	for _, c := range d.conns {
		if c.user == a {
			c.abandon()
			c.wrote, c.lost = nil, true
		}
	}
}

// Traits is what reports need to know of PostgreSQL.
func (d *Database) Traits() engine.Traits {
	const before = "lock one row that both take, by a statement before the read (for update), or run both as serializable"
	return engine.Traits{KeepRow: "read it with for update", ComeFirst: before, ReadAfresh: before, Packages: []string{"github.com/edgaze-ai/runcounter/harness/postgres/sqlmodel."}}
}

// of is what can be touched of a table.
func (d *Database) of(t *table) touchable {
	r, ok := d.touchables[t]
	if !ok {
		r = touchable{d.host.Resource(d.name + t.name), d.host.Resource(d.name + t.name + " locks")}
		d.touchables[t] = r
	}
	return r
}

// releases is the footprint of giving locks back.
func (c *conn) releases() (f engine.Footprint) {
	for _, t := range c.wrote {
		f.Writes |= c.db.of(t).locks
	}
	return f
}

// footprint is what a statement touches: whole tables.
func (c *conn) footprint(p *plan) engine.Footprint {
	f := c.releases() // an error would give them back
	d := c.db
	if p.control != nil {
		switch p.control.verb {
		case "commit":
			for _, t := range c.wrote {
				f.Writes |= d.of(t).data
				f.Shows |= d.of(t).data
			}
		case "begin", "savepoint", "release":
			return engine.Footprint{}
		}
		if f.Writes |= d.advisory; !c.advised {
			f.Writes &^= d.advisory
		}
		return f
	}
	for _, t := range p.reads {
		f.Reads |= d.of(t).data
	}
	for _, t := range append(append([]*table{}, p.writes...), p.locks...) {
		f.Reads |= d.of(t).data
		f.Writes |= d.of(t).locks
	}
	if !c.inBlock {
		for _, t := range p.writes {
			f.Writes |= d.of(t).data
			f.Shows |= d.of(t).data
		}
	}
	if p.draws {
		f.Writes |= d.random
	}
	if p.advisory || c.advised {
		c.advised = true
		f.Writes |= d.advisory
	}
	if c.repeatable && c.snapshot < 0 { // its snapshot is of everything
		for _, t := range d.cat.list {
			f.Reads |= d.of(t).data
		}
	}
	return f
}

// blames names those for whom a statement waits.
func (d *Database) blames(list []*tx) string {
	var names []string
	for _, t := range list {
		name := "the scenario"
		for _, c := range d.conns {
			if c.session == t.session && c.user != nil {
				name = c.user.Name()
			}
		}
		names = append(names, name)
	}
	return strings.Join(names, " and ")
}

// shown is a statement as the timeline has it, its arguments in place.
func (d *Database) shown(text string, args []any) string {
	if len(args) == 0 || !d.host.Detailed() {
		return text
	}
	list := make([]string, len(args))
	for i, a := range args {
		list[i] = d.host.Rename(engine.Show(a))
	}
	return text + "  [" + strings.Join(list, ", ") + "]"
}

// describe says what came of a statement.
func describe(out *answer, err error) string {
	var state *pgconn.PgError
	switch {
	case errors.As(err, &state):
		return state.Code
	case err != nil:
		return "fails: " + engine.Clip(err.Error(), 60)
	case len(out.names) > 0:
		rows, err := out.driverRows()
		if err != nil {
			return "ok"
		}
		return rows.Describe()
	case out.tag == "INSERT" || out.tag == "UPDATE" || out.tag == "DELETE":
		return strings.ToLower(out.tag) + fmt.Sprintf(" %d", out.count)
	}
	return "ok"
}
