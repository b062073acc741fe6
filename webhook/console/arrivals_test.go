package console

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
)

var noon = time.Date(2026, 1, 31, 12, 0, 30, 0, time.UTC)

// refusingLog takes nothing while err is set.
type refusingLog struct {
	memory
	err  error
	then func()
}

func (r *refusingLog) RecordActivity(ctx context.Context, minutes ...store.Activity) error {
	if r.err != nil {
		return r.err
	}
	if r.then != nil {
		r.then()
	}
	return r.memory.RecordActivity(ctx, minutes...)
}

func TestTotalsBecomeMinutes(t *testing.T) {
	t.Parallel()
	var a arrivals
	total := webhook.Totals{}
	at := func(d time.Duration, lag time.Duration, lost int64) {
		a.observe(noon.Add(d), total, lag, lost, lost > 0)
	}
	at(0, 0, 5) // what was lost before is no news
	total.Deliveries, total.Changed, total.Unchanged = 3, 2, 1
	at(10*time.Second, time.Second, 5)
	total.Deliveries, total.Refused, total.Failed = 7, 3, 1
	at(20*time.Second, 2*time.Second, 8)
	at(29*time.Second, 0, 8)
	at(50*time.Second, 0, 8)
	total.OutOfOrder = 4
	at(59*time.Second, 0, 8)
	log := &refusingLog{err: errors.New("away")}
	if err := a.record(t.Context(), log); err == nil {
		t.Error("the log refused, and record says nothing")
	}
	log.err = nil
	log.then = func() { // while it is written, more arrives
		log.then = nil
		total.Deliveries++
		at(70*time.Second, 3*time.Second, 8)
	}
	if err := a.record(t.Context(), log); err != nil {
		t.Fatal(err)
	}
	if err := a.record(t.Context(), log); err != nil {
		t.Fatal(err)
	}
	got, _ := log.Activity(t.Context(), noon.Add(-time.Hour), noon.Add(time.Hour), time.Minute)
	minute := noon.Truncate(time.Minute)
	want := []store.Activity{
		{At: minute, Since: noon, Deliveries: 7, Refused: 2, Failed: 1, Changes: 2, Duplicates: 1, Lost: 3, Lag: 2 * time.Second},
		{At: minute.Add(time.Minute), Since: noon, Deliveries: 1, OutOfOrder: 4, Lag: 3 * time.Second},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	steps, _, _ := a.waiting(time.Minute)
	if len(steps) != 0 {
		t.Errorf("%+v wait, want nothing", steps)
	}
}

func TestAProcessThatSleptWasNotWatching(t *testing.T) {
	t.Parallel()
	var a arrivals
	a.observe(noon, webhook.Totals{}, 0, 0, false)
	a.observe(noon.Add(time.Hour), webhook.Totals{Deliveries: 1}, 0, 0, false)
	if _, since, _ := a.waiting(time.Minute); !since.Equal(noon.Add(time.Hour)) {
		t.Errorf("watched since %s", since)
	}
}

func TestRefusalsInARow(t *testing.T) {
	t.Parallel()
	var a arrivals
	for i, one := range []struct {
		total webhook.Totals
		want  streak
	}{
		{webhook.Totals{}, streak{}},
		{webhook.Totals{Deliveries: 2, Refused: 2, Strangers: 2}, streak{refused: 2, strangers: 2}},
		{webhook.Totals{Deliveries: 3, Refused: 3, Strangers: 2, Failed: 1}, streak{refused: 2, strangers: 2, failed: 1}},
		{webhook.Totals{Deliveries: 3, Refused: 3, Strangers: 2, Failed: 1}, streak{refused: 2, strangers: 2, failed: 1}},
		{webhook.Totals{Deliveries: 5, Refused: 4, Strangers: 2, Failed: 1}, streak{}},
	} {
		a.observe(noon.Add(time.Duration(i)*time.Second), one.total, 0, 0, false)
		_, _, got := a.waiting(time.Minute)
		got.last = time.Time{}
		if got != one.want {
			t.Errorf("%d: got %+v, want %+v", i, got, one.want)
		}
	}
}

// Nothing arrived, and no instance watched, are two things.
func TestAChartTellsNothingFromNoData(t *testing.T) {
	t.Parallel()
	const bars = 60
	minute := noon.Truncate(time.Minute)
	classes := func(steps []store.Activity, since time.Time) (text string) {
		for _, b := range draw(spans[0], noon, steps, since).Panels[0].Bars {
			n := 1
			if b.Class == "gap" {
				width, err := strconv.ParseFloat(strings.TrimSuffix(b.Width, "%"), 64)
				if err != nil {
					t.Fatal(err)
				}
				n = int(math.Round(width * bars / 100))
			}
			text += strings.Repeat(map[string]string{"gap": "?", "zero": "0", "": "x"}[b.Class], n)
		}
		return text
	}
	for _, one := range []struct {
		what  string
		steps []store.Activity
		since time.Time
		want  string
	}{
		{"never watched", nil, time.Time{}, strings.Repeat("?", bars)},
		{"this process, for ten minutes", nil, noon.Add(-10 * time.Minute), strings.Repeat("?", 49) + strings.Repeat("0", 11)},
		{"one that was ended since", []store.Activity{{At: minute.Add(-30 * time.Minute), Since: minute.Add(-35 * time.Minute), Deliveries: 1}}, noon, strings.Repeat("?", 24) + "00000x" + strings.Repeat("?", 29) + "0"},
		{"one that has watched since before", []store.Activity{{At: minute, Since: minute.Add(-35 * time.Hour), Deliveries: 1}}, noon, strings.Repeat("0", 59) + "x"},
	} {
		if got := classes(one.steps, one.since); got != one.want {
			t.Errorf("%s:\n got %s\nwant %s", one.what, got, one.want)
		}
	}
}

func TestChartsShareOneAxis(t *testing.T) {
	t.Parallel()
	steps := []store.Activity{{At: noon.Truncate(2 * time.Hour), Since: noon, Deliveries: 12345, Refused: 2, Failed: 1, Lost: 4, Lag: 1500 * time.Millisecond}}
	got := draw(spanNamed("week"), noon, steps, time.Time{})
	var says []string
	for _, p := range got.Panels {
		says = append(says, p.Label)
		if last := p.Bars[len(p.Bars)-1]; last.X != "98.81%" || !strings.HasPrefix(last.Says, "31 Jan 12:00–14:00: ") {
			t.Errorf("%s ends with %+v", p.Name, last)
		}
	}
	if diff := cmp.Diff([]string{
		"Deliveries in the last week: 12\u202f345, at most 12\u202f345 in 2 hours", "Refused in the last week: 3, at most 3 in 2 hours",
		"Lost on the way in the last week: 4, at most 4 in 2 hours", "Greatest lag in the last week: 1.50 s, at most 1.50 s in 2 hours",
	}, says); diff != "" {
		t.Error(diff)
	}
	var ticks []string
	for _, tick := range got.Ticks {
		ticks = append(ticks, tick.Text)
	}
	if want := "Sun 25 Mon 26 Tue 27 Wed 28 Thu 29 Fri 30 Sat 31"; strings.Join(ticks, " ") != want {
		t.Errorf("the axis says %q, want %q", ticks, want)
	}
	if spanNamed("year").Name != "hour" {
		t.Error("a span that there is not is the hour")
	}
}
