package server

import (
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Prometheus sees no increase from nothing to 1: the first dead letter after a
// start would go unnoticed.
func TestCaseO8_EverySeriesOfACounterIsThereBeforeItsFirstEvent(t *testing.T) {
	r := serve(t, nil)
	seriesOf := func() (series []string) {
		for _, found := range regexp.MustCompile(`(?m)^(runcounter_\w+_total\{.*\}) `).FindAllStringSubmatch(string(r.api("GET", "/metrics", "").body), -1) {
			series = append(series, found[1])
		}
		return series
	}
	before := seriesOf()
	r.deliver(completed(1))
	r.deliver("{")
	r.do("POST", path, completed(2))
	if diff := cmp.Diff(before, seriesOf()); diff != "" {
		t.Errorf("series that began with an event (-before +after):\n%s", diff)
	}
	for _, want := range []string{
		`runcounter_dead_letters_total{result="kept"}`, `runcounter_deliveries_total{result="unavailable"}`,
		`runcounter_store_tries_total{result="unavailable"}`, `runcounter_changes_total{result="changed"}`,
	} {
		if !slices.Contains(before, want) {
			t.Errorf("an alert asks for %s, which is not there after a start", want)
		}
	}
}
