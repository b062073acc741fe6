package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

const counts = "/v1/counts?workflow_id=" + workflow

func TestAKeyIsAskedOfPrograms(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for _, tt := range []struct {
		name, authorization string
		status              int
		words               string
	}{
		{"the key", "Bearer " + key, 200, ""},
		{"in another case of the scheme", "bearer " + key, 200, ""},
		{"a key with dots, which looks like a token", "Bearer " + dotted, 200, ""},
		{"none", "", 401, "The API needs a key"},
		{"another scheme", "Basic " + key, 401, "The API needs a key"},
		{"no key behind the scheme", "Bearer ", 401, "The API needs a key"},
		{"another key", "Bearer " + key + "!", 401, "none of those configured"},
		{"a part of the key", "Bearer " + key[:20], 401, "none of those configured"},
	} {
		code, header, text := r.ask("GET", counts+"&user_id="+ada, "", "Authorization", tt.authorization)
		if code != tt.status || !strings.Contains(text, tt.words) {
			t.Errorf("%s: got %d %s; want %d and %q", tt.name, code, text, tt.status, tt.words)
		}
		if got := header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s: Cache-Control is %q, want no-store", tt.name, got)
		}
		if got := header.Get("WWW-Authenticate"); (got == "Bearer") != (tt.status == 401) {
			t.Errorf("%s: WWW-Authenticate is %q", tt.name, got)
		}
	}
}

func TestWithoutAKeyThisMachineAloneIsAnswered(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *api.Config) { c.Keys, c.Users = webhook.APIKeys{}, nil })
	for _, tt := range []struct {
		name, host, origin string
		status             int
	}{
		{"a program", "127.0.0.1:8080", "", 200},
		{"a page of this machine", "localhost:8080", "http://localhost:3000", 200},
		{"a name that points to this machine", "rebound.example", "", 403},
		{"a page of another site", "127.0.0.1:8080", "https://elsewhere.example", 403},
	} {
		code, _, text := r.ask("GET", counts+"&user_id="+ada, "", "Host", tt.host, "Origin", tt.origin)
		if code != tt.status {
			t.Errorf("%s: got %d %s; want %d", tt.name, code, text, tt.status)
		}
	}
	if code, _, text := r.ask("GET", counts, ""); code != 200 || !strings.Contains(text, `"user_id":null,`) {
		t.Errorf("the count of all users: got %d %s; want 200", code, text)
	}
}

// TestASignedInUserReadsTheirOwnCountsAlone is law 7 at each address.
func TestASignedInUserReadsTheirOwnCountsAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	run := r.begin(ada, workflow)
	if code, text := r.keyed("POST", "/v1/runs/"+run+"/complete", `{"status":"completed"}`); code != 200 {
		t.Fatalf("complete: %d %s", code, text)
	}
	adas := token(t, ada)
	for _, tt := range []struct {
		method, path, body string
		status             int
		words              string
	}{
		{"GET", counts, "", 200, `"count":1`},
		{"GET", counts + "&user_id=" + ada, "", 200, `"count":1`},
		{"GET", counts + "&user_id=" + bob, "", 403, "another user"},
		{"GET", "/v1/users/" + ada + "/counts", "", 200, `"count":1`},
		{"GET", "/v1/users/" + bob + "/counts", "", 403, "another user"},
		{"GET", "/v1/counts/stream?user_id=" + bob + "&workflow_id=" + workflow, "", 403, "another user"},
		{"GET", counts + "&users=all", "", 403, "is for API keys here"},
		{"GET", "/v1/allowance?user_limit=1&user_id=" + bob, "", 403, "another user"},
		{"GET", "/v1/grants", "", 403, "needs an API key"},
		{"GET", "/v1/runs/" + run, "", 403, "needs an API key"},
		{"POST", "/v1/runs", `{"user_id":"` + ada + `","workflow_id":"` + workflow + `"}`, 403, "needs an API key"},
		{"POST", "/v1/runs/" + run + "/start", "", 403, "needs an API key"},
		{"POST", "/v1/runs/" + run + "/complete", `{"status":"failed"}`, 403, "needs an API key"},
		{"POST", "/v1/runs/" + run + "/amend", `{"status":"failed","who":"ada","reason":"mine"}`, 403, "needs an API key"},
		{"GET", "/v1/dead-letters", "", 403, "needs an API key"},
		{"GET", "/v1/dead-letters/1", "", 403, "needs an API key"},
		{"DELETE", "/v1/dead-letters/1", "", 403, "needs an API key"},
		{"POST", "/v1/dead-letters/1/replay", "", 403, "needs an API key"},
		{"POST", "/v1/dead-letters/replay", "{}", 403, "needs an API key"},
		{"POST", "/v1/dead-letters/drop", `{"all":true}`, 403, "needs an API key"},
	} {
		code, _, text := r.ask(tt.method, tt.path, tt.body, "Authorization", "Bearer "+adas)
		if code != tt.status || !strings.Contains(text, tt.words) {
			t.Errorf("%s %s: got %d %s; want %d and %q", tt.method, tt.path, code, text, tt.status, tt.words)
		}
	}
	if n := r.count(ada); n != 1 {
		t.Errorf("ada's count is %d, want the 1 that it was", n)
	}
}

func TestATokenThatIsNotGoodReadsNothing(t *testing.T) {
	t.Parallel()
	good := token(t, ada)
	countedBy := func(claim ...string) func(*api.Config) { return func(c *api.Config) { c.Users.CountBy(claim) } }
	for _, tt := range []struct {
		name, token string
		change      func(*api.Config)
		status      int
		words       string
	}{
		{"signed by another", good[:len(good)-4] + "AAAA", nil, 401, "signature"},
		{"where only keys are accepted", good, func(c *api.Config) { c.Users = nil }, 401, "none of those configured"},
		{"where a token without a claim names nobody", good, countedBy("org_id"), 403, "has no claim org_id"},
		{"where no claim is said to name an organisation", good, countedBy(), 403, "no claim of a token is said"},
	} {
		code, _, text := newRig(t, tt.change).ask("GET", counts, "", "Authorization", "Bearer "+tt.token)
		if code != tt.status || !strings.Contains(text, tt.words) {
			t.Errorf("%s: got %d %s; want %d and %q", tt.name, code, text, tt.status, tt.words)
		}
	}
}

// TestACursorLeadsToNoOtherUser: it names what comes next of the user in the path.
func TestACursorLeadsToNoOtherUser(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for range 2 {
		for _, user := range []string{ada, bob} {
			run := r.begin(user, store.NewID().String())
			if code, text := r.keyed("POST", "/v1/runs/"+run+"/complete", `{"status":"completed"}`); code != 200 {
				t.Fatalf("complete: %d %s", code, text)
			}
		}
	}
	first, text := r.keyed("GET", "/v1/users/"+ada+"/counts?max=1", "")
	_, rest, there := strings.Cut(text, `"next":"`)
	next, _, _ := strings.Cut(rest, `"`)
	if first != 200 || !there || strings.Count(text, `"workflow_id"`) != 1 {
		t.Fatalf("the first page: got %d %s; want one count and a cursor", first, text)
	}
	if code, text := r.keyed("GET", "/v1/users/"+ada+"/counts?max=1&after="+next, ""); code != 200 || !strings.Contains(text, `"next":null`) || strings.Count(text, `"workflow_id"`) != 1 {
		t.Errorf("the second page: got %d %s; want the other count", code, text)
	}
	code, _, text := r.ask("GET", "/v1/users/"+bob+"/counts?after="+next, "", "Authorization", "Bearer "+token(t, bob))
	if code != http.StatusOK || strings.Contains(text, ada) {
		t.Errorf("bob with ada's cursor: got %d %s; want bob's counts", code, text)
	}
	for _, after := range []string{"x", "Yg", "d29ya2Zsb3c%3D", "eA"} {
		r.wantRefused(400, "after is not a cursor", "GET", "/v1/users/"+ada+"/counts?after="+after, "")
	}
}

func TestPagesOfOtherOriginsMayReadCountsAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *api.Config) { c.Origins = []string{"https://app.example.com"} })
	for _, tt := range []struct {
		name, path, origin, method string
		allowed                    string
	}{
		{"a count", "/v1/counts", "https://app.example.com", "GET", "https://app.example.com"},
		{"a user's counts", "/v1/users/" + ada + "/counts", "https://app.example.com", "GET", "https://app.example.com"},
		{"a stream", "/v1/counts/stream", "https://app.example.com", "GET", "https://app.example.com"},
		{"a count, for another site", "/v1/counts", "https://elsewhere.example", "GET", ""},
		{"a run", "/v1/runs/" + ada, "https://app.example.com", "GET", ""},
		{"a grant", "/v1/grants", "https://app.example.com", "GET", ""},
		{"a run that is begun", "/v1/runs", "https://app.example.com", "POST", ""},
	} {
		_, header, _ := r.ask("OPTIONS", tt.path, "", "Origin", tt.origin, "Access-Control-Request-Method", tt.method)
		if got := header.Get("Access-Control-Allow-Origin"); got != tt.allowed {
			t.Errorf("%s: allowed is %q, want %q", tt.name, got, tt.allowed)
		}
		if got := header.Get("Access-Control-Allow-Credentials"); got != "" {
			t.Errorf("%s: credentials are allowed: %q", tt.name, got)
		}
		if tt.allowed != "" && header.Get("Access-Control-Allow-Methods") != http.MethodGet {
			t.Errorf("%s: methods are %q, want GET alone", tt.name, header.Get("Access-Control-Allow-Methods"))
		}
	}
}

func TestWithoutOriginsNoPageMayReadAnything(t *testing.T) {
	t.Parallel()
	_, header, _ := newRig(t, nil).ask("GET", counts+"&user_id="+ada, "", "Authorization", "Bearer "+key, "Origin", "https://app.example.com")
	if got := header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("allowed is %q, want nothing", got)
	}
}

func TestAnOriginThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	for _, good := range [][]string{nil, {"*"}, {"https://app.example.com", "http://localhost:3000"}} {
		if err := api.CheckOrigins(good); err != nil {
			t.Errorf("%q: got %v, want it accepted", good, err)
		}
	}
	for _, bad := range [][]string{
		{"*", "https://app.example.com"}, {"app.example.com"}, {"https://app.example.com/"}, {"https://app.example.com/path"},
		{"ftp://app.example.com"}, {"https://"}, {"https://user@app.example.com"}, {""}, {"null"}, {"://"},
	} {
		if err := api.CheckOrigins(bad); err == nil {
			t.Errorf("%q is accepted, want it refused", bad)
		}
	}
}
