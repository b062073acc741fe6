package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// Every order of a marked history and its plain copies leads to the source's
// outcome, as soon as the marked changes are there; and so does every sequence
// that delivers some of them twice.
func TestAMarkedHistoryIsMirroredInEveryOrder(t *testing.T) {
	t.Parallel()
	for _, h := range storetest.MarkedHistories() {
		t.Run(h.Name, func(t *testing.T) {
			t.Parallel()
			d := &deliveries{TB: t, history: h, sent: slices.Concat(h.Changes, storetest.Plain(h.Changes))}
			n := len(h.Changes)
			d.once = true
			if d.from(store.State{ID: h.Ends.ID}, min(2*n, 6)); d.complete == 0 {
				t.Fatal("no order delivered all of it")
			}
			d.once = false
			d.from(store.State{ID: h.Ends.ID}, min(n+2, 6))
			d.batches()
		})
	}
}

// deliveries tries sequences of changes, each from the state that the one
// before it led to.
type deliveries struct {
	testing.TB
	history  storetest.MarkedHistory
	sent     []store.Change // the marked ones first, then their plain copies
	once     bool           // none is delivered twice
	order    []int
	complete int // sequences with all the marked changes
}

func (d *deliveries) from(s store.State, more int) {
	missing := 0
	for n := range d.history.Changes {
		if !slices.Contains(d.order, n) {
			missing++
		}
	}
	if missing == 0 {
		d.complete++
		d.mustEnd(s)
	}
	if missing > more || more == 0 {
		return
	}
	for n, c := range d.sent {
		if d.once && slices.Contains(d.order, n) {
			continue
		}
		d.order = append(d.order, n)
		d.from(s.Learn(c, received), more-1)
		d.order = d.order[:len(d.order)-1]
	}
}

// mustEnd compares with the source. Plain copies alone can make a presumed
// outcome look real.
func (d *deliveries) mustEnd(s store.State) {
	d.Helper()
	row := s.Row()
	if row.Status != d.history.Ends.Status || !row.CompletedAt.Equal(d.history.Ends.CompletedAt) || row.Key() != d.history.Ends.Key() {
		d.Fatalf("order %v: got %s at %v of %s, want %s at %v of %s", d.order,
			row.Status, row.CompletedAt, row.Key(), d.history.Ends.Status, d.history.Ends.CompletedAt, d.history.Ends.Key())
	}
	plain := slices.ContainsFunc(d.order, func(n int) bool { return n >= len(d.history.Changes) })
	if !plain && s.Presumed() != d.history.Presumed {
		d.Fatalf("order %v: presumed is %v, want %v", d.order, s.Presumed(), d.history.Presumed)
	}
}

// batches joins what two halves say, for each way to part the changes in two.
func (d *deliveries) batches() {
	want := observe(d.sent)
	for in := range 1<<len(d.sent) - 1 {
		var halves [2][]store.Change
		for n, c := range d.sent {
			halves[in>>n&1] = append(halves[in>>n&1], c)
		}
		if len(halves[1]) > 0 {
			mustEqual(d, "two batches", observe(halves[1]).Join(observe(halves[0])), want)
		}
	}
}

// A mark by itself says this much, and a mark that doesn't fit says nothing.
func TestWhatAMarkSays(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }
	row := func(status store.Status, updated int, completed time.Time) store.Row {
		return store.Row{ID: store.UUID([16]byte{15: 1}), Status: status, CreatedAt: epoch, UpdatedAt: at(updated), CompletedAt: completed}
	}
	undated := func(r store.Row) store.Row { r.UpdatedAt = time.Time{}; return r }
	running, reopened := row(store.Running, 1, time.Time{}), row(store.Pending, 9, time.Time{})
	failed, touched := row(store.Failed, 1, at(6)), row(store.Failed, 7, at(6))
	done := row(store.Completed, 8, at(8))
	update := func(old, record store.Row, mark store.Mark) store.Change {
		return store.Change{Op: store.Update, Old: old, Record: record, HasOld: true, Mark: mark}
	}
	alone := func(op store.Op, record store.Row, mark store.Mark) store.Change {
		return store.Change{Op: op, Record: record, Mark: mark}
	}
	type said struct {
		record, old store.Evidence
		amended     time.Time
	}
	for name, c := range map[string]struct {
		change store.Change
		want   said
	}{
		"a presumed end is presumed":                      {update(running, failed, store.MarkPresumed), said{record: store.Presumed}},
		"and so is a touch of it, as it was before":       {update(failed, touched, store.MarkPresumed), said{record: store.Presumed, old: store.Presumed}},
		"a presumed INSERT is presumed":                   {alone(store.Insert, failed, store.MarkPresumed), said{record: store.Presumed}},
		"a presumed record without its old_record is too": {alone(store.Update, failed, store.MarkPresumed), said{record: store.Presumed}},
		"another end before a presumed one was seen":      {update(done, failed, store.MarkPresumed), said{record: store.Presumed, old: store.SeenEnded}},
		"an active record is not presumed":                {update(running, reopened, store.MarkPresumed), said{}},

		"an end that supersedes is told, the one before it presumed": {update(failed, done, store.MarkSuperseding), said{record: store.Confirmed, old: store.Presumed}},
		"and told without its old_record":                            {alone(store.Update, done, store.MarkSuperseding), said{record: store.Confirmed}},
		"an active record supersedes nothing":                        {update(failed, running, store.MarkSuperseding), said{old: store.SeenEnded}},
		"an end without a time supersedes nothing":                   {update(failed, row(store.Completed, 8, time.Time{}), store.MarkSuperseding), said{record: store.Rewritten, old: store.SeenEnded}},
		"a first end supersedes nothing":                             {update(running, done, store.MarkSuperseding), said{record: store.SawEnd}},
		"an INSERT supersedes nothing":                               {alone(store.Insert, done, store.MarkSuperseding), said{record: store.SawEnd}},

		"an amended end is amended when it was updated": {update(failed, touched, store.MarkAmended), said{record: store.Amended, old: store.SeenEnded, amended: at(7)}},
		"and amended without its old_record":            {alone(store.Update, touched, store.MarkAmended), said{record: store.Amended, amended: at(7)}},
		"an amended end of an active run too":           {update(running, done, store.MarkAmended), said{record: store.Amended, amended: at(8)}},
		"an active record is not amended":               {update(done, reopened, store.MarkAmended), said{old: store.SeenEnded}},
		"an amended end without updated_at was seen":    {update(undated(done), undated(done), store.MarkAmended), said{record: store.SeenEnded, old: store.SeenEnded}},
		"an end without a time is not amended":          {update(running, row(store.Failed, 8, time.Time{}), store.MarkAmended), said{record: store.SawEnd}},
		"nor an unknown status":                         {update(done, row("archived", 9, time.Time{}), store.MarkAmended), said{old: store.SeenEnded}},
		"an INSERT is nobody's amendment":               {alone(store.Insert, done, store.MarkAmended), said{record: store.SawEnd}},

		"a mark that is not known says nothing": {update(failed, done, "disputed"), said{record: store.Rewritten, old: store.SeenEnded}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got said
			seen := store.Observe(c.change, received)
			record := seen[len(seen)-1]
			got.record, got.amended = record.Outcome.Evidence, record.Outcome.AmendedAt
			if len(seen) == 2 {
				got.old = seen[0].Outcome.Evidence
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(said{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// Whose run it is, and its signs of life, are none of a mark's business.
func TestAMarkSaysNothingButTheOutcome(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := drawn(rt)
		for _, c := range anyHistory(r) {
			plain := c
			c.Mark, plain.Mark = anyMark(r), store.NoMark
			got, want := store.Observe(c, received), store.Observe(plain, received)
			for i := range got {
				got[i].Outcome.Evidence, got[i].Outcome.AmendedAt = want[i].Outcome.Evidence, want[i].Outcome.AmendedAt
			}
			if diff := cmp.Diff(want, got); diff != "" {
				rt.Fatalf("%s (-plain +marked)\n%s", c.Mark, diff)
			}
		}
	})
}
