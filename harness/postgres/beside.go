package postgres

import (
	"fmt"
	"sync"
	"time"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// A connection past the gate is no actor's, whatever it does: what it reads or writes
// while actors run is no step. The scenario and its oracles may have some. So the
// server is asked when each of them began its last statement: where the actors begin
// to run, and where they have run for a while. Where there are none, which a look at
// the end of each schedule tells, nothing else is asked. A connection that comes and
// goes between two looks is not seen.

// insiders are the backends that the harness knows: those of gated connections, and
// its own.
var insiders sync.Map

// An outsider is the backend of a connection past the gate.
type outsider struct {
	PID    int32
	Began  *time.Time // its last statement
	Query  string
	Role   string
	Hidden bool // from this role
}

const outsiders = `
select pid, query_start, coalesce(query, ''), coalesce(usename::text, ''), backend_type is null
  from pg_stat_activity where datname = current_database() and (backend_type = 'client backend' or backend_type is null and usesysid is not null)
 order by pid`

// beside is what is known of them.
type beside struct {
	watching bool
	began    map[int32]time.Time // when their last statements began, before the actors ran
}

// outsiders returns those that there are.
func (d *Database) outsiders() (list []outsider) {
	gates.Range(func(_, g any) bool {
		g.(*gate).wires.Range(func(w, _ any) bool { //nolint:forcetypeassert // the only types in them
			w.(*wire).known() //nolint:forcetypeassert // the same
			return true
		})
		return true
	})
	all, err := queryRows[outsider](d.observer, outsiders)
	if err != nil && !d.observer.closed() {
		panic(fmt.Sprintf("harness: ask who is connected: %v", err))
	}
	for _, o := range all {
		if _, ours := insiders.Load(uint32(o.PID)); ours {
			continue
		}
		if o.Hidden {
			d.host().Unexplored("the connections of the role " + o.Role + ", which can't be watched: grant pg_read_all_stats to the role of the harness")
		}
		list = append(list, o)
	}
	return list
}

// known notes the backend of a connection.
func (w *wire) known() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pid != 0 {
		insiders.Store(w.pid, true)
	}
}

// ActorsRun says that what comes to the database from now on is of actors.
func (d *Database) ActorsRun() {
	if !d.beside.watching {
		return
	}
	d.beside.began = map[int32]time.Time{}
	for _, o := range d.outsiders() {
		if o.Began != nil {
			d.beside.began[o.PID] = *o.Began
		}
	}
}

// ActorsRan looks whether all that has come since was.
func (d *Database) ActorsRan() {
	if d.beside.watching {
		d.blames(d.outsiders())
	}
}

// Ends is the same at the end of a schedule. It reports false where that can't be
// told, since there was no connection past the gate before this schedule.
func (d *Database) Ends() (told bool) {
	d.mu.Lock()
	blurred := d.opaqueNow
	d.opaqueNow = false
	d.mu.Unlock()
	return d.passed() && !blurred
}

func (d *Database) passed() (told bool) {
	list := d.outsiders()
	if !d.beside.watching {
		d.beside.watching = len(list) > 0
		return len(list) == 0
	}
	d.blames(list)
	return true
}

// blames fails the schedule where a connection past the gate began a statement.
func (d *Database) blames(list []outsider) {
	for _, o := range list {
		if o.Began != nil && !o.Began.Equal(d.beside.began[o.PID]) {
			d.host().Unscheduled(fmt.Sprintf("while actors ran, %q came to the PostgreSQL database by a connection that does not lead through the gate: give each configuration that connects to it to its method Gate, or let the driver dial by its method Dial", engine.Clip(o.Query, 60)))
			return
		}
	}
}
