package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

func TestServeWaitsForADatabaseThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	address := server.Database(t)
	must(t, t.TempDir(), "", "migrate", "up", "--database-url", address)
	server.Stop(t)
	p := start(t, t.TempDir(), []string{"DATABASE_URL=" + address})
	if _, ok := p.await("the database can't be reached"); !ok {
		t.Fatalf("serve ended: %s", p.said())
	}
	server.Start(t)
	line, ok := p.await("listening")
	if !ok {
		t.Fatalf("serve ended: %s", p.said())
	}
	if ready := mustGet[struct{ Ready bool }](t, line.URL+"/readyz"); !ready.Ready {
		t.Errorf("the database is there, and serve is not ready")
	}
	if strings.Contains(p.said(), "hunter2") {
		t.Errorf("the log holds the password")
	}
}

// Case T9: the migrations keep what is said of a table, and without them it is said
// to serve.
func TestCaseT9_ServeOnASourceWithoutMigrationsReadsTimesAsTold(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, `create table workflow_runs (id uuid primary key default gen_random_uuid(), user_id uuid, workflow_id uuid, status text, completed_at bigint)`,
		`insert into workflow_runs (user_id, workflow_id, status, completed_at) select '`+sampleUser+`', '`+sampleWorkflow+`', 'completed', extract(epoch from now()) * 1000 from generate_series(1, 2)`)
	p := listens(t, t.TempDir(), []string{"DATABASE_URL=" + address}, "--times", "milliseconds")
	if got := mustGet[struct{ Count int64 }](t, p.url+"/v1/counts?user_id="+sampleUser+"&workflow_id="+sampleWorkflow); got.Count != 2 {
		t.Errorf("got %d, want 2", got.Count)
	}
}

// A source without the migrations works, and says what it lacks until it has
// them.
func TestServeOnASourceBeforeAndAfterItsMigrations(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, `
create table public.workflow_runs (
    id uuid primary key, user_id uuid not null, workflow_id uuid, status text,
    started_at timestamptz, completed_at timestamptz, duration_ms integer, error_details jsonb, state_snapshot jsonb,
    created_at timestamptz not null default now(), updated_at timestamptz not null default now())`)
	p := listens(t, t.TempDir(), []string{"DATABASE_URL=" + address}, "--stuck-after", "1h", "--sweep-every", "50ms")
	type readiness struct {
		Ready    bool
		Degraded []string
	}
	lacks := func() bool {
		got := mustGet[readiness](t, p.url+"/readyz")
		if !got.Ready {
			t.Fatalf("not ready: %v", got.Degraded)
		}
		return slices.ContainsFunc(got.Degraded, func(s string) bool { return strings.Contains(s, "runcounter migrate up") })
	}
	if !lacks() {
		t.Errorf("before the migrations: want /readyz to say what is missing")
	}
	begin := func(id string) {
		t.Helper()
		post(t, p.url+"/v1/runs", `{"id":"`+id+`","user_id":"`+sampleUser+`","workflow_id":"`+sampleWorkflow+`","limit":2}`, http.StatusCreated)
		post(t, p.url+"/v1/runs/"+id+"/complete", `{"status":"completed"}`, http.StatusOK)
	}
	type counted struct{ Count int }
	count := func() int {
		return mustGet[counted](t, p.url+"/v1/counts?user_id="+sampleUser+"&workflow_id="+sampleWorkflow).Count
	}
	begin(runID(1))
	if got := count(); got != 1 {
		t.Errorf("by direct queries: got %d, want 1", got)
	}
	must(t, t.TempDir(), "", "migrate", "up", "--database-url", address)
	for deadline := time.After(30 * time.Second); lacks(); {
		select {
		case <-deadline:
			t.Fatal("half a minute after the migrations /readyz still lacks them")
		case <-time.After(100 * time.Millisecond):
		}
	}
	begin(runID(2))
	if got := count(); got != 2 {
		t.Errorf("with the migrations: got %d, want 2", got)
	}
	post(t, p.url+"/v1/runs", `{"user_id":"`+sampleUser+`","workflow_id":"`+sampleWorkflow+`","limit":2}`, http.StatusConflict)

	// A late running is undone by the guard; the webhook of it changes nothing.
	pgtest.Exec(t, address, `update workflow_runs set status = 'running', completed_at = null where id = '`+runID(2)+`'`)
	hint := `{"type":"UPDATE","schema":"public","table":"workflow_runs",
  "record":{"id":"` + runID(2) + `","user_id":"` + sampleUser + `","workflow_id":"` + sampleWorkflow + `","status":"running","completed_at":null,"updated_at":"2026-01-31T12:00:00Z"},
  "old_record":{"id":"` + runID(2) + `","user_id":"` + sampleUser + `","workflow_id":"` + sampleWorkflow + `","status":"completed","completed_at":"2026-01-31T12:00:00Z","updated_at":"2026-01-31T11:59:00Z"}}`
	if body := post(t, p.url+"/webhooks/workflow-runs", hint, http.StatusOK); !strings.Contains(body, `"changed":0`) || !strings.Contains(body, `"count":2`) {
		t.Errorf("the hint: got %s, want nothing changed and a count of 2", body)
	}
}

func TestCaseD21_ServeOnASourceEndsNoSilentRunUntilALimitIsSet(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	must(t, t.TempDir(), "", "migrate", "up", "--database-url", address)
	pgtest.Exec(t, address, `insert into workflow_runs (id, user_id, workflow_id, status, updated_at) values
		('`+runID(1)+`', '`+sampleUser+`', '`+sampleWorkflow+`', 'running', now() - interval '1 day')`,
		`set session_replication_role = replica; -- as an older application has left it
		insert into workflow_runs (id, user_id, workflow_id, status, updated_at) values
		('`+runID(2)+`', '`+sampleUser+`', '`+sampleWorkflow+`', 'failed', now() - interval '1 day')`)
	statuses := func() string {
		return textOf(t, address, `select string_agg(status || ' ' || (completed_at is not null), ', ' order by id) from workflow_runs`)
	}
	unlimited := listens(t, t.TempDir(), []string{"DATABASE_URL=" + address}, "--sweep-every", "50ms")
	eventually(t, "three sweeps", func() bool { return sweepsOf(t, unlimited) >= 3 })
	if got := statuses(); got != "running false, failed true" {
		t.Errorf("without a limit the runs are %s: want the silent one running, and the other repaired", got)
	}
	if said := unlimited.said(); strings.Count(said, "RUNCOUNTER_STUCK_AFTER") != 1 || !strings.Contains(said, `"silent_for_5m_now":1`) {
		t.Errorf("the log does not say once what would be done, and how to set it:\n%s", said)
	}
	listens(t, t.TempDir(), []string{"DATABASE_URL=" + address, "RUNCOUNTER_STUCK_AFTER=1h"}, "--sweep-every", "50ms")
	eventually(t, "a serve with a limit ends it", func() bool { return statuses() == "failed true, failed true" })
}

// textOf asks a database one question.
func textOf(t *testing.T, address, question string) (answer string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(conn.QueryRow(t.Context(), question).Scan(&answer), conn.Close(t.Context())); err != nil {
		t.Fatalf("%s: %v", question, err)
	}
	return answer
}

// sweepsOf is how many sweeps a server has done.
func sweepsOf(t *testing.T, p *process) int {
	t.Helper()
	for line := range strings.Lines(mustText(t, p.url+"/metrics")) {
		if n, found := strings.CutPrefix(strings.TrimSpace(line), `runcounter_sweeps_total{result="ok"} `); found {
			sweeps, err := strconv.Atoi(n)
			if err != nil {
				t.Fatal(err)
			}
			return sweeps
		}
	}
	return 0
}

// post posts JSON, and fails the test unless the answer has this status.
func post(t *testing.T, url, body string, status int) string {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer json.RawMessage
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != status {
		t.Fatalf("POST %s: got %s, %v, %s; want %d", url, resp.Status, err, answer, status)
	}
	return string(answer)
}
