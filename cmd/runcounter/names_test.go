package main

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// theirTable is a table whose names and words are its own: who is counted is an
// organisation, and a run ends at finished_at, as succeeded.
const theirTable = `create type run_status as enum ('queued', 'running', 'succeeded', 'failed', 'canceled');
create table workflow_runs (id uuid primary key default gen_random_uuid(), org_id uuid, workflow_id uuid not null, user_id uuid, status run_status not null default 'queued',
    created_at timestamptz not null default now(), finished_at timestamptz)`

// saidOfIt is what its operator says: user_id is who has pressed the button.
var saidOfIt = []string{"--column", "user=org_id", "--status", "queued=pending", "--status", "succeeded=completed", "--status", "canceled=cancelled"}

// TestCasesR1AndR2_ATableOfOtherNamesAndWords is counted by a source, which needs
// be told once, and by a mirror, which is told by flags or a file.
func TestCasesR1AndR2_ATableOfOtherNamesAndWords(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, theirTable)
	const button = "cccccccc-0000-4000-8000-000000000001"
	run := func(n int, status, finished string) string {
		return `{"id":"` + runID(n) + `","org_id":"` + sampleUser + `","user_id":"` + button + `","workflow_id":"` + sampleWorkflow + `","status":"` + status +
			`","created_at":"2026-01-31T12:00:00Z","finished_at":` + finished + `}`
	}
	ended := func(n int) string {
		return `{"type":"UPDATE","schema":"public","table":"workflow_runs","record":` + run(n, "succeeded", `"2026-01-31T12:00:01Z"`) + `,"old_record":` + run(n, "running", "null") + `}`
	}
	type counted struct{ Count int }
	count := func(p *process) int {
		t.Helper()
		return mustGet[counted](t, p.url+"/v1/counts?user_id="+sampleUser+"&workflow_id="+sampleWorkflow).Count
	}
	must(t, t.TempDir(), "", append([]string{"migrate", "up", "--database-url", address}, saidOfIt...)...)
	signsIn := []string{"SUPABASE_JWT_SECRET=" + streamSecret}
	source := listens(t, t.TempDir(), append(signsIn, "DATABASE_URL="+address), "--sweep-every", "1h")
	pgtest.Exec(t, address, `insert into workflow_runs (id, org_id, user_id, workflow_id, status) values ('`+runID(1)+`', '`+sampleUser+`', '`+button+`', '`+sampleWorkflow+`', 'running');
update workflow_runs set status = 'succeeded' where id = '`+runID(1)+`'`)
	if body := post(t, source.url+"/webhooks/workflow-runs", ended(1), http.StatusOK); !strings.Contains(body, `"changed":0`) || !strings.Contains(body, `"count":1`) {
		t.Errorf("a source's webhook: got %s, want nothing changed, and the organisation's count of 1", body)
	}
	post(t, source.url+"/v1/runs", `{"id":"`+runID(2)+`","user_id":"`+sampleUser+`","workflow_id":"`+sampleWorkflow+`","limit":2}`, http.StatusCreated)
	post(t, source.url+"/v1/runs/"+runID(2)+"/complete", `{"status":"completed"}`, http.StatusOK)
	if body := post(t, source.url+"/v1/runs/"+runID(2)+"/complete", `{"status":"timeout"}`, http.StatusBadRequest); !strings.Contains(body, "no status that means timeout") {
		t.Errorf("a status that the table has no word for: got %s, want a sentence", body)
	}
	if got := textOf(t, address, `select string_agg(status::text, '' order by id) from workflow_runs where finished_at is not null`); got != strings.Repeat("succeeded", 2) || count(source) != 2 {
		t.Errorf("the source: got the statuses %s, and the count %d; want succeeded twice, in its word, and 2", got, count(source))
	}
	if r := exec1(t, command(t, t.TempDir(), []string{"DATABASE_URL=" + address}, append([]string{"serve"}, saidOfIt...)...), ""); r.code != exitUsage || !strings.Contains(r.errs, "say them to runcounter migrate up") {
		t.Errorf("serve on a source with flags: got %+v, want it to say where they are kept", r)
	}

	dir := t.TempDir()
	must(t, dir, "", append([]string{"import", "--from", address}, saidOfIt...)...)
	mirror := listens(t, dir, signsIn, append([]string{"--sweep-every", "1h", "--claim", "o.id"}, saidOfIt...)...)
	asMember := func(p *process, claims jwt.MapClaims) int {
		t.Helper()
		maps.Copy(claims, jwt.MapClaims{"sub": sampleUser, "role": "authenticated", "aud": "authenticated", "exp": time.Now().Add(time.Hour).Unix()})
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(streamSecret))
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/v1/users/"+sampleUser+"/counts", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	member := jwt.MapClaims{"o": map[string]any{"id": sampleUser}}
	if subject, on, off := asMember(mirror, jwt.MapClaims{}), asMember(mirror, member), asMember(source, member); subject != http.StatusForbidden || on != http.StatusOK || off != http.StatusForbidden {
		t.Errorf("a sub that equals the organisation's id: %d; the claim that was said: %d; where none was: %d; want 403, 200, 403", subject, on, off)
	}
	if got := count(mirror); got != 2 {
		t.Errorf("a mirror that was filled from it counts %d, want 2", got)
	}
	post(t, mirror.url+"/webhooks/workflow-runs", ended(3), http.StatusOK)
	if got := count(mirror); got != 3 {
		t.Errorf("a mirror that was told of one more counts %d, want 3", got)
	}
	body := post(t, mirror.url+"/webhooks/workflow-runs", strings.ReplaceAll(ended(4), `"org_id"`, `"orgId"`), http.StatusBadRequest)
	if !strings.Contains(body, "record.org_id is missing") {
		t.Errorf("without the column: got %s, want the name that the table has for it", body)
	}
	if got := must(t, dir, run(5, "succeeded", `"2026-01-31T12:00:01Z"`), append([]string{"import"}, saidOfIt...)...); !strings.Contains(got, "1 run") {
		t.Errorf("import of a line: got %s", got)
	}
}

// TestCaseT26_WhatAMirrorIsToldOfItsColumns is used, or refused where it can't be.
func TestCaseT26_WhatAMirrorIsToldOfItsColumns(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Now().UTC()
	must(t, dir, `{"id":"`+runID(1)+`","user_id":"`+sampleUser+`","workflow_id":"`+sampleWorkflow+`","status":"running","created_at":"`+now.Add(-time.Hour).Format(time.RFC3339)+
		`","beat":"`+now.Format(time.RFC3339)+`"}`, "import", "--column", "lease=beat")
	if got := must(t, dir, "", "sweep"); !strings.Contains(got, "Repaired 0 runs") {
		t.Errorf("a run whose lease is new: got %s, want it left", got)
	}
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"one column for two roles":        {[]string{"--column", "user=workflow_id"}, "can't be two things at once"},
		"one column that is said for two": {[]string{"--column", "user=owner", "--column", "workflow=owner"}, "can't be two things at once"},
		"two leases":                      {[]string{"--column", "lease=beat", "--lease-column", "other"}, "two columns"},
	} {
		if r := exec1(t, command(t, dir, nil, append([]string{"import"}, tt.args...)...), ""); r.code != exitUsage || !strings.Contains(r.errs, tt.want) {
			t.Errorf("%s: got %+v, want it refused", name, r)
		}
	}
}
