package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/api"
	"github.com/edgaze-ai/runcounter/webhook/live"
	"github.com/edgaze-ai/runcounter/webhook/problem"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

// specification returns the published schema of OpenAPI 3.1 documents.
func specification(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile("testdata/openapi-3.1/schema.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("mem:///openapi-3.1.json", doc); err != nil {
		t.Fatal(err)
	}
	return c.MustCompile("mem:///openapi-3.1.json")
}

// copyOf returns the document, to be spoilt.
func copyOf(t *testing.T) map[string]any {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(api.OpenAPI()))
	if err != nil {
		t.Fatal(err)
	}
	return doc.(map[string]any)
}

// inside returns an object inside another.
func inside(doc map[string]any, place ...string) map[string]any {
	for _, name := range place {
		doc = doc[name].(map[string]any)
	}
	return doc
}

func TestTheDocumentIsValidOpenAPI(t *testing.T) {
	t.Parallel()
	schema := specification(t)
	if err := schema.Validate(copyOf(t)); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(doc map[string]any){
		"another version":            func(doc map[string]any) { doc["openapi"] = "3.0.3" },
		"no info":                    func(doc map[string]any) { delete(doc, "info") },
		"a member that there is not": func(doc map[string]any) { doc["routes"] = []any{} },
		"an answer without a description": func(doc map[string]any) {
			delete(inside(doc, "paths", "/v1/counts", "get", "responses", "200"), "description")
		},
		"a parameter that is nowhere": func(doc map[string]any) {
			inside(doc, "paths", "/v1/counts", "get")["parameters"].([]any)[0].(map[string]any)["in"] = "body"
		},
	} {
		doc := copyOf(t)
		spoil(doc)
		if schema.Validate(doc) == nil {
			t.Errorf("%s: the schema takes it", name)
		}
	}
}

// What the schema of documents can't say: each schema in it is one of JSON Schema 2020-12,
// each reference leads somewhere, each operation has a name of its own, and what stands
// among the components is used.
func TestTheDocumentHoldsTogether(t *testing.T) {
	t.Parallel()
	d := readDescription()
	for name := range inside(d.doc, "components", "schemas") {
		for _, c := range [...]*jsonschema.Compiler{d.open, d.closed} {
			d.mu.Lock()
			_, err := c.Compile(documentURL + "#/components/schemas/" + name)
			d.mu.Unlock()
			if err != nil {
				t.Errorf("the schema %s: %v", name, err)
			}
		}
	}
	used := map[string]bool{}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok {
				used[ref] = true
				if found, _ := d.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...); found == nil {
					t.Errorf("%s leads nowhere", ref)
				}
			}
			for _, member := range v {
				walk(member)
			}
		case []any:
			for _, element := range v {
				walk(element)
			}
		}
	}
	walk(d.doc)
	for _, kind := range [...]string{"schemas", "responses"} {
		for name := range inside(d.doc, "components", kind) {
			if !used["#/components/"+kind+"/"+name] {
				t.Errorf("nothing refers to the component %s/%s", kind, name)
			}
		}
	}
	schemes, ids := inside(d.doc, "components", "securitySchemes"), map[string]string{}
	for _, op := range operationsOf(d) {
		if other := ids[op.id]; other != "" {
			t.Errorf("%s and %s %s are both called %s", other, op.method, op.template, op.id)
		}
		ids[op.id] = op.method + " " + op.template
		open := slices.ContainsFunc(op.item["security"].([]any), func(way any) bool { return len(way.(map[string]any)) == 0 })
		if open != (op.id == "getCount") { // a workflow's total alone may be for everyone
			t.Errorf("%s may be asked without a key: %t", op.id, open)
		}
		for _, way := range op.item["security"].([]any) {
			for name := range way.(map[string]any) {
				if schemes[name] == nil {
					t.Errorf("%s is secured by %s, which is not described", op.id, name)
				}
			}
		}
	}
}

// operation is one method of an address in the document.
type operation struct {
	id, method, template string
	item                 map[string]any
}

func operationsOf(d *description) (all []operation) {
	for template, item := range inside(d.doc, "paths") {
		for method, op := range item.(map[string]any) {
			op := op.(map[string]any)
			all = append(all, operation{op["operationId"].(string), strings.ToUpper(method), template, op})
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.template+a.method, b.template+b.method) })
	return all
}

// What is routed below /v1, and for deliveries, is described, and the other way round.
func TestTheDocumentIsOfWhatIsRouted(t *testing.T) {
	t.Parallel()
	r := withUsers(t, nil, users.Config{Secret: legacy}, func(cfg *Config) { cfg.Origins = []string{"*"} })
	var routed, described []string
	for _, route := range r.server.app.GetRoutes(true) {
		path := regexp.MustCompile(`:(\w+)`).ReplaceAllString(route.Path, "{$1}")
		if (strings.HasPrefix(path, "/v1") || slices.Contains(webhook.Paths[:], path)) && route.Method != http.MethodHead && route.Method != http.MethodOptions {
			routed = append(routed, route.Method+" "+path)
		}
	}
	for _, op := range operationsOf(readDescription()) {
		described = append(described, op.method+" "+op.template)
	}
	slices.Sort(routed)
	slices.Sort(described)
	if d := cmp.Diff(slices.Compact(routed), described); d != "" { // CORS routes a path once more
		t.Errorf("(-routed +described)\n%s", d)
	}
}

func TestTheDocumentIsServedToAnybody(t *testing.T) {
	t.Parallel()
	r := serve(t, nil)
	got := r.do("GET", "/openapi.json", "")
	tag := got.header.Get("ETag")
	if got.status != 200 || got.header.Get("Content-Type") != "application/json" || got.header.Get("Cache-Control") != "public, max-age=300" || tag == "" || !bytes.Equal(got.body, api.OpenAPI()) {
		t.Errorf("got %d %v and %d bytes, want the document with its tag", got.status, got.header, len(got.body))
	}
	for given, want := range map[string]int{tag: 304, "W/" + tag: 304, `"other", ` + tag: 304, "*": 304, `"other"`: 200} {
		if again := r.do("GET", "/openapi.json", "", "If-None-Match: "+given); again.status != want || again.status == 304 && len(again.body) > 0 || again.header.Get("ETag") != tag {
			t.Errorf("If-None-Match: %s: got %d with %d bytes, want %d", given, again.status, len(again.body), want)
		}
	}
	if got := r.do("POST", "/openapi.json", ""); got.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: got %d, want 405", got.status)
	}
}

// Each way in which an exchange can differ from the document is noticed.
func TestACheckThatFindsNothingWouldBeNoticed(t *testing.T) {
	t.Parallel()
	d := readDescription()
	const total = `{"user_id":null,"workflow_id":"w","draft_id":null,"count":4,"completed":2,"failed":2,"cancelled":1,"timeout":1,"presumed":{"completed":0,"failed":0,"cancelled":0,"timeout":0},"last_run_at":null}`
	const address = "/v1/counts?workflow_id=w"
	json := http.Header{"Content-Type": {"application/json"}, "X-Request-Id": {"1"}}
	refusal := http.Header{"Content-Type": {"application/problem+json"}, "X-Request-Id": {"1"}, "Www-Authenticate": {"Bearer"}, "Retry-After": {"3"}}
	without := func(h http.Header, name string) http.Header { h = maps.Clone(h); h.Del(name); return h }
	with := func(h http.Header, name, value string) http.Header { h = maps.Clone(h); h.Set(name, value); return h }
	doc := func(status int) string {
		return fmt.Sprintf(`{"type":"about:blank","title":"t","status":%d,"detail":"d"}`, status)
	}
	complete := func(body string) (string, string, string, reply) {
		return "POST", "/v1/runs/1/complete", body, reply{200, json, []byte(`{"won":true,"status":"completed","completed_at":"2026-11-22T12:00:00.123456Z","count":1}`)}
	}
	type exchange struct {
		name, method, target, body string
		got                        reply
		want                       string // a part of what is found; nothing where empty
	}
	cases := []exchange{
		{"as described", "GET", address, "", reply{200, json, []byte(total)}, ""},
		{"a refusal as described", "GET", address, "", reply{401, refusal, []byte(doc(401))}, ""},
		{"a member more", "GET", address, "", reply{200, json, []byte(strings.Replace(total, "{", `{"more":1,`, 1))}, "more"},
		{"a member less", "GET", address, "", reply{200, json, []byte(strings.Replace(total, `"count":4,`, "", 1))}, "count"},
		{"a number as a text", "GET", address, "", reply{200, json, []byte(strings.Replace(total, "4", `"4"`, 1))}, "/count"},
		{"a time that is none", "POST", "/v1/runs/1/complete", `{"status":"failed"}`, reply{200, json, []byte(`{"won":true,"status":"failed","completed_at":"noon","count":1}`)}, "/completed_at"},
		{"what is no JSON", "GET", address, "", reply{200, json, []byte("{")}, "EOF"},
		{"another media type", "GET", address, "", reply{200, with(json, "Content-Type", "text/plain"), []byte(total)}, "media type"},
		{"no request id", "GET", address, "", reply{200, without(json, "X-Request-Id"), []byte(total)}, "X-Request-Id"},
		{"no challenge", "GET", address, "", reply{401, without(refusal, "Www-Authenticate"), []byte(doc(401))}, "WWW-Authenticate"},
		{"another challenge", "GET", address, "", reply{401, with(refusal, "Www-Authenticate", "Basic"), []byte(doc(401))}, "WWW-Authenticate"},
		{"a time to come back that is none", "GET", address, "", reply{503, with(refusal, "Retry-After", "soon"), []byte(doc(503))}, "Retry-After"},
		{"a status that is not described", "GET", address, "", reply{409, refusal, []byte(doc(409))}, "status is not described"},
		{"a fault of ours", "GET", address, "", reply{500, refusal, []byte(doc(500))}, ""},
		{"a fault of ours in another form", "GET", address, "", reply{500, refusal, []byte(`{"error":"x"}`)}, "missing properties"},
		{"an address that is not described", "GET", "/v1/secrets", "", reply{200, json, []byte(total)}, "served and not described"},
		{"a parameter that is not described", "GET", address + "&more=1", "", reply{200, json, []byte(total)}, "more is not described"},
		{"a parameter twice", "GET", address + "&workflow_id=x", "", reply{200, json, []byte(total)}, "more than once"},
		{"a page that is too large", "GET", "/v1/dead-letters?max=1001", "", reply{200, json, []byte(`{"dead_letters":[],"next":null}`)}, "max"},
		{"a letter by a text", "GET", "/v1/dead-letters/x", "", reply{200, json, []byte(`{"seq":1,"received_at":"2026-11-22T12:00:00.123456Z","reason":"","bytes":1,"kept":1,"whole":true,"encoding":"text","body":""}`)}, "seq"},
	}
	for body, want := range map[string]string{
		`{"status":"completed"}`: "", `{"status":"completed","duration_ms":null}`: "", `{"status":"running"}`: "/status", `{}`: "status", "": "EOF",
		`{"status":"failed","at":1}`: "at", `{"status":"failed","duration_ms":-1}`: "duration_ms", `[]`: "object",
	} {
		method, target, body, got := complete(body)
		cases = append(cases, exchange{"a completion by " + body, method, target, body, got, want})
	}
	for _, c := range cases {
		err := d.check(c.method, c.target, c.body, c.got)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// Each wire type with nothing in it but what is never null is valid by its schema, which
// has the names of all its fields: the checks of answers see the values that tests make.
func TestEachFieldOfTheWireTypesIsDescribed(t *testing.T) {
	t.Parallel()
	id, at := mustID(t, "7"), api.Instant(noon)
	for name, value := range map[string]any{
		"Count": api.Count{Kind: store.KindDraft, From: at, To: at}, "UserCounts": api.UserCounts{User: id, Counts: []api.Count{}}, "Run": api.Run{ID: id}, "BegunRun": api.BegunRun{Run: api.Run{ID: id}, Limits: []problem.Usage{{}}},
		"Allowance": api.Allowance{Limits: []problem.Usage{}}, "LimitUsage": problem.Usage{}, "Grant": api.Grant{}, "MadeGrant": api.MadeGrant{}, "GrantPage": api.GrantPage{Grants: []api.Grant{}},
		"CompletedRun": api.CompletedRun{}, "DeadLetter": api.Letter{ReceivedAt: at}, "DeadLetterPage": api.LetterPage{Letters: []api.Letter{}},
		"DeadLetterWithBody": api.LetterWithBody{Letter: api.Letter{ReceivedAt: at}}, "DeadLettersReplayed": api.LettersReplayed{Replays: api.Replays{Letters: []api.LetterResult{}}},
		"DeadLettersDropped": api.LettersDropped{}, "KeyCount": webhook.KeyCount{}, "DeliveryAnswer": webhook.Answer{Counts: []webhook.KeyCount{}, Refused: []problem.RefusedChange{{}}},
		"DeadLetterResult": api.LetterResult{Reason: "r"}, "StreamedCount": api.StreamedCount{Kind: store.KindDraft, From: at, To: at}, "StreamEnd": live.End{}, "RefusedChange": problem.RefusedChange{},
		"Problem": problem.Problem{Code: "c", Count: new(int64), Active: new(int64), Limit: new(int64), Limits: []problem.Usage{{}}, Refused: []problem.RefusedChange{{}}},
	} {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if err := readDescription().validJSON(text, true, "components", "schemas", name); err != nil {
			t.Errorf("%s is written as %s: %v", name, text, err)
		}
		var members map[string]any
		if err := json.Unmarshal(text, &members); err != nil {
			t.Fatal(err)
		}
		described := inside(readDescription().doc, "components", "schemas", name, "properties")
		if got, want := slices.Sorted(maps.Keys(described)), slices.Sorted(maps.Keys(members)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: described are %v, written are %v", name, got, want)
		}
	}
}
