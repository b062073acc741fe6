package scenarios

import (
	"fmt"
	"slices"

	"github.com/edgaze-ai/runcounter/harness"
)

// whose says whose runs a limit, a grant or a count is of: those of a key; of all keys
// of a user, where flow is 0; of a workflow over all users, where user is 0.
type whose struct{ user, flow int64 }

func (w whose) has(user, flow int64) bool {
	return (w.user == 0 || w.user == user) && (w.flow == 0 || w.flow == flow)
}

// ran is a run, as far as limits go.
type ran struct {
	id, user, flow int64
	ended          bool
	at             int64 // when it ended
}

// gave is a grant.
type gave struct {
	of      whose
	runs    int64
	at      int64
	revoked bool
}

// raises reports whether a grant is one that raises a limit, while it stands: of a key
// by those on that key, of a user by all of theirs.
func (g gave) raises(b bound) bool {
	return g.at >= b.from && (b.of.flow == 0 && g.of.user == b.of.user || g.of == b.of)
}

// bound is a limit. In a window, which begins at from, it leaves out runs that ended
// before.
type bound struct {
	of   whose
	most int64
	from int64
}

// moment is what is committed between two steps.
type moment struct {
	runs   []ran
	grants []gave
}

// counted counts the runs that ended in [from, to).
func (m moment) counted(of whose, from, to int64) (n int64) {
	for _, r := range m.runs {
		if of.has(r.user, r.flow) && r.ended && r.at >= from && r.at < to {
			n++
		}
	}
	return n
}

// used counts the runs that fill a limit, of those that which is true of.
func (m moment) used(b bound, which func(ran) bool) (n int64) {
	for _, r := range m.runs {
		if b.of.has(r.user, r.flow) && (!r.ended || r.at >= b.from) && which(r) {
			n++
		}
	}
	return n
}

// granted returns by how many runs the grants raise a limit, or did until they were
// revoked.
func (m moment) granted(b bound, revoked bool) (n int64) {
	for _, g := range m.grants {
		if g.raises(b) && (revoked || !g.revoked) {
			n += g.runs
		}
	}
	return n
}

func anyRun(ran) bool { return true }

// newest is the id of the first run that a scenario begins.
const newest = 5

func isNew(r ran) bool { return r.id >= newest }
func isOld(r ran) bool { return !isNew(r) }

// asking is a call that begins a run, and how far it has come.
type asking struct {
	run    int64
	bounds []bound
	told   bool // the caller has an answer
	began  bool
	until  int // the moment by which it was answered
}

// answer is what a reader was told. It is right where some moment of the call says the same.
type answer struct {
	got         string
	said        func(m moment) string
	since, till int
}

// moments are what was committed in a schedule, one after the other, with what callers
// were told. What they were told is held to what was committed while they waited: an
// engine that reads one snapshot can say nothing else.
type moments struct {
	all     []moment
	askings []*asking
	answers []answer
	look    func() (moment, error)
	gives   map[[2]int64]int64 // by user and idempotency key, how many runs are asked for
	oneStep bool               // a reader's call is one step, and so of the last moment
}

// watch asks the oracles of limits. look reads what is committed.
func watch(s *harness.Sim, oneStep bool, look func() (moment, error)) *moments {
	first, err := look()
	if err != nil {
		panic(err)
	}
	w := &moments{all: []moment{first}, look: look, oneStep: oneStep, gives: map[[2]int64]int64{}}
	s.Always("never above a limit", w.above)
	s.Always("what was asked for is granted once", w.givenOnce)
	s.Eventually("no slot of a limit is left", w.left)
	s.Eventually("an answer is that of one snapshot", w.snapshots)
	return w
}

// begins registers a call before the schedule begins.
func (w *moments) begins(run int64, bounds ...bound) *asking {
	a := &asking{run: run, bounds: bounds}
	w.askings = append(w.askings, a)
	return a
}

// tell notes what a call was answered.
func (w *moments) tell(a *asking, began bool) { a.told, a.began, a.until = true, began, len(w.all)+1 }

// read notes what a reader was answered.
func (w *moments) read(got string, said func(m moment) string) {
	since, till := 0, len(w.all)
	if w.oneStep {
		since = till - 1
	}
	w.answers = append(w.answers, answer{got, said, since, till})
}

// above looks at what has newly begun. Runs of others may have come to the scope between
// the look of its call and the commit, such as one that was presumed to have ended before
// the window: so of these it takes the fewest that there were. Those that are begun are
// begun in turns.
func (w *moments) above() error {
	now, err := w.look()
	if err != nil {
		return err
	}
	w.all = append(w.all, now)
	for _, a := range w.askings {
		is := func(r ran) bool { return r.id == a.run }
		if !slices.ContainsFunc(now.runs, is) || slices.ContainsFunc(w.all[len(w.all)-2].runs, is) {
			continue
		}
		for _, b := range a.bounds {
			fewest := now.used(b, isOld)
			for _, m := range w.all {
				fewest = min(fewest, m.used(b, isOld))
			}
			if n, most := fewest+now.used(b, isNew), b.most+now.granted(b, true); n > most {
				return fmt.Errorf("run %d has begun as number %d of %+v, of which there may be %d", a.run, n, b.of, most)
			}
		}
	}
	return nil
}

// left looks at each call that was refused: one of its limits was full at some moment.
func (w *moments) left() error {
	for _, a := range w.askings {
		if !a.told || a.began {
			continue
		}
		full := func(m moment) bool {
			return slices.ContainsFunc(m.runs, func(r ran) bool { return r.id == a.run }) || // by an earlier try
				slices.ContainsFunc(a.bounds, func(b bound) bool { return m.used(b, anyRun) >= b.most+m.granted(b, false) })
		}
		if !slices.ContainsFunc(w.all[:min(a.until, len(w.all))], full) {
			return fmt.Errorf("run %d was refused, and no limit of %+v was full", a.run, a.bounds)
		}
	}
	return nil
}

func (w *moments) snapshots() error {
	for _, a := range w.answers {
		said := func(m moment) bool { return a.said(m) == a.got }
		if !slices.ContainsFunc(w.all[a.since:a.till], said) {
			return fmt.Errorf("it was answered %s; what there was when it had its answer: %s", a.got, a.said(w.all[a.till-1]))
		}
	}
	return nil
}
