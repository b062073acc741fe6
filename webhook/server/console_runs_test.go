package server

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/store"
)

// slowReader takes too long for a list or for a number that it is given the time for.
type slowReader struct {
	reader
	list, number bool
}

func (r slowReader) SearchRuns(ctx context.Context, q store.RunQuery) ([]store.ListedRun, error) {
	if r.list && q.Within > 0 {
		return nil, fmt.Errorf("list: %w", store.ErrTooSlow)
	}
	return r.reader.SearchRuns(ctx, q)
}

func (r slowReader) CountRuns(ctx context.Context, q store.RunQuery) (int, error) {
	if r.number && q.Within > 0 {
		return 0, fmt.Errorf("count: %w", store.ErrTooSlow)
	}
	return r.reader.CountRuns(ctx, q)
}

// withRuns starts a server with 130 ended runs of a user, a minute apart, of which every
// tenth failed.
func withRuns(t *testing.T, with func(*Config)) *browser {
	t.Helper()
	r := withConsole(t, with)
	var list []string
	for i := range 130 {
		status, at := "completed", fmt.Sprintf("2026-01-31T%02d:%02d:00Z", 10+i/60, i%60)
		if i%10 == 0 {
			status = "failed"
		}
		list = append(list, inserted(row(2000+i, status, map[string]any{"user_id": otherUser, "created_at": at, "started_at": at, "completed_at": at})))
	}
	r.deliver("[" + strings.Join(list, ",") + "]")
	return newBrowser(t, r).signIn()
}

// shown returns the runs of the page, in order.
func (b *browser) shown() (runs []string) {
	for _, found := range regexp.MustCompile(`<a href="/runs/([^"/]+)" title`).FindAllStringSubmatch(b.html, -1) {
		runs = append(runs, found[1])
	}
	return runs
}

// follow goes to the next page or the one before; false where there is none.
func (b *browser) follow(rel string) bool {
	b.t.Helper()
	found := regexp.MustCompile(`href="([^"]+)" rel="` + rel + `"`).FindStringSubmatch(b.html)
	if found == nil {
		return false
	}
	b.get(strings.ReplaceAll(found[1], "&amp;", "&"))
	return true
}

func TestRunsArePagedForthAndBack(t *testing.T) {
	t.Parallel()
	b := withRuns(t, nil)
	for _, order := range []string{"", "oldest"} {
		b.get("/runs?state=ended&order=" + order + "&user=" + otherUser)
		forth := [][]string{b.shown()}
		if b.follow("prev") {
			t.Errorf("the first page has one before it: %s", b.at)
		}
		for b.follow("next") {
			forth = append(forth, b.shown())
		}
		var sizes []int
		for _, page := range forth {
			sizes = append(sizes, len(page))
		}
		if !slices.Equal(sizes, []int{50, 50, 30}) {
			t.Fatalf("%q: got pages of %v runs", order, sizes)
		}
		want := make([]string, 130)
		for i := range want {
			want[i] = runID(2000 + i)
		}
		if order == "" {
			slices.Reverse(want)
		}
		if got := slices.Concat(forth...); !slices.Equal(got, want) {
			t.Errorf("%q: got %v", order, got)
		}
		for i := len(forth) - 2; i >= 0; i-- {
			if !b.follow("prev") || !slices.Equal(b.shown(), forth[i]) {
				t.Errorf("%q: back on page %d: got %v, want %v", order, i, b.shown(), forth[i])
			}
		}
		if b.follow("prev") {
			t.Errorf("%q: there is a page before the first", order)
		}
		if !b.follow("next") || !slices.Equal(b.shown(), forth[1]) {
			t.Errorf("%q: forth again: got %v, want %v", order, b.shown(), forth[1])
		}
	}
}

func TestRunsAreFiltered(t *testing.T) {
	t.Parallel()
	b := withRuns(t, nil)
	for query, want := range map[string]int{
		"status=failed": 13,
		"from=2026-01-31T10:30&to=2026-01-31T10:40":         10,
		"from=2026-01-31T10:30:00Z&to=2026-01-31T10:40:00Z": 10,
		"from=2026-01-31&to=2026-02-01&status=failed":       13,
		"from=2026-02-01": 0,
		"status=failed&from=2026-01-31T10:30&to=2026-01-31T10:40": 1,
	} {
		if b.get("/runs?state=ended&user=" + otherUser + "&" + query); len(b.shown()) != want {
			t.Errorf("%s: got %d runs, want %d\n%s", query, len(b.shown()), want, b.html)
		}
		if want == 0 {
			b.has("There are none that fit the filter")
		}
		// The tabs have the same filter, but for what a sweep would do.
		if tab := fmt.Sprintf(`ended <span class="tab-count">%d</span>`, want); !strings.Contains(b.html, tab) {
			t.Errorf("%s: the tab has not %s\n%s", query, tab, b.html)
		}
	}
	b.get("/runs?state=stuck")
	b.has(`stuck <span class="tab-count">1</span>`)
}

func TestAListOfRunsThatTakesTooLongIsAPage(t *testing.T) {
	t.Parallel()
	slow := &slowReader{}
	b := withRuns(t, func(c *Config) {
		slow.reader = c.Reader.(reader)
		c.Reader = slow
	})
	slow.number = true
	if b.get("/runs?state=ended&user=" + otherUser); len(b.shown()) != 50 || strings.Contains(b.html, "tab-count") {
		t.Errorf("without the numbers: got %d runs\n%s", len(b.shown()), b.html)
	}
	slow.list = true
	b.get("/runs?state=ended")
	b.has("took longer than two seconds", "Name a user, or a shorter time", "tab")
	if b.status != 200 || len(b.shown()) != 0 {
		t.Errorf("got %d with %d runs", b.status, len(b.shown()))
	}
}
