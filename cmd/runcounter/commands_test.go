package main

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/backfill"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

const otherWorkflow = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"

// The shapes that --json promises.
type (
	countShape struct {
		User      string `json:"user_id"`
		Workflow  string `json:"workflow_id"`
		Draft     string `json:"draft_id"`
		Count     int64  `json:"count"`
		Completed int64  `json:"completed"`
		Failed    int64  `json:"failed"`
		Cancelled int64  `json:"cancelled"`
		Timeout   int64  `json:"timeout"`
		Presumed  struct {
			Completed int64 `json:"completed"`
			Failed    int64 `json:"failed"`
			Cancelled int64 `json:"cancelled"`
			Timeout   int64 `json:"timeout"`
		} `json:"presumed"`
		LastRunAt string `json:"last_run_at"`
		Kind      string `json:"kind"`
		From      string `json:"from"`
		To        string `json:"to"`
	}
	completeShape struct {
		Won         bool   `json:"won"`
		Status      string `json:"status"`
		CompletedAt string `json:"completed_at"`
		Count       int64  `json:"count"`
	}
	repairShape struct {
		ID          string `json:"run_id"`
		Was         string `json:"was"`
		Becomes     string `json:"becomes"`
		CompletedAt string `json:"completed_at"`
		Reason      string `json:"reason"`
	}
	sweepShape struct {
		DryRun     bool            `json:"dry_run"`
		Full       bool            `json:"full"`
		Repaired   int             `json:"repaired"`
		Unwritable int             `json:"unwritable"`
		Refused    []api.Refused   `json:"refused"`
		Repairs    []repairShape   `json:"repairs"`
		Folded     int             `json:"folded"`
		Audited    int             `json:"audited"`
		Drifting   int             `json:"drifting"`
		Corrected  int             `json:"corrected"`
		Drifts     []api.Drift     `json:"drifts"`
		Totals     []api.Drift     `json:"totals"`
		Webhooks   *api.Deliveries `json:"webhooks"`
		New        []string        `json:"new_partitions"`
		Gone       []string        `json:"gone_partitions"`
		Withheld   int             `json:"withheld"`
	}
	importShape struct {
		Lines    int                `json:"lines"`
		Runs     int                `json:"runs"`
		Changed  int                `json:"changed"`
		Bad      int                `json:"bad"`
		BadLines []backfill.BadLine `json:"bad_lines"`
	}
)

// row is a line of an import.
func row(run int, workflow, status, completedAt string) string {
	if completedAt != "null" {
		completedAt = `"` + completedAt + `"`
	}
	return fmt.Sprintf(`{"id":"%s","user_id":"%s","workflow_id":"%s","status":"%s","started_at":"2026-01-31T11:59:00+00:00","completed_at":%s,"updated_at":"2026-01-31T12:00:00+00:00","metadata":{"a":[1]}}`,
		runID(run), sampleUser, workflow, status, completedAt) + "\n"
}

func runID(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", n) }

// filled returns a folder with a database of three completed runs, one failed
// and one silent one.
func filled(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	var lines strings.Builder
	for n := 1; n <= 3; n++ {
		lines.WriteString(row(n, sampleWorkflow, "completed", "2026-01-31T12:00:00+00:00"))
	}
	lines.WriteString(row(4, sampleWorkflow, "failed", "2026-01-31T12:00:01.5+00:00"))
	lines.WriteString(row(5, otherWorkflow, "running", "null"))
	got := mustJSON[importShape](t, dir, lines.String(), "import")
	if diff := cmp.Diff(importShape{Lines: 5, Runs: 5, Changed: 5, BadLines: []backfill.BadLine{}}, got); diff != "" {
		t.Fatalf("import (-want +got):\n%s", diff)
	}
	return dir
}

// spoil makes a count wrong, as runs that were missed do.
func spoil(t *testing.T, dir string) {
	t.Helper()
	spoilTable(t, dir, `update totals set n = n + 2 where status = 'completed';
insert into counts (user_id, kind, ref_id, status, presumed, n) values (?, 'workflow', ?, 'completed', 0, 2)
    on conflict (user_id, kind, ref_id, status, presumed) do update set n = n + 2`, sampleUser, sampleWorkflow)
}

func spoilTable(t *testing.T, dir, text string, args ...any) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "runcounter.db"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), text, args...)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	dir := filled(t)
	want := countShape{
		User: sampleUser, Workflow: sampleWorkflow, Count: 4, Completed: 3, Failed: 1, LastRunAt: "2026-01-31T12:00:01.500000Z",
	}
	if diff := cmp.Diff(want, mustJSON[countShape](t, dir, "", "count", "--user", sampleUser, "--workflow", sampleWorkflow)); diff != "" {
		t.Errorf("of a workflow (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(countShape{User: sampleUser, Draft: sampleWorkflow},
		mustJSON[countShape](t, dir, "", "count", "--user", sampleUser, "--draft", sampleWorkflow)); diff != "" {
		t.Errorf("of a draft without runs (-want +got):\n%s", diff)
	}
	all := mustJSON[struct {
		User   string       `json:"user_id"`
		Counts []countShape `json:"counts"`
	}](t, dir, "", "count", "--user", sampleUser)
	if diff := cmp.Diff([]countShape{want}, all.Counts); diff != "" {
		t.Errorf("of a user (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(countShape{Workflow: sampleWorkflow, Count: 4, Completed: 3, Failed: 1}, mustJSON[countShape](t, dir, "", "count", "--workflow", sampleWorkflow)); diff != "" {
		t.Errorf("of a workflow, over all users (-want +got):\n%s", diff)
	}
	golden(t, "count-total", must(t, dir, "", "count", "--workflow", sampleWorkflow))
	golden(t, "count-user", must(t, dir, "", "count", "--user", sampleUser))
	golden(t, "count-nobody", must(t, dir, "", "count", "--user", otherWorkflow))
}

// TestATotalThatIsWrong is found once the counts are right, and corrected.
func TestATotalThatIsWrong(t *testing.T) {
	t.Parallel()
	for name, correct := range map[string][]string{"a recount": {"recount", "--all-drifting"}, "a sweep": {"sweep", "--full"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filled(t)
			spoilTable(t, dir, `update totals set n = n + 2 where status = 'completed'`)
			r := exec1(t, command(t, dir, nil, "audit"), "")
			if r.code != exitNo || !strings.Contains(r.out, "1 count is wrong of all users together") || !strings.Contains(r.out, "+2") {
				t.Errorf("audit: got exit code %d and\n%s", r.code, r.out)
			}
			if got := mustJSON[countShape](t, dir, "", "count", "--workflow", sampleWorkflow); got.Count != 6 {
				t.Errorf("before it is corrected: got %+v, want 6", got)
			}
			if out := must(t, dir, "", correct...); !strings.Contains(out, "+2") {
				t.Errorf("got\n%s\nwant the total that was corrected", out)
			}
			must(t, dir, "", "audit")
			if got := mustJSON[countShape](t, dir, "", "count", "--workflow", sampleWorkflow); got.Count != 4 {
				t.Errorf("corrected: got %+v, want 4", got)
			}
		})
	}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	dir := filled(t)
	won := mustJSON[completeShape](t, dir, "", "complete", runID(5), "--status", "failed", "--duration-ms", "4210", "--error-details", `{"code":"NODE_ERROR"}`)
	if !won.Won || won.Status != "failed" || won.Count != 1 {
		t.Errorf("the first call: %+v, want won, failed, 1", won)
	}
	lost := mustJSON[completeShape](t, dir, "", "complete", runID(5), "--status", "completed")
	if diff := cmp.Diff(completeShape{false, "failed", won.CompletedAt, 1}, lost); diff != "" {
		t.Errorf("the second call (-want +got):\n%s", diff)
	}
	golden(t, "complete-lost", must(t, dir, "", "complete", runID(1), "--status", "failed"))
	if r := exec1(t, command(t, dir, nil, "complete", runID(99), "--status", "failed"), ""); r.code != exitNo || !strings.Contains(r.errs, runID(99)) {
		t.Errorf("an unknown run: exit code %d, want %d and a message that names it\n%s", r.code, exitNo, r.errs)
	}
}

func TestSweepOfTheCommandEndsTheSilentRun(t *testing.T) {
	t.Parallel()
	dir := filled(t)
	golden(t, "sweep-dry-run", must(t, dir, "", "sweep", "--dry-run"))
	want := sweepShape{
		Full: true, Repaired: 1, Folded: 0, Audited: 2, Drifts: []api.Drift{}, Totals: []api.Drift{}, New: []string{}, Gone: []string{},
		Refused: []api.Refused{},
		Repairs: []repairShape{{runID(5), "running", "failed", "2026-01-31T12:10:00.000000Z", "stuck"}},
	}
	if diff := cmp.Diff(want, mustJSON[sweepShape](t, dir, "", "sweep", "--full", "--stuck-after", "running=10m")); diff != "" {
		t.Errorf("the sweep (-want +got):\n%s", diff)
	}
	golden(t, "sweep-again", must(t, dir, "", "sweep", "--full"))
	// A late real outcome supersedes the presumed one.
	if late := mustJSON[completeShape](t, dir, "", "complete", runID(5), "--status", "completed"); !late.Won || late.Status != "completed" {
		t.Errorf("the late outcome: %+v, want it to win", late)
	}
}

func TestAuditAndRecount(t *testing.T) {
	t.Parallel()
	dir := filled(t)
	golden(t, "audit-clean", must(t, dir, "", "audit"))
	spoil(t, dir)
	r := exec1(t, command(t, dir, nil, "audit"), "")
	if r.code != exitNo || !strings.HasPrefix(r.errs, "database: ") || strings.Count(r.errs, "\n") != 1 {
		t.Errorf("drift: exit code %d, want %d, and %q on stderr, want the database's name alone", r.code, exitNo, r.errs)
	}
	golden(t, "audit-drift", r.out)
	if r := exec1(t, command(t, dir, nil, "audit", "--json"), ""); r.code != exitNo || !strings.Contains(r.out, `"drifting": 1`) {
		t.Errorf("drift as JSON: exit code %d, want %d\n%s", r.code, exitNo, r.out)
	}
	golden(t, "recount-all", must(t, dir, "", "recount", "--all-drifting"))
	must(t, dir, "", "audit")
	spoil(t, dir)
	type shape struct {
		Recounted []api.Recount `json:"recounted"`
	}
	args := []string{"recount", "--user", sampleUser, "--workflow", sampleWorkflow}
	got := mustJSON[shape](t, dir, "", args...).Recounted
	if len(got) != 1 || !got[0].Changed || got[0].Before.Ended.Completed != 5 || got[0].After.Ended.Completed != 3 {
		t.Errorf("recounted %+v, want 5 to become 3", got)
	}
	if got := mustJSON[shape](t, dir, "", args...).Recounted; len(got) != 1 || got[0].Changed {
		t.Errorf("recounted again: %+v, want no change", got)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	dir := filled(t)
	golden(t, "explain-run", must(t, dir, "", "explain", runID(1)))
	golden(t, "explain-active", must(t, dir, "", "explain", runID(5)))
	key := []string{"explain", "--user", sampleUser, "--workflow", sampleWorkflow}
	golden(t, "explain-key", must(t, dir, "", key...))
	must(t, dir, "", "sweep", "--full", "--stuck-after", "running=10m")
	swept := must(t, dir, "", "explain", runID(5))
	for _, want := range []string{"Counted as failed: its outcome is presumed", "repaired: silent for longer than its limit; it was running and became failed as of 2026-01-31T12:10:00"} {
		if !strings.Contains(swept, want) {
			t.Errorf("a swept run's history lacks %q:\n%s", want, swept)
		}
	}
	var got struct {
		Policy string
		Run    struct {
			Status  store.Status
			Counted bool
		}
		Repairs []struct{ Reason store.Reason }
	}
	if err := json.Unmarshal([]byte(must(t, dir, "", "explain", runID(5), "--json")), &got); err != nil {
		t.Fatal(err)
	}
	if got.Run.Status != store.Failed || !got.Run.Counted || got.Policy != "outcomes" || len(got.Repairs) != 1 || got.Repairs[0].Reason != store.Stuck {
		t.Errorf("as JSON: got %+v, want a failed run that is counted, repaired once", got)
	}
	spoil(t, dir)
	r := exec1(t, command(t, dir, nil, key...), "")
	if r.code != exitNo || !strings.Contains(r.out, "WRONG") || !strings.Contains(r.out, "runcounter recount --user") {
		t.Errorf("a wrong count: exit code %d, want %d, and what to do\n%s", r.code, exitNo, r.out)
	}
	must(t, dir, "", "recount", "--all-drifting")
	if text := must(t, dir, "", key...); !strings.Contains(text, "recounted: completed 3 instead of 5") {
		t.Errorf("after a recount: %s", text)
	}
	if r := exec1(t, command(t, dir, nil, "explain", runID(99)), ""); r.code != exitNo || !strings.Contains(r.errs, "no such run") {
		t.Errorf("an unknown run: exit code %d, want %d\n%s", r.code, exitNo, r.errs)
	}
	for _, args := range [][]string{{"explain"}, {"explain", strings.Repeat("x", 256)}, {"explain", "--user", sampleUser}, {"explain", runID(1), "--user", sampleUser}} {
		if r := exec1(t, command(t, dir, nil, args...), ""); r.code != exitUsage {
			t.Errorf("%v: exit code %d, want %d\n%s", args, r.code, exitUsage, r.errs)
		}
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	dir := filled(t)
	bad := "\n" + row(1, sampleWorkflow, "completed", "2026-01-31T12:00:00+00:00") + "(1 row)\n" + `{"id":"x"}` + "\n" +
		strings.TrimSuffix(row(6, sampleWorkflow, "completed", "2026-01-31T12:00:00+00:00"), "\n")
	r := exec1(t, command(t, dir, nil, "import", "-"), bad)
	if r.code != exitNo || r.out != "Imported 2 runs, of which 1 said something new.\n" ||
		!strings.Contains(r.errs, "line 3: ") || !strings.Contains(r.errs, "line 4: ") || !strings.Contains(r.errs, "2 lines") {
		t.Errorf("exit code %d, want %d, two runs, and lines 3 and 4 reported\n%s%s", r.code, exitNo, r.out, r.errs)
	}
	copied := strings.Replace(row(7, sampleWorkflow, "failed", "2026-01-31T12:00:00+00:00"), `{"a":[1]}`, `{"q":"a \\"b\\" c\\\\d"}`, 1)
	if got := mustJSON[importShape](t, dir, copied, "import", "--copy"); got.Changed != 1 {
		t.Errorf("a line of COPY: %+v, want 1 changed", got)
	}
}

func TestImportNeverOutweighsAWebhookThatSawTheRunEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := listens(t, dir, nil)
	to := []string{"send", "--url", p.url + hookPath, "--id", runID(1), "--user", sampleUser, "--workflow", sampleWorkflow}
	must(t, dir, "", append(to, "--status", "failed", "--completed-at", "2026-01-31T12:00:00Z")...)
	// While serve runs, an older view comes by import.
	must(t, dir, row(1, sampleWorkflow, "completed", "2026-01-31T11:00:00Z"), "import")
	if got := mustJSON[countShape](t, dir, "", "count", "--user", sampleUser, "--workflow", sampleWorkflow); got.Failed != 1 || got.Completed != 0 {
		t.Errorf("the import took the outcome back: %+v", got)
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	golden(t, "migrate-up", must(t, dir, "", "migrate", "up"))
	must(t, dir, "", "migrate", "up")
	type shape struct {
		Version, Latest uint
		Dirty           bool
	}
	if got := mustJSON[shape](t, dir, "", "migrate", "status"); got.Version == 0 || got.Version != got.Latest || got.Dirty {
		t.Errorf("after up: %+v", got)
	}
	golden(t, "migrate-down", must(t, dir, "", "migrate", "down", "--yes"))
	if printed := must(t, t.TempDir(), "", "migrate", "print"); !strings.Contains(printed, "create table if not exists counts") {
		t.Errorf("print says:\n%s", printed)
	}
}

func TestSendAndServe(t *testing.T) {
	t.Parallel()
	const (
		token = "a-token-of-some-length"
		key   = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
	)
	dir := t.TempDir()
	p := listens(t, dir, []string{"RUNCOUNTER_WEBHOOK_SECRET=" + token + ",v1," + key, "RUNCOUNTER_COUNT_POLICY=terminal"})
	made := []string{"send", "--user", sampleUser, "--workflow", sampleWorkflow}
	for _, tt := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"a token", append(made, "--url", p.url+hookPath, "--secret", token), exitFine, "Received 1, changed 1, ignored 0."},
		{"a signature, to the path of an Edge Function", append(made, "--url", p.url+edgePath, "--secret", "v1,"+key, "--status", "cancelled"), exitFine, "changed 1"},
		{"an insert and its delete", append(made, "--url", p.url+hookPath, "--secret", token, "--type", "INSERT", "--id", runID(42)), exitFine, "changed 1"},
		{"the delete", append(made, "--url", p.url+hookPath, "--secret", token, "--type", "DELETE", "--id", runID(42)), exitFine, "changed 1"},
		{"a captured request", []string{"send", "--url", p.url + hookPath, "--secret", token, captured(t)}, exitFine, "changed 1"},
		{"a wrong token", append(made, "--url", p.url+hookPath, "--secret", "wrong"), exitNo, "compare the webhook's header"},
		{"another table", append(made, "--url", p.url+hookPath, "--secret", token, "--table", "public.other"), exitFine, "ignored 1"},
		{"another server's address", append(made, "--url", p.url+"/livez", "--secret", token), exitNo, "405"},
	} {
		r := exec1(t, command(t, dir, nil, tt.args...), "")
		if r.code != tt.code || !strings.Contains(r.out+r.errs, tt.want) {
			t.Errorf("%s: exit code %d, want %d and %q\n%s%s", tt.name, r.code, tt.code, tt.want, r.out, r.errs)
		}
	}
	got := mustGet[countShape](t, p.url+"/v1/counts?user_id="+sampleUser+"&workflow_id="+sampleWorkflow)
	if got.Count != 3 || got.Completed != 2 || got.Cancelled != 1 {
		t.Errorf("the count is %+v, want 3 under the policy terminal", got)
	}
	p.Process.Signal(syscall.SIGTERM)
	if code := p.end(); code != exitFine {
		t.Errorf("SIGTERM: exit code %d, want 0\n%s", code, p.said())
	}
	// The policy stands in the database, for every command.
	if got := mustJSON[countShape](t, dir, "", "count", "--user", sampleUser, "--workflow", sampleWorkflow); got.Count != 3 {
		t.Errorf("the count is %+v, want 3", got)
	}
}

// captured returns a captured request whose run completes for the sample's
// user and workflow.
func captured(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../testdata/webhooks/003-lifecycle-update-completed.json")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSendDoesNotFollowRedirects(t *testing.T) {
	t.Parallel()
	followed, sender := false, ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sender = r.UserAgent()
		if r.URL.Path == "/elsewhere" {
			followed = true
		}
		http.Redirect(w, r, "/elsewhere", http.StatusMovedPermanently)
	}))
	defer server.Close()
	r := exec1(t, command(t, t.TempDir(), nil, "send", "--url", server.URL, "-"), "{}")
	if r.code != exitNo || followed || !strings.Contains(r.errs, "/elsewhere") {
		t.Errorf("exit code %d, want %d; followed %t\n%s", r.code, exitNo, followed, r.errs)
	}
	if !strings.HasPrefix(sender, "runcounter/") {
		t.Errorf("the server was asked by %q, want runcounter with its version", sender)
	}
}

func TestServeTellsAPersonWhatToDo(t *testing.T) {
	t.Parallel()
	address := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}
	golden(t, "welcome", settings{address: address, decoder: mustTable()}.welcome("http://127.0.0.1:8080", backend{where: "/data/runcounter.db"}))
	secret := settings{address: address, decoder: mustTable(), secret: "whsec_x", keys: []string{"k"}}
	golden(t, "welcome-signed", secret.welcome("http://127.0.0.1:8080", backend{where: "/data/runcounter.db"}))
	source := backend{where: "postgres://db.example.com:5432/postgres", source: true}
	golden(t, "welcome-source", secret.welcome("http://127.0.0.1:8080", source))
	secret.secret = "hunter2"
	text := secret.welcome("http://127.0.0.1:8080", backend{where: "/data/runcounter.db"})
	if strings.Contains(text, "hunter2") || !strings.Contains(text, "${RUNCOUNTER_WEBHOOK_SECRET%%,*}") {
		t.Errorf("the welcome shows the secret, or not how to send it:\n%s", text)
	}
}

func mustTable() webhook.Decoder {
	return webhook.Decoder{Schema: "public", Table: "workflow_runs"}
}

// The welcome's lines are pasted into a shell, so a shell runs them here.
func TestWhatServeSaysToPasteWorks(t *testing.T) {
	t.Parallel()
	need.Program(t, "curl", "curl")
	dir := t.TempDir()
	p := listens(t, dir, nil)
	s := settings{decoder: mustTable()}
	text := s.welcome(p.url, backend{where: "x"})
	commands := text[strings.Index(text, "curl"):strings.Index(text, "This is a mirror")]
	shell := command(t, dir, []string{"PATH=" + os.Getenv("PATH")})
	shell.Path, shell.Args = "/bin/sh", []string{"sh", "-e"}
	r := exec1(t, shell, commands)
	if r.code != 0 || !strings.Contains(r.out, `"changed":1`) || !strings.Contains(r.out, `"count":1,"completed":1`) {
		t.Errorf("exit code %d, want one change and a count of 1\n%s%s", r.code, r.out, r.errs)
	}
	resp := mustGet[struct {
		Ready    bool
		Degraded []string
	}](t, p.url+"/readyz")
	if !resp.Ready {
		t.Errorf("not ready: %v", resp.Degraded)
	}
	metrics := mustText(t, p.url+"/metrics")
	for _, want := range []string{"runcounter_sweeps_total{result=\"ok\"}", "runcounter_drifting_keys_total 0", `runcounter_database_rows{what="active_runs"} 0`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}

func TestCaseO12_ARecountOfNobodySaysSo(t *testing.T) {
	t.Parallel()
	got := must(t, filled(t), "", "recount", "--user", otherWorkflow, "--workflow", sampleWorkflow)
	if !strings.Contains(got, "No run of user "+otherWorkflow+", workflow "+sampleWorkflow+" has ended") {
		t.Errorf("got %q, want it said that there is no such run", got)
	}
}

// A program that ends with an error promises nothing of a server that goes on.
func TestCaseO12_AnErrorAtTheStartSaysToTryAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "folder.db"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"serve", "--listen", "127.0.0.1:0"}, {"audit"}} {
		r := exec1(t, command(t, dir, []string{"DATABASE_URL=sqlite:folder.db"}, args...), "")
		if r.code != exitUnreachable || strings.Contains(r.errs, "no restart") || strings.Contains(r.errs, "503") || !strings.Contains(r.errs, "Then try again.") {
			t.Errorf("%v: got %+v, want what to do, and to try again", args, r)
		}
	}
}
