package main

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// The item 4 and the cases D2 and D4, from an application's statement
// through our own webhook and pg_net into a mirror: of 500 rows 7 can't be read,
// each in another way, and a guest's can.
func TestCaseItem4_AStatementOfFiveHundredRowsWithThreeUnreadableOnes(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, runsTable, `alter table workflow_runs alter column user_id drop not null, alter column id drop default, alter column id type text`)
	pgtest.InstallVault(t, address)
	net := pgtest.StartNet(t, address)
	f := newFront(t)
	secret := mustJSON[struct{ URL, Table, Secret string }](t, t.TempDir(), "", "webhook", "install", "--database-url", address, "--url", f.url).Secret
	dir := t.TempDir()
	f.behind.Store(&[]string{listens(t, dir, []string{"RUNCOUNTER_WEBHOOK_SECRET=" + secret}, "--stuck-after", "0").url})
	pgtest.Exec(t, address, `
insert into workflow_runs (id, user_id, workflow_id, status, created_at, started_at, completed_at, updated_at)
select case when n = 1 then repeat('x', 300) else 'run ' || n end,
       case when n <> 8 then 'aaaaaaaa-0000-4000-8000-000000000001'::uuid end, 'cccccccc-0000-4000-8000-000000000001',
       case n when 2 then '' when 3 then repeat('s', 300) else 'completed' end,
       case when n = 4 then '4713-01-01 00:00:00+00 BC'::timestamptz else now() end,
       case when n = 5 then '12026-01-01'::timestamptz else now() end,
       case when n = 6 then '12026-01-01'::timestamptz else now() end,
       case when n = 7 then '0044-03-15 00:00:00+00 BC'::timestamptz else now() end
  from generate_series(1, 500) as n`)
	net.Idle(t)
	f.settle()
	if len(f.statuses) != 1 || f.answered(http.StatusOK) != 1 {
		t.Errorf("got %v, want one request, answered 200", f.statuses)
	}
	if known := f.sameAsMerge(filepath.Join(dir, "runcounter.db")); known != 497 {
		t.Errorf("the mirror knows %d runs, want 497", known)
	}
	for _, name := range []string{"status", "doctor"} {
		args := map[string][]string{"status": {"webhook", "status"}, "doctor": {"doctor"}}[name]
		r := exec1(t, command(t, dir, nil, append(args, "--database-url", address)...), "")
		if r.code == exitFine || !strings.Contains(r.out, "arrived with changes that the receiver could not read, the newest among them: 3 refused") || !strings.Contains(r.out, "runcounter dead-letters list") {
			t.Errorf("%s: got %d %q, want the three named", name, r.code, r.out)
		}
	}
	letters := mustJSON[struct {
		Letters []struct {
			Seq        int64  `json:"seq"`
			ReceivedAt string `json:"received_at"`
			Reason     string `json:"reason"`
			Bytes      int64  `json:"bytes"`
			Kept       int64  `json:"kept"`
			Whole      bool   `json:"whole"`
		} `json:"dead_letters"`
		Next json.RawMessage `json:"next"`
	}](t, dir, "", "dead-letters", "list").Letters
	if len(letters) != 3 {
		t.Fatalf("got %d dead letters, want 3: %+v", len(letters), letters)
	}
	reasons := []string{"longer than 255 bytes", `record.status is ""`, "longer than 256 bytes"}
	for _, letter := range letters {
		for i, reason := range reasons {
			if strings.Contains(letter.Reason, reason) {
				reasons = append(reasons[:i], reasons[i+1:]...)
				break
			}
		}
		r := exec1(t, command(t, dir, nil, "dead-letters", "replay", strconv.FormatInt(letter.Seq, 10)), "")
		if r.code != exitNo || !strings.Contains(r.out, letter.Reason) || !letter.Whole {
			t.Errorf("replay of letter %d by itself: got %d %q, want it to stay for %q", letter.Seq, r.code, r.out, letter.Reason)
		}
	}
	if len(reasons) > 0 {
		t.Errorf("no letter says %q", reasons)
	}
}

// The cases D2 and D3 by the other senders of what is decoded.
func TestCaseD2_SendSaysWhichChangesWereRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url := listens(t, dir, nil).url
	row := func(n int, status, more string) string {
		return `{"id":"00000000-0000-4000-8000-00000000000` + strconv.Itoa(n) + `","user_id":null,"workflow_id":null,"status":"` + status + `","updated_at":"2026-01-31T12:00:00Z"` + more + `}`
	}
	deep := `,"metadata":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	change := func(row string) string {
		return `{"type":"INSERT","schema":"public","table":"workflow_runs","old_record":null,"record":` + row + `}`
	}
	body := "[" + change(row(1, "completed", deep)) + "," + change(row(2, "", "")) + "]"
	r := exec1(t, command(t, dir, nil, "send", "-", "--url", url+hookPath), body)
	if r.code != exitNo || !strings.Contains(r.out, "Received 2, changed 1, ignored 0.\nChange 1 was refused: record.status is") || !strings.Contains(r.errs, "1 change could not be read; the others were taken") {
		t.Errorf("send: got %d %q %q", r.code, r.out, r.errs)
	}
	r = exec1(t, command(t, dir, nil, "import"), row(3, "completed", deep)+"\n"+row(4, "", "")+"\n")
	if r.code != exitNo || !strings.Contains(r.out, "Imported 1 run,") || !strings.Contains(r.errs, "line 2: status is") {
		t.Errorf("import: got %d %q %q", r.code, r.out, r.errs)
	}
}
