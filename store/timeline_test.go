package store

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTheTimelineOfARun(t *testing.T) {
	t.Parallel()
	at := func(minutes int) time.Time { return time.Date(2026, 1, 31, 12, minutes, 0, 0, time.UTC) }
	stuck := RepairLog{Reason: Stuck, Times: 1, First: at(7), Last: at(7), Was: Running, Status: Failed, CompletedAt: at(6)}
	for name, c := range map[string]struct {
		h     History
		kinds []EventKind
		says  string
	}{
		"active": {History{Found: true, Run: Run{Row: Row{Status: Running, CreatedAt: at(0), StartedAt: at(1), UpdatedAt: at(3), LeaseAt: at(2)}}},
			[]EventKind{RunCreated, RunStarted, RunLastSeen}, "it is running"},
		"ended": {History{Found: true, Run: Run{Row: Row{Status: Completed, CreatedAt: at(0), StartedAt: at(0), CompletedAt: at(5), UpdatedAt: at(9)}}},
			[]EventKind{RunCreated, RunStarted, RunEnded}, "Ended completed"},
		"presumed": {History{Found: true, Repairs: []RepairLog{stuck}, Run: Run{Presumed: true, Row: Row{Status: Failed, CreatedAt: at(0), CompletedAt: at(6)}}},
			[]EventKind{RunCreated, RunSilent, RunPresumed}, "A sweep presumed it failed"},
		"superseded": {History{Found: true, Repairs: []RepairLog{stuck}, Run: Run{Row: Row{Status: Completed, CreatedAt: at(0), CompletedAt: at(8)}}},
			[]EventKind{RunCreated, RunSilent, RunPresumed, RunSuperseded}, "Ended completed, really"},
		"amended after it was presumed": {History{Found: true, Repairs: []RepairLog{stuck}, Amendments: []AmendmentLog{{At: at(9), Who: "support", Why: "a refund", Was: Failed, Status: Cancelled}},
			Run: Run{Row: Row{Status: Cancelled, CreatedAt: at(0), CompletedAt: at(6)}}},
			[]EventKind{RunCreated, RunSilent, RunEnded, RunPresumed, RunAmended}, "support made it cancelled; it was failed. Why: a refund"},
		"overwritten twice": {History{Found: true, Repairs: []RepairLog{{Reason: Overwritten, Times: 2, First: at(3), Last: at(4), Was: Running, Status: Completed, CompletedAt: at(2)}},
			Run: Run{Presumed: true, Row: Row{Status: Completed, CompletedAt: at(2)}}},
			[]EventKind{RunPresumed}, "the first of 2 times was at 2026-01-31 12:03:00 UTC"},
		"deleted": {History{DeletedAt: at(5), Repairs: []RepairLog{{Reason: NoTime, Times: 1, Last: at(4), Status: Failed}}},
			[]EventKind{RunRepaired, RunDeleted}, "which was missing from failed"},
		"without times": {History{Found: true, Run: Run{Row: Row{Status: Running}}}, nil, ""},
	} {
		var kinds []EventKind
		var said strings.Builder
		events := c.h.Timeline()
		for i, e := range events {
			kinds = append(kinds, e.Kind)
			said.WriteString(e.Text + "\n")
			if i > 0 && e.At.Before(events[i-1].At) {
				t.Errorf("%s: %s is before %s", name, e.Kind, events[i-1].Kind)
			}
		}
		if !slices.Equal(kinds, c.kinds) || !strings.Contains(said.String(), c.says) {
			t.Errorf("%s: got %v, want %v with %q\n%s", name, kinds, c.kinds, c.says, said.String())
		}
	}
}
