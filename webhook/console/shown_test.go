package console

import (
	"html/template"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

func TestATimeIsSaidByItsDistance(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 12, 0, 30, 0, time.UTC)
	for _, c := range []struct {
		ago  time.Duration
		want string
	}{
		{0, "now"},
		{999 * time.Millisecond, "now"},
		{-999 * time.Millisecond, "now"},
		{time.Second, "1 s ago"},
		{59*time.Second + 999*time.Millisecond, "59 s ago"},
		{time.Minute, "1 min ago"},
		{time.Hour - 1, "59 min ago"},
		{time.Hour, "1 h ago"},
		{24*time.Hour - 1, "23 h ago"},
		{24 * time.Hour, "1 d ago"},
		{longAgo - 1, "29 d ago"},
		{longAgo, "2026-01-01"},
		{-time.Second, "in 1 s"},
		{-5 * time.Minute, "in 5 min"},
		{-longAgo, "2026-03-02"},
	} {
		if got := relative(now.Add(-c.ago), now); got != c.want {
			t.Errorf("%s ago: got %q, want %q", c.ago, got, c.want)
		}
	}
	at := time.Date(2026, 1, 31, 12, 0, 0, 500_000, time.FixedZone("", 3600))
	if got, want := string(functions(func() time.Time { return now })["time"].(func(time.Time) template.HTML)(at)),
		`<time datetime="2026-01-31T11:00:00.0005Z" title="2026-01-31 11:00:00 UTC">1 h ago</time>`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAnIDIsShortAndCanBeToldFromItsNeighbour(t *testing.T) {
	t.Parallel()
	for whole, want := range map[string]string{
		"ada":                                  "ada",
		"1234567890123456":                     "1234567890123456",
		"org_2abcdefghijkl":                    "org_2abc…ijkl",
		"019ab3c4-1111-7aaa-8aaa-00000000abcd": "019ab3c4…abcd",
		"ааааааааббббббббв":                    "аааааааа…бббв",
	} {
		if got := short(mustID(t, whole)); got != want {
			t.Errorf("%s: got %q, want %q", whole, got, want)
		}
	}
	if got := shownAs(store.Absent, userPath(store.Absent)); got != (shownID{Whole: "–", Short: "–"}) {
		t.Errorf("no user: got %+v", got)
	}
}
