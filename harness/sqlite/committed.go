package sqlite

import (
	"database/sql/driver"
	"fmt"
	"net/url"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// A side is what connections of one DSN have in common beside actors.
type side struct {
	plans     map[string]*plan
	committed *physical
}

func (d *Database) sideOf(query string) *side {
	s := d.sides[query]
	if s == nil {
		s = &side{plans: map[string]*plan{}}
		d.sides[query] = s
	}
	return s
}

// committed returns a connection that sees what is committed, whichever connection has the
// database locked. With a write-ahead log every reader does. In memory it takes
// no locks (nolock=1): what a writer hasn't committed is in its own page cache,
// which spills nothing (cache_spill), and only one statement runs at a time.
// It must never write.
func (d *Database) committed(query string) (*physical, error) {
	s := d.sideOf(query)
	if s.committed != nil {
		return s.committed, nil
	}
	asked := query
	if !d.config.WAL {
		values, err := url.ParseQuery(query)
		if err != nil {
			return nil, fmt.Errorf("the DSN's query %q: %w", query, err)
		}
		values.Set("nolock", "1")
		asked = values.Encode()
	}
	p, err := d.open(asked)
	s.committed = p
	return p, err
}

// aside runs a statement of the scenario itself or of an oracle, which is no
// step. What only reads sees what is committed. What doesn't has a connection
// of its own where an actor has left this one in a transaction.
func (c *conn) aside(text string, args []driver.NamedValue, query bool) (outcome, error) {
	p := c.side()
	if p == nil {
		var err error
		if p, err = c.db.next("aside "+c.query, c.query); err != nil {
			return outcome{}, err
		}
		c.spare = p
	}
	plan, err := p.planNow(text, args)
	if err != nil {
		return outcome{}, err
	}
	if read := plan.reads; plan.other {
		c.db.host.Asked(^engine.Resources(0))
	} else {
		c.db.host.Asked(read)
	}
	if own := p.inTx && (p.snapshot || p.locked); plan.reader() && !own {
		reader, err := c.db.committed(c.query)
		if err != nil {
			return outcome{}, err
		}
		return reader.run(text, args, query)
	}
	if !p.inTx {
		p.user = nil
	}
	out, err := p.run(text, args, query)
	p.after(nil, plan, err)
	return out, err
}

// side returns the connection for what is no step, or nil where the actor's is
// in a transaction and no other was opened.
func (c *conn) side() *physical {
	if c.inTx && c.user != nil || c.spare != nil && c.spare.inTx {
		return c.spare
	}
	return c.physical
}
