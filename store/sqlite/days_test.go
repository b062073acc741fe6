package sqlite

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// days is a store whose days pass as fast as it works.
type days struct {
	*testing.T
	s       *Store
	rand    *rand.Rand
	at      time.Time
	sweeper *store.Sweeper

	next    int
	live    []store.Change // what the application still has, the oldest first
	deleted int
}

func newDays(t *testing.T) *days {
	d := &days{T: t, s: mustOpen(t), rand: rand.New(rand.NewPCG(20260131, 0)), at: now}
	d.sweeper = &store.Sweeper{Store: d.s, Limits: store.DefaultLimits(), Slice: 100, Now: func() time.Time { return d.at }}
	return d
}

// run is a run's life until the moment, as a webhook tells it: of ten, one
// never ends. Each twentieth key has this run alone.
func (d *days) run() (changes []store.Change) {
	d.next++
	c := endedRun(d.next)
	c.Record.Workflow = storetest.MustID('c', d.next%200)
	if d.next%20 == 0 {
		c.Record.Workflow = storetest.MustID('e', d.next)
	}
	c.Record.CreatedAt, c.Record.UpdatedAt, c.Record.CompletedAt = d.at.Add(-time.Minute), d.at.Add(-time.Minute), time.Time{}
	c.Record.Status = store.Running
	changes = append(changes, c)
	if d.next%10 != 0 {
		old := c.Record
		c.Op, c.Old = store.Update, old
		c.Record.Status, c.Record.UpdatedAt, c.Record.CompletedAt = store.Completed, d.at, d.at
		changes = append(changes, c, c) // twice
	}
	d.live = append(d.live, c)
	return changes
}

// forget deletes what the application keeps no longer: older than two days.
func (d *days) forget() (changes []store.Change) {
	for len(d.live) > 0 && d.at.Sub(d.live[0].Record.CreatedAt) > 48*time.Hour {
		changes = append(changes, store.Change{Op: store.Delete, Old: d.live[0].Record})
		d.live = d.live[1:]
		d.deleted++
	}
	return changes
}

func (d *days) apply(changes []store.Change) {
	d.Helper()
	if _, err := d.s.Apply(d.Context(), changes, d.at); err != nil {
		d.Fatal(err)
	}
}

func (d *days) number(query string, args ...any) (n int64) {
	d.Helper()
	if err := d.s.reader.QueryRowContext(d.Context(), query, args...).Scan(&n); err != nil {
		d.Fatalf("%s: %v", query, err)
	}
	return n
}

// sweep moves the clock, and sweeps.
func (d *days) sweep(after time.Duration) {
	d.Helper()
	d.at = d.at.Add(after)
	// At the end of a day, all keys.
	if _, err := d.sweeper.Sweep(d.Context(), store.SweepOptions{Full: after == 0}); err != nil {
		d.Fatal(err)
	}
}

func (d *days) letter(bytes int) {
	d.Helper()
	err := d.s.KeepDeadLetter(d.Context(), store.DeadLetter{ReceivedAt: d.at, Reason: "not JSON", Bytes: int64(bytes), Body: make([]byte, bytes)})
	if err != nil {
		d.Fatal(err)
	}
}

func (d *days) atMost(what string, got, want int64) {
	d.Helper()
	if got > want {
		d.Errorf("day %.0f: %s: got %d, want at most %d", d.at.Sub(now).Hours()/24, what, got, want)
	}
}

// bounded checks what must stay bounded however long it goes on.
func (d *days) bounded() {
	d.Helper()
	d.atMost("dead letters", d.number(`select count(*) from dead_letters`), store.MaxDeadLetters)
	d.atMost("bytes of dead letters", d.number(`select coalesce(sum(length(body)), 0) from dead_letters`), store.MaxDeadLetterBytes)
	d.atMost("counts of nothing", d.number(`
select count(*) from counts where n = 0`), 0)
	d.atMost("keys with counts", d.number(`select count(*) from (select distinct user_id, kind, ref_id from counts)`), int64(200+len(d.live)/20+1))
	d.atMost("marks of imports", d.number(`select count(*) from imports`), 1)
	d.atMost("runs", d.number(`select count(*) from workflow_runs`), int64(len(d.live)))
	d.atMost("repairs too old", d.number(`select count(*) from repairs where last_at < ?`, d.at.Add(-store.KeepLogs).UnixMicro()), 0)
	d.atMost("recounts too old", d.number(`select count(*) from recounts where at < ?`, d.at.Add(-store.KeepLogs).UnixMicro()), 0)
	if got := d.number(`select count(*) from tombstones`); got != int64(d.deleted) {
		d.Errorf("tombstones: got %d, want one for each of %d deleted runs", got, d.deleted)
	}
	wal, err := os.Stat(d.s.path + "-wal")
	if err != nil {
		d.Fatal(err)
	}
	d.atMost("bytes of the log", wal.Size(), 64<<20)
	exact(d, d.s)
}

// TestThirtyDays: 8,600 runs, three times as many deliveries, 1,500 that can't
// be read, a sweep every half hour. The application keeps its runs for two days,
// so the file must stop to grow, but for what is kept of the deleted ones.
func TestThirtyDays(t *testing.T) {
	need.NoRaceDetector(t) // one goroutine, and a month takes minutes
	t.Parallel()
	d := newDays(t)
	var plateau int64
	for day := range 30 {
		for step := range 48 {
			var changes []store.Change
			for range 6 {
				changes = append(changes, d.run()...)
			}
			d.rand.Shuffle(len(changes), func(i, j int) { changes[i], changes[j] = changes[j], changes[i] })
			d.apply(changes)
			if gone := d.forget(); len(gone) > 0 {
				d.apply(gone)
			}
			d.letter(d.rand.IntN(4 << 10))
			if step == 24 {
				backend(t, d.s).Corrupt(t, store.KeyOf(storetest.MustID('a', 1), storetest.MustID('c', day), store.ID{}), 3)
			}
			d.sweep(30 * time.Minute)
		}
		if day%2 == 0 {
			d.letter(8 << 20) // large ones, of which half must go
		}
		source := fmt.Sprintf("project %d", day)
		if err := d.s.KeepImportMark(t.Context(), source, ImportMark{BegunAt: d.at, After: "x"}); err != nil {
			t.Fatal(err)
		}
		if err := d.s.DropImportMark(t.Context(), source); err != nil {
			t.Fatal(err)
		}
		d.sweep(0)
		d.bounded()
		size := d.number(`select page_count * page_size from pragma_page_count, pragma_page_size`)
		if day == 14 {
			plateau = size
		}
		if day > 14 {
			// A tombstone is an id and a time, in an index as well; a repair is a row.
			logs := int64(day-14) * 48 * 6 * (128 + 300/10)
			d.atMost("bytes of the file", size, plateau+plateau/10+logs)
		}
	}
	if got, want := d.number(`select count(*) from recounts`), int64(30); got != want {
		t.Errorf("recounts: got %d, want %d, one for each spoilt count", got, want)
	}
	if got := d.number(`select count(*) from repairs where times > 1`); got > 0 {
		t.Errorf("%d runs were repaired more than once", got)
	}
	t.Logf("30 days: %d runs, %d deleted, file %d KiB on day 15 and %d KiB on day 30",
		d.next, d.deleted, plateau>>10, d.number(`select page_count * page_size from pragma_page_count, pragma_page_size`)>>10)
}

// TestAHundredAndTwentyDays: what is kept for 90 days goes after them, though
// little happens.
func TestAHundredAndTwentyDays(t *testing.T) {
	need.NoRaceDetector(t) // one goroutine, and a month takes minutes
	t.Parallel()
	d := newDays(t)
	key := store.KeyOf(storetest.MustID('a', 1), storetest.MustID('c', 1), store.ID{})
	for day := range 120 {
		for range 4 {
			d.next = d.next/10*10 + 9
			d.apply(d.run()) // the tenth, which never ends
			d.sweep(6 * time.Hour)
		}
		d.apply([]store.Change{endedRun(1)})
		backend(t, d.s).Corrupt(t, key, 1)
		d.letter(100)
		d.sweep(0)
		kept := int64(min(day+1, 91))
		d.atMost("repairs", d.number(`select count(*) from repairs`), 4*kept)
		d.atMost("recounts", d.number(`select count(*) from recounts`), 2*kept)
		d.atMost("dead letters", d.number(`select count(*) from dead_letters`), kept)
	}
	if got := d.number(`select count(*) from repairs`); got < 4*89 || got > 4*91 {
		t.Errorf("repairs after 120 days: got %d, want those of 90", got)
	}
	if got := d.number(`select count(*) from recounts`); got < 89 || got > 91 {
		t.Errorf("recounts after 120 days: got %d, want those of 90", got)
	}
	exact(t, d.s)
}
