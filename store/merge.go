package store

import (
	"cmp"
	"slices"
	"time"
)

// A mirror sees a run only through changes that come twice, out of order, or
// never. It keeps a State for each run, and the State is a join-semilattice:
// [State.Join] is commutative, associative and idempotent, so the same changes
// lead to the same state in whatever order and batches they arrive (law 4).
// Three parts are joined each by itself: the tombstone, the outcome, and the
// rest of the row.

// Op is the kind of a change.
type Op string

// The three operations that a webhook reports.
const (
	Insert Op = "INSERT"
	Update Op = "UPDATE"
	Delete Op = "DELETE"
)

// Change is one row change, as a webhook reports it.
type Change struct {
	Op Op
	// Record is the row after the change, and unset for a DELETE.
	Record Row
	// Old is the row before the change. HasOld is false for an INSERT, and for
	// an UPDATE whose sender leaves it out.
	Old    Row
	HasOld bool
	// Version orders the changes of a run where the sender draws it from a
	// sequence under the row's lock; 0 where it doesn't.
	Version int64
	// Mark carries what the sender's guard knows of the outcome beside the rows.
	Mark Mark
}

// Mark says of a change what only the guard of a source knows: the rows look the
// same whether an outcome was presumed or real, superseded or overwritten. Our
// own trigger sends it; the plain webhook of the same change may come as well,
// and says less. A mark that is unknown, or doesn't fit the rows, is ignored.
type Mark string

const (
	// NoMark is that of all other senders.
	NoMark Mark = ""
	// MarkPresumed means that the outcome in the record is presumed.
	//
	// Where a plain webhook of the same change comes as well, the outcome looks
	// real by that, and a mirror calls it so until it is superseded. The
	// outcome itself is the same.
	MarkPresumed Mark = "presumed"
	// MarkSuperseding means that the record has ended for real, and what
	// old_record shows was only presumed, or is overwritten and the guard lets it.
	MarkSuperseding Mark = "superseding"
	// MarkAmended means that an administrator decided on the record's outcome,
	// at the record's updated_at. The last decision stands; of two at the same
	// moment the content decides. Of a record that is active it says nothing
	// here: an outcome that a re-opening voids would by then have hidden the one
	// after it, or not, by the order of arrival (law 4).
	MarkAmended Mark = "amended"
)

// ID returns the run that changed.
func (c Change) ID() ID {
	if c.Op == Delete {
		return c.Old.ID
	}
	return c.Record.ID
}

// Keys returns the keys that the change names, each once, in order.
func (c Change) Keys() []Key {
	var keys []Key
	if c.Op != Delete && !c.Record.Key().IsZero() {
		keys = append(keys, c.Record.Key())
	}
	if c.HasOld && !c.Old.Key().IsZero() && !slices.Contains(keys, c.Old.Key()) {
		keys = append(keys, c.Old.Key())
	}
	slices.SortFunc(keys, Key.Compare)
	return keys
}

// Evidence ranks what is known of an outcome. The join takes the higher.
//
// With "the earliest completed_at wins" alone, 37 % of the histories of a
// source that keeps the first time and overwrites the status ended wrong;
// ranked by evidence, none.
type Evidence int

const (
	// NoEvidence means that the run has not ended, as far as is known.
	NoEvidence Evidence = 0
	// Presumed outcomes are given to a stuck run by a sweep, or inferred from
	// an active row that has a completed_at. Any real outcome supersedes them.
	Presumed Evidence = 1
	// Rewritten means that the record ended differently from an old_record that had
	// ended already.
	Rewritten Evidence = 2
	// SeenEnded means seen ended, as old_record, or as a record unchanged from it.
	SeenEnded Evidence = 3
	// SawEnd means that the record has ended and old_record had not, or that
	// it is an INSERT.
	SawEnd Evidence = 4
	// Confirmed means that this outcome is known to stand: our own
	// Complete, which answered its caller so, or a source, whose guard let it
	// supersede a presumed one and holds it from then on. What a webhook merely
	// shows doesn't take it back; of two that are vouched for, the earlier stands.
	Confirmed Evidence = 5
	// Amended means that an administrator has decided.
	Amended Evidence = 6
)

// Claim is an outcome and how well it is known.
type Claim struct {
	Evidence Evidence
	// AmendedAt is the time of an administrator's decision, for Amended.
	AmendedAt time.Time
	Outcome   Outcome
}

// compare is the total order of claims: the greater one stands. More evidence
// first, then (for amendments) the later decision, then the earlier
// completed_at, then the fixed order of statuses, then content.
func (c Claim) compare(o Claim) int {
	a, b := c.Outcome, o.Outcome
	return cmp.Or(
		cmp.Compare(c.Evidence, o.Evidence),
		c.AmendedAt.Compare(o.AmendedAt),
		b.CompletedAt.Compare(a.CompletedAt),
		cmp.Compare(slices.Index(Terminals[:], b.Status), slices.Index(Terminals[:], a.Status)),
		compareBool(a.DurationMS.Valid, b.DurationMS.Valid),
		cmp.Compare(a.DurationMS.MS, b.DurationMS.MS),
		cmp.Compare(a.ErrorDetails, b.ErrorDetails),
		cmp.Compare(a.Snapshot, b.Snapshot),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// View holds the columns that the last writer decides: whose run it is, and its progress.
type View struct {
	User     ID
	Workflow ID
	Draft    ID
	Status   Status
}

func (v View) compare(o View) int {
	return cmp.Or(
		cmp.Compare(v.Status.rank(), o.Status.rank()),
		cmp.Compare(v.Status, o.Status),
		v.User.Compare(o.User),
		v.Draft.Compare(o.Draft),
		v.Workflow.Compare(o.Workflow),
	)
}

// Register holds the views of one instant: a last-writer-wins register that
// also knows, among views of the same instant, which of them others replaced.
//
// The instant is the version where the sender gives one, and updated_at
// otherwise. Many applications leave updated_at alone, or set it once for all
// steps of a transaction: then an old_record is older than its record, an
// INSERT is older than everything, and a chain of hand-overs still ends with
// its last link, whatever the order in which it is heard. A cycle (handed to
// someone and back with neither version nor updated_at moving) can't be told
// from its own first half; the content decides, the same way everywhere.
type Register struct {
	Version int64
	At      time.Time
	Heads   []View // replaced by none, sorted
	Past    []View // replaced, sorted
}

// Value returns the view that stands.
func (r Register) Value() View {
	from := r.Heads
	if len(from) == 0 {
		from = r.Past
	}
	if len(from) == 0 {
		return View{}
	}
	return slices.MaxFunc(from, View.compare)
}

func (r Register) join(o Register) Register {
	switch order := cmp.Or(cmp.Compare(r.Version, o.Version), r.At.Compare(o.At)); {
	case order > 0:
		return r
	case order < 0:
		return o
	}
	past := union(r.Past, o.Past)
	heads := slices.DeleteFunc(union(r.Heads, o.Heads), func(v View) bool { return slices.Contains(past, v) })
	return Register{r.Version, r.At, heads, past}
}

// union returns the sorted union of two sorted sets, sharing neither.
func union(a, b []View) []View {
	all := append(slices.Clone(a), b...)
	slices.SortFunc(all, View.compare)
	return slices.Compact(all)
}

func (r Register) equal(o Register) bool {
	return r.Version == o.Version && r.At.Equal(o.At) && slices.Equal(r.Heads, o.Heads) && slices.Equal(r.Past, o.Past)
}

// State is all that a mirror knows of one run.
type State struct {
	ID ID
	// DeletedAt is the time at which the DELETE was first received. A tombstone beats
	// everything and is kept for ever.
	DeletedAt time.Time
	// Outcome stands, if its evidence is not NoEvidence.
	Outcome Claim
	// ReopenedAt is the time at which an administrator last re-opened the run. What was
	// claimed up to then is void.
	ReopenedAt time.Time
	// Last is the rest of the row.
	Last Register

	CreatedAt time.Time // the earliest seen
	StartedAt time.Time // these three are signs of life: the latest seen
	UpdatedAt time.Time
	LeaseAt   time.Time
}

// Join merges two states of one run.
func (s State) Join(o State) State {
	if !s.DeletedAt.IsZero() || !o.DeletedAt.IsZero() {
		// Nothing else of a deleted run is kept, and nothing brings it back.
		return State{ID: s.ID, DeletedAt: earliest(s.DeletedAt, o.DeletedAt)}
	}
	j := State{
		ID:         s.ID,
		ReopenedAt: latest(s.ReopenedAt, o.ReopenedAt),
		Last:       s.Last.join(o.Last),
		CreatedAt:  earliest(s.CreatedAt, o.CreatedAt),
		StartedAt:  latest(s.StartedAt, o.StartedAt),
		UpdatedAt:  latest(s.UpdatedAt, o.UpdatedAt),
		LeaseAt:    latest(s.LeaseAt, o.LeaseAt),
	}
	for _, c := range [...]Claim{s.Outcome, o.Outcome} {
		if !c.void(j.ReopenedAt) && c.compare(j.Outcome) > 0 {
			j.Outcome = c
		}
	}
	return j
}

// void reports whether a run was re-opened after the claim.
func (c Claim) void(reopened time.Time) bool {
	if c.Evidence == NoEvidence || reopened.IsZero() {
		return false
	}
	at := c.Outcome.CompletedAt
	if c.Evidence == Amended {
		at = c.AmendedAt
	}
	return !at.After(reopened)
}

// Equal reports whether two states are the same. Applying what is already true
// leads to an equal state, and an equal state is not written (law 5).
func (s State) Equal(o State) bool {
	return s.ID == o.ID && s.DeletedAt.Equal(o.DeletedAt) && s.Outcome.compare(o.Outcome) == 0 &&
		s.ReopenedAt.Equal(o.ReopenedAt) && s.Last.equal(o.Last) && s.CreatedAt.Equal(o.CreatedAt) &&
		s.StartedAt.Equal(o.StartedAt) && s.UpdatedAt.Equal(o.UpdatedAt) && s.LeaseAt.Equal(o.LeaseAt)
}

// Row returns the row that the state amounts to: an outcome where one is
// known, else the status that was written last. It is always consistent.
func (s State) Row() Row {
	v := s.Last.Value()
	r := Row{
		ID: s.ID, User: v.User, Workflow: v.Workflow, Draft: v.Draft, Status: v.Status,
		CreatedAt: s.CreatedAt, StartedAt: s.StartedAt, UpdatedAt: s.UpdatedAt, LeaseAt: s.LeaseAt,
	}
	if s.Outcome.Evidence > NoEvidence {
		o := s.Outcome.Outcome
		r.Status, r.CompletedAt, r.DurationMS = o.Status, o.CompletedAt, o.DurationMS
		r.ErrorDetails, r.Snapshot = o.ErrorDetails, o.Snapshot
	} else if r.Status.Terminal() {
		r.Status = Running // re-opened: the outcome that was written last is void
	}
	return r
}

// Presumed reports whether the run has ended, but only presumably.
func (s State) Presumed() bool { return s.Outcome.Evidence == Presumed }

// Ended reports whether the run has an outcome, be it a presumed one.
func (s State) Ended() bool { return s.Outcome.Evidence > NoEvidence }

// Observe returns what one change, received at a moment, says of its run: a
// state for each row that it shows, to be joined one after the other. It
// depends on nothing else: never on what the store happens to know, or the
// order of arrival would matter.
func Observe(c Change, received time.Time) []State {
	if c.Op == Delete {
		// Whenever it was received, it is a tombstone.
		return []State{{ID: c.Old.ID, DeletedAt: latest(time.UnixMicro(0).UTC(), Instant(received))}}
	}
	record, old := c.claims()
	s := timesOf(c.Record)
	s.Last, s.Outcome = registerOf(c.Record, c.Version), record
	switch {
	case c.Op == Insert:
		// Older than everything else: it counts among the past at once.
		s.Last.Heads, s.Last.Past = nil, s.Last.Heads
		return []State{s}
	case !c.HasOld:
		return []State{s}
	}
	before := timesOf(c.Old)
	before.Last, before.Outcome = registerOf(c.Old, 0), old
	if c.Old.UpdatedAt.Equal(c.Record.UpdatedAt) {
		before.Last = Register{c.Version, s.Last.At, nil, without(before.Last.Heads, s.Last.Heads)}
	}
	return []State{before, s}
}

// Learn returns the state after a change: what it observes, joined.
func (s State) Learn(c Change, received time.Time) State {
	for _, seen := range Observe(c, received) {
		s = s.Join(seen)
	}
	return s
}

// without keeps a view from replacing itself: most updates change nothing of it.
func without(old, heads []View) []View {
	if slices.Equal(old, heads) {
		return nil
	}
	return old
}

// timesOf keeps the times of a row.
func timesOf(r Row) State {
	return State{ID: r.ID, CreatedAt: r.CreatedAt, StartedAt: r.StartedAt, UpdatedAt: r.UpdatedAt, LeaseAt: r.LeaseAt}
}

func registerOf(r Row, version int64) Register {
	return Register{version, r.UpdatedAt, []View{{r.User, r.Workflow, r.Draft, r.Status}}, nil}
}

// claimOf returns what a row by itself says of the run's outcome: as a
// terminal record it is [SawEnd] until its old_record says otherwise.
func claimOf(r Row) Claim {
	repaired, reason := Repair(r)
	if !repaired.Ended() {
		return Claim{}
	}
	c := Claim{Evidence: SawEnd, Outcome: repaired.Outcome()}
	if reason == Overwritten {
		c.Evidence = Presumed
	}
	return c
}

// claims returns what the rows of a change say of the outcome.
func (c Change) claims() (record, old Claim) {
	record = claimOf(c.Record)
	switch {
	case c.Op == Insert:
	case !c.HasOld:
		record.Evidence = min(record.Evidence, SeenEnded)
	default:
		record.Evidence = min(record.Evidence, evidenceOver(c.Record, c.Old))
		old = claimOf(c.Old)
		old.Evidence = min(old.Evidence, SeenEnded)
	}
	switch c.Mark {
	case MarkPresumed:
		// A touch of it shows the same twice, and neither makes it real.
		if old.Outcome.Status == record.Outcome.Status && old.Outcome.CompletedAt.Equal(record.Outcome.CompletedAt) {
			old.Evidence = min(old.Evidence, Presumed)
		}
		record.Evidence = min(record.Evidence, Presumed)
	case MarkSuperseding:
		if c.supersedes() {
			record.Evidence, old.Evidence = Confirmed, min(old.Evidence, Presumed)
		}
	case MarkAmended:
		if at := c.Record.UpdatedAt; c.Op == Update && c.Record.Ended() && !at.IsZero() {
			record.Evidence, record.AmendedAt = Amended, at
		}
	}
	return record, old
}

// supersedes reports whether the rows can be those of an outcome that took the
// place of another.
func (c Change) supersedes() bool {
	return c.Op == Update && c.Record.Ended() && (!c.HasOld || c.Old.Ended())
}

// evidenceOver returns how much a record can say of its outcome, given the row
// before it.
func evidenceOver(record, old Row) Evidence {
	switch {
	case !old.Status.Terminal() && old.CompletedAt.IsZero():
		return SawEnd // it had not ended
	case record.Status == old.Status && record.CompletedAt.Equal(old.CompletedAt):
		return SeenEnded
	}
	return Rewritten
}
