package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/internal/wait"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
)

type runReply struct {
	ID           string  `json:"id"`
	User         string  `json:"user_id"`
	Workflow     *string `json:"workflow_id"`
	Draft        *string `json:"draft_id"`
	Status       string  `json:"status"`
	CreatedAt    *string `json:"created_at"`
	StartedAt    *string `json:"started_at"`
	CompletedAt  *string `json:"completed_at"`
	UpdatedAt    *string `json:"updated_at"`
	DurationMS   *int64  `json:"duration_ms"`
	ErrorDetails any     `json:"error_details"`
	Snapshot     any     `json:"state_snapshot"`
	Presumed     bool    `json:"presumed"`
	Counted      bool    `json:"counted"`
	Created      bool    `json:"created"`
	Limits       []usage `json:"limits"`
}

// usage is how far a limit is used.
type usage struct {
	Scope     string  `json:"scope"`
	Max       int64   `json:"max"`
	From      *string `json:"from"`
	Granted   int64   `json:"granted"`
	Counted   int64   `json:"counted"`
	Active    int64   `json:"active"`
	Remaining int64   `json:"remaining"`
}

type completeReply struct {
	Won         bool    `json:"won"`
	Status      string  `json:"status"`
	CompletedAt *string `json:"completed_at"`
	Count       int64   `json:"count"`
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 123456789, time.UTC)

func atNoon(cfg *Config, _ *limits, _ *gated) { cfg.Now = func() time.Time { return noon } }

// begin creates a run of the workflow.
func (r *rig) begin(more string) reply {
	r.t.Helper()
	return r.api("POST", "/v1/runs", `{"user_id":"`+user+`","workflow_id":"`+workflow+`"`+more+`}`)
}

func (r *rig) mustBegin(more string) runReply {
	r.t.Helper()
	got := r.begin(more)
	if got.status != http.StatusCreated {
		r.t.Fatalf("got %d %s, want 201", got.status, got.body)
	}
	return decodeJSON[runReply](r.t, got.body)
}

func TestALifeThroughTheAPI(t *testing.T) {
	r := serve(t, atNoon)
	begun := r.mustBegin("")
	if !begun.Created || begun.Status != "pending" || len(begun.ID) != 36 || begun.ID[14] != '4' {
		t.Errorf("begin: got %+v, want a new pending run with a random id", begun)
	}
	at := "/v1/runs/" + begun.ID
	if got := decodeJSON[runReply](t, r.api("POST", at+"/start", "").body); got.Status != "running" || got.StartedAt == nil || *got.StartedAt != "2026-11-22T12:00:00.123456Z" {
		t.Errorf("start: got %+v, want running since noon", got)
	}
	won := r.api("POST", at+"/complete", `{"status":"completed","duration_ms":4210,"state_snapshot":{"n":1.50,"html":"<b>"},"error_details":null}`)
	if diff := cmp.Diff(`{"won":true,"status":"completed","completed_at":"2026-11-22T12:00:00.123456Z","count":1}`, string(won.body)); diff != "" {
		t.Errorf("complete (-want +got):\n%s", diff)
	}
	lost := r.api("POST", at+"/complete", `{"status":"failed"}`)
	if got := decodeJSON[completeReply](t, lost.body); lost.status != 200 || got.Won || got.Status != "completed" || got.Count != 1 {
		t.Errorf("complete again: got %d %s, want 200, lost, and the outcome that stands", lost.status, lost.body)
	}
	if got := r.api("GET", at, ""); !strings.Contains(string(got.body), `"state_snapshot":{"n":1.50,"html":"<b>"}`) || !strings.Contains(string(got.body), `"presumed":false,"counted":true`) {
		t.Errorf("run: got %s, want its snapshot as it was sent", got.body)
	}
	if got := r.api("POST", at+"/amend", `{"status":"cancelled","who":"ada","reason":"refund"}`); got.status != 200 || decodeJSON[runReply](t, got.body).Status != "cancelled" {
		t.Errorf("amend: got %d %s, want it cancelled", got.status, got.body)
	}
	if got := r.counted(); got != 0 {
		t.Errorf("the count after the refund: got %d, want 0", got)
	}
}

func TestALimitIsKept(t *testing.T) {
	r := serve(t, nil)
	first := r.mustBegin(`,"limit":2`)
	r.api("POST", "/v1/runs/"+first.ID+"/complete", `{"status":"completed"}`)
	r.mustBegin(`,"limit":2`)
	got := r.begin(`,"limit":2`)
	p := got.problem(t)
	if got.status != http.StatusConflict || p.Code != "limit_reached" || p.Count == nil || p.Active == nil || p.Limit == nil {
		t.Fatalf("got %d %s, want 409 limit_reached with its numbers", got.status, got.body)
	}
	if *p.Count != 1 || *p.Active != 1 || *p.Limit != 2 {
		t.Errorf("got count %d, active %d, limit %d; want 1, 1, 2", *p.Count, *p.Active, *p.Limit)
	}
}

func TestARepeatedBeginGivesTheSameRun(t *testing.T) {
	r := serve(t, nil)
	for _, again := range []struct{ name, more, header string }{
		{"by idempotency key", `,"idempotency_key":"a"`, ""},
		{"by its header", "", "Idempotency-Key: b"},
		{"by id", `,"id":"` + runID(7) + `"`, ""},
	} {
		t.Run(again.name, func(t *testing.T) {
			send := func() runReply {
				body := `{"user_id":"` + user + `","workflow_id":"` + workflow + `"` + again.more + `}`
				got := r.do("POST", "/v1/runs", body, "Authorization: Bearer "+apiKey, again.header)
				if got.status != http.StatusCreated {
					t.Fatalf("got %d %s, want 201", got.status, got.body)
				}
				return decodeJSON[runReply](t, got.body)
			}
			first, second := send(), send()
			if !first.Created || second.Created || first.ID != second.ID {
				t.Errorf("got %s created %t, then %s created %t", first.ID, first.Created, second.ID, second.Created)
			}
		})
	}
	got := r.api("POST", "/v1/runs", `{"user_id":"`+user+`","draft_id":"`+draft+`","id":"`+runID(7)+`"}`)
	if p := got.problem(t); got.status != http.StatusConflict || p.Code != "conflict" {
		t.Errorf("the id of another key's run: got %d %s, want 409", got.status, got.body)
	}
}

// beginLost loses the first answer of Begin, after its commit.
type beginLost struct {
	Store
	calls atomic.Int64
}

func (b *beginLost) Begin(ctx context.Context, begin store.Begin) (store.BeginResult, error) {
	begun, err := b.Store.Begin(ctx, begin)
	if err == nil && b.calls.Add(1) == 1 {
		return store.BeginResult{}, store.ErrUnavailable
	}
	return begun, err
}

func TestABeginWhoseAnswerWasLostIsStillCreated(t *testing.T) {
	r := serve(t, func(_ *Config, _ *limits, g *gated) { g.Store = &beginLost{Store: g.Store} })
	if got := r.mustBegin(`,"limit":1`); !got.Created {
		t.Errorf("got %+v, want it created", got)
	}
}

func TestCountsAreShownWithWhatTheyAreMadeOf(t *testing.T) {
	r := serve(t, nil)
	for i, status := range []string{"completed", "completed", "failed", "cancelled", "timeout", "running"} {
		r.deliver(inserted(row(i, status, nil))).answer(t)
	}
	got := r.api("GET", "/v1/counts?user_id="+user+"&workflow_id="+workflow, "")
	want := `{"user_id":"` + user + `","workflow_id":"` + workflow + `","draft_id":null,"count":3,` +
		`"completed":2,"failed":1,"cancelled":1,"timeout":1,"presumed":{"completed":0,"failed":0,"cancelled":0,"timeout":0},"last_run_at":"2026-11-22T20:10:38.209569Z"}`
	if diff := cmp.Diff(want, string(got.body)); diff != "" {
		t.Errorf("the count (-want +got):\n%s", diff)
	}
	r.deliver(strings.ReplaceAll(inserted(row(9, "failed", nil)), user, otherUser)).answer(t)
	total := r.api("GET", "/v1/counts?workflow_id="+workflow, "")
	want = `{"user_id":null,"workflow_id":"` + workflow + `","draft_id":null,"count":4,"completed":2,"failed":2,"cancelled":1,"timeout":1,` +
		`"presumed":{"completed":0,"failed":0,"cancelled":0,"timeout":0},"last_run_at":null}`
	if diff := cmp.Diff(want, string(total.body)); diff != "" {
		t.Errorf("the total of all users (-want +got):\n%s", diff)
	}
	none := r.api("GET", "/v1/counts?user_id="+user+"&workflow_id="+workflow+"&draft_id="+draft, "")
	if want := `"workflow_id":null,"draft_id":"` + draft + `","count":0,`; !strings.Contains(string(none.body), want) {
		t.Errorf("both ids: got %s, want the draft's", none.body)
	}
}

func TestAUsersCountsComeInPages(t *testing.T) {
	r := serve(t, nil)
	const keys = 7
	for i := range keys {
		ref := "workflow_id"
		if i%2 == 0 {
			ref = "draft_id"
		}
		r.deliver(inserted(row(i, "completed", map[string]any{"workflow_id": nil, ref: runID(100 + i)}))).answer(t)
	}
	r.deliver(inserted(row(50, "completed", map[string]any{"user_id": runID(1)}))).answer(t)
	type page struct {
		User   string             `json:"user_id"`
		Counts []webhook.KeyCount `json:"counts"`
		Next   *string            `json:"next"`
	}
	read := func(query string) page {
		t.Helper()
		got := r.api("GET", "/v1/users/"+user+"/counts"+query, "")
		if got.status != 200 {
			t.Fatalf("%s: got %d %s", query, got.status, got.body)
		}
		var p page
		decodePage(t, got.body, &p)
		return p
	}
	whole := read("")
	if len(whole.Counts) != keys || whole.Next != nil {
		t.Fatalf("one page: got %d counts and next %v, want %d and none", len(whole.Counts), whole.Next, keys)
	}
	var paged []webhook.KeyCount
	for query := "?max=3"; ; {
		p := read(query)
		paged = append(paged, p.Counts...)
		if p.Next == nil {
			break
		}
		query = "?max=3&after=" + url.QueryEscape(*p.Next)
	}
	if diff := cmp.Diff(refs(whole.Counts), refs(paged)); diff != "" {
		t.Errorf("the pages together (-want +got):\n%s", diff)
	}
	if got := read("?max=7"); got.Next != nil {
		t.Errorf("a full last page leads to %q, want nowhere", *got.Next)
	}
}

func TestBadRequestsToTheAPI(t *testing.T) {
	r := serve(t, nil)
	run := r.mustBegin("")
	at := "/v1/runs/" + run.ID
	begin := func(more string) string {
		return `{"user_id":"` + user + `","workflow_id":"` + workflow + `"` + more + `}`
	}
	count := "/v1/counts?user_id=" + user + "&workflow_id=" + workflow
	for _, c := range []struct {
		name, method, target, body string
		status                     int
		detail                     string
	}{
		{"a typo in limit", "POST", "/v1/runs", begin(`,"limt":3`), 400, `"limt"`},
		{"limit in capitals", "POST", "/v1/runs", begin(`,"Limit":3`), 400, `"Limit"`},
		{"two limits", "POST", "/v1/runs", begin(`,"limit":0,"limit":null`), 400, "twice"},
		{"two statuses, one of them escaped", "POST", "/v1/runs/" + runID(1) + "/complete", `{"status":"failed","error_details":{"status":["status"]},"st\u0061tus":"completed"}`, 400, "twice"},
		{"a negative limit", "POST", "/v1/runs", begin(`,"limit":-1`), 400, "limit"},
		{"a limit in quotes", "POST", "/v1/runs", begin(`,"limit":"3"`), 400, "limit"},
		{"a limit with a fraction", "POST", "/v1/runs", begin(`,"limit":2.5`), 400, "limit"},
		{"a limit of 400 digits", "POST", "/v1/runs", begin(`,"limit":` + strings.Repeat("9", 400)), 400, "limit"},
		{"no user", "POST", "/v1/runs", `{"workflow_id":"` + workflow + `"}`, 400, "user_id"},
		{"neither workflow nor draft", "POST", "/v1/runs", `{"user_id":"` + user + `"}`, 400, "workflow_id or draft_id"},
		{"case T4: an id that is too long", "POST", "/v1/runs", begin(`,"id":"` + strings.Repeat("x", 256) + `"`), 400, "id is longer than 255 bytes"},
		{"case T4: an id that is empty", "POST", "/v1/runs", begin(`,"id":""`), 400, "id is empty"},
		{"case T4: an id with a fraction", "POST", "/v1/runs", begin(`,"id":7.0`), 400, "id is neither a string nor a whole number"},
		{"case T4: an id with a NUL", "POST", "/v1/runs", begin(`,"draft_id":"a\u0000"`), 400, "draft_id is text with a NUL in it"},
		{"an idempotency key with a line break", "POST", "/v1/runs", begin(`,"idempotency_key":"a\nb"`), 400, "idempotency_key"},
		{"an idempotency key that is too long", "POST", "/v1/runs", begin(`,"idempotency_key":"` + strings.Repeat("k", 300) + `"`), 400, "255"},
		{"an array for an object", "POST", "/v1/runs", "[" + begin("") + "]", 400, "object"},
		{"null for an object", "POST", "/v1/runs", "null", 400, "object"},
		{"JSON that breaks off", "POST", "/v1/runs", `{"user_id":`, 400, "object"},
		{"two objects", "POST", "/v1/runs", begin("") + begin(""), 400, "object"},
		{"no body", "POST", "/v1/runs", "", 400, "user_id"},
		{"bytes that are not UTF-8", "POST", at + "/complete", "{\"status\":\"completed\",\"state_snapshot\":\"\xff\"}", 400, "UTF-8"},
		{"nesting without end", "POST", at + "/complete", `{"status":"completed","state_snapshot":` + strings.Repeat("[", 100_000), 400, "object"},
		{"no status", "POST", at + "/complete", `{}`, 400, "status"},
		{"a status that is no outcome", "POST", at + "/complete", `{"status":"running"}`, 400, "completed, failed, cancelled, timeout"},
		{"a negative duration", "POST", at + "/complete", `{"status":"failed","duration_ms":-1}`, 400, "duration_ms"},
		{"an amendment by nobody", "POST", at + "/amend", `{"status":"failed","reason":"x"}`, 400, "who"},
		{"an amendment for no reason", "POST", at + "/amend", `{"status":"failed","who":"x"}`, 400, "reason"},
		{"an amendment to an unknown status", "POST", at + "/amend", `{"status":"paused","who":"x","reason":"y"}`, 400, "status"},
		{"a start with a member", "POST", at + "/start", `{"at":"now"}`, 400, `"at"`},
		{"a run that isn't there", "GET", "/v1/runs/" + runID(404), "", 404, "no such run"},
		{"a start of a run that isn't there", "POST", "/v1/runs/" + runID(404) + "/start", "", 404, "no such run"},
		{"the end of a run that isn't there", "POST", "/v1/runs/" + runID(404) + "/complete", `{"status":"failed"}`, 404, "no such run"},
		{"an amendment of a run that isn't there", "POST", "/v1/runs/" + runID(404) + "/amend", `{"status":"failed","who":"x","reason":"y"}`, 404, "no such run"},
		{"case T4: a path with a NUL", "GET", "/v1/runs/7%00", "", 400, "The id of the run in the path is text with a NUL in it"},
		{"case T4: a path that is not UTF-8", "GET", "/v1/runs/%ff", "", 400, "not valid UTF-8"},
		{"case T4: a user that is too long", "GET", "/v1/users/" + strings.Repeat("x", 256) + "/counts", "", 400, "longer than 255 bytes"},
		{"case T4: a parameter that is not UTF-8", "GET", "/v1/counts?workflow_id=" + workflow + "&user_id=%ff", "", 400, "user_id is not UTF-8"},
		{"an unknown parameter", "GET", count + "&workflow=1", "", 400, `"workflow"`},
		{"a parameter twice", "GET", count + "&user_id=" + user, "", 400, "twice"},
		{"a user that is empty", "GET", "/v1/counts?user_id=&workflow_id=" + workflow, "", 400, "user_id is empty"},
		{"a count of nothing", "GET", "/v1/counts", "", 400, "add user_id, workflow_id or draft_id"},
		{"a kind beside a workflow", "GET", count + "&kind=draft", "", 400, "kind is for a count of all runs of a user"},
		{"a kind of none", "GET", "/v1/counts?user_id=" + user + "&kind=all", "", 400, "kind must be one of workflow, draft"},
		{"all users and one", "GET", count + "&users=all", "", 400, "leave out user_id"},
		{"users that are none", "GET", "/v1/counts?users=some&workflow_id=" + workflow, "", 400, "users must be one of all"},
		{"a window that ends before it begins", "GET", count + "&from=2026-12-01T00:00:00Z&to=2026-11-01T00:00:00Z", "", 400, "exchange them"},
		{"a window from a day", "GET", count + "&from=2026-12-01", "", 400, "from must be a time such as"},
		{"an allowance of no limit", "GET", "/v1/allowance?user_id=" + user, "", 400, "add limit"},
		{"an allowance of nobody", "GET", "/v1/allowance?user_limit=1", "", 400, "user_id is missing"},
		{"an allowance of no workflow", "GET", "/v1/allowance?limit=1&user_id=" + user, "", 400, "add workflow_id or draft_id"},
		{"an allowance below nothing", "GET", "/v1/allowance?user_limit=-1&user_id=" + user, "", 400, "user_limit must be a whole number"},
		{"an allowance from a time to come", "GET", "/v1/allowance?user_limit=1&from=9000-01-01T00:00:00Z&user_id=" + user, "", 400, "still to come"},
		{"a limit in two forms", "POST", "/v1/runs", begin(`,"limit":1,"limits":[{"scope":"key","max":1}]`), 400, "short form"},
		{"limits that are a number", "POST", "/v1/runs", begin(`,"limits":1`), 400, "limits must be an array"},
		{"limits that are none", "POST", "/v1/runs", begin(`,"limits":[]`), 400, "limits must be an array"},
		{"a limit that is a number", "POST", "/v1/runs", begin(`,"limits":[ 1]`), 400, "limits[0]: it is not an object"},
		{"a limit of nothing", "POST", "/v1/runs", begin(`,"limits":[{"max":1}]`), 400, "limits[0]: scope is missing"},
		{"a limit of another scope", "POST", "/v1/runs", begin(`,"limits":[{"max":1,"scope":"team"}]`), 400, "limits[0]: scope must be one of key, user"},
		{"a limit without a number", "POST", "/v1/runs", begin(`,"limits":[{"max":1,"scope":"key"},{"scope":"user"}]`), 400, "limits[1]: max is missing"},
		{"a limit below nothing", "POST", "/v1/runs", begin(`,"limits":[{"max":-1,"scope":"key"}]`), 400, "limits[0]: max must be a whole number"},
		{"a limit with a typo", "POST", "/v1/runs", begin(`,"limits":[{"max":1,"scope":"key","form":"2026-11-01T00:00:00Z"}]`), 400, `limits[0]: "form" is not known here`},
		{"a limit with a member twice", "POST", "/v1/runs", begin(`,"limits":[{"max":1,"max":100,"scope":"key"}]`), 400, `limits[0]: "max" is given twice`},
		{"two limits of one key", "POST", "/v1/runs", begin(`,"limits":[{"max":1,"scope":"key"},{"max":2,"scope":"key"}]`), 400, "Two limits of one key"},
		{"a limit from a time to come", "POST", "/v1/runs", begin(`,"limits":[{"max":1,"scope":"key","from":"9000-01-01T00:00:00Z"}]`), 400, "still to come"},
		{"a page of nothing", "GET", "/v1/users/" + user + "/counts?max=0", "", 400, "between 1 and 1000"},
		{"a page of too much", "GET", "/v1/users/" + user + "/counts?max=1001", "", 400, "between 1 and 1000"},
		{"a page of many", "GET", "/v1/users/" + user + "/counts?max=many", "", 400, "max"},
		{"a cursor that is none", "GET", "/v1/users/" + user + "/counts?after=abc", "", 400, "cursor"},
		{"a method that isn't there", "DELETE", at, "", 405, "Allow"},
		{"an address that isn't there", "GET", "/v1/nothing", "", 404, "/v1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := r.api(c.method, c.target, c.body)
			if p := got.problem(t); got.status != c.status || !strings.Contains(p.Detail, c.detail) {
				t.Errorf("got %d %q, want %d with %q in it", got.status, p.Detail, c.status, c.detail)
			}
			if got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control: got %q, want no-store", got.header.Get("Cache-Control"))
			}
		})
	}
	if got := decodeJSON[runReply](t, r.api("GET", at, "").body); got.Status != "pending" || got.CompletedAt != nil {
		t.Errorf("the run after all that: got %+v, want it as it was", got)
	}
	if strings.Contains(r.log.String(), "panic") {
		t.Errorf("the log holds a panic:\n%s", r.log)
	}
}

func TestTheAPIWantsItsKey(t *testing.T) {
	r := serve(t, nil)
	for _, header := range []string{"", "Authorization: Bearer nonsense", "Authorization: Basic YTpi", "Authorization: Bearer " + token, "x-webhook-secret: " + token} {
		got := r.do("GET", "/v1/counts?user_id="+user+"&workflow_id="+workflow, "", header)
		if got.status != http.StatusUnauthorized || got.header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%q: got %d %s, want 401", header, got.status, got.body)
		}
		got.problem(t)
	}
}

func TestTheMemoryOfTheAPIIsBounded(t *testing.T) {
	r := serve(t, func(_ *Config, l *limits, _ *gated) { l.api, l.memory, l.wait = 100<<10, 200<<10, 20*time.Millisecond })
	run := r.mustBegin("")
	at := "/v1/runs/" + run.ID + "/complete"
	body := `{"status":"completed","state_snapshot":"` + strings.Repeat("s", 100<<10-100) + `"}`
	if got := r.api("POST", at, strings.Repeat(" ", 100<<10)+body); got.status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body over the limit: got %d %s, want 413", got.status, got.body)
	}
	// Another request holds half of the memory while this one wants all of it.
	hold := func() net.Conn {
		c := r.dial()
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 51200\r\n\r\n{", at, apiKey)
		return c
	}
	c := hold()
	defer func() { _ = c.Close() }()
	wait.Until(t, "the other request holds its memory", func() bool {
		if r.api("POST", at, body).status == http.StatusServiceUnavailable {
			return true
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) { // it came too late, and was refused itself
			_ = c.Close()
			c = hold()
		}
		return false
	})
	if got := r.api("POST", at, body); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
		t.Errorf("without memory: got %d %s, want 503 and a time", got.status, got.body)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "the memory comes back", func() bool { return r.api("POST", at, body).status == http.StatusOK })
}

func refs(counts []webhook.KeyCount) []string {
	var out []string
	for _, c := range counts {
		out = append(out, c.Workflow.String()+c.Draft.String())
	}
	return out
}

func decodePage(t *testing.T, body []byte, page any) {
	t.Helper()
	if err := json.Unmarshal(body, page); err != nil {
		t.Fatalf("decode %s: %v", body, err)
	}
}
