package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// TestAnUnclearRequestIsRefusedAndChangesNothing: a typo must not grant what was not meant.
func TestAnUnclearRequestIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	run := r.begin(ada, workflow)
	begin := func(more string) string {
		return `{"user_id":"` + ada + `","workflow_id":"` + workflow + `"` + more + `}`
	}
	complete, amend := "/v1/runs/"+run+"/complete", "/v1/runs/"+run+"/amend"
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		words                    string
		headers                  []string
	}{
		{"a member that is not known", "POST", "/v1/runs", begin(`,"limt":1`), 400, `"limt" is not known here. Known are`, nil},
		{"a member in another case", "POST", "/v1/runs", begin(`,"Limit":1`), 400, `"Limit" is not known here`, nil},
		{"a member where there is none", "POST", "/v1/runs/" + run + "/start", `{"status":"running"}`, 400, "nothing is", nil},
		{"a member twice", "POST", "/v1/runs", begin(`,"limit":1,"limit":9`), 400, `"limit" is given twice`, nil},
		{"a member twice, in two spellings", "POST", "/v1/runs", begin(`,"limit":1,"lim\u0069t":9`), 400, `"limit" is given twice`, nil},
		{"a limit as text", "POST", "/v1/runs", begin(`,"limit":"1"`), 400, "limit must be a whole number", nil},
		{"a limit below 0", "POST", "/v1/runs", begin(`,"limit":-1`), 400, "limit must be a whole number", nil},
		{"a limit with a fraction", "POST", "/v1/runs", begin(`,"limit":1.5`), 400, "limit must be a whole number", nil},
		{"no user", "POST", "/v1/runs", `{"workflow_id":"` + workflow + `"}`, 400, "user_id is missing", nil},
		{"neither workflow nor draft", "POST", "/v1/runs", `{"user_id":"` + ada + `"}`, 400, "Say what runs", nil},
		{"an id that is none", "POST", "/v1/runs", begin(`,"id":{}`), 400, ". Send the id as the table has it", nil},
		{"an array", "POST", "/v1/runs", `[]`, 400, "not a JSON object", nil},
		{"null", "POST", "/v1/runs", `null`, 400, "not a JSON object", nil},
		{"two objects", "POST", "/v1/runs", begin("") + "{}", 400, "not a JSON object", nil},
		{"text that is not UTF-8", "POST", "/v1/runs", begin(`,"idempotency_key":"` + "\xff" + `"`), 400, "not UTF-8", nil},
		{"another type of body", "POST", "/v1/runs", begin(""), 415, "Content-Type: application/json", []string{"Content-Type", "text/plain"}},
		{"a compressed body", "POST", "/v1/runs", begin(""), 415, "Compressed bodies", []string{"Content-Encoding", "gzip"}},
		{"a body that is too large", "POST", "/v1/runs", begin(`,"idempotency_key":"` + strings.Repeat("k", 2000) + `"`), 413, "larger than 2000 bytes", nil},
		{"two keys of idempotency that differ", "POST", "/v1/runs", begin(`,"idempotency_key":"one"`), 400, "differ", []string{"Idempotency-Key", "two"}},
		{"a key of idempotency that is too long", "POST", "/v1/runs", begin(""), 400, "at most 255 bytes", []string{"Idempotency-Key", strings.Repeat("k", 256)}},
		{"a key of idempotency of two lines", "POST", "/v1/runs", begin(`,"idempotency_key":"a\nb"`), 400, "no control characters", nil},
		{"an outcome that is none", "POST", complete, `{"status":"running"}`, 400, "status must be one of completed, failed", nil},
		{"no outcome", "POST", complete, "", 400, "status must be one of completed, failed", nil},
		{"a status that means nothing", "POST", amend, `{"status":"done","who":"a","reason":"b"}`, 400, "status must be one of pending", nil},
		{"an amendment by nobody", "POST", amend, `{"status":"failed","reason":"b"}`, 400, "who decided and why", nil},
		{"an amendment without a reason", "POST", amend, `{"status":"failed","who":"a","reason":""}`, 400, "who decided and why", nil},
		{"a reason that is too long", "POST", amend, `{"status":"failed","who":"a","reason":"` + strings.Repeat("b", 901) + strings.Repeat("é", 50) + `"}`, 400, "at most 1000 bytes", nil},
		{"a parameter that is not known", "GET", counts + "&user=" + ada, "", 400, `"user" is not known here`, nil},
		{"a parameter twice", "GET", counts + "&user_id=" + ada + "&user_id=" + bob, "", 400, "user_id is given twice", nil},
		{"a parameter that is not UTF-8", "GET", "/v1/counts?user_id=%ff", "", 400, "not UTF-8", nil},
		{"the count of nothing", "GET", "/v1/counts", "", 400, "Say whose count", nil},
		{"a page of none", "GET", "/v1/users/" + ada + "/counts?max=0", "", 400, "between 1 and 1000", nil},
		{"a page of too many", "GET", "/v1/users/" + ada + "/counts?max=1001", "", 400, "between 1 and 1000", nil},
		{"a user whose id is too long", "GET", "/v1/users/" + strings.Repeat("u", 256) + "/counts", "", 400, "The id of the user in the path is", nil},
		{"a page of no number", "GET", "/v1/users/" + ada + "/counts?max=many", "", 400, "max must be a whole number", nil},
		{"an id that is too long", "GET", "/v1/runs/" + strings.Repeat("r", 256), "", 400, "The id of the run in the path is", nil},
		{"a stream of two users", "GET", "/v1/counts/stream?user_id=" + ada + "&user_id=" + bob, "", 400, "user_id is given twice", nil},
		{"a stream of nothing", "GET", "/v1/counts/stream", "", 400, "Say whose count", nil},
		{"a stream of another thing", "GET", "/v1/counts/stream?run_id=" + ada, "", 400, "is not known here", nil},
		{"a stream of an empty id", "GET", "/v1/counts/stream?user_id=", "", 400, "user_id is ", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := *r
			in.T = t
			in.wantRefused(tt.status, tt.words, tt.method, tt.path, tt.body, tt.headers...)
		})
	}
	if code, text := r.keyed("GET", "/v1/runs/"+run, ""); code != 200 || !strings.Contains(text, `"status":"pending"`) {
		t.Errorf("the run: got %d %s; want it pending", code, text)
	}
	if h, err := r.store.Health(t.Context()); err != nil || h.Active != 1 {
		t.Errorf("got %+v, %v; want the one run that was begun", h, err)
	}
}

func TestAStreamTellsOfSoManyCountsAtMost(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	query := "/v1/counts/stream?user_id=" + ada
	for range 101 {
		query += "&workflow_id=" + store.NewID().String()
	}
	r.wantRefused(400, "at most", "GET", query, "")
	r = newRig(t, func(c *api.Config) { c.Streams = nil })
	r.wantRefused(404, "streams no counts", "GET", "/v1/counts/stream?user_id="+ada+"&workflow_id="+workflow, "")
}

// TestTheSameRequestAgainBeginsNothing, by the field or by the header.
func TestTheSameRequestAgainBeginsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	body := `{"user_id":"` + ada + `","workflow_id":"` + workflow + `"`
	var first string
	for i, tt := range []struct{ more, header string }{{`,"idempotency_key":"two words"}`, ""}, {"}", "two words"}, {`,"idempotency_key":"two words"}`, "two words"}} {
		code, header, text := r.ask("POST", "/v1/runs", body+tt.more, "Authorization", "Bearer "+key, "Idempotency-Key", tt.header)
		if i == 0 {
			first = header.Get("Location")
		}
		if created := strings.Contains(text, `"created":true`); code != http.StatusCreated || created != (i == 0) || header.Get("Location") != first {
			t.Errorf("request %d: got %d %s at %s; want the run at %s", i, code, text, header.Get("Location"), first)
		}
	}
	r.wantRefused(409, "Use a new one", "POST", "/v1/runs", strings.Replace(body, ada, bob, 1)+`,"id":"`+strings.TrimPrefix(first, "/v1/runs/")+`"}`)
}

// TestAnOutcomeIsKeptAsItIsSent, with how long the run took and why it failed.
func TestAnOutcomeIsKeptAsItIsSent(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	run := r.begin(ada, workflow)
	code, text := r.keyed("POST", "/v1/runs/"+run+"/complete", `{"status":"failed","duration_ms":1234,"error_details":{"code":"E1"},"state_snapshot":[1]}`)
	if code != 200 || !strings.Contains(text, `"won":true,"status":"failed"`) {
		t.Errorf("the first outcome: got %d %s; want it won", code, text)
	}
	if code, text = r.keyed("POST", "/v1/runs/"+run+"/complete", `{"status":"completed"}`); code != 200 || !strings.Contains(text, `"won":false,"status":"failed"`) {
		t.Errorf("the second outcome: got %d %s; want the first to stand", code, text)
	}
	if code, text = r.keyed("GET", "/v1/runs/"+run, ""); code != 200 || !strings.Contains(text, `"duration_ms":1234,"error_details":{"code":"E1"},"state_snapshot":[1]`) {
		t.Errorf("the run: got %d %s; want what was sent", code, text)
	}
}

// TestWhatTheTableDoesNotHaveIsLeftOut of requests: to name it is an error, and not 0.
func TestWhatTheTableDoesNotHaveIsLeftOut(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		columns             map[string]string
		begin, count, wrong string
	}{
		"no user":     {map[string]string{"id": "id", "status": "status", "workflow_id": "workflow_id"}, `{"workflow_id":"` + workflow + `"}`, "workflow_id=" + workflow, `{"user_id":"` + ada + `","workflow_id":"` + workflow + `"}`},
		"no workflow": {map[string]string{"id": "id", "status": "status", "user_id": "user_id"}, `{"user_id":"` + ada + `"}`, "user_id=" + ada, `{"user_id":"` + ada + `","workflow_id":"` + workflow + `"}`},
	} {
		r := newRig(t, func(c *api.Config) { c.Decoder.Columns = tt.columns })
		if code, text := r.keyed("POST", "/v1/runs", tt.begin); code != http.StatusCreated {
			t.Errorf("%s: begin: got %d %s; want 201", name, code, text)
		}
		if code, text := r.keyed("GET", "/v1/counts?"+tt.count, ""); code != 200 || !strings.Contains(text, `"count":0,`) {
			t.Errorf("%s: a count: got %d %s; want 0", name, code, text)
		}
		r.wantRefused(400, "The table has no column that says", "POST", "/v1/runs", tt.wrong)
		both := "user_id=" + ada + "&workflow_id=" + workflow
		r.wantRefused(400, "The table has no column that says", "GET", "/v1/counts?"+both, "")
		r.wantRefused(400, "The table has no column that says", "GET", "/v1/counts/stream?"+both, "")
	}
}

// TestALimitThatIsReachedSaysWhy, as fields for a program.
func TestALimitThatIsReachedSaysWhy(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.begin(ada, workflow)
	code, text := r.keyed("POST", "/v1/runs", `{"user_id":"`+ada+`","workflow_id":"`+workflow+`","limit":1}`)
	if code != http.StatusConflict {
		t.Fatalf("got %d %s, want 409", code, text)
	}
	for _, want := range []string{"(1): 0 counted, 1 active", `"code":"limit_reached"`, `"count":0`, `"active":1`, `"limit":1`} {
		if !strings.Contains(text, want) {
			t.Errorf("got %s, want %s in it", text, want)
		}
	}
}

// TestBodiesTogetherHoldNoMoreMemoryThanTheyMay: the memory of one is free once it is
// answered, and one that has none in time is told to come again.
func TestBodiesTogetherHoldNoMoreMemoryThanTheyMay(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(c *api.Config) {
		c.Store = heldStore{c.Store, entered, leave}
		c.Limits.Memory = 250 // for one body of at most 125 bytes
	})
	run := store.NewID().String()
	complete := func() (int, string) {
		return r.keyed("POST", "/v1/runs/"+run+"/complete", `{"status":"completed","error_details":"`+strings.Repeat("e", 60)+`"}`)
	}
	first := make(chan int, 1)
	go func() {
		code, _ := complete()
		first <- code
	}()
	<-entered
	if code, text := complete(); code != http.StatusServiceUnavailable || !strings.Contains(text, "Too many requests") {
		t.Errorf("a second body: got %d %s; want 503", code, text)
	}
	close(leave)
	if code := <-first; code != http.StatusNotFound {
		t.Errorf("the first body: got %d, want its answer 404", code)
	}
	go func() { <-entered }()
	if code, text := complete(); code != http.StatusNotFound {
		t.Errorf("a body after that: got %d %s; want its answer 404", code, text)
	}
}

// TestAStoreThatFailsIsNoAnswer, at each address that reads it.
func TestAStoreThatFailsIsNoAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ method, path, body string }{
		{"GET", counts + "&user_id=" + ada, ""},
		{"GET", "/v1/users/" + ada + "/counts", ""},
		{"GET", "/v1/counts?workflow_id=" + workflow, ""},
		{"GET", "/v1/allowance?user_limit=1&user_id=" + ada, ""},
		{"GET", "/v1/grants", ""},
		{"POST", "/v1/grants", `{"user_id":"` + ada + `","runs":1,"who":"a","why":"b"}`},
		{"POST", "/v1/grants/1/revoke", `{"who":"a","why":"b"}`},
		{"GET", "/v1/runs/" + ada, ""},
		{"POST", "/v1/runs", `{"user_id":"` + ada + `","workflow_id":"` + workflow + `"}`},
		{"POST", "/v1/runs/" + ada + "/start", ""},
		{"POST", "/v1/runs/" + ada + "/complete", `{"status":"failed"}`},
		{"POST", "/v1/runs/" + ada + "/amend", `{"status":"failed","who":"a","reason":"b"}`},
		{"GET", "/v1/dead-letters", ""},
		{"GET", "/v1/dead-letters/1", ""},
		{"DELETE", "/v1/dead-letters/1", ""},
		{"POST", "/v1/dead-letters/drop", `{"all":true}`},
		{"POST", "/v1/dead-letters/replay", "{}"},
	} {
		if code, text := r.keyed(tt.method, tt.path, tt.body); code < 500 {
			t.Errorf("%s %s: got %d %s; want a failure", tt.method, tt.path, code, text)
		}
	}
}

// heldStore holds each completion until it may leave.
type heldStore struct {
	api.Store
	entered, leave chan struct{}
}

func (s heldStore) Complete(ctx context.Context, c store.Completion) (store.CompleteResult, error) {
	s.entered <- struct{}{}
	<-s.leave
	return s.Store.Complete(ctx, c)
}

func TestDeadLettersAreDroppedAsAskedAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *api.Config) {
		c.Replay = func(_ context.Context, seq int64) (webhook.Replayed, error) {
			return webhook.Replayed{Seq: seq, Applied: seq == 1, Reason: map[bool]string{false: "still"}[seq == 1]}, nil
		}
	})
	for i, body := range []string{`{"a":1}`, "\xff\xfe", `{"b":1}`} {
		letter := store.DeadLetter{ReceivedAt: start.Add(time.Duration(i) * time.Minute), Reason: []string{"one", "two", "two"}[i], Body: []byte(body), Bytes: int64(len(body))}
		if err := r.store.KeepDeadLetter(t.Context(), letter); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, method, path, body string
		words                    string
	}{
		{"all, unsaid", "POST", "/v1/dead-letters/drop", "{}", "Say which dead letters to drop"},
		{"all, denied", "POST", "/v1/dead-letters/drop", `{"all":false}`, "Say which dead letters to drop"},
		{"all, and some", "POST", "/v1/dead-letters/drop", `{"all":true,"reason":"one"}`, "all is for all of them"},
		{"all as text", "POST", "/v1/dead-letters/drop", `{"all":"true"}`, "all must be true or false"},
		{"until no time", "POST", "/v1/dead-letters/drop", `{"until":"today"}`, "until must be a time"},
		{"a page of too many", "GET", "/v1/dead-letters?max=1001", "", "between 1 and 1000"},
		{"a number that is none", "DELETE", "/v1/dead-letters/0", "", "whole number from 1"},
		{"no number", "GET", "/v1/dead-letters/one", "", "whole number from 1"},
		{"one, with a filter", "GET", "/v1/dead-letters/1?reason=two", "", "not known here"},
		{"a drop of one, with a filter", "DELETE", "/v1/dead-letters/1?reason=two", "", "not known here"},
		{"a replay of no number", "POST", "/v1/dead-letters/one/replay", "", "whole number from 1"},
	} {
		code, text := r.keyed(tt.method, tt.path, tt.body)
		if code != 400 || !strings.Contains(text, tt.words) {
			t.Errorf("%s: got %d %s; want 400 and %q", tt.name, code, text, tt.words)
		}
	}
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		want                     string
	}{
		{"a page", "GET", "/v1/dead-letters?max=2", "", 200, `"next":2`},
		{"the next page", "GET", "/v1/dead-letters?max=2&before=2", "", 200, `"next":null`},
		{"those of a reason that is a number", "GET", "/v1/dead-letters?reason=7", "", 200, `"dead_letters":[]`},
		{"one that is text", "GET", "/v1/dead-letters/1", "", 200, `"encoding":"text","body":"{\"a\":1}"`},
		{"one that is not", "GET", "/v1/dead-letters/2", "", 200, `"encoding":"base64","body":"//4="`},
		{"one that is not there", "GET", "/v1/dead-letters/9", "", 404, ""},
		{"a replay", "POST", "/v1/dead-letters/1/replay", "", 200, `"applied":true`},
		{"a replay of some", "POST", "/v1/dead-letters/replay", `{"reason":"one"}`, 200, `"replayed":1,"left":0`},
		{"a replay of all", "POST", "/v1/dead-letters/replay", `{"max":2}`, 200, `"replayed":0,"left":2`},
		{"a drop of some", "POST", "/v1/dead-letters/drop", `{"reason":"TWO"}`, 200, `"dropped":2`},
		{"a drop of one", "DELETE", "/v1/dead-letters/1", "", 200, `"dropped":1`},
		{"the same again", "DELETE", "/v1/dead-letters/1", "", 404, ""},
		{"a drop of all", "POST", "/v1/dead-letters/drop", `{"all":true}`, 200, `"dropped":0`},
	} {
		if code, text := r.keyed(tt.method, tt.path, tt.body); code != tt.status || !strings.Contains(text, tt.want) {
			t.Errorf("%s: got %d %s; want %d and %s", tt.name, code, text, tt.status, tt.want)
		}
	}
	none := newRig(t, func(c *api.Config) { c.Letters = nil })
	if code, text := none.keyed("GET", "/v1/dead-letters", ""); code != 404 {
		t.Errorf("where none are kept: got %d %s, want 404", code, text)
	}
}

// TestAWorkflowAndADraftOfOneIDAreCountedApart, for a user and for all.
func TestAWorkflowAndADraftOfOneIDAreCountedApart(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	run := r.begin(ada, workflow)
	if code, text := r.keyed("POST", "/v1/runs/"+run+"/complete", `{"status":"completed"}`); code != 200 {
		t.Fatalf("complete: %d %s", code, text)
	}
	for path, want := range map[string]string{
		"/v1/counts?user_id=" + ada + "&workflow_id=" + workflow: `"count":1,`,
		"/v1/counts?user_id=" + ada + "&draft_id=" + workflow:    `"count":0,`,
		"/v1/counts?workflow_id=" + workflow:                     `"count":1,`,
		"/v1/counts?draft_id=" + workflow:                        `"count":0,`,
		"/v1/users/" + ada + "/counts?max=1000":                  `"count":1,`,
	} {
		if code, text := r.keyed("GET", path, ""); code != 200 || !strings.Contains(text, want) {
			t.Errorf("%s: got %d %s; want %s", path, code, text, want)
		}
	}
}

func TestTheClientSaysWhatAServerRefused(t *testing.T) {
	t.Parallel()
	if _, err := api.NewDelivery(t.Context(), "http://a b", nil); err == nil {
		t.Error("an address that is none is accepted, want it refused")
	}
	for _, tt := range []struct {
		name, location, body string
		status               int
		want                 string
	}{
		{"a problem", "", `{"detail":"Send it again."}`, 503, "503 Service Unavailable: Send it again."},
		{"another server's answer", "", "<html>", 502, "not an answer of Run Counter"},
		{"a redirect", "https://other.example/webhooks", "", 308, "to https://other.example/webhooks: webhooks don't follow redirects"},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if tt.location != "" {
				w.Header().Set("Location", tt.location)
			}
			w.WriteHeader(tt.status)
			_, _ = w.Write([]byte(tt.body))
		}))
		req, err := api.NewDelivery(t.Context(), srv.URL, []byte("{}"))
		if err != nil || req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/json" {
			t.Fatalf("%s: got %v, %v; want a POST of JSON", tt.name, req, err)
		}
		client := *srv.Client()
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		if _, err := api.Send(&client, req); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
		srv.Close()
		if _, err := api.Send(&client, req); err == nil || !strings.Contains(err.Error(), "is it running") {
			t.Errorf("where there is none: got %v, want to be asked whether it runs", err)
		}
	}
}

func TestATimeIsWrittenInUTCWithMicroseconds(t *testing.T) {
	t.Parallel()
	for at, want := range map[time.Time]string{
		{}: "null",
		time.Date(2026, 1, 31, 12, 0, 0, 1000, time.FixedZone("", 3600)): `"2026-01-31T11:00:00.000001Z"`,
	} {
		if got, err := json.Marshal(api.Instant(at)); err != nil || string(got) != want {
			t.Errorf("%v: got %s, %v; want %s", at, got, err, want)
		}
	}
}
