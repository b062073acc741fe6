package store

import (
	"fmt"
	"slices"
	"time"
)

// EventKind says what happened to a run.
type EventKind string

// The kinds of events, in the order of a run's life: so are two of the same moment.
const (
	RunCreated    EventKind = "created"
	RunStarted    EventKind = "started"
	RunLastSeen   EventKind = "last seen"
	RunSilent     EventKind = "silent" // for its limit
	RunEnded      EventKind = "ended"
	RunSuperseded EventKind = "superseded" // a presumed outcome was
	RunPresumed   EventKind = "presumed"
	RunRepaired   EventKind = "repaired"
	RunAmended    EventKind = "amended"
	RunDeleted    EventKind = "deleted"
)

var eventOrder = []EventKind{RunCreated, RunStarted, RunLastSeen, RunSilent, RunEnded, RunSuperseded, RunPresumed, RunRepaired, RunAmended, RunDeleted}

// Event is a moment in the life of a run.
type Event struct {
	At   time.Time
	Kind EventKind
	Text string
}

// Timeline returns the life of the run as far as it is kept, earliest first: what the
// row's times say, the latest repair for each reason, and each amendment. Steps in between
// that left no trace, and the deliveries that brought them, are not kept.
func (h History) Timeline() (events []Event) {
	add := func(at time.Time, kind EventKind, format string, args ...any) {
		if !at.IsZero() {
			events = append(events, Event{at, kind, fmt.Sprintf(format, args...)})
		}
	}
	var swept time.Time // when a sweep gave it an outcome last
	for _, l := range h.Repairs {
		switch l.Reason {
		case Stuck:
			add(l.CompletedAt, RunSilent, "The limit of its silence was over while it was %s", l.Was)
			add(l.Last, RunPresumed, "A sweep presumed it %s, as of the end of that limit%s", l.Status, times(l))
			swept = latest(swept, l.Last)
		case Overwritten:
			add(l.Last, RunPresumed, "A sweep found that it had ended and was overwritten by %s, and inferred %s%s", l.Was, l.Status, times(l))
			swept = latest(swept, l.Last)
		case NoTime:
			add(l.Last, RunRepaired, "A sweep set its completed_at, which was missing from %s%s", l.Status, times(l))
		case OutcomeLost:
			add(l.Last, RunRepaired, "Its outcome %s was overwritten by %s, and was restored from a webhook%s", l.Status, l.Was, times(l))
		case GaveWay, WouldKeep:
			add(l.Last, RunRepaired, "Its outcome %s was overwritten by %s: the guard did not keep it (%s)%s", l.Was, l.Status, l.Reason, times(l))
		default:
			add(l.Last, RunRepaired, "%s: it was %s and became %s%s", l.Reason, l.Was, l.Status, times(l))
		}
	}
	var decided time.Time
	for _, l := range h.Amendments {
		add(l.At, RunAmended, "%s made it %s; it was %s. Why: %s", l.Who, l.Status, l.Was, l.Why)
		decided = latest(decided, l.At)
	}
	if h.Found {
		r := h.Run
		add(r.CreatedAt, RunCreated, "Created")
		add(r.StartedAt, RunStarted, "Started")
		switch seen := latest(r.UpdatedAt, r.LeaseAt); {
		case !r.Ended() && r.CompletedAt.IsZero():
			add(latest(seen, r.StartedAt), RunLastSeen, "The last sign of life; it is %s", r.Status)
		case r.Presumed: // said by the sweep
		case !swept.IsZero() && decided.IsZero():
			add(r.CompletedAt, RunSuperseded, "Ended %s, really: that superseded what the sweep had presumed", r.Status)
		default:
			add(r.CompletedAt, RunEnded, "Ended %s", r.Status)
		}
	}
	add(h.DeletedAt, RunDeleted, "Its end was heard of: the row is deleted")
	slices.SortStableFunc(events, func(a, b Event) int {
		if by := a.At.Compare(b.At); by != 0 {
			return by
		}
		return slices.Index(eventOrder, a.Kind) - slices.Index(eventOrder, b.Kind)
	})
	return events
}

// times says how often a run was repaired so.
func times(l RepairLog) string {
	if l.Times <= 1 {
		return ""
	}
	return fmt.Sprintf("; the first of %d times was at %s", l.Times, l.First.UTC().Format("2006-01-02 15:04:05 UTC"))
}
