package storetest

import (
	"cmp"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// Stamps says how a source's updated_at behaves.
type Stamps int

// Real applications do all of these: few keep updated_at by a trigger, many
// set it once for a transaction or never again, and clocks of two workers
// differ.
const (
	Moves          Stamps = iota // later at each change
	PerTransaction               // the same for all steps of a transaction
	Frozen                       // as at the INSERT, for ever
	Backwards                    // off by up to ten seconds each time
)

// Source simulates the application and its workflow_runs table: random
// lifecycles in virtual time, reported as a webhook would report them. All of
// its choices come from Rand, so a seed replays it. It isn't safe for
// concurrent use.
type Source struct {
	Rand  *rand.Rand
	Space uint64 // part of every id, so that several sources can share a store
	Runs  int    // how many runs it creates at most; 1 where it is 0

	Begins time.Time     // where its time begins; with 2026 where it is zero
	Stride time.Duration // between two transactions, at most; 2 s where it is 0

	// Guarded has the trigger that keeps the first outcome and dates each end.
	Guarded bool
	// KeepsTime has the trigger that is found at real users instead: it sets
	// completed_at at the first update that ends the run and never again, but
	// lets the status be overwritten.
	KeepsTime bool
	UpdatedAt Stamps
	// Versions draws a number for each change, under the row's lock.
	Versions bool
	// Marked has, beside the guard, a sweep, an administrator, and a trigger
	// that tells what the guard knows of them. It needs Guarded.
	Marked bool

	elapsed  time.Duration
	version  int64
	rows     []store.Row
	deleted  []bool
	presumed []bool
}

// Plain returns changes as the plain webhook sends them, which knows rows
// alone.
func Plain(changes []store.Change) []store.Change {
	plain := slices.Clone(changes)
	for i := range plain {
		plain[i].Version, plain[i].Mark = 0, store.NoMark
	}
	return plain
}

// Step runs one transaction on one run and returns its changes in their true
// order: one to three of them, none where the run was deleted before.
func (s *Source) Step() []store.Change {
	stride := cmp.Or(s.Stride, 2*time.Second)
	s.elapsed += time.Duration(1+s.Rand.IntN(int(stride.Milliseconds()))) * time.Millisecond
	i := s.Rand.IntN(min(len(s.rows)+1, max(s.Runs, 1)))
	var changes []store.Change
	if i == len(s.rows) {
		changes = append(changes, s.insert())
	}
	for range 1 + s.Rand.IntN(5)/2 {
		if s.deleted[i] {
			break
		}
		if s.UpdatedAt == Moves {
			s.elapsed += time.Millisecond
		}
		changes = append(changes, s.touch(i))
	}
	return changes
}

// Steps returns the changes of n transactions.
func (s *Source) Steps(n int) []store.Change {
	var changes []store.Change
	for range n {
		changes = append(changes, s.Step()...)
	}
	return changes
}

// Rows returns the rows as they stand, in the order of their creation.
func (s *Source) Rows() []store.Row {
	var rows []store.Row
	for i, r := range s.rows {
		if !s.deleted[i] {
			rows = append(rows, r)
		}
	}
	return rows
}

// Now returns the source's time, which is the latest in all of its rows.
func (s *Source) Now() time.Time {
	if !s.Begins.IsZero() {
		return s.Begins.Add(s.elapsed)
	}
	return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(s.elapsed)
}

func (s *Source) insert() store.Change {
	r := store.Row{
		ID: s.id('r', len(s.rows)), User: s.id('u', s.Rand.IntN(3)), Workflow: s.id('w', s.Rand.IntN(2)),
		Status: store.Pending, CreatedAt: s.Now(), StartedAt: s.Now(), UpdatedAt: s.Now(),
	}
	switch s.Rand.IntN(8) {
	case 0: // a draft's
		r.Workflow, r.Draft = store.ID{}, s.id('d', s.Rand.IntN(2))
	case 1:
		r.Status = store.Running
	case 2: // ended at once, and without a time
		r.Status = s.outcome()
	case 3:
		r = s.end(r)
	case 4:
		r.Status = "queued"
	}
	r = s.guard(store.Row{}, r)
	s.rows, s.deleted, s.presumed = append(s.rows, r), append(s.deleted, false), append(s.presumed, false)
	return s.stamp(store.Change{Op: store.Insert, Record: r})
}

func (s *Source) touch(i int) store.Change {
	old := s.rows[i]
	if s.Rand.IntN(24) == 23 {
		s.deleted[i] = true
		return s.stamp(store.Change{Op: store.Delete, Old: old, HasOld: true})
	}
	if s.Marked {
		if c, done := s.vouched(i); done {
			return c
		}
	}
	r, mark := s.update(old), store.NoMark
	if s.presumed[i] {
		r, mark = s.overPresumed(i, r)
	} else {
		r = s.guard(old, r)
	}
	switch s.UpdatedAt {
	case Moves, PerTransaction:
		r.UpdatedAt = s.Now()
	case Backwards:
		r.UpdatedAt = s.Now().Add(-time.Duration(s.Rand.IntN(10_000)) * time.Millisecond)
	}
	return s.write(i, r, mark)
}

func (s *Source) write(i int, r store.Row, mark store.Mark) store.Change {
	old := s.rows[i]
	s.rows[i] = r
	return s.stamp(store.Change{Op: store.Update, Record: r, Old: old, HasOld: true, Mark: mark})
}

// vouched is, now and then, an act of the sweep's or of an administrator's.
// Each has a moment of its own.
func (s *Source) vouched(i int) (c store.Change, done bool) {
	r := s.rows[i]
	switch s.Rand.IntN(8) {
	case 0, 1:
		return s.presume(i)
	case 2: // an outcome
		r.Status = s.outcome()
	default:
		return c, false
	}
	if r.Status == s.rows[i].Status {
		return c, false
	}
	s.elapsed += time.Millisecond
	ended := s.rows[i].Ended()
	s.presumed[i] = false
	r.UpdatedAt = s.Now()
	if r.CompletedAt.IsZero() {
		r.CompletedAt = s.Now()
	}
	s.elapsed += time.Millisecond
	if !ended { // the trigger says nothing of a run that had not ended
		return s.write(i, r, store.NoMark), true
	}
	return s.write(i, r, store.MarkAmended), true
}

// presume is the sweep: it leaves updated_at alone.
func (s *Source) presume(i int) (c store.Change, done bool) {
	r := s.rows[i]
	if !r.Status.Active() || !r.CompletedAt.IsZero() {
		return c, false
	}
	s.elapsed += time.Millisecond
	r.Status, r.CompletedAt, s.presumed[i] = store.Failed, s.Now(), true
	r.ErrorDetails = `{"code":"stuck"}`
	s.elapsed += time.Millisecond
	return s.write(i, r, store.MarkPresumed), true
}

// overPresumed is the guard's where the outcome is presumed: a real one
// supersedes it, and nothing else does.
func (s *Source) overPresumed(i int, r store.Row) (store.Row, store.Mark) {
	old := s.rows[i]
	if !r.Status.Terminal() {
		r.Status, r.CompletedAt = old.Status, old.CompletedAt
	}
	if r.Status == old.Status && r.CompletedAt.Equal(old.CompletedAt) {
		return r, store.MarkPresumed
	}
	s.presumed[i] = false
	switch {
	case s.Rand.IntN(3) == 0: // it had ended before the sweep thought so, and was late to say so
		r.CompletedAt = old.CompletedAt.Add(-500 * time.Microsecond)
	case r.CompletedAt.IsZero() || r.CompletedAt.Equal(old.CompletedAt):
		r.CompletedAt = s.Now()
	}
	return r, store.MarkSuperseding
}

// update changes a row as an application does, right or wrong; the guard
// comes after it.
func (s *Source) update(r store.Row) store.Row {
	switch s.Rand.IntN(16) {
	case 0: // a no-op
	case 1, 2: // start, or the late running of a worker that knows no better
		r.Status = store.Running
	case 3: // the same of one that clears what it doesn't know
		r.Status, r.CompletedAt = store.Running, time.Time{}
	case 4, 5, 6, 7: // complete, again or differently
		r = s.end(r)
	case 8: // ended, without a time
		r.Status = s.outcome()
	case 9: // a trigger repairs the row
		if r.Status.Terminal() && r.CompletedAt.IsZero() {
			r.CompletedAt = s.Now()
		}
	case 10:
		r.Status = store.Cancelling
	case 11:
		r.Status = []store.Status{"queued", "paused"}[s.Rand.IntN(2)]
	case 12, 13:
		return s.handOver(r)
	case 14: // a heartbeat
		r.LeaseAt = s.Now()
	case 15: // a column of the outcome, by itself
		r.ErrorDetails = []store.JSON{"", `{"code":"NODE_ERROR"}`, `{"code":"OUT_OF_MEMORY"}`}[s.Rand.IntN(3)]
	}
	return r
}

// handOver gives the run to another user, workflow or draft, or takes its key:
// a user who is deleted may leave runs behind.
func (s *Source) handOver(r store.Row) store.Row {
	switch s.Rand.IntN(6) {
	case 0, 1, 2:
		r.User = s.id('u', s.Rand.IntN(3))
	case 3:
		r.Workflow, r.Draft = s.id('w', s.Rand.IntN(2)), store.ID{}
	case 4: // the workflow stays: a row with both is the draft's
		r.Draft = s.id('d', s.Rand.IntN(2))
	case 5:
		if !r.Draft.IsZero() {
			r.User = store.ID{}
		} else {
			r.Workflow = store.ID{}
		}
	}
	return r
}

func (s *Source) end(r store.Row) store.Row {
	r.Status, r.CompletedAt = s.outcome(), s.Now()
	r.DurationMS = store.MillisOf(r.CompletedAt.Sub(r.StartedAt).Milliseconds())
	if r.Status == store.Failed {
		r.ErrorDetails = `{"code":"NODE_ERROR"}`
	}
	return r
}

func (s *Source) outcome() store.Status {
	return store.Terminals[s.Rand.IntN(len(store.Terminals))]
}

// guard is the source's BEFORE trigger.
func (s *Source) guard(old, r store.Row) store.Row {
	switch update := !old.ID.IsZero(); {
	case s.Guarded && old.Ended():
		r.Status, r.CompletedAt = old.Status, old.CompletedAt
	case s.KeepsTime && !old.CompletedAt.IsZero():
		r.CompletedAt = old.CompletedAt
	case (s.Guarded || s.KeepsTime && update) && r.Status.Terminal() && r.CompletedAt.IsZero():
		r.CompletedAt = s.Now()
	}
	return r
}

func (s *Source) stamp(c store.Change) store.Change {
	if s.Versions {
		s.version++
		c.Version = s.version
	}
	return c
}

func (s *Source) id(kind byte, n int) store.ID {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], s.Space)
	b[8] = kind
	binary.BigEndian.PutUint32(b[12:], uint32(n))
	return store.UUID(b)
}

// Adversary stands between a source and a store: it delivers changes late,
// twice, in any order, or never.
type Adversary struct {
	Rand       *rand.Rand
	Duplicates float64 // the probability that a change that was delivered comes once more
	Loss       float64 // the probability that a change never comes
	InOrder    bool    // keep the order, instead of shuffling it
	MaxBatch   int     // how many changes a batch holds at most; 1 where it is 0
}

// Deliver returns the batches that arrive. What they hold together is what
// was received, and what [Mirror] must be asked about.
func (a Adversary) Deliver(changes []store.Change) [][]store.Change {
	var received []store.Change
	for _, c := range changes {
		if a.Rand.Float64() < a.Loss {
			continue
		}
		received = append(received, c)
		for a.Rand.Float64() < a.Duplicates {
			received = append(received, c)
		}
	}
	if !a.InOrder {
		a.Rand.Shuffle(len(received), func(i, j int) { received[i], received[j] = received[j], received[i] })
	}
	var batches [][]store.Change
	for len(received) > 0 {
		n := min(1+a.Rand.IntN(max(a.MaxBatch, 1)), len(received))
		batches = append(batches, received[:n:n])
		received = received[n:]
	}
	return batches
}
