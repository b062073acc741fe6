package storetest

import (
	"cmp"
	"slices"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// Mirrored is the expected state of one run in a mirror.
type Mirrored struct {
	Row      store.Row
	Deleted  bool // nothing else is known of it
	Presumed bool // the outcome was inferred, or a source presumed it
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
	evidence int // 6, 5 by a mark; 4 to 1
	decided  time.Time
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
		case c.Old.Status == c.Record.Status && c.Old.CompletedAt.Equal(c.Record.CompletedAt):
			o.evidence = 3
		default:
			o.evidence = 2
		}
		switch {
		case c.Mark == store.MarkPresumed:
			o.evidence = 1
		case c.Mark == store.MarkSuperseding && superseding(c):
			o.evidence = 5
		case c.Mark == store.MarkAmended && c.Op == store.Update && c.Record.Ended() && !c.Record.UpdatedAt.IsZero():
			o.evidence, o.decided = 6, c.Record.UpdatedAt
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
		touch := len(all) > 0 && all[0].outcome.Status == o.outcome.Status && all[0].outcome.CompletedAt.Equal(o.outcome.CompletedAt)
		if c.Mark == store.MarkPresumed && touch || c.Mark == store.MarkSuperseding && superseding(c) {
			o.evidence = 1
		}
		all = append(all, o)
	}
	return all
}

// superseding reports whether the rows of a change agree with its mark.
func superseding(c store.Change) bool {
	return c.Op == store.Update && c.Record.Ended() && (c.Old.Ended() || !c.HasOld)
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

// betterOutcome sorts the candidate that stands to the front.
func betterOutcome(a, b candidate) int {
	duration := func(o store.Outcome) int64 {
		if !o.DurationMS.Valid {
			return -1
		}
		return int64(o.DurationMS.MS)
	}
	place := func(o store.Outcome) int { return slices.Index(store.Terminals[:], o.Status) }
	return cmp.Or(
		cmp.Compare(b.evidence, a.evidence),
		b.decided.Compare(a.decided),
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
			a.User.Compare(b.User),
			a.Draft.Compare(b.Draft),
			a.Workflow.Compare(b.Workflow),
		)
	})
}

// life is the order in which a run passes the statuses; an unknown one is
// below all.
var life = []store.Status{
	store.Pending, store.Running, store.Cancelling,
	store.Cancelled, store.Timeout, store.Failed, store.Completed,
}
