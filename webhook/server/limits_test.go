package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/webhook/api"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

// index makes the indexes of windows.
func (r *rig) index() {
	r.t.Helper()
	m, err := sqlite.OpenMigrator(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	yes := true
	m.SetWindows(migrations.Windows{User: &yes, Workflow: &yes})
	if err := m.Up(); err != nil {
		r.t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		r.t.Fatal(err)
	}
}

// countOf is what a count is, in the short.
type countOf struct {
	User, Workflow, Draft string
	Kind, From, To        string
	Count, Presumed       int64
}

func (r *rig) count(query string) countOf {
	r.t.Helper()
	got := r.api("GET", "/v1/counts?"+query, "")
	if got.status != http.StatusOK {
		r.t.Fatalf("%s: got %d %s", query, got.status, got.body)
	}
	return countIn(r.t, got.body)
}

func countIn(t *testing.T, body []byte) countOf {
	t.Helper()
	var c struct {
		User     *string `json:"user_id"`
		Workflow *string `json:"workflow_id"`
		Draft    *string `json:"draft_id"`
		Kind     string  `json:"kind"`
		From     string  `json:"from"`
		To       string  `json:"to"`
		Count    int64   `json:"count"`
		Presumed struct {
			Completed, Failed, Cancelled, Timeout int64
		} `json:"presumed"`
	}
	if err := json.Unmarshal(body, &c); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	text := func(s *string) string {
		if s == nil {
			return "all"
		}
		return *s
	}
	p := c.Presumed
	return countOf{text(c.User), text(c.Workflow), text(c.Draft), c.Kind, c.From, c.To, c.Count, p.Completed + p.Failed + p.Cancelled + p.Timeout}
}

func TestCountsByScopeAndWindow(t *testing.T) {
	r := serve(t, nil)
	ended := func(n int, at string, more map[string]any) {
		t.Helper()
		if more == nil {
			more = map[string]any{}
		}
		more["completed_at"], more["updated_at"] = at, at
		r.deliver(inserted(row(n, "completed", more))).answer(t)
	}
	ended(1, "2026-10-31T23:59:59.999999+00:00", nil)
	ended(2, "2026-11-01T00:00:00+00:00", nil)
	ended(3, "2026-11-15T00:00:00+00:00", map[string]any{"workflow_id": nil, "draft_id": draft})
	ended(4, "2026-11-15T00:00:00+00:00", map[string]any{"user_id": otherUser})
	ended(5, "2026-12-01T00:00:00+00:00", nil)
	r.index()
	const month = "&from=2026-11-01T00:00:00Z&to=2026-12-01T00:00:00Z"
	from, to := "2026-11-01T00:00:00.000000Z", "2026-12-01T00:00:00.000000Z"
	for _, c := range []struct {
		name, query string
		want        countOf
	}{
		{"a key", "user_id=" + user + "&workflow_id=" + workflow, countOf{user, workflow, "all", "", "", "", 3, 0}},
		{"a key's month", "user_id=" + user + "&workflow_id=" + workflow + month, countOf{user, workflow, "all", "", from, to, 1, 0}},
		{"a user, drafts included", "user_id=" + user, countOf{user, "all", "all", "", "", "", 4, 0}},
		{"a user's drafts", "user_id=" + user + "&kind=draft", countOf{user, "all", "all", "draft", "", "", 1, 0}},
		{"a user's month", "user_id=" + user + month, countOf{user, "all", "all", "", from, to, 2, 0}},
		{"a user since then", "user_id=" + user + "&from=2026-11-01T01:00:00%2B01:00", countOf{user, "all", "all", "", from, "", 3, 0}},
		{"a workflow over all users", "workflow_id=" + workflow, countOf{"all", workflow, "all", "", "", "", 4, 0}},
		{"the same, said", "users=all&workflow_id=" + workflow, countOf{"all", workflow, "all", "", "", "", 4, 0}},
		{"a draft over all users", "draft_id=" + draft, countOf{"all", "all", draft, "", "", "", 1, 0}},
		{"a workflow's month", "workflow_id=" + workflow + month, countOf{"all", workflow, "all", "", from, to, 2, 0}},
	} {
		if diff := cmp.Diff(c.want, r.count(c.query)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestAWindowWithoutItsIndexNamesTheCommand(t *testing.T) {
	r := serve(t, nil)
	const from = "&from=2026-11-01T00:00:00Z"
	for target, flag := range map[string]string{
		"/v1/counts?user_id=" + user + from:                        "--user-windows",
		"/v1/counts?workflow_id=" + workflow + from:                "--workflow-windows",
		"/v1/allowance?user_limit=1&user_id=" + user + from:        "--user-windows",
		"/v1/counts/stream?user_id=" + user + from:                 "--user-windows",
		"/v1/counts/stream?workflow_id=" + workflow + from:         "--workflow-windows",
		"/v1/allowance/stream?user_limit=1&user_id=" + user + from: "--user-windows",
	} {
		got := r.api("GET", target, "")
		if p := got.problem(t); got.status != http.StatusBadRequest || p.Code != "no_index" || !strings.Contains(p.Detail, "migrate up "+flag) {
			t.Errorf("%s: got %d %s, want 400 with %s", target, got.status, got.body, flag)
		}
	}
}

func TestSeveralLimitsOfABegin(t *testing.T) {
	r := serve(t, atNoon)
	r.index()
	const limits = `,"limits":[{"scope":"key","max":2},{"scope":"user","max":3,"from":"2026-11-01T00:00:00Z"}]`
	begun := r.mustBegin(limits)
	from := "2026-11-01T00:00:00.000000Z"
	want := []usage{{"key", 2, nil, 0, 0, 1, 1}, {"user", 3, &from, 0, 0, 1, 2}}
	if diff := cmp.Diff(want, begun.Limits); diff != "" {
		t.Errorf("the limits of a run that was begun (-want +got):\n%s", diff)
	}
	r.api("POST", "/v1/runs/"+begun.ID+"/complete", `{"status":"completed"}`)
	r.mustBegin(limits)
	// The key's two are taken.
	got := r.begin(limits)
	p := got.problem(t)
	if want := "Limit reached (2): 1 counted, 1 active."; got.status != http.StatusConflict || !strings.HasPrefix(p.Detail, want) || len(p.Limits) != 2 || p.Limits[1].Remaining != 1 {
		t.Errorf("the key's limit: got %d %s, want %q and one left of the user's", got.status, got.body, want)
	}
	// A draft of the user takes the last of theirs.
	ofDraft := `{"user_id":"` + user + `","draft_id":"` + draft + `"` + limits + `}`
	if got := r.api("POST", "/v1/runs", ofDraft); got.status != http.StatusCreated {
		t.Fatalf("got %d %s, want 201", got.status, got.body)
	}
	got = r.api("POST", "/v1/runs", ofDraft)
	p = got.problem(t)
	if want := "Limit of the user reached (3) since " + from + ": 1 counted, 2 active."; !strings.HasPrefix(p.Detail, want) || *p.Limit != 3 || *p.Count != 1 || *p.Active != 2 {
		t.Errorf("the user's limit: got %d %s, want %q", got.status, got.body, want)
	}
	// A grant on the draft raises both.
	grant := r.api("POST", "/v1/grants", `{"user_id":"`+user+`","draft_id":"`+draft+`","runs":1,"who":"ada","why":"refill"}`)
	if grant.status != http.StatusCreated {
		t.Fatalf("got %d %s, want 201", grant.status, grant.body)
	}
	if got := r.api("POST", "/v1/runs", ofDraft); got.status != http.StatusCreated {
		t.Errorf("after a grant: got %d %s, want 201", got.status, got.body)
	}
	if p := r.api("POST", "/v1/runs", ofDraft).problem(t); !strings.HasPrefix(p.Detail, "Limit of the user reached (3, and 1 granted)") {
		t.Errorf("once it is used: got %s", p.Detail)
	}
	left := r.api("GET", "/v1/allowance?user_id="+user+"&workflow_id="+workflow+"&limit=20&user_limit=30&from=2026-11-01T00:00:00Z", "")
	wantLeft := `{"limits":[{"scope":"key","max":20,"from":"` + from + `","granted":0,"counted":1,"active":1,"remaining":18},` +
		`{"scope":"user","max":30,"from":"` + from + `","granted":1,"counted":1,"active":3,"remaining":27}],"remaining":18}`
	if diff := cmp.Diff(wantLeft, string(left.body)); diff != "" {
		t.Errorf("the allowance (-want +got):\n%s", diff)
	}
	left = r.api("GET", "/v1/allowance?user_id="+user+"&workflow_id="+workflow+"&limit=20&user_limit=30&user_from=2026-11-01T00:00:00Z", "")
	if diff := cmp.Diff(strings.Replace(wantLeft, `"from":"`+from+`"`, `"from":null`, 1), string(left.body)); diff != "" {
		t.Errorf("with a period of the user's limit alone (-want +got):\n%s", diff)
	}
}

func TestGrantsAreGivenListedAndRevoked(t *testing.T) {
	r := serve(t, atNoon)
	give := func(more string) reply {
		return r.api("POST", "/v1/grants", `{"user_id":"`+user+`","who":"ada","why":"a refund"`+more+`}`)
	}
	first := give(`,"runs":5,"workflow_id":"` + workflow + `","expires_at":"2026-12-01T00:00:00Z","idempotency_key":"t-1"`)
	want := `{"id":1,"user_id":"` + user + `","workflow_id":"` + workflow + `","draft_id":null,"runs":5,"stands":true,"who":"ada","why":"a refund",` +
		`"granted_at":"2026-11-22T12:00:00.123456Z","expires_at":"2026-12-01T00:00:00.000000Z","idempotency_key":"t-1","revoked_at":null,"revoked_by":null,"revoked_why":null,"created":true}`
	if diff := cmp.Diff(want, string(first.body)); first.status != http.StatusCreated || diff != "" {
		t.Errorf("%d (-want +got):\n%s", first.status, diff)
	}
	again := r.do("POST", "/v1/grants", `{"user_id":"`+user+`","who":"ada","why":"a refund","runs":5,"workflow_id":"`+workflow+`","expires_at":"2026-12-01T00:00:00Z"}`,
		"Authorization: Bearer "+apiKey, "Idempotency-Key: t-1")
	if diff := cmp.Diff(strings.Replace(want, `"created":true`, `"created":false`, 1), string(again.body)); diff != "" {
		t.Errorf("sent again (-want +got):\n%s", diff)
	}
	if other := give(`,"runs":6,"idempotency_key":"t-1"`); other.status != http.StatusConflict || other.problem(t).Code != "conflict" || !strings.Contains(other.problem(t).Detail, "grant") {
		t.Errorf("the same key with other runs: got %d %s, want 409", other.status, other.body)
	}
	give(`,"runs":2`)
	r.api("POST", "/v1/grants", `{"user_id":"`+otherUser+`","who":"ada","why":"a refund","runs":1}`)

	type page struct {
		Grants []struct {
			ID int64 `json:"id"`
		} `json:"grants"`
		Next *int64 `json:"next"`
	}
	list := func(query string) string {
		t.Helper()
		var p page
		if err := json.Unmarshal(r.api("GET", "/v1/grants?"+query, "").body, &p); err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, g := range p.Grants {
			ids = append(ids, fmt.Sprint(g.ID))
		}
		if p.Next != nil {
			ids = append(ids, fmt.Sprintf("next %d", *p.Next))
		}
		return strings.Join(ids, " ")
	}
	for query, want := range map[string]string{
		"": "3 2 1", "max=2": "3 2 next 2", "max=2&before=2": "1", "user_id=" + user: "2 1",
		"user_id=" + user + "&workflow_id=" + workflow: "1", "user_id=" + user + "&draft_id=" + draft: "",
	} {
		if got := list(query); got != want {
			t.Errorf("the grants of %q: got %q, want %q", query, got, want)
		}
	}

	revoked := r.api("POST", "/v1/grants/1/revoke", `{"who":"bob","why":"a mistake"}`)
	if want := `"stands":false`; revoked.status != 200 || !strings.Contains(string(revoked.body), want) || !strings.Contains(string(revoked.body), `"revoked_by":"bob","revoked_why":"a mistake"`) {
		t.Errorf("revoke: got %d %s", revoked.status, revoked.body)
	}
	if again := r.api("POST", "/v1/grants/1/revoke", `{"who":"eve","why":"once more"}`); string(again.body) != string(revoked.body) {
		t.Errorf("revoked twice: got %s, want the first to stand", again.body)
	}
	for name, c := range map[string]struct{ target, body, want string }{
		"no runs":             {"/v1/grants", `{"user_id":"u","who":"a","why":"b"}`, "1 to 1000000000 runs"},
		"no user":             {"/v1/grants", `{"runs":1,"who":"a","why":"b"}`, "user_id is missing"},
		"nobody":              {"/v1/grants", `{"user_id":"u","runs":1,"why":"b"}`, "who decided it and why"},
		"expired":             {"/v1/grants", `{"user_id":"u","runs":1,"who":"a","why":"b","expires_at":"2026-01-01T00:00:00Z"}`, "would have expired"},
		"a typo":              {"/v1/grants", `{"user_id":"u","runs":1,"who":"a","why":"b","expires":"2027-01-01T00:00:00Z"}`, "is not known here"},
		"another":             {"/v1/grants/404/revoke", `{"who":"a","why":"b"}`, "no such grant"},
		"none":                {"/v1/grants/x/revoke", `{"who":"a","why":"b"}`, "number of the grant"},
		"revoked for nothing": {"/v1/grants/2/revoke", `{"who":"a"}`, "who decided it and why"},
	} {
		if got := r.api("POST", c.target, c.body); !strings.Contains(got.problem(t).Detail, c.want) {
			t.Errorf("%s: got %d %s, want %q", name, got.status, got.body, c.want)
		}
	}
	if got := r.api("GET", "/v1/grants?workflow_id="+workflow, ""); got.status != http.StatusBadRequest || !strings.Contains(got.problem(t).Detail, "add user_id") {
		t.Errorf("the grants of a workflow: got %d %s, want 400", got.status, got.body)
	}
	if log := r.log.String(); strings.Count(log, "runs were granted") != 3 || !strings.Contains(log, "a grant was revoked") {
		t.Errorf("the log does not tell of three grants and one revoked:\n%s", log)
	}
}

// Law 7 and its one exception: who reads what, under each setting.
func TestTotalsAreForTheirAudience(t *testing.T) {
	ada := signed(t, jwt.SigningMethodHS256, []byte(legacy), good("", nil), nil)
	bob := signed(t, jwt.SigningMethodHS256, []byte(legacy), good("", map[string]any{"sub": otherUser}), nil)
	total := ownCount + "&users=all"
	for _, c := range []struct {
		totals              api.Audience
		key, token, neither int
	}{
		{"", 200, 403, 401}, {api.ForKeys, 200, 403, 401}, {api.ForUsers, 200, 200, 401}, {api.ForEveryone, 200, 200, 200},
	} {
		r := withUsers(t, nil, users.Config{Secret: legacy}, func(cfg *Config) { cfg.Totals = c.totals })
		r.deliver(completed(1)).answer(t)
		r.deliver(strings.ReplaceAll(completed(2), user, otherUser)).answer(t)
		r.index()
		for who, want := range map[string]int{apiKey: c.key, ada: c.token, bob: c.token, "": c.neither} {
			var headers []string
			if who != "" {
				headers = []string{"Authorization: Bearer " + who}
			}
			// In a window, and of a draft, it is for keys alone, whatever the setting.
			windowed := 403
			switch who {
			case apiKey:
				windowed = 200
			case "":
				windowed = 401
			}
			for target, want := range map[string]int{
				total: want, total + "&from=2026-01-01T00:00:00Z": windowed, total + "&to=2027-01-01T00:00:00Z": windowed,
			} {
				got := r.bare("GET", target, headers...)
				if got.status != want || want == 200 && !strings.Contains(got.body, `"user_id":null,"workflow_id":"`+workflow+`","draft_id":null,"count":2,`) {
					t.Errorf("totals for %q: GET %s by %.20q: got %d %s, want %d", c.totals, target, who, got.status, got.body, want)
				}
			}
			if got := r.bare("GET", "/v1/counts?users=all&draft_id="+draft, headers...); got.status != windowed {
				t.Errorf("totals for %q: a draft's by %.20q: got %d, want %d", c.totals, who, got.status, windowed)
			}
			if who != apiKey {
				if got := r.bare("GET", strings.Replace(total, "/counts?", "/counts/stream?", 1)+"&from=2026-01-01T00:00:00Z", headers...); got.status != windowed {
					t.Errorf("totals for %q: a stream of a window by %.20q: got %d, want %d", c.totals, who, got.status, windowed)
				}
			}
			// A stranger's streams would crowd out those of users.
			if who == "" {
				want = 401
			}
			for _, query := range []string{"users=all&workflow_id=" + workflow, "users=all&" + manyWorkflows(2)} {
				if want == 200 {
					if name, _ := r.stream(who, query).next(); name != "count" {
						t.Errorf("totals for %q: a stream of %s by %.20q: got %q, want the count", c.totals, query, who, name)
					}
				} else if got := r.bare("GET", "/v1/counts/stream?"+query, headers...); got.status != want {
					t.Errorf("totals for %q: a stream of %s by %.20q: got %d, want %d", c.totals, query, who, got.status, want)
				}
			}
		}
		// Whatever the setting, nobody reads another user's.
		for _, target := range []string{
			"/v1/counts?user_id=" + user, "/v1/counts?user_id=" + user + "&workflow_id=" + workflow, "/v1/users/" + user + "/counts",
			"/v1/counts/stream?user_id=" + user, "/v1/allowance?user_limit=1&user_id=" + user, "/v1/grants", "/v1/runs/" + runID(1), "/v1/dead-letters",
		} {
			if got := r.as(bob, target); got.status != http.StatusForbidden {
				t.Errorf("totals for %q: GET %s by another user: got %d %s, want 403", c.totals, target, got.status, got.body)
			}
			if got := r.bare("GET", target); got.status != http.StatusUnauthorized {
				t.Errorf("totals for %q: GET %s by nobody: got %d %s, want 401", c.totals, target, got.status, got.body)
			}
		}
		// And a workflow's count is the user's own unless they say otherwise.
		if got := r.as(ada, ownCount); !strings.Contains(got.body, `"user_id":"`+user+`"`) || !strings.Contains(got.body, `"count":1,`) {
			t.Errorf("totals for %q: their own count: got %s", c.totals, got.body)
		}
		if got := r.bare("GET", "/v1/counts?workflow_id="+workflow, "Authorization: Bearer x.y.z"); got.status != http.StatusUnauthorized {
			t.Errorf("totals for %q: a bad token: got %d %s, want 401", c.totals, got.status, got.body)
		}
		if got := r.bare("POST", ownCount); got.status != http.StatusUnauthorized {
			t.Errorf("totals for %q: a POST by nobody: got %d %s, want 401", c.totals, got.status, got.body)
		}
	}
}

func TestAllowancesAndScopesAreStreamed(t *testing.T) {
	r := withUsers(t, nil, users.Config{Secret: legacy}, func(cfg *Config) { cfg.Totals = api.ForUsers })
	ada := signed(t, jwt.SigningMethodHS256, []byte(legacy), good("", nil), nil)
	r.index()
	since := "&from=" + time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	left := r.streamOf(ada, "/v1/allowance/stream?workflow_id="+workflow+"&limit=1&user_limit=5"+since)
	all, total := r.stream(ada, ""), r.stream(ada, "users=all&workflow_id="+workflow)
	month := r.stream(ada, "workflow_id="+workflow+since)
	for name, e := range map[string]*events{"the user's": all, "the workflow's": total, "the hour's": month} {
		if event, count := e.next(); event != "count" || count != 0 {
			t.Errorf("%s count: got %q %d, want the present one first", name, event, count)
		}
	}
	remains := func(why string, want int64) {
		t.Helper()
		if event, got := left.nextLeft(); event != "allowance" || got != want {
			t.Errorf("%s: got %q, %d left, want %d", why, event, got, want)
		}
	}
	remains("at first", 1)
	begun := r.mustBegin("")
	remains("a begin", 0)
	granted := r.api("POST", "/v1/grants", `{"user_id":"`+user+`","workflow_id":"`+workflow+`","runs":2,"who":"ada","why":"x"}`)
	remains("a grant", 2)
	r.api("POST", "/v1/runs/"+begun.ID+"/complete", `{"status":"cancelled"}`)
	remains("an end that doesn't count", 3)
	if granted.status != http.StatusCreated {
		t.Fatalf("got %d %s, want 201", granted.status, granted.body)
	}
	r.api("POST", "/v1/grants/1/revoke", `{"who":"ada","why":"y"}`)
	remains("the grant is revoked", 1)
	r.deliver(completed(7)).answer(t)
	for name, e := range map[string]*events{"the user's": all, "the workflow's": total} {
		for count := int64(0); count != 1; {
			var event string
			if event, count = e.next(); event != "count" {
				t.Fatalf("%s count: got %q", name, event)
			}
		}
	}
}

func TestPagesOfAnAllowedOriginReadAllowances(t *testing.T) {
	const origin = "https://app.example.com"
	r := withUsers(t, nil, users.Config{Secret: legacy}, func(cfg *Config) { cfg.Origins = []string{origin} })
	for target, want := range map[string]string{"/v1/allowance": origin, "/v1/allowance/stream": origin, "/v1/counts": origin, "/v1/grants": "", "/v1/runs": ""} {
		got := r.bare("OPTIONS", target, "Origin: "+origin, "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: authorization")
		if got.header.Get("Access-Control-Allow-Origin") != want {
			t.Errorf("%s: pages of %q may read it, want %q", target, got.header.Get("Access-Control-Allow-Origin"), want)
		}
	}
}
