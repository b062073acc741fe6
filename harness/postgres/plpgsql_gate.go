package postgres

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// A gate in a function is a lock that an actor's session takes and gives back at
// once, and that the observer holds meanwhile. It has two for each session, of
// which it holds one: to let the session go on it takes the other and gives this
// one back, so that the session stops at its next gate, whenever it gets there.
// The observer never waits for one that a session keeps, so that no circle of
// waits leads over a gate. Sessions of which it holds neither, as those of the
// scenario's own, pass.
//
// A gate leaves everything as it is: it is made of conditions, which set neither
// FOUND nor ROW_COUNT, and names all that it calls with its schema. It says where
// it stands by a message of the level INFO, which no setting suppresses.
const (
	oneGate   = 1818325864
	otherGate = 1818325865
)

// gateMessage begins what a gate says: the function's number and its own follow,
// and the level of isolation.
const gateMessage = "harness gate "

// gateText is a gate. With lock_timeout it asks again and again, since it must not
// fail.
func gateText(function uint32, n int) string {
	wait := func(key int) string {
		return strings.ReplaceAll(fmt.Sprintf(
			`raise info '%s%d %d %%', pg_catalog.current_setting('transaction_isolation'); `+
				`while pg_catalog.current_setting('lock_timeout') operator(pg_catalog.<>) '0' and not pg_catalog.pg_try_advisory_lock_shared(KEY) loop if pg_catalog.pg_sleep(0.001) is null then end if; end loop; `+
				`if pg_catalog.current_setting('lock_timeout') operator(pg_catalog.=) '0' then if pg_catalog.pg_advisory_lock_shared(KEY) is null then end if; end if; `+
				`if pg_catalog.pg_advisory_unlock_shared(KEY) then end if; `, gateMessage, function, n),
			"KEY", fmt.Sprintf("%d, pg_catalog.pg_backend_pid()", key))
	}
	open := func(key int) string {
		return strings.ReplaceAll(`pg_catalog.pg_try_advisory_lock_shared(KEY) and pg_catalog.pg_advisory_unlock_shared(KEY)`,
			"KEY", fmt.Sprintf("%d, pg_catalog.pg_backend_pid()", key))
	}
	return "if " + open(oneGate) + " then if " + open(otherGate) + " then else " + wait(otherGate) + "end if; else " + wait(oneGate) + "end if; "
}

// gateSays reads what a gate says.
func gateSays(n *pgconn.Notice) (at standing, ok bool) {
	rest, ok := strings.CutPrefix(n.Message, gateMessage)
	if !ok || n.SeverityUnlocalized != "INFO" || n.Routine != "exec_stmt_raise" {
		return at, false
	}
	fields := strings.SplitN(rest, " ", 3)
	if len(fields) < 3 {
		return at, false
	}
	function, err := strconv.ParseUint(fields[0], 10, 32)
	if err != nil {
		return at, false
	}
	number, err := strconv.Atoi(fields[1])
	return standing{uint32(function), number, fields[2]}, err == nil
}

// isGate reports whether a word of PostgreSQL about a lock is about a gate.
func isGate(n *pgconn.Notice) bool {
	return strings.Contains(n.Message, fmt.Sprintf(",%d,", oneGate)) || strings.Contains(n.Message, fmt.Sprintf(",%d,", otherGate))
}

// standing is a gate at which a session stands.
type standing struct {
	function  uint32
	gate      int
	isolation string
}

// stepping is what there is to a database whose functions are stepped through.
type stepping struct {
	functions map[uint32]*steppedFunction
	undo      []string // statements that bring back the functions as they were

	mu   sync.Mutex
	held map[uint32]int // which gate of a session is closed
}

// steppedFunction is a function with gates, or one in which there can be none.
type steppedFunction struct {
	gatedBody
	name    string
	refused string // why not
}

// A plpgsqlFunction is one that neither PostgreSQL nor an extension brought.
type plpgsqlFunction struct {
	OID              uint32
	Name, Full       string
	Body, Definition string
	Volatile, Alone  bool
}

const plpgsqlFunctions = `
select p.oid, case n.nspname when 'public' then '' else n.nspname || '.' end || p.proname, n.nspname || '.' || p.proname, p.prosrc, pg_get_functiondef(p.oid), p.provolatile = 'v', p.proparallel = 'u'
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
 where l.lanname = 'plpgsql' and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
   and not exists (select from pg_depend where classid = 'pg_proc'::regclass and objid = p.oid and deptype = 'e')
 order by 3, 1`

// stepsInto puts gates into the functions that match.
func (o *observer) stepsInto(patterns []string) (*stepping, error) {
	all, err := queryRows[userFunction](o, userFunctions)
	if err != nil {
		return nil, err
	}
	touches := touching(all)
	list, err := queryRows[plpgsqlFunction](o, plpgsqlFunctions)
	if err != nil {
		return nil, err
	}
	s := &stepping{functions: map[uint32]*steppedFunction{}, held: map[uint32]int{}}
	if err := s.matched(patterns, list); err != nil {
		return nil, err
	}
	for _, f := range list {
		original := withoutGates(f.Body)
		if original != f.Body { // of a process that was killed
			if err := o.exec(f.with(original)); err != nil {
				return s, fmt.Errorf("put back the function %s: %w", f.Full, err)
			}
		}
		if !slices.ContainsFunc(patterns, f.matches) || !f.Volatile {
			continue
		}
		g, err := gatePlpgsql(original, touches, func(n int) string { return gateText(f.OID, n) })
		if err == nil && !f.Alone {
			err = errors.New("it may run in a parallel worker")
		}
		if err == nil {
			err = o.exec(f.with(g.text))
		}
		if err != nil {
			s.functions[f.OID] = &steppedFunction{name: f.Name, refused: err.Error()}
			continue
		}
		s.functions[f.OID] = &steppedFunction{gatedBody: g, name: f.Name}
		s.undo = append(s.undo, f.with(original))
	}
	return s, nil
}

// of is what there is to a function. One that was replaced since has no gates.
func (s *stepping) of(f userFunction) *steppedFunction {
	if s == nil {
		return nil
	}
	it := s.functions[f.OID]
	if it != nil && it.refused == "" && f.Body != it.text {
		return nil
	}
	return it
}

func (f plpgsqlFunction) matches(pattern string) bool {
	ok, err := path.Match(pattern, f.Full)
	return ok && err == nil
}

// matched reports a pattern that is none, or that no function is like.
func (s *stepping) matched(patterns []string, list []plpgsqlFunction) error {
	for _, pattern := range patterns {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("StepInto %q: %w", pattern, err)
		}
		if !slices.ContainsFunc(list, func(f plpgsqlFunction) bool { return f.matches(pattern) }) {
			return fmt.Errorf("StepInto %q: no function in plpgsql is called so; they are called by schema and name, such as public.begin_run", pattern)
		}
	}
	return nil
}

// with is the statement that gives a function another body. It keeps its number,
// owner and privileges.
func (f plpgsqlFunction) with(body string) string {
	head := f.Definition[:strings.LastIndex(f.Definition, f.Body)]
	head = head[:strings.LastIndex(head, "AS $")]
	tag := "$harness$"
	for strings.Contains(body, tag) {
		tag = tag[:len(tag)-1] + "_$"
	}
	return head + "AS " + tag + body + tag
}

// touching are the names of functions that may read or write, whatever they
// declare.
func touching(functions []userFunction) func(name string) bool {
	names := map[string]bool{}
	touches := func(name string) bool {
		return names[name] || slices.ContainsFunc(readingCalls, func(begin string) bool { return strings.HasPrefix(name, begin) })
	}
	for more := true; more; {
		more = false
		for _, f := range functions {
			tokens := lex(withoutGates(f.Body), false)
			opaque := f.Language != "plpgsql" && f.Language != "sql"
			if !names[f.Name] && (opaque || slices.ContainsFunc(tokens, isReading) || slices.ContainsFunc(called(tokens), touches)) {
				names[f.Name], more = true, true
			}
		}
	}
	return touches
}

func isReading(t token) bool { return t.kind == 'w' && slices.Contains(readingWords, t.text) }

// undone brings the functions back as they were.
func (s *stepping) undone(o *observer) (err error) {
	if s == nil {
		return nil
	}
	for _, text := range s.undo {
		err = errors.Join(err, o.exec(text))
	}
	return err
}

// closes has a session stop at its gates, or not.
func (d *Database) closes(pid uint32, closed bool) {
	s := d.stepped
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	held := s.held[pid]
	switch {
	case closed && held == 0:
		s.held[pid] = oneGate
		d.mustHold(fmt.Sprintf("select pg_advisory_lock(%d, %d)", oneGate, pid))
	case !closed && held != 0:
		delete(s.held, pid)
		d.mustHold(fmt.Sprintf("select pg_advisory_unlock(%d, %d)", held, pid))
	}
}

// turns lets a session go on from a gate to its next.
func (d *Database) turns(pid uint32) {
	s := d.stepped
	s.mu.Lock()
	defer s.mu.Unlock()
	held, next := s.held[pid], otherGate
	if held == otherGate {
		next = oneGate
	}
	s.held[pid] = next
	d.mustHold(fmt.Sprintf("select pg_advisory_lock(%d, %d), pg_advisory_unlock(%d, %[2]d)", next, pid, held))
}

// opensGates lets every session pass.
func (d *Database) opensGates() {
	if s := d.stepped; s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		clear(s.held)
		d.mustHold("select pg_advisory_unlock_all()")
	}
}

func (d *Database) mustHold(text string) {
	if err := d.observer.exec(text); err != nil && !d.observer.closed() {
		panic(fmt.Sprintf("harness: hold a gate: %v", err))
	}
}

// standsInside is where the server stands at a gate in a function: the step is
// over, and the next is what follows the gate.
func (w *wire) standsInside() error {
	w.mu.Lock()
	at, a, d := w.stands, w.user, w.gate.now()
	w.stands = nil
	w.mu.Unlock()
	if at == nil {
		return nil
	}
	err := a.Land()
	if err == nil {
		result := "done"
		if w.step != nil && !w.step.inside {
			w.step.inside, result = true, "enters a function"
		}
		a.Tell(result)
		if f := d.stepped.functions[at.function]; f != nil && f.commits && at.isolation != "read committed" {
			d.host().Unexplored("what follows a COMMIT in " + f.name + ", whose snapshot is taken at once")
		}
		// Local, since a process does not die here: the server goes on with its
		// statement, and what becomes of that is decided where it ends.
		_, err = a.Gate(engine.Op{Text: d.insideText(*at), Foot: engine.Footprint{Everything: true}, Local: true})
	}
	if err != nil {
		d.observer.end(w.pid)
		w.lose(err)
		a.Fly(w.passage) // it lands as any that is lost
		return err
	}
	d.turns(w.pid)
	w.flies(a)
	a.Fly(w.passage)
	return nil
}

// linesOf names lines of a body.
func linesOf(list []int) string {
	words := make([]string, len(list))
	for i, line := range slices.Sorted(slices.Values(list)) {
		words[i] = strconv.Itoa(line)
	}
	if len(words) == 1 {
		return "line " + words[0]
	}
	last := len(words) - 1
	return "lines " + strings.Join(words[:last], ", ") + " and " + words[last]
}

// insideText is a step in a function as the timeline has it.
func (d *Database) insideText(at standing) string {
	f := d.stepped.functions[at.function]
	if f == nil || at.gate >= len(f.gates) {
		return fmt.Sprintf("gate %d of function %d", at.gate, at.function)
	}
	g := f.gates[at.gate]
	return fmt.Sprintf("%s:%d: %s", f.name, g.line, g.text)
}
