package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/server"
)

// watchedProject is a Supabase project with a webhook of our own, which sends
// to a server as serve has it, with a sweeper that the test holds.
type watchedProject struct {
	*testing.T
	address, url string
	net          *pgtest.Net
	sweeper      *store.Sweeper
}

const webhookKey = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

func newWatchedProject(t *testing.T) *watchedProject {
	t.Helper()
	p := &watchedProject{T: t, address: pgtest.Supabase(t)}
	must(t, t.TempDir(), "", "migrate", "up", "--database-url", p.address)
	pgtest.InstallVault(t, p.address)
	p.net = pgtest.StartNet(t, p.address)
	s, err := postgres.Open(t.Context(), p.address, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	db := backend{database: s, source: true, asked: s}
	p.sweeper = db.sweeper(store.DefaultLimits())
	secrets, err := webhook.ParseSecrets(webhookKey)
	if err != nil {
		t.Fatal(err)
	}
	server, err := server.New(server.Config{Store: db, Secrets: secrets, Loopback: true, Sweeper: p.sweeper, Decoder: webhook.Decoder{Schema: "public", Table: "workflow_runs"}})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	t.Cleanup(func() { server.Shutdown(context.Background()) })
	p.url = "http://" + listener.Addr().String()
	must(t, t.TempDir(), "", "webhook", "install", "--url", p.url, "--timeout", "1s", "--database-url", p.address)
	p.exec(`select vault.update_secret(id, '` + webhookKey + `') from vault.secrets where name = 'run_counter_webhook'`)
	return p
}

func (p *watchedProject) exec(statements ...string) {
	p.Helper()
	pgtest.Exec(p, p.address, statements...)
}

// sendsTo makes the webhook send to another URL.
func (p *watchedProject) sendsTo(url string) {
	p.Helper()
	p.exec(`update run_counter_webhook.settings set url = '` + url + `'`)
}

// run makes a run, which makes a call.
func (p *watchedProject) run() {
	p.Helper()
	p.exec(`insert into workflow_runs (id, user_id, workflow_id, status, updated_at) values (gen_random_uuid(), '` + sampleUser + `', '` + sampleWorkflow + `', 'running', now())`)
}

// complains sweeps once, and returns the kinds of what is wrong.
func (p *watchedProject) complains() (kinds []string) {
	p.Helper()
	r, err := p.sweeper.Sweep(p.Context(), store.SweepOptions{})
	if err != nil {
		p.Fatal(err)
	}
	for _, c := range r.Webhooks.Complaints() {
		kinds = append(kinds, c.Kind)
	}
	return kinds
}

func (p *watchedProject) degraded() []string {
	p.Helper()
	all := mustGet[struct{ Degraded []string }](p.T, p.url+"/readyz").Degraded
	return slices.DeleteFunc(all, func(s string) bool { return strings.HasPrefix(s, "No API key") })
}

func (p *watchedProject) metric(series, value string) {
	p.Helper()
	text := mustText(p.T, p.url+"/metrics")
	if !strings.Contains(text, "\nruncounter_webhook_"+series+" "+value+"\n") {
		p.Errorf("the metrics have no runcounter_webhook_%s of %s:\n%s", series, value, strings.Join(regexp.MustCompile(`(?m)^runcounter_webhook_.*$`).FindAllString(text, -1), "\n"))
	}
}

// answers is a receiver that is not ours.
func answers(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL + "/webhooks/workflow-runs"
}

// eventually waits for what takes a moment in another process.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-deadline:
			t.Fatalf("not within half a minute: %s", what)
		case <-tick.C:
		}
	}
}

// TestEachLossIsNamedByOneSweep loses a call in each way there is. One sweep
// names it: its report, /readyz, the metrics and doctor; and once it is recovered,
// nobody says anything.
func TestEachLossIsNamedByOneSweep(t *testing.T) {
	need.Serial(t)
	t.Parallel()
	p := newWatchedProject(t)
	nobody := httptest.NewServer(nil)
	nobody.Close()
	status := func(code int) string {
		return answers(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "secret words of a server", code) })
	}
	to := func(url string) func() { return func() { p.sendsTo(url); p.run(); p.net.Idle(t) } }
	for _, tt := range []struct {
		name     string
		breaks   func()
		kind     string
		metric   string // and its value
		finding  string
		fix      string
		check    string   // of doctor
		doctor   string   // what it finds, where that is another line
		repairs  []string // beside the URL
		restarts bool     // pg_net's worker
	}{
		{name: "a dead worker", breaks: func() { p.net.Stop(); p.run(); p.gone() },
			kind: "worker", metric: `worker_up 0`, finding: "pg_net's worker does not run: nothing is sent, and 1 call waits for it", fix: "net.worker_restart()", restarts: true},
		{name: "nobody listens", breaks: to(nobody.URL),
			kind: "refused", finding: "were refused or led nowhere", fix: "the URL's host and port"},
		{name: "no answer in time", breaks: to(answers(t, func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) // only then is it seen that the sender goes
			<-r.Context().Done()
		})),
			kind: "timed_out", finding: "timed out", fix: "raise the webhook's timeout"},
		{name: "a redirect to a page", breaks: to(answers(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				http.Redirect(w, r, "/", http.StatusMovedPermanently)
			}
		})), kind: "redirected", finding: "were redirected (3xx)", fix: "write the URL that it redirects to"},
		{name: "a redirect of ours, to GET", breaks: to(answers(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, p.url+"/webhooks/workflow-runs", http.StatusFound)
		})), kind: "redirected", finding: "were redirected (3xx)", fix: "a GET that has no body"},
		{name: "another secret", breaks: func() {
			p.exec(`select vault.update_secret(id, 'whsec_' || encode(decode(repeat('ab', 32), 'hex'), 'base64')) from vault.secrets where name = 'run_counter_webhook'`)
			to(p.url + "/webhooks/workflow-runs")()
		}, kind: "unauthorised", finding: "were not let in (401, 403)", fix: "RUNCOUNTER_WEBHOOK_SECRET. A signed call that waited for more than an hour",
			repairs: []string{`select vault.update_secret(id, '` + webhookKey + `') from vault.secrets where name = 'run_counter_webhook'`}},
		{name: "another path", breaks: to(p.url + "/webhooks/workflow_runs"),
			kind: "no_page", finding: "met no such page (404, 405)", fix: "https://HOST/webhooks/workflow-runs"},
		{name: "a body that can't be read", breaks: to(status(http.StatusRequestEntityTooLarge)),
			kind: "unreadable", finding: "could not be read (4xx)", fix: "runcounter dead-letters list"},
		{name: "a proxy without a server", breaks: to(status(http.StatusBadGateway)),
			kind: "trouble", finding: "met a server in trouble (5xx)", fix: "the log of serve"},
		{name: "another's page", breaks: to(answers(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") })),
			kind: "elsewhere", finding: "got a 2xx that is no answer of Run Counter", fix: "another page is there"},
		{name: "a crash of PostgreSQL", breaks: func() { p.net.Stop(); p.run(); p.net.Kill(t); p.net.Start(); p.there() },
			kind: "lost", finding: "vanished from pg_net", fix: "runcounter import"},
		{name: "a trigger that report.Failure", breaks: func() {
			p.exec(`select vault.update_secret(id, null, 'hidden') from vault.secrets where name = 'run_counter_webhook'`)
			p.run()
			p.exec(`select vault.update_secret(id, null, 'run_counter_webhook') from vault.secrets where name = 'hidden'`)
		}, kind: "statements", metric: `failed_statements 1`, finding: "1 statement was committed without its webhook", fix: "run_counter_webhook.failures",
			check: "webhook", doctor: "1 statement was committed without their webhook, the newest", repairs: []string{`delete from run_counter_webhook.failures`}},
	} {
		tt.breaks()
		if diff := cmp.Diff([]string{tt.kind}, p.complains()); diff != "" {
			t.Errorf("%s: one sweep complains of (-want +got):\n%s", tt.name, diff)
		}
		got := p.degraded()
		if len(got) != 1 || !strings.Contains(got[0], tt.finding) || !strings.Contains(got[0], tt.fix) || strings.Contains(got[0], "secret words") {
			t.Errorf("%s: /readyz says %q, want one sentence with %q and %q", tt.name, got, tt.finding, tt.fix)
		}
		series, value, ok := strings.Cut(tt.metric, " ")
		if !ok {
			series, value = `calls{fate="`+tt.kind+`"}`, "1"
		}
		p.metric(series, value)
		want := report.Finding{Check: "deliveries", Status: report.Failure, Text: tt.finding, Fix: tt.fix}
		if tt.check != "" {
			want.Check, want.Text = tt.check, tt.doctor
		}
		r := examination(t, p.address, nil)
		named(t, tt.name, r, want)
		if n := len(complaints(r)); n != 1 {
			t.Errorf("%s: doctor complains of %+v, want one thing", tt.name, complaints(r))
		}

		if tt.restarts {
			p.net.Start()
			p.there()
		}
		p.exec(append(tt.repairs, `delete from run_counter_webhook.calls`)...)
		must(t, t.TempDir(), "", "webhook", "acknowledge", "--database-url", p.address)
		to(p.url + "/webhooks/workflow-runs")()
		if kinds, told := p.complains(), p.degraded(); len(kinds) > 0 || len(told) > 0 {
			t.Errorf("%s, and recovered: a sweep complains of %v, /readyz of %q; want nothing", tt.name, kinds, told)
		}
		p.metric("worker_up", "1")
		if left := complaints(examination(t, p.address, nil)); len(left) > 0 {
			t.Errorf("%s, and recovered: doctor complains of %+v", tt.name, left)
		}
	}
}

// gone and there wait for PostgreSQL to notice that the worker's session has
// ended, or begun.
func (p *watchedProject) gone()  { p.Helper(); p.worker(0) }
func (p *watchedProject) there() { p.Helper(); p.worker(1) }

func (p *watchedProject) worker(sessions int) {
	p.Helper()
	conn, err := pgx.Connect(p.Context(), p.address)
	if err != nil {
		p.Fatal(err)
	}
	defer conn.Close(context.Background())
	eventually(p.T, "the worker's session", func() bool {
		var n int
		if err := conn.QueryRow(p.Context(), `select count(*) from pg_stat_activity where datname = current_database() and application_name like 'pg_net %'`).Scan(&n); err != nil {
			p.Fatal(err)
		}
		return n == sessions
	})
}

// What was lost a while ago is no failure any more where the newest arrived.
func TestALossThatIsOverIsAWarning(t *testing.T) {
	t.Parallel()
	p := newWatchedProject(t)
	p.sendsTo("http://127.0.0.1:1/webhooks/workflow-runs")
	p.run()
	p.net.Idle(t)
	p.sendsTo(p.url + "/webhooks/workflow-runs")
	p.run()
	p.net.Idle(t)
	text := must(t, t.TempDir(), "", "sweep", "--stuck-after", "1h", "--database-url", p.address)
	golden(t, "sweep-webhooks", text)
	j := mustJSON[sweepShape](t, t.TempDir(), "", "sweep", "--stuck-after", "1h", "--database-url", p.address).Webhooks
	if j == nil || j.Calls[store.FateRefused] != 1 || j.Calls[store.FateArrived] != 1 || j.Worker == nil || !*j.Worker || len(j.Complaints) != 1 || j.Minutes != 15 {
		t.Errorf("got %+v, want one that was refused and one that arrived", j)
	}
	named(t, "over", examination(t, p.address, nil), report.Finding{Check: "deliveries", Status: report.Warning, Text: "1 of the last 2 calls of workflow_runs were refused or led nowhere, but the newest arrived", Fix: "whether serve runs"})
	if dry := mustJSON[sweepShape](t, t.TempDir(), "", "sweep", "--dry-run", "--database-url", p.address).Webhooks; dry != nil {
		t.Errorf("a dry run says %+v of webhooks, want nothing", dry)
	}
}

// A serve that runs tells of what its sweeps find, and logs it once.
func TestServeTellsOfItsWebhooks(t *testing.T) {
	t.Parallel()
	p := newWatchedProject(t)
	serve := listens(t, t.TempDir(), []string{"DATABASE_URL=" + p.address, "RUNCOUNTER_WEBHOOK_SECRET=" + webhookKey, "RUNCOUNTER_API_KEY=" + doctorSecret}, "--stuck-after", "1h", "--sweep-every", "50ms")
	p.url = serve.url
	p.sendsTo(serve.url + "/webhooks/workflow-runs")
	p.run()
	eventually(t, "the call arrived", func() bool {
		return strings.Contains(mustText(t, serve.url+"/metrics"), `runcounter_webhook_calls{fate="arrived"} 1`)
	})
	if got := p.degraded(); len(got) > 0 {
		t.Errorf("/readyz says %q, want nothing", got)
	}
	p.net.Stop()
	if _, ok := serve.await("webhooks: pg_net's worker does not run"); !ok {
		t.Fatalf("serve ended: %s", serve.said())
	}
	if got := p.degraded(); len(got) != 1 || !strings.Contains(got[0], "net.worker_restart()") {
		t.Errorf("/readyz says %q, want the worker and what to do", got)
	}
	p.metric("worker_up", "0")
	p.net.Start()
	if _, ok := serve.await("webhooks: this is over"); !ok {
		t.Fatalf("serve ended: %s", serve.said())
	}
	if n := strings.Count(serve.said(), `"msg":"webhooks: pg_net's worker`); n != 1 {
		t.Errorf("the log says it %d times, want once:\n%s", n, serve.said())
	}
	if strings.Contains(serve.said(), webhookKey) {
		t.Error("the log holds the secret")
	}
}

func TestAMirrorSaysNothingOfWebhooks(t *testing.T) {
	t.Parallel()
	dir := filled(t)
	serve := listens(t, dir, nil, "--sweep-every", "20ms")
	eventually(t, "a sweep", func() bool {
		return !strings.Contains(mustText(t, serve.url+"/metrics"), `runcounter_sweeps_total{result="ok"} 0`)
	})
	if text := mustText(t, serve.url+"/metrics"); strings.Contains(text, "runcounter_webhook_") {
		t.Errorf("a mirror has metrics of webhooks:\n%s", text)
	}
}

// TestDoctorKnowsOurWebhook breaks it in one way after the other.
func TestDoctorKnowsOurWebhook(t *testing.T) {
	need.Serial(t)
	t.Parallel()
	p := newWatchedProject(t)
	p.run()
	p.net.Idle(t)
	healthy := examination(t, p.address, nil)
	if left := complaints(healthy); len(left) > 0 {
		t.Fatalf("healthy: got %+v", left)
	}
	if got := lineOf(healthy, "webhook"); got != `signed, of public.workflow_runs, to `+p.url+`/webhooks/workflow-runs within 1s` {
		t.Errorf("healthy: got %q", got)
	}
	install := func(args ...string) func() {
		return func() {
			must(t, t.TempDir(), "", append([]string{"webhook", "install", "--url", p.url, "--timeout", "1s", "--database-url", p.address}, args...)...)
		}
	}
	for _, tt := range []struct {
		name, breaks string
		status       report.Status
		finding, fix string
		repairs      func() // the fix as SQL where nil
	}{
		{"a trigger is missing", `drop trigger run_counter_webhook_update on workflow_runs`,
			report.Failure, `run_counter_webhook_update on public.workflow_runs is missing: no update is told`, "runcounter webhook install", install()},
		{"a trigger executes something else", `drop trigger run_counter_webhook_insert on workflow_runs; create function f() returns trigger language plpgsql as 'begin return null; end'; create trigger run_counter_webhook_insert after insert on workflow_runs for each statement execute function f()`,
			report.Failure, "run_counter_webhook_insert on", "runcounter webhook install", func() { p.exec(`drop function f() cascade`); install()() }},
		{"a trigger is disabled", `alter table workflow_runs disable trigger run_counter_webhook_delete`,
			report.Warning, "run_counter_webhook_delete is disabled: no delete is told", "enable trigger", nil},
		{"it is switched off", `update run_counter_webhook.settings set enabled = false`,
			report.Warning, "it is switched off", "set enabled = true", nil},
		{"the secret is gone", `delete from vault.secrets where name = 'run_counter_webhook'`,
			report.Failure, "the secret run_counter_webhook is not in Vault", "runcounter webhook install", install()},
		{"a rotation was forgotten", `select vault.create_secret('whsec_x', 'run_counter_webhook_next')`,
			report.OK, "a rotation of the secret began", "", func() { p.exec(`delete from vault.secrets where name = 'run_counter_webhook_next'`) }},
		{"its table is gone", `alter table workflow_runs rename to runs_of_old`,
			report.Failure, `its table public.workflow_runs is gone`, "runcounter webhook install", func() { p.exec(`alter table runs_of_old rename to workflow_runs`) }},
	} {
		p.exec(tt.breaks)
		lines := p.ourFindings()
		found := slices.ContainsFunc(lines, func(l report.Finding) bool {
			return l.Status == tt.status && strings.Contains(l.Text, tt.finding) && strings.Contains(l.Fix, tt.fix)
		})
		if !found || len(lines) != 1 {
			t.Errorf("%s: got %+v, want %s %q", tt.name, lines, tt.status, tt.finding)
		}
		if tt.repairs == nil {
			p.exec(lines[0].Fix)
		} else {
			tt.repairs()
		}
		if left := complaints(examination(t, p.address, nil)); len(left) > 0 {
			t.Fatalf("%s, and recovered: got %+v, want nothing", tt.name, left)
		}
	}

	// A column that is sent and goes.
	p.exec(`alter table workflow_runs add column beat timestamptz`)
	install("--lease-column", "beat")()
	p.exec(`alter table workflow_runs drop column beat`)
	p.run()
	r := examination(t, p.address, nil)
	named(t, "a column is gone", r, report.Finding{Check: "webhook", Status: report.Failure, Text: `public.workflow_runs has no column beat any more`, Fix: "runcounter webhook install"})
	named(t, "a column is gone", r, report.Finding{Check: "webhook", Status: report.Failure, Text: "1 statement was committed without their webhook, the newest", Fix: "run_counter_webhook.failures"})
	install()()
	p.exec(`update run_counter_webhook.failures set at = at - interval '2 hours'`)
	named(t, "a column was gone", examination(t, p.address, nil), report.Finding{Check: "webhook", Status: report.Warning, Text: "the newest 2 hours ago: 42703 ", Fix: "by seq desc"})
	p.exec(`delete from run_counter_webhook.failures`)

	// Both webhooks at once.
	pgtest.InstallHooks(t, p.address)
	p.exec(`create trigger runs after insert or update or delete on workflow_runs for each row
    execute function supabase_functions.http_request('` + p.url + `/webhooks/workflow-runs', 'POST', '{"Content-Type": "application/json"}', '{}', '5000')`)
	r = examination(t, p.address, nil)
	if left := complaints(r); len(left) > 0 || !slices.ContainsFunc(r.Checks, func(l report.Finding) bool {
		return l.Check == "webhook" && strings.HasPrefix(l.Text, "runs beside it")
	}) {
		t.Errorf("both at once: got %+v, want both named and nothing to complain of", left)
	}
	pgtest.Exec(t, pgtest.Admin(t, p.address), `drop extension pg_net`)
	named(t, "pg_net is gone", examination(t, p.address, nil), report.Finding{Check: "webhook", Status: report.Failure, Text: "pg_net is gone, which sends it", Fix: "enable pg_net"})
}

// ourFindings returns those of doctor's findings that are about the webhook.
func (p *watchedProject) ourFindings() []report.Finding {
	p.Helper()
	s, err := doctor.OpenSource(p.Context(), p.address, doctor.Config{})
	if err != nil {
		p.Fatal(err)
	}
	defer s.DB.Close()
	return slices.DeleteFunc(s.ExamineWebhook(p.Context()).Checks, func(f report.Finding) bool { return f.Check != "webhook" })
}

func lineOf(r report.Report, check string) string {
	for _, l := range r.Checks {
		if l.Check == check {
			return l.Text
		}
	}
	return ""
}
