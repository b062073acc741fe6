package server

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

// Ids that tables have, and that an address, a page or a log could trip over.
var oddIDs = []string{
	"7", "9007199254740993", "00000000-0000-0000-0000-000000000000",
	"user_2abCdEf", "auth0|5f7c8ec7c33c6c004bbafe82", "github:ada", "a/b", "a//workflow/b", "%2F", "100%", "a b", " a ", "a+b", "a?b=c#d", "../x", "…",
	`<script>alert(1)</script>`, `"'&;` + "`", "a\r\nX-Injected: yes", "a\tb", "\x1b[31m", "Ünïcode\u2028", "😀😀😀😀😀😀😀😀😀😀", strings.Repeat("ß", 127),
}

func TestCaseT4_ALifeOfARunWithAnyID(t *testing.T) {
	r := serve(t, nil)
	for i, id := range oddIDs {
		owner, flow := oddIDs[(i+1)%len(oddIDs)], oddIDs[(i+2)%len(oddIDs)]
		begun := r.api("POST", "/v1/runs", string(answer.Encode(map[string]any{"id": id, "user_id": owner, "workflow_id": flow})))
		if begun.status != http.StatusCreated || begun.header.Get("Location") != "/v1/runs/"+url.PathEscape(id) {
			t.Fatalf("begin %q: got %d at %q %s", id, begun.status, begun.header.Get("Location"), begun.body)
		}
		at := begun.header.Get("Location")
		for _, step := range []struct{ method, path, body string }{
			{"POST", at + "/start", ""}, {"POST", at + "/complete", `{"status":"completed"}`},
			{"POST", at + "/amend", `{"status":"failed","who":"a","reason":"b"}`}, {"GET", at, ""},
		} {
			if got := r.api(step.method, step.path, step.body); got.status != http.StatusOK {
				t.Errorf("%s %s of %q: got %d %s", step.method, step.path, id, got.status, got.body)
			} else if step.method == "GET" {
				one := decodeJSON[runReply](t, got.body)
				if diff := cmp.Diff([]string{id, owner, flow, "failed"}, []string{one.ID, one.User, *one.Workflow, one.Status}); diff != "" {
					t.Errorf("run %q (-want +got):\n%s", id, diff)
				}
			}
		}
		query := url.Values{"user_id": {owner}, "workflow_id": {flow}}.Encode()
		if got := r.api("GET", "/v1/counts?"+query, ""); !strings.Contains(string(got.body), `"count":1,`) {
			t.Errorf("count of %q and %q: got %d %s", owner, flow, got.status, got.body)
		}
		s := r.stream(apiKey, query)
		if name, c := s.nextWhole(); name != "count" || c.User.String() != owner || c.Workflow.String() != flow || c.Count != 1 {
			t.Errorf("stream of %q and %q: got %s %+v", owner, flow, name, c)
		}
		s.body.Close()
	}
	if strings.Contains(r.log.String(), "\x1b") || strings.Contains(r.log.String(), "\nX-Injected") {
		t.Errorf("an id breaks the log:\n%s", r.log)
	}
}

func TestCaseT4_AnIDIsANumberOrAString(t *testing.T) {
	r := serve(t, nil)
	first := r.api("POST", "/v1/runs", `{"id":9007199254740993,"user_id":7,"workflow_id":-8}`)
	again := r.api("POST", "/v1/runs", `{"id":"9007199254740993","user_id":"7","workflow_id":"-8"}`)
	one, two := decodeJSON[runReply](t, first.body), decodeJSON[runReply](t, again.body)
	if one.ID != "9007199254740993" || two.ID != one.ID || !one.Created || two.Created || one.User != "7" || *one.Workflow != "-8" {
		t.Errorf("got %s\nand %s\nwant one run, whose ids are strings", first.body, again.body)
	}
	r.deliver(inserted(row(1, "completed", map[string]any{"id": json.RawMessage("10"), "user_id": json.RawMessage("7"), "workflow_id": json.RawMessage("-8")})))
	if got := r.api("GET", "/v1/counts?user_id=7&workflow_id=-8", ""); !strings.Contains(string(got.body), `"user_id":"7","workflow_id":"-8","draft_id":null,"count":1,`) {
		t.Errorf("got %s", got.body)
	}
}

func TestCaseT4_PagesOfAUserWithAnyIDs(t *testing.T) {
	r := serve(t, nil)
	const owner = "auth0|a/b"
	var batch []string
	for i, flow := range oddIDs {
		column := []string{"workflow_id", "draft_id"}[i%2]
		batch = append(batch, inserted(row(i, "completed", map[string]any{"user_id": owner, "workflow_id": nil, column: flow})))
	}
	r.deliver("[" + strings.Join(batch, ",") + "]")
	type page struct {
		Counts []webhook.KeyCount `json:"counts"`
		Next   *string            `json:"next"`
	}
	seen := map[string]bool{}
	for after := ""; ; {
		got := r.api("GET", "/v1/users/"+url.PathEscape(owner)+"/counts?max=1"+after, "")
		var p page
		decodePage(t, got.body, &p)
		for _, c := range p.Counts {
			seen[c.Workflow.String()+c.Draft.String()] = true
		}
		if p.Next == nil {
			break
		}
		after = "&after=" + *p.Next
	}
	for _, flow := range oddIDs {
		if !seen[flow] {
			t.Errorf("no page has %q", flow)
		}
	}
}

// A sub is what the provider says: Clerk's, Auth0's, Firebase's, and UUIDs.
func TestCaseT4_AUserIsKnownByTheSubAsText(t *testing.T) {
	p := newProject(t)
	var key *ecdsa.PrivateKey
	var public map[string]string
	key, public = ecKey(t, "ec")
	p.publish(public)
	r := withUsers(t, p, users.Config{}, nil)
	subs := []string{"user_2abCdEf", "auth0|5f7c8ec7", "Kx9aBcDeFgHiJkLmNoPqRsTuVwX2", "7", strings.ToUpper(aDraft), "00000000-0000-0000-0000-000000000000"}
	for i, sub := range subs {
		r.deliver(inserted(row(i, "completed", map[string]any{"user_id": sub})))
	}
	for i, sub := range subs {
		token := signed(t, jwt.SigningMethodES256, key, good(p.issuer(), map[string]any{"sub": sub}), map[string]any{"kid": "ec"})
		for path, want := range map[string]int{
			ownCount: 200,
			"/v1/users/" + url.PathEscape(sub) + "/counts":                               200,
			"/v1/users/" + url.PathEscape(subs[(i+1)%len(subs)]) + "/counts":             403,
			ownCount + "&user_id=" + url.QueryEscape(subs[(i+1)%len(subs)]):              403,
			"/v1/users/" + url.PathEscape(sub+" ") + "/counts":                           403,
			"/v1/users/" + url.PathEscape(sub) + "%2f" + url.PathEscape(sub) + "/counts": 403,
		} {
			got := r.as(token, path)
			if got.status != want || want == 200 && !strings.Contains(got.body, `"count":1,`) {
				t.Errorf("%s, GET %s: got %d %s, want %d", sub, path, got.status, got.body, want)
			}
		}
	}
}

var hrefs = regexp.MustCompile(`(?:href|action|data-events)="([^"]*)"`)

// Each link of each page leads to the page of what it names.
func TestCaseT4_LinksOfTheConsoleWithAnyIDs(t *testing.T) {
	t.Parallel()
	r := withConsole(t, nil)
	var batch []string
	for i, id := range oddIDs {
		owner, flow := oddIDs[(i+1)%len(oddIDs)], oddIDs[(i+2)%len(oddIDs)]
		status := []string{"completed", "running", "odd"}[i%3]
		batch = append(batch, inserted(row(0, status, map[string]any{"id": id, "user_id": owner, "workflow_id": flow})))
	}
	r.deliver("[" + strings.Join(batch, ",") + "]")
	if _, err := (&store.Sweeper{Store: r.store}).Sweep(context.Background(), store.SweepOptions{Full: true}); err != nil {
		t.Fatal(err)
	}
	b := newBrowser(t, r).signIn()
	followed := map[string]bool{}
	var follow func(path string, deep int)
	follow = func(path string, deep int) {
		if followed[path] || strings.HasPrefix(path, "/console/") {
			return
		}
		followed[path] = true
		if b.get(path); b.status != http.StatusOK {
			t.Errorf("GET %s: got %d", path, b.status)
			return
		}
		page := b.html
		if strings.Contains(page, "<script>alert") {
			t.Errorf("%s lets an id through", path)
		}
		for _, found := range hrefs.FindAllStringSubmatch(page, -1) {
			if link := html.UnescapeString(found[1]); deep > 0 && strings.HasPrefix(link, "/") && link != "/sign-out" {
				follow(link, deep-1)
			}
		}
	}
	for _, path := range []string{"/counts", "/runs", "/runs?state=odd", "/runs?state=presumed", "/repairs"} {
		follow(path, 3)
	}
	for i, id := range oddIDs {
		key := store.KeyOf(mustID(t, oddIDs[(i+1)%len(oddIDs)]), mustID(t, oddIDs[(i+2)%len(oddIDs)]), store.ID{})
		if at := "/runs/" + url.PathEscape(id); !followed[at] || i%3 == 0 && !followed["/counts/"+url.PathEscape(key.User.String())+"/workflow/"+url.PathEscape(key.Ref.String())] {
			t.Errorf("no page links to %s and its count", at)
		} else if b.get(at); !strings.Contains(html.UnescapeString(b.html), id) {
			t.Errorf("%s is not the page of %q:\n%s", at, id, b.html)
		}
		if b.get("/runs?id=" + url.QueryEscape(id)); b.at != "/runs/"+url.PathEscape(id) {
			t.Errorf("a search for %q led to %s", id, b.at)
		}
	}
	for i, id := range oddIDs {
		if i%3 == 1 {
			b.get("/runs/"+url.PathEscape(id)+"/amend").do("POST", "/runs/"+url.PathEscape(id)+"/amend", url.Values{"csrf": {b.csrf()}, "status": {"completed"}, "reason": {"a test"}})
			if b.at != "/runs/"+url.PathEscape(id)+"?done=amended" {
				t.Errorf("to amend %q led to %s", id, b.at)
			}
		}
	}
}
