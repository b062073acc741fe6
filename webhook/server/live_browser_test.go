package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/golang-jwt/jwt/v5"

	"github.com/edgaze-ai/runcounter/webhook/users"
)

// TestTheExampleOfLiveCounts runs the code of docs/live-counts.md in Chromium,
// as it stands there, on a page of another origin that is allowed, and of one
// that isn't.
func TestTheExampleOfLiveCounts(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/live-counts.md")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile("(?s)```js\n(.*?)```").FindSubmatch(page)
	if example == nil {
		t.Fatal("docs/live-counts.md has no example")
	}
	ada, err := json.Marshal(signed(t, jwt.SigningMethodHS256, []byte(legacy), good("", nil), nil))
	if err != nil {
		t.Fatal(err)
	}
	var base string
	app := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/counts.js" {
			w.Header().Set("Content-Type", "text/javascript")
			w.Write(example[1])
			return
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><title>nothing yet</title><script type="module">
import { watchCounts } from "/counts.js";
const supabase = { auth: { getSession: async () => ({ data: { session: { access_token: %s } } }) } };
console.warn = (...text) => { document.title = "refused: " + text.join(" "); };
watchCounts(supabase, %q, [%q], (c) => { document.title = "count " + c.count; });
</script>`, ada, base, workflow)
	})
	ours, theirs := httptest.NewServer(app), httptest.NewServer(app)
	t.Cleanup(ours.Close)
	t.Cleanup(theirs.Close)
	r := withUsers(t, nil, users.Config{Secret: legacy}, func(c *Config) { c.Origins = []string{ours.URL} })
	base = "http://" + r.addr
	r.deliver(completed(1))

	b := openTab(t, r)
	b.do(chromedp.Navigate(ours.URL))
	b.becomes(`document.title === "count 1"`)
	for i := 2; i < 5; i++ {
		r.deliver(completed(i))
		b.becomes(fmt.Sprintf(`document.title === "count %d"`, i))
	}
	b.do(chromedp.Navigate(theirs.URL))
	b.becomes(`document.title.startsWith("refused: ")`)
}
