package sqlmodel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// A move is a statement of one of the sessions of a program.
type move struct {
	session int
	sql     string
	ordered bool // the order of its rows is certain
}

// A did is what came of a statement.
type did struct {
	state string // an SQLSTATE, refused, or nothing
	tag   string
	rows  []string
}

func (d did) String() string {
	if d.state != "" {
		return d.state
	}
	return strings.TrimSpace(d.tag + " " + strings.Join(d.rows, " / "))
}

func (d did) sorted(ordered bool) did {
	if !ordered {
		d.rows = slices.Sorted(slices.Values(d.rows))
	}
	return d
}

// A stage is a model of some sessions, without a harness: a statement that waits
// stands in its goroutine until it may go on.
type stage struct {
	cat      *catalog
	st       *state
	sessions []*player
}

type player struct {
	*session
	done    chan did
	parked  chan struct{}
	resume  chan struct{}
	waiting bool
}

func (p *player) park(*session, func() []*tx) error {
	p.parked <- struct{}{}
	<-p.resume
	return nil
}

func (p *player) now() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func newStage(schema string, n int) (*stage, error) {
	d := &Database{config: Config{Schema: schema}}
	if err := d.make(&player{}); err != nil {
		return nil, err
	}
	s := &stage{cat: d.cat, st: newState(d.cat, d.rows, d.seqs)}
	for range n {
		p := &player{session: &session{st: s.st}, done: make(chan did, 1), parked: make(chan struct{}), resume: make(chan struct{})}
		p.parker = p
		s.sessions = append(s.sessions, p)
	}
	return s, nil
}

// send runs a statement: not ok where it waits.
func (s *stage) send(m move) (did, bool) {
	p := s.sessions[m.session]
	go func() { p.done <- p.try(s.cat, m.sql) }()
	return p.await()
}

func (p *player) await() (did, bool) {
	select {
	case d := <-p.done:
		p.waiting = false
		return d, true
	case <-p.parked:
		p.waiting = true
		return did{}, false
	}
}

// try runs a text as an implicit statement.
func (p *player) try(cat *catalog, sql string) did {
	plan, err := compileText(cat, sql)
	if err != nil {
		plan = failing(err)
	}
	return didOf(p.run(plan, make([]any, len(plan.params))))
}

func didOf(out *answer, err error) did {
	var state *pgconn.PgError
	switch {
	case errors.As(err, &state):
		return did{state: state.Code}
	case err != nil:
		return did{state: "refused: " + err.Error()}
	}
	d := did{tag: out.tag}
	switch out.tag {
	case "INSERT":
		d.tag = fmt.Sprintf("INSERT 0 %d", out.count)
	case "UPDATE", "DELETE", "SELECT":
		d.tag = fmt.Sprintf("%s %d", out.tag, out.count)
	}
	for _, row := range out.rows {
		d.rows = append(d.rows, shownRow(out.types, row))
	}
	return d
}

func shownRow(types []typ, row []any) string {
	parts := make([]string, len(row))
	for i, v := range row {
		switch w := v.(type) {
		case nil:
			parts[i] = "∅"
		case bool:
			parts[i] = fmt.Sprint(w)[:1]
		default:
			parts[i], _ = text(types[i], v)
		}
	}
	return "(" + strings.Join(parts, ",") + ")"
}

// released lets those go on who need not wait any more. More than one at once
// is PostgreSQL's choice.
func (s *stage) released() (list map[int]did, choice bool) {
	list = map[int]did{}
	for {
		free := []int{}
		for i, p := range s.sessions {
			if p.waiting && len(p.blockers()) == 0 {
				free = append(free, i)
			}
		}
		if len(free) == 0 {
			return list, choice
		}
		choice = choice || len(free) > 1
		p := s.sessions[free[0]]
		p.resume <- struct{}{}
		if d, ok := p.await(); ok {
			list[free[0]] = d
		}
	}
}

// blamed are the sessions for which another waits.
func (s *stage) blamed(n int) (list []int) {
	for _, t := range s.sessions[n].blockers() {
		for i, p := range s.sessions {
			if t.session == p.session && !slices.Contains(list, i) {
				list = append(list, i)
			}
		}
	}
	slices.Sort(list)
	return list
}

func (s *stage) contents() (list []string) {
	for i, rows := range s.st.contents() {
		t := s.cat.list[i]
		types := make([]typ, len(t.columns))
		for j, c := range t.columns {
			types[j] = c.t
		}
		for _, r := range rows {
			list = append(list, t.name+shownRow(types, r))
		}
	}
	slices.Sort(list)
	return list
}

// A theatre is the same on a server.
type theatre struct {
	t        testing.TB
	observer *pgx.Conn
	sessions []*guest
}

type guest struct {
	conn    *pgx.Conn
	done    chan did
	waiting bool
}

// settings make PostgreSQL look at rows in the order of the heap.
const settings = `set client_min_messages = error; set timezone = utc; set enable_indexscan = off; set enable_indexonlyscan = off;
	set enable_bitmapscan = off; set enable_hashjoin = off; set enable_mergejoin = off; set enable_hashagg = off; set enable_material = off;
	set enable_memoize = off; set deadlock_timeout = '1ms'; set synchronous_commit = off; set lc_messages = 'C'`

func newTheatre(t testing.TB, n int) *theatre {
	address := pgtest.Database(t)
	h := &theatre{t: t}
	connect := func() *pgx.Conn {
		conn, err := pgx.Connect(context.Background(), address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		if d := ask(conn, settings); d.state != "" {
			t.Fatal(d)
		}
		return conn
	}
	h.observer = connect()
	for range n {
		h.sessions = append(h.sessions, &guest{conn: connect(), done: make(chan did, 1)})
	}
	return h
}

func ask(conn *pgx.Conn, sql string) (d did) {
	results, err := conn.PgConn().Exec(context.Background(), sql).ReadAll()
	if err != nil {
		var state *pgconn.PgError
		if errors.As(err, &state) {
			return did{state: state.Code}
		}
		return did{state: err.Error()}
	}
	for _, r := range results {
		d.tag = r.CommandTag.String()
		for _, row := range r.Rows {
			parts := make([]string, len(row))
			for i, v := range row {
				if parts[i] = string(v); v == nil {
					parts[i] = "∅"
				}
			}
			d.rows = append(d.rows, "("+strings.Join(parts, ",")+")")
		}
	}
	return d
}

func (h *theatre) must(sql string) did {
	h.t.Helper()
	d := ask(h.observer, sql)
	if d.state != "" {
		h.t.Fatalf("%s: %s", sql, d.state)
	}
	return d
}

// send runs a statement, and returns the answers that have come when all others
// wait.
func (h *theatre) send(m move) map[int]did {
	g := h.sessions[m.session]
	go func() { g.done <- ask(g.conn, m.sql) }()
	g.waiting = true
	return h.settle()
}

// settle waits until each statement has its answer or stands behind a lock, and
// returns the answers.
func (h *theatre) settle() map[int]did {
	list := map[int]did{}
	deadline := time.Now().Add(20 * time.Second)
	for stable := 0; stable < 2; {
		stable++
		for i, g := range h.sessions {
			if !g.waiting {
				continue
			}
			select {
			case list[i] = <-g.done:
				g.waiting, stable = false, 0
				continue
			default:
			}
			if len(h.blamed(i)) == 0 {
				stable = 0
			}
		}
		if time.Now().After(deadline) {
			h.t.Fatal("PostgreSQL has neither answered nor blocked")
		}
	}
	return list
}

func (h *theatre) blamed(n int) (list []int) {
	d := h.must(fmt.Sprintf("select unnest(pg_blocking_pids(%d))", h.sessions[n].conn.PgConn().PID()))
	for i, g := range h.sessions {
		if slices.Contains(d.rows, fmt.Sprintf("(%d)", g.conn.PgConn().PID())) {
			list = append(list, i)
		}
	}
	return list
}

// leave ends all transactions.
func (h *theatre) leave() {
	for range 2 {
		for _, g := range h.sessions {
			if g.waiting {
				h.must(fmt.Sprintf("select pg_cancel_backend(%d)", g.conn.PgConn().PID()))
				<-g.done
				g.waiting = false
			}
			ask(g.conn, "rollback; select pg_advisory_unlock_all()")
		}
	}
}

func (h *theatre) contents(tables []string) (list []string) {
	for _, t := range tables {
		for _, r := range h.must("select * from " + t).rows {
			list = append(list, t+r)
		}
	}
	slices.Sort(list)
	return list
}

// play runs a program on both, and returns the first difference. refused counts
// the statements that the model doesn't know, and cut tells why the program was
// not played to its end.
type played struct {
	difference string
	moves      int
	waits      int
	refused    int
	cut        string
}

func play(h *theatre, s *stage, program []move, tables []string) (r played) {
	story := []string{}
	differ := func(format string, args ...any) {
		r.difference = strings.Join(story, "\n") + "\n" + fmt.Sprintf(format, args...)
	}
	for _, m := range program {
		p := s.sessions[m.session]
		if p.waiting {
			continue
		}
		story = append(story, fmt.Sprintf("%d: %s", m.session, m.sql))
		mine, ok := s.send(m)
		if strings.HasPrefix(mine.state, "refused") {
			r.refused++
			if p.inBlock { // the model has undone what it had begun
				r.cut = "refused within a transaction"
				return r
			}
			story = append(story, "   "+mine.state)
			continue
		}
		others := h.send(m)
		theirs, answered := others[m.session]
		r.moves++
		free, choice := s.released()
		if choice {
			r.cut = "several go on at once"
			return r
		}
		if d, later := free[m.session]; later {
			mine, ok = d, true
		}
		if mine.state == "40P01" && !answered || theirs.state == "40P01" && !ok {
			r.cut = "another victim of a deadlock"
			return r
		}
		for i := range free {
			if strings.HasPrefix(free[i].state, "refused") {
				r.cut = "refused after a wait"
				return r
			}
			if free[i].state == "40P01" || others[i].state == "40P01" {
				r.cut = "another victim of a deadlock"
				return r
			}
		}
		if ok != answered {
			differ("the model: %v %s (for %v)\nPostgreSQL: %v %s (for %v)", ok, mine, s.blamed0(m.session), answered, theirs, h.blamed(m.session))
			return r
		}
		if ok {
			story = append(story, "   "+theirs.String())
		} else {
			r.waits++
			story = append(story, "   waits")
			if a, b := fmt.Sprint(s.blamed(m.session)), fmt.Sprint(h.blamed(m.session)); a != b {
				differ("the model waits for %s, PostgreSQL for %s", a, b)
				return r
			}
		}
		if a, b := mine.sorted(m.ordered).String(), theirs.sorted(m.ordered).String(); a != b {
			differ("the model: %s\nPostgreSQL: %s", a, b)
			return r
		}
		for i := range s.sessions {
			if i == m.session {
				continue
			}
			a, b := free[i].sorted(false).String(), others[i].sorted(false).String()
			if b != "" {
				story = append(story, fmt.Sprintf("   and %d: %s", i, b))
			}
			if a != b || s.sessions[i].waiting != h.sessions[i].waiting {
				differ("session %d: the model: %q, waiting %v\nPostgreSQL: %q, waiting %v", i, a, s.sessions[i].waiting, b, h.sessions[i].waiting)
				return r
			}
		}
	}
	if a, b := s.contents(), h.contents(tables); !slices.Equal(a, b) {
		differ("contents: the model: %v\nPostgreSQL: %v", a, b)
	}
	return r
}

func (s *stage) blamed0(n int) []int {
	if s.sessions[n].blockers == nil {
		return nil
	}
	return s.blamed(n)
}
