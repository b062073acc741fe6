package server

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/store/storetest"
	"github.com/edgaze-ai/runcounter/webhook/console"
)

// lived fills a store with what a few hundred runs of an unruly application
// leave behind, among them some that are stuck, presumed and superseded, a
// repaired count, a decision, and dead letters.
func lived(t *testing.T, r *rig) {
	t.Helper()
	ctx := t.Context()
	source := &storetest.Source{Rand: rand.New(rand.NewPCG(7, 7)), Runs: 150, UpdatedAt: storetest.Moves}
	steps := 600
	if need.Smaller(t) {
		steps = 100
	}
	for range steps {
		for _, c := range source.Step() {
			if source.Rand.IntN(5) == 0 {
				continue // lost
			}
			if _, err := r.store.Apply(ctx, []store.Change{c}, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := r.store.FailStuck(ctx, store.FailStuck{Now: time.Now(), Limits: store.DefaultLimits(), Max: 500}); err != nil {
		t.Fatal(err)
	}
	// One that was failed, and then really ended; one that is silent since.
	r.deliver(inserted(row(1, "running", nil)))
	if _, err := r.store.FailStuck(ctx, store.FailStuck{Now: time.Now(), Limits: store.DefaultLimits(), Max: 500}); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	r.api("POST", "/v1/runs/"+runID(1)+"/complete", `{"status":"completed"}`)
	r.api("POST", "/v1/runs/"+runID(1)+"/amend", `{"status":"cancelled","who":"support","reason":"a refund <script>alert(1)</script>"}`)
	r.deliver(inserted(row(2, "running", nil)))
	r.deliver(inserted(row(3, "running", map[string]any{"started_at": now, "updated_at": now, "created_at": now})))
	r.deliver(inserted(row(4, "failed", map[string]any{"error_details": map[string]string{"message": `<img src=x onerror="alert(1)">`}})))
	r.deliver(inserted(row(5, "on hold <b>", nil)))
	r.deliver(`{"type": "INSERT", "record": <script>alert(1)</script>}`)
	r.deliver("\xff\xfe no text")
	for _, more := range []string{`,"workflow_id":"` + workflow + `","expires_at":"9000-01-01T00:00:00Z"`, ``, `,"draft_id":"a/b"`} {
		r.api("POST", "/v1/grants", `{"user_id":"`+user+`","runs":5,"who":"support","why":"a refund <script>alert(1)</script>"`+more+`}`)
	}
	r.api("POST", "/v1/grants/2/revoke", `{"who":"support","why":"a mistake <img>"}`)
	if _, err := r.store.Recount(ctx, workflowKey(t), time.Now()); err != nil {
		t.Fatal(err)
	}
}

// withConsole starts a server with the pages, on a store that has lived.
func withConsole(t *testing.T, with func(*Config)) *rig {
	t.Helper()
	var sweeper *store.Sweeper
	r := serve(t, func(c *Config, _ *limits, g *gated) {
		sweeper = &store.Sweeper{Store: g}
		all := g.Store.(reader)
		c.Reader, c.Letters = all, all
		c.Console = &console.Settings{
			Where: "/data/runcounter.db", Statistics: all.(store.Statistics), Activity: all.(store.ActivityLog),
			Webhooks: func(context.Context) (store.Deliveries, error) {
				return store.Deliveries{
					Watched: true, Own: true, Window: 15 * time.Minute, Newest: store.FateArrived, Worker: store.WorkerUp,
					Calls: map[store.Fate]int64{store.FateArrived: 90, store.FateTimedOut: 3, store.FateWaiting: 2}, Queued: 2, Oldest: 1500 * time.Millisecond,
				}, nil
			},
			Doctor: func(context.Context) []report.Finding {
				return []report.Finding{{Check: "file", Status: "ok", Text: "64 KiB"}, {Check: "stuck", Status: "warning", Text: "1 run is stuck <script>", Fix: "runcounter sweep"}}
			},
			Sweep: func(ctx context.Context, full bool) (store.SweepReport, error) {
				return sweeper.Sweep(ctx, store.SweepOptions{Full: full})
			},
			Swept: func() store.SweepStatus { return sweeper.Status() },
		}
		if with != nil {
			with(c)
		}
	})
	lived(t, r)
	return r
}

// browser is somebody with a browser without JavaScript.
type browser struct {
	t      *testing.T
	base   string
	client *http.Client
	at     string // the path that was reached
	header http.Header
	status int
	html   string
}

func newBrowser(t *testing.T, r *rig) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t: t, base: "http://" + r.addr, client: &http.Client{Jar: jar}}
}

func (b *browser) do(method, path string, form url.Values, headers ...string) *browser {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := b.client.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	b.at, b.header, b.status, b.html = res.Request.URL.RequestURI(), res.Header, res.StatusCode, string(text)
	return b
}

func (b *browser) get(path string) *browser { b.t.Helper(); return b.do("GET", path, nil) }

// send sends the form of the page, with some fields filled in.
func (b *browser) send(action string, fields ...string) *browser {
	b.t.Helper()
	if !strings.Contains(b.html, `action="`+action+`"`) {
		b.t.Fatalf("%s has no form for %s:\n%s", b.at, action, b.html)
	}
	form := url.Values{"csrf": {b.csrf()}}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return b.do("POST", action, form)
}

func (b *browser) csrf() string {
	found := regexp.MustCompile(`name="csrf" value="([^"]+)"`).FindStringSubmatch(b.html)
	if found == nil {
		return ""
	}
	return found[1]
}

func (b *browser) signIn() *browser {
	b.t.Helper()
	b.get("/sign-in").send("/sign-in", "name", "Ada", "key", apiKey)
	if b.at != "/" || b.status != 200 {
		b.t.Fatalf("signed in, got %d at %s:\n%s", b.status, b.at, b.html)
	}
	return b
}

// has fails the test if the page lacks one of the texts.
func (b *browser) has(texts ...string) {
	b.t.Helper()
	for _, text := range texts {
		if !strings.Contains(b.html, text) {
			b.t.Errorf("%s (%d) lacks %q:\n%s", b.at, b.status, text, b.html)
		}
	}
}

// key is the path of the count that the tests look at.
const keyPath = "/counts/" + user + "/workflow/" + workflow

// consolePages are all pages, with what each must show.
var consolePages = map[string][]string{
	"/":                               {"Active runs", "Deliveries", "things need a look.", "1 run is stuck &lt;script&gt;", "could not be read.", `aria-current="true">Hour`, "The webhook, in the last 15 minutes", "Calls that timed out"},
	"/counts":                         {"<caption>Counts", user},
	"/counts?user=" + user:            {user, workflow},
	keyPath:                           {"What is stored equals the runs", runID(4), "under the policy outcomes", "By day", "at most 1 a day", "Ended, and not counted", "it ended cancelled, and the policy outcomes counts completed and failed runs alone"},
	keyPath + "/recount":              {"Recount?", "No, go back"},
	keyPath + "?":                     {"5 on top of the limit", "Grant runs…", "/grants/1/revoke"},
	"/grants":                         {"revoked", "a mistake", "/counts/" + user + "/draft/a%2Fb", `aria-current="page">Grants`},
	"/grants?user=" + user:            {"Grant runs…", "all runs"},
	"/grants?user=" + otherUser:       {"There are none"},
	newGrant:                          {"Grant runs?", "raises the limit of this count, and that of the user", "kept with your name: Ada"},
	"/grants/new?of=" + user:          {"It raises the limit of the user."},
	"/grants/1/revoke":                {"Revoke grant 1?", "support granted 5"},
	"/runs":                           {"takes one slot", runID(3)},
	"/runs?state=stuck":               {"What a sweep would do", runID(2), "stuck"},
	"/runs?state=presumed":            {"supersedes it", "Ended"},
	"/runs?state=ended&user=" + user:  {"Name a user", runID(4), "Latest first", `value="` + user + `"`, "Clear"},
	"/runs?state=odd":                 {"What it needs", "has no meaning here", "runcounter serve --status THEIRS=OURS", runID(5)},
	"/runs?state=superseded":          {runID(1)},
	"/runs/" + runID(1):               {"a refund", "support made it cancelled", "A sweep presumed it failed", "What happened", "not each delivery"},
	"/runs/" + runID(4):               {"Error details", "onerror"},
	"/runs/" + runID(2) + "/complete": {"How did it end?"},
	"/runs/" + runID(4) + "/amend":    {"kept with your name: Ada"},
	"/dead-letters":                   {"/dead-letters/1", "Why"},
	"/dead-letters/1":                 {"&lt;script&gt;", "Replay"},
	"/dead-letters/2":                 {"base64"},
	"/dead-letters/1/replay":          {"Replay dead letter 1?"},
	"/dead-letters/1/drop":            {"be had back"},
	"/dead-letters?is=x":              {"There are none", "All of them"},
	"/dead-letters/replay?reason=a":   {"dead letters?", "as if they came now"},
	"/dead-letters/drop":              {"Drop 2 dead letters?", "be had back"},
	"/repairs":                        {"Runs that a sweep repaired", "stuck"},
	"/repairs?of=counts":              {"none"},
	"/repairs?of=decisions":           {"a refund", "support"},
	"/doctor":                         {"1 run is stuck", "Fix: runcounter sweep"},
	"/sweep":                          {"Sweep now"},
	"/search":                         {"Search for the id"},
	"/search?q=nothing":               {"A mirror knows ids alone"},
	"/search?q=" + workflow:           {"Counts", workflow},
}

func TestEachPageOfTheConsole(t *testing.T) {
	t.Parallel()
	r := withConsole(t, nil)
	b := newBrowser(t, r).signIn()
	for path, texts := range consolePages {
		b.get(path)
		if b.status != 200 {
			t.Errorf("GET %s: %d\n%s", path, b.status, b.html)
		}
		b.has(texts...)
		for _, evil := range []string{"<script>alert", "<img", "onerror=\""} {
			if strings.Contains(b.html, evil) {
				t.Errorf("%s lets %q through", path, evil)
			}
		}
		if got := b.header.Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'none'; script-src 'self';") || !strings.Contains(got, "frame-ancestors 'none'") {
			t.Errorf("%s has the policy %q", path, got)
		}
		if got := b.header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s may be kept: %q", path, got)
		}
	}
	for path, want := range map[string]int{
		"/runs?state=lost":                      400,
		"/runs?from=yesterday":                  400,
		"/runs?user=%ff":                        400,
		"/runs?at=x":                            400,
		"/runs?from=2026-01-02&to=2026-01-01":   400,
		"/runs?id=%00":                          400,
		"/runs/%00":                             400,
		"/search?q=" + strings.Repeat("x", 256): 400,
		"/runs/" + runID(999):                   404,
		"/counts?user=%ff":                      400,
		"/counts?after=x":                       400,
		"/counts/a/b/c":                         400,
		"/repairs?of=users":                     400,
		"/grants?before=0":                      400,
		"/grants/new":                           400,
		"/grants/new?of=a%2Fb":                  400,
		"/grants/404/revoke":                    404,
		"/dead-letters/x":                       400,
		"/dead-letters/999":                     404,
		"/dead-letters/drop?is=x":               404,
		"/dead-letters?before=-1":               400,
		"/console/style.css":                    200,
		"/console/console.js":                   200,
		"/console/layout.html":                  404,
		"/console/%2e%2e/server.go":             404,
		"/console/events?key=x":                 400,
	} {
		if b.get(path); b.status != want {
			t.Errorf("GET %s: got %d, want %d\n%s", path, b.status, want, b.html)
		}
	}
	if b.do("GET", "/", nil, "Accept", "*/*"); !strings.HasPrefix(b.html, "Run Counter counts") {
		t.Errorf("curl / says %q", b.html)
	}
}

// A page that is not there is a page for a browser, and a problem for a program.
func TestAPageThatIsNotThere(t *testing.T) {
	t.Parallel()
	r := withConsole(t, nil)
	b := newBrowser(t, r).signIn()
	const program = "application/json"
	for _, c := range []struct {
		path, accept string
		status       int
		page         bool
	}{
		{"/nowhere", "", 404, true},
		{"/runs/a/b/c", "", 404, true},
		{"/v2/counts", "", 404, true},
		{"/sign-out", "", 405, true}, // which a browser that goes back asks for
		{"/nowhere", program, 404, false},
		{"/nowhere", "*/*", 404, false},
		{"/v1/runs/" + runID(999), "", 401, false}, // an address of the API
	} {
		headers := []string{}
		if c.accept != "" {
			headers = []string{"Accept", c.accept}
		}
		b.do("GET", c.path, nil, headers...)
		kind := "application/problem+json"
		if c.page {
			kind = "text/html; charset=utf-8"
		}
		if got := b.header.Get("Content-Type"); b.status != c.status || got != kind {
			t.Errorf("GET %s as %q: got %d, %s; want %d, %s\n%s", c.path, c.accept, b.status, got, c.status, kind, b.html)
		}
		if c.page {
			b.has(`aria-label="Pages"`, "To the overview")
		}
	}
	if b.get("/nowhere"); strings.Contains(b.html, "webhooks") {
		t.Errorf("a person is told of webhooks: %s", b.html)
	}
	// A stranger's page has nothing of the database.
	if stranger := newBrowser(t, r).get("/nowhere"); stranger.status != 404 || strings.Contains(stranger.html, "runcounter.db") || strings.Contains(stranger.html, `aria-label="Pages"`) {
		t.Errorf("a stranger sees %s", stranger.html)
	}
}

func TestTheConsoleIsPaged(t *testing.T) {
	t.Parallel()
	r := withConsole(t, nil)
	var list []string
	for i := range 130 {
		list = append(list, inserted(row(1000+i, "completed", map[string]any{"workflow_id": fmt.Sprintf("cccccccc-cccc-4ccc-8ccc-%012d", i)})))
	}
	r.deliver("[" + strings.Join(list, ",") + "]")
	b := newBrowser(t, r).signIn()
	seen := map[string]bool{}
	nextPage := regexp.MustCompile(`href="([^"]+)" rel="next"`)
	for path := "/counts?user=" + user; path != ""; {
		b.get(path)
		for _, found := range regexp.MustCompile(`title="cccccccc-cccc-4ccc-8ccc-\d{12}"`).FindAllString(b.html, -1) {
			if seen[found] {
				t.Errorf("%s is on two pages", found)
			}
			seen[found] = true
		}
		path = ""
		if found := nextPage.FindStringSubmatch(b.html); found != nil {
			path = strings.ReplaceAll(found[1], "&amp;", "&")
		}
	}
	if len(seen) != 130 {
		t.Errorf("got %d counts on all pages, want 130", len(seen))
	}
}

func TestTheActionsOfTheConsole(t *testing.T) {
	t.Parallel()
	r := withConsole(t, nil)
	b := newBrowser(t, r).signIn()

	b.get(keyPath + "/recount").send(keyPath + "/recount")
	b.has("The count was right already")
	b.get("/runs/"+runID(2)+"/complete").send("/runs/"+runID(2)+"/complete", "status", "timeout")
	b.has("The run has ended so", `<span class="status timeout">`)
	b.do("POST", "/runs/"+runID(2)+"/complete", url.Values{"csrf": {b.csrf()}, "status": {"failed"}})
	b.has("keeps its first outcome", `<span class="status timeout">`)
	b.get("/runs/"+runID(4)+"/amend").send("/runs/"+runID(4)+"/amend", "status", "completed", "reason", "it did\n  work")
	b.has("The outcome is changed", "Ada (API key) made it completed; it was failed. Why: it did work")
	b.get("/dead-letters/1/replay").send("/dead-letters/1/replay")
	b.has("still can&#39;t be read")
	b.get("/dead-letters/1/drop").send("/dead-letters/1/drop")
	b.has("The dead letter is gone")
	if b.get("/dead-letters/1"); b.status != 404 {
		t.Errorf("a letter that was dropped: %d", b.status)
	}
	b.get("/sweep").send("/sweep", "full", "yes")
	b.has("The sweep is done", "full")

	log := r.log.String()
	for _, what := range []string{"a count was recounted", "a run was completed", "a run was amended", "a dead letter was replayed", "a dead letter was dropped", "a sweep was asked for"} {
		if !regexp.MustCompile(`console: ` + what + `".* who="Ada \(API key\)"`).MatchString(log) {
			t.Errorf("the log doesn't say who: %s\n%s", what, log)
		}
	}
	if strings.Contains(log, apiKey) {
		t.Error("the key is in the log")
	}
	for path, form := range map[string]url.Values{
		"/runs/" + runID(2) + "/complete": {"status": {"running"}},
		"/runs/" + runID(2) + "/amend":    {"status": {"completed"}},
		"/runs/%00/complete":              {"status": {"completed"}},
		"/dead-letters/x/drop":            {},
	} {
		form.Set("csrf", b.get("/sweep").csrf())
		if b.do("POST", path, form); b.status != 400 {
			t.Errorf("POST %s %v: got %d, want 400", path, form, b.status)
		}
	}
	b.get("/sweep").send("/sign-out")
	b.has("You are signed out")
	if b.get("/counts"); b.at != "/sign-in" {
		t.Errorf("signed out, got to %s", b.at)
	}
}

// What strangers, other sites' pages and old sessions try.
func TestHostileRequestsOfTheConsole(t *testing.T) {
	t.Parallel()
	r := withConsole(t, nil)
	stranger := newBrowser(t, r)
	for path := range consolePages {
		if stranger.get(path); stranger.at != "/sign-in" || strings.Contains(stranger.html, workflow) || strings.Contains(stranger.html, "runcounter.db") {
			t.Errorf("a stranger got to %s by %s:\n%s", stranger.at, path, stranger.html)
		}
	}
	b := newBrowser(t, r).signIn()
	good := b.get("/sweep").csrf()
	other := newBrowser(t, r).signIn().get("/sweep").csrf()
	before := r.api("GET", "/v1/runs/"+runID(4), "").body
	target := "/runs/" + runID(4) + "/amend"
	amend := func(csrf string) url.Values {
		return url.Values{"csrf": {csrf}, "status": {"cancelled"}, "reason": {"evil"}}
	}
	for name, try := range map[string]func() *browser{
		"no token of the page":              func() *browser { return b.do("POST", target, amend("")) },
		"a wrong one":                       func() *browser { return b.do("POST", target, amend(good[1:]+"=")) },
		"one of another session":            func() *browser { return b.do("POST", target, amend(other)) },
		"another site's page":               func() *browser { return b.do("POST", target, amend(good), "Origin", "https://evil.example.com") },
		"another site's page, as a sandbox": func() *browser { return b.do("POST", target, amend(good), "Origin", "null") },
		"a neighbour's page":                func() *browser { return b.do("POST", target, amend(good), "Sec-Fetch-Site", "same-site") },
		"another site, as the browser says": func() *browser { return b.do("POST", target, amend(good), "Sec-Fetch-Site", "cross-site") },
		"as JSON":                           func() *browser { return b.do("POST", target, amend(good), "Content-Type", "application/json") },
		"as plain text":                     func() *browser { return b.do("POST", target, amend(good), "Content-Type", "text/plain") },
		"a form of 100 KiB": func() *browser {
			return b.do("POST", target, url.Values{"csrf": {good}, "reason": {strings.Repeat("x", 100<<10)}})
		},
		"as a GET":      func() *browser { return b.do("GET", target+"?csrf="+good+"&status=cancelled&reason=evil", nil) },
		"as a PUT":      func() *browser { return b.do("PUT", target, amend(good)) },
		"not signed in": func() *browser { return newBrowser(t, r).do("POST", target, amend(good)) },
		"with the API key alone": func() *browser {
			return newBrowser(t, r).do("POST", target, amend(good), "Authorization", "Bearer "+apiKey)
		},
	} {
		if got := try(); got.status == 200 && name != "as a GET" && got.at != "/sign-in" {
			t.Errorf("%s: got %d at %s", name, got.status, got.at)
		}
		if now := r.api("GET", "/v1/runs/"+runID(4), "").body; string(now) != string(before) {
			t.Fatalf("%s changed the run: %s", name, now)
		}
	}
	base, err := url.Parse(b.base)
	if err != nil {
		t.Fatal(err)
	}
	cookies := b.client.Jar.Cookies(base)
	if len(cookies) != 1 {
		t.Fatalf("got the cookies %v", cookies)
	}
	text, sum, _ := strings.Cut(cookies[0].Value, ".")
	payload, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	forged := base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(payload), "Ada", "Eve", 1)))
	for name, value := range map[string]string{
		"somebody else's name": forged + "." + sum,
		"no signature":         text + ".",
		"no dot":               text,
		"another's signature":  text + "." + strings.Repeat("A", 43),
		"nothing":              "",
	} {
		eve := newBrowser(t, r)
		eve.client.Jar.SetCookies(base, []*http.Cookie{{Name: cookies[0].Name, Value: value}})
		if eve.get("/counts"); eve.at != "/sign-in" {
			t.Errorf("a cookie with %s got to %s", name, eve.at)
		}
	}
	if strings.Contains(r.log.String(), cookies[0].Value) || strings.Contains(r.log.String(), good) {
		t.Error("a session is in the log")
	}
}
