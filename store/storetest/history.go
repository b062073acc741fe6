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

	// Guarded has the trigger that keeps the first outcome and dates each end.
	Guarded bool
	// KeepsTime has the trigger that is found at real users instead: it sets
	// completed_at at the first update that ends the run and never again, but
	// lets the status be overwritten.
	KeepsTime bool
	UpdatedAt Stamps
	// Versions draws a number for each change, under the row's lock.
	Versions bool

	elapsed time.Duration
	version int64
	rows    []store.Row
	deleted []bool
}

// Step runs one transaction on one run and returns its changes in their true
// order: one to three of them, none where the run was deleted before.
func (s *Source) Step() []store.Change {
	s.elapsed += time.Duration(1+s.Rand.IntN(2000)) * time.Millisecond
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
	case 2: // ended at once, and nobody wrote when
		r.Status = s.outcome()
	case 3:
		r = s.end(r)
	case 4:
		r.Status = "queued"
	}
	r = s.guard(store.Row{}, r)
	s.rows, s.deleted = append(s.rows, r), append(s.deleted, false)
	return s.stamp(store.Change{Op: store.Insert, Record: r})
}

func (s *Source) touch(i int) store.Change {
	old := s.rows[i]
	if s.Rand.IntN(24) == 23 {
		s.deleted[i] = true
		return s.stamp(store.Change{Op: store.Delete, Old: old, HasOld: true})
	}
	r := s.guard(old, s.update(old))
	switch s.UpdatedAt {
	case Moves, PerTransaction:
		r.UpdatedAt = s.Now()
	case Backwards:
		r.UpdatedAt = s.Now().Add(-time.Duration(s.Rand.IntN(10_000)) * time.Millisecond)
	}
	s.rows[i] = r
	return s.stamp(store.Change{Op: store.Update, Record: r, Old: old, HasOld: true})
}

// update is what the application does to a row, right or wrong; the guard
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
	case 8: // ended, and nobody wrote when
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

// handOver gives the run to another user, workflow or draft, or takes its key.
func (s *Source) handOver(r store.Row) store.Row {
	switch s.Rand.IntN(6) {
	case 0, 1, 2:
		r.User = s.id('u', s.Rand.IntN(3))
	case 3:
		r.Workflow, r.Draft = s.id('w', s.Rand.IntN(2)), store.ID{}
	case 4: // the workflow stays: a row with both is the draft's
		r.Draft = s.id('d', s.Rand.IntN(2))
	case 5:
		r.Workflow, r.Draft = store.ID{}, store.ID{}
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
	var id store.ID
	binary.BigEndian.PutUint64(id[:], s.Space)
	id[8] = kind
	binary.BigEndian.PutUint32(id[12:], uint32(n))
	return id
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

// Mirrored is what a mirror should hold of one run.
type Mirrored struct {
	Row      store.Row
	Deleted  bool // nothing else is known of it
	Presumed bool // the outcome was inferred
}

// Mirror computes, slowly and plainly, what a mirror should hold after it has
// received these changes, in whatever order: the oracle for
// [store.State.Join], which shares no code with it. Every sighting of a row is
// written down, all are sorted, and the best one is taken. Outcomes that a
// mirror gives by itself (Complete, Amend, a sweep) are not part of it.
func Mirror(received []store.Change) map[store.ID]Mirrored {
	byRun := map[store.ID][]store.Change{}
	for _, c := range received {
		byRun[c.ID()] = append(byRun[c.ID()], c)
	}
	held := map[store.ID]Mirrored{}
	for id, changes := range byRun {
		if slices.ContainsFunc(changes, func(c store.Change) bool { return c.Op == store.Delete }) {
			held[id] = Mirrored{Row: store.Row{ID: id}, Deleted: true}
			continue
		}
		held[id] = mirrorOne(id, changes)
	}
	return held
}

// Tally returns the ended runs of each key.
func Tally(held map[store.ID]Mirrored) map[store.Key]store.Tallies {
	tallies := map[store.Key]store.Tallies{}
	for _, m := range held {
		key := m.Row.Key()
		if m.Deleted || key.IsZero() || !m.Row.Ended() {
			continue
		}
		t := store.Tallies{Ended: tallyOf(m.Row.Status)}
		if m.Presumed {
			t.Presumed = t.Ended
		}
		tallies[key] = tallies[key].Add(t)
	}
	return tallies
}

func tallyOf(s store.Status) store.Tally {
	switch s {
	case store.Completed:
		return store.Tally{Completed: 1}
	case store.Failed:
		return store.Tally{Failed: 1}
	case store.Cancelled:
		return store.Tally{Cancelled: 1}
	}
	return store.Tally{Timeout: 1}
}

// candidate is one sighting of an outcome.
type candidate struct {
	evidence int // 4 to 1
	undated  bool
	outcome  store.Outcome
}

// sighting is one sighting of the rest of a row.
type sighting struct {
	version  int64
	at       time.Time
	view     store.View
	replaced bool // something at the same instant came after it
}

func mirrorOne(id store.ID, changes []store.Change) Mirrored {
	row := store.Row{ID: id}
	var outcomes []candidate
	var views []sighting
	for _, c := range changes {
		outcomes = append(outcomes, candidatesOf(c)...)
		views = append(views, sightingsOf(c)...)
		for _, r := range rowsOf(c) {
			if row.CreatedAt.IsZero() || !r.CreatedAt.IsZero() && r.CreatedAt.Before(row.CreatedAt) {
				row.CreatedAt = r.CreatedAt
			}
			row.StartedAt = later(row.StartedAt, r.StartedAt)
			row.UpdatedAt = later(row.UpdatedAt, r.UpdatedAt)
			row.LeaseAt = later(row.LeaseAt, r.LeaseAt)
		}
	}
	v := lastView(views)
	row.User, row.Workflow, row.Draft, row.Status = v.User, v.Workflow, v.Draft, v.Status
	if len(outcomes) == 0 {
		return Mirrored{Row: row}
	}
	slices.SortFunc(outcomes, betterOutcome)
	best := outcomes[0]
	row.Status, row.CompletedAt, row.DurationMS = best.outcome.Status, best.outcome.CompletedAt, best.outcome.DurationMS
	row.ErrorDetails, row.Snapshot = best.outcome.ErrorDetails, best.outcome.Snapshot
	return Mirrored{Row: row, Presumed: best.evidence == 1}
}

func rowsOf(c store.Change) []store.Row {
	if c.HasOld {
		return []store.Row{c.Record, c.Old}
	}
	return []store.Row{c.Record}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// candidatesOf lists the outcomes that a change shows.
func candidatesOf(c store.Change) []candidate {
	var all []candidate
	if o, ok := outcomeOf(c.Record); ok {
		switch {
		case o.evidence == 1: // inferred, whatever came before
		case c.Op == store.Insert:
			o.evidence = 4
		case !c.HasOld: // it may have ended long ago
			o.evidence = 3
		case hadNotEnded(c.Old):
			o.evidence = 4
		case c.Old.Status == c.Record.Status && c.Old.CompletedAt.IsZero(): // the same end
			o.evidence = 4
		case c.Old.Status == c.Record.Status && c.Old.CompletedAt.Equal(c.Record.CompletedAt):
			o.evidence = 3
		default:
			o.evidence = 2
		}
		all = append(all, o)
	}
	if !c.HasOld {
		return all
	}
	if o, ok := outcomeOf(c.Old); ok {
		if o.evidence != 1 {
			o.evidence = 3
		}
		all = append(all, o)
	}
	return all
}

// hadNotEnded reports whether a row was without a trace of an end.
func hadNotEnded(r store.Row) bool { return !r.Status.Terminal() && r.CompletedAt.IsZero() }

// outcomeOf reads the outcome of one row, with evidence 1 where it is
// inferred.
func outcomeOf(r store.Row) (candidate, bool) {
	c := candidate{outcome: r.Outcome()}
	switch {
	case r.Status.Terminal() && !r.CompletedAt.IsZero():
		return c, true
	case r.Status.Terminal():
		c.undated = true
		c.outcome.CompletedAt = r.UpdatedAt
		if r.UpdatedAt.IsZero() {
			c.outcome.CompletedAt = r.CreatedAt
		}
	case r.Status.Active() && !r.CompletedAt.IsZero():
		c.evidence = 1
		c.outcome.Status = store.Completed
		if r.ErrorDetails != "" {
			c.outcome.Status = store.Failed
		}
	default:
		return candidate{}, false
	}
	if !r.DurationMS.Valid && !r.StartedAt.IsZero() {
		c.outcome.DurationMS = store.MillisOf(c.outcome.CompletedAt.Sub(r.StartedAt).Milliseconds())
	}
	return c, !c.outcome.CompletedAt.IsZero()
}

// betterOutcome sorts the candidate that stands to the front. A date that the
// source wrote goes before one that was taken from updated_at.
func betterOutcome(a, b candidate) int {
	undated := 0
	if a.undated != b.undated {
		undated = -1
		if a.undated {
			undated = 1
		}
	}
	duration := func(o store.Outcome) int64 {
		if !o.DurationMS.Valid {
			return -1
		}
		return int64(o.DurationMS.MS)
	}
	place := func(o store.Outcome) int { return slices.Index(store.Terminals[:], o.Status) }
	return cmp.Or(
		cmp.Compare(b.evidence, a.evidence),
		undated,
		a.outcome.CompletedAt.Compare(b.outcome.CompletedAt),
		cmp.Compare(place(a.outcome), place(b.outcome)),
		cmp.Compare(duration(b.outcome), duration(a.outcome)),
		cmp.Compare(b.outcome.ErrorDetails, a.outcome.ErrorDetails),
		cmp.Compare(b.outcome.Snapshot, a.outcome.Snapshot),
	)
}

// sightingsOf lists the views that a change shows. A version orders the record
// and what it replaced alike; an INSERT is older than everything at its
// instant.
func sightingsOf(c store.Change) []sighting {
	view := func(r store.Row) store.View {
		return store.View{User: r.User, Workflow: r.Workflow, Draft: r.Draft, Status: r.Status}
	}
	record := sighting{c.Version, c.Record.UpdatedAt, view(c.Record), c.Op == store.Insert}
	if !c.HasOld {
		return []sighting{record}
	}
	old := sighting{0, c.Old.UpdatedAt, view(c.Old), false}
	if c.Version != 0 || c.Old.UpdatedAt.Equal(c.Record.UpdatedAt) {
		old = sighting{record.version, record.at, old.view, old.view != record.view}
	}
	return []sighting{record, old}
}

// lastView returns the view that was written last: of those at the latest
// instant the one that nothing replaced there; content settles the rest.
func lastView(all []sighting) store.View {
	newest := slices.MaxFunc(all, func(a, b sighting) int {
		return cmp.Or(cmp.Compare(a.version, b.version), a.at.Compare(b.at))
	})
	var standing, replaced []store.View
	for _, s := range all {
		if s.version != newest.version || !s.at.Equal(newest.at) {
			continue
		}
		if s.replaced {
			replaced = append(replaced, s.view)
		} else {
			standing = append(standing, s.view)
		}
	}
	standing = slices.DeleteFunc(standing, func(v store.View) bool { return slices.Contains(replaced, v) })
	if len(standing) == 0 {
		standing = replaced
	}
	return slices.MaxFunc(standing, func(a, b store.View) int {
		return cmp.Or(
			cmp.Compare(slices.Index(life, a.Status), slices.Index(life, b.Status)),
			cmp.Compare(a.Status, b.Status),
			slices.Compare(a.User[:], b.User[:]),
			slices.Compare(a.Draft[:], b.Draft[:]),
			slices.Compare(a.Workflow[:], b.Workflow[:]),
		)
	})
}

// life is the order in which a run passes the statuses; an unknown one is
// below all.
var life = []store.Status{
	store.Pending, store.Running, store.Cancelling,
	store.Cancelled, store.Timeout, store.Failed, store.Completed,
}
