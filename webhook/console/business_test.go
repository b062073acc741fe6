package console

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
)

func TestPresumedRunsHaveAColourOfTheirOwn(t *testing.T) {
	t.Parallel()
	from := noon.Truncate(24*time.Hour).AddDate(0, 0, 1-shownDays)
	c := drawDays([]store.Day{
		{At: from.AddDate(0, 0, -1), Tallies: store.Tallies{Ended: store.Tally{Completed: 99}}}, // before the chart
		{At: from, Tallies: store.Tallies{Ended: store.Tally{Completed: 2}}},
		{At: from.AddDate(0, 0, 29), Tallies: store.Tallies{Ended: store.Tally{Completed: 3, Failed: 3, Timeout: 2}, Presumed: store.Tally{Failed: 2}}},
	}, from)
	var runs []string
	for _, l := range c.Legend {
		runs = append(runs, l.Runs+" "+l.Name)
	}
	want := []string{"5 completed", "1 failed", "0 cancelled", "2 timed out", "2 presumed by a sweep"}
	if diff := cmp.Diff(want, runs); diff != "" {
		t.Error(diff)
	}
	if want := "10 runs have ended in 30 days, 5 completed, 1 failed, 0 cancelled, 2 timed out, 2 presumed by a sweep"; c.Label != want || c.Most != "8" {
		t.Errorf("got %q, most %s; want %q", c.Label, c.Most, want)
	}
	var last []bar
	zeros := 0
	for _, b := range c.Bars {
		if b.X == percent(100.0/shownDays*29) {
			last = append(last, b)
		}
		if b.Class == "zero" {
			zeros++
		}
	}
	says := "Sat 31 Jan: 8, 3 completed, 1 failed, 2 timed out, 2 presumed by a sweep"
	if diff := cmp.Diff([]bar{
		{"96.667%", "2.667%", "75", "45", "completed", says}, {"96.667%", "2.667%", "60", "15", "failed", says},
		{"96.667%", "2.667%", "30", "30", "timeout", says}, {"96.667%", "2.667%", "0", "30", "presumed", says},
	}, last); diff != "" {
		t.Error(diff)
	}
	if zeros != 28 {
		t.Errorf("%d days of 0 are shown, want 28", zeros)
	}
}

func TestATimeIsToldInItsUnit(t *testing.T) {
	t.Parallel()
	var got []string
	for _, seconds := range []float64{0, 0.5, 119, 300, 86400} {
		got = append(got, took(seconds))
	}
	if want := "0 s, 0.50 s, 119 s, 5 min, 24 h"; strings.Join(got, ", ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, ", "), want)
	}
}
