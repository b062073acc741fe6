package console

import (
	"context"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// counter counts the runs of windows: as many as the day of the month, of which one in two
// counts. It is slow for windows before a moment.
type counter struct {
	Store
	asked int
	slow  time.Time
}

func (c *counter) Count(ctx context.Context, _ store.Scope, in store.Window) (store.Count, error) {
	c.asked++
	if in.From.Before(c.slow) {
		<-ctx.Done()
		return store.Count{}, ctx.Err()
	}
	if in.To.Sub(in.From) != 24*time.Hour || in.From.Hour() != 0 {
		return store.Count{}, store.ErrInvalid
	}
	n := int64(in.From.Day())
	return store.Count{Count: n / 2, Tallies: store.Tallies{Ended: store.Tally{Completed: n}}}, nil
}

func TestTheDaysOfACount(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 23, 59, 0, 0, time.UTC)
	counts := &counter{}
	c := &Console{cfg: Config{Store: counts, Now: func() time.Time { return now }}}
	h := store.KeyHistory{Count: store.Count{LastRunAt: now}}
	d, err := c.daysOf(t.Context(), h)
	if err != nil || d.Partly || len(d.Days) != 30 || counts.asked != 30 {
		t.Fatalf("got %+v, %v after %d counts", d, err, counts.asked)
	}
	if d.From() != "2026-01-02" || d.To() != "2026-01-31" || d.Most != 31 || d.Ended != 495 || d.Width() != 300 {
		t.Errorf("got %s to %s, most %d, ended %d, width %d", d.From(), d.To(), d.Most, d.Ended, d.Width())
	}
	last := d.Days[29]
	if last.Title != "2026-01-31: 15 counted of 31 ended runs" || last.Counted != (dayBar{"31.0", "29.0"}) || last.Other != (dayBar{"0.0", "31.0"}) || last.X != 290 {
		t.Errorf("the last day: got %+v", last)
	}

	// A count without runs of late asks for none of the days.
	counts.asked, h.Count.LastRunAt = 0, now.AddDate(0, 0, -30)
	if d, err := c.daysOf(t.Context(), h); err != nil || len(d.Days) != 0 || counts.asked != 0 {
		t.Errorf("without runs of late: got %+v, %v after %d counts", d, err, counts.asked)
	}

	// The days that could be counted in time are shown.
	counts.slow, h.Count.LastRunAt = now.AddDate(0, 0, -3), now
	if d, err := c.daysOf(t.Context(), h); err != nil || !d.Partly || len(d.Days) != 3 || d.From() != "2026-01-29" {
		t.Errorf("slow before three days: got %+v, %v", d, err)
	}
}
