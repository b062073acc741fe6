package server

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// TestLettersAreReplayedAndDroppedTogether: those of one reason, and of a filter, as they
// were when it was asked.
func TestLettersAreReplayedAndDroppedTogether(t *testing.T) {
	t.Parallel()
	r := withConsole(t, nil)
	b := newBrowser(t, r).signIn()
	status := func(n int, status any) string {
		return inserted(row(3000+n, "completed", map[string]any{"status": status}))
	}
	for n := range 3 {
		r.die(status(n, 7))
	}
	for n := range 2 {
		r.die(status(n, []int{1}))
	}
	b.get("/dead-letters")
	b.has("By reason", "Replay all 7…", "Drop all 7…")
	reasons := map[string]int{}
	for _, l := range r.letters("").Letters {
		reasons[l.Reason]++
	}
	for reason, n := range reasons {
		b.get("/dead-letters?is=" + url.QueryEscape(reason))
		if got := len(regexp.MustCompile(`<a href="/dead-letters/\d+">`).FindAllString(b.html, -1)); got != n {
			t.Errorf("%q has %d letters, and the page lists %d\n%s", reason, n, got, b.html)
		}
		b.has(fmt.Sprintf(`<td role="cell" class="number">%d</td>`, n))
	}
	first := r.letters("?reason=status").Letters
	latest := first[0].Reason
	n := reasons[latest]

	// What arrives after the question is not meant by the answer.
	b.get("/dead-letters/drop?is=" + url.QueryEscape(latest))
	b.has(fmt.Sprintf("Drop %d dead letters?", n))
	r.die(status(9, []int{1}))
	b.send("/dead-letters/drop", "is", latest, "upto", fmt.Sprint(first[0].Seq))
	b.has(fmt.Sprintf("Dropped: %d.", n))
	left := r.letters("").Letters
	if len(left) != 7-n+1 || left[0].Reason != latest {
		t.Errorf("left are %+v", left)
	}

	// None of these can be read now either.
	b.get("/dead-letters/replay").send("/dead-letters/replay", "upto", fmt.Sprint(left[0].Seq))
	b.has(fmt.Sprintf("Replayed: 0 taken in, %d that still can&#39;t be read and stay.", len(left)))
	if got := len(r.letters("").Letters); got != len(left) {
		t.Errorf("after a replay in vain: got %d letters, want %d", got, len(left))
	}
	for _, what := range []string{"dead letters were dropped", "dead letters were replayed"} {
		if log := r.log.String(); !strings.Contains(log, "console: "+what) || !strings.Contains(log, `who="Ada (API key)"`) {
			t.Errorf("the log doesn't say that %s, and by whom:\n%s", what, log)
		}
	}

	for _, form := range []url.Values{{}, {"upto": {"0"}}, {"upto": {"x"}}} {
		for _, do := range []string{"drop", "replay"} {
			form.Set("csrf", b.get("/sweep").csrf())
			if b.do("POST", "/dead-letters/"+do, form); b.status != 400 {
				t.Errorf("%s %v: got %d, want 400", do, form, b.status)
			}
		}
	}
	form := url.Values{"upto": {fmt.Sprint(left[0].Seq)}, "csrf": {"another"}}
	if b.do("POST", "/dead-letters/drop", form); b.status != 403 || len(r.letters("").Letters) != len(left) {
		t.Errorf("without the page's token: got %d, and %d letters are left", b.status, len(r.letters("").Letters))
	}
	// A number in the address is read as a number.
	if b.get("/dead-letters?done=dropped-many&n=<b>7"); !strings.Contains(b.html, "Dropped: 0.") {
		t.Errorf("the address wrote on the page: %s", b.html)
	}
}
