package main

import (
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// A mirror elsewhere misses what a call told that no receiver took: the database says
// so, the mirror says so, and both until an import has told it.
func TestCaseD6_SourceAndMirrorNameALossUntilAnImportRepairsIt(t *testing.T) {
	t.Parallel()
	p := newWatchedProject(t)
	dir := t.TempDir()
	serve := listens(t, dir, []string{"RUNCOUNTER_WEBHOOK_SECRET=" + webhookKey, "RUNCOUNTER_API_KEY=" + doctorSecret}, "--stuck-after", "1h")
	mirror := *p
	mirror.url = serve.url
	one := func(url string) {
		t.Helper()
		p.sendsTo(url)
		p.run()
		p.net.Idle(t)
	}
	hook := serve.url + "/webhooks/workflow-runs"
	one(hook)
	mirror.metric("unrecovered", "0")
	one("http://127.0.0.1:1/webhooks/workflow-runs")
	for range 3 {
		one(hook)
	}
	named := func(when string) {
		t.Helper()
		text := must(t, t.TempDir(), "", "webhook", "status", "--database-url", p.address)
		if !strings.Contains(text, "1 of the last 5 calls of workflow_runs were refused or led nowhere") || !strings.Contains(text, "runcounter webhook acknowledge") {
			t.Errorf("%s: status says\n%s", when, text)
		}
	}
	named("before any sweep") // status settles it
	one(hook)
	if got := mirror.degraded(); len(got) != 1 || !strings.HasPrefix(got[0], "1 call or statement was lost on the way here") {
		t.Errorf("the mirror's /readyz says %q, want the loss", got)
	}
	mirror.metric("unrecovered", "1")
	p.exec(`delete from run_counter_webhook.calls`) // the log is pruned
	if kinds := p.complains(); len(kinds) != 1 || kinds[0] != "refused" {
		t.Errorf("with the log pruned, a sweep complains of %v", kinds)
	}
	if got := p.degraded(); len(got) != 1 || !strings.HasPrefix(got[0], "1 call with 1 change were refused or led nowhere") {
		t.Errorf("with the log pruned, /readyz says %q", got)
	}
	p.metric("unrecovered", "1")

	must(t, t.TempDir(), "", "import", "--from", p.address) // into a file that the webhook never told of anything
	if kinds := p.complains(); len(kinds) != 1 {
		t.Errorf("after an import into another file, a sweep complains of %v, want the loss", kinds)
	}
	if text := must(t, dir, "", "import", "--from", p.address); !strings.Contains(text, "It recovered 1 lost call of the webhook.") {
		t.Errorf("the import says\n%s", text)
	}
	if kinds := p.complains(); len(kinds) > 0 {
		t.Errorf("recovered, and a sweep complains of %v", kinds)
	}
	eventually(t, "a call of a later second says that it is recovered", func() bool {
		one(hook)
		return len(mirror.degraded()) == 0
	})
	mirror.metric("unrecovered", "0")
	p.metric("unrecovered", "0")
}

func TestCaseD19_StatusAndInstallNameASecretThatVaultCantDecrypt(t *testing.T) {
	t.Parallel()
	p := newWatchedProject(t)
	pgtest.Exec(t, pgtest.Admin(t, p.address), `update vault.secrets set nonce = '\x00'`)
	r := examination(t, p.address, nil)
	named(t, "restored", r, report.Finding{Check: "webhook", Status: report.Failure, Text: "Vault can't decrypt the secret (22000 ", Fix: "runcounter webhook rotate --finish"})
	if n := len(complaints(r)); n != 1 {
		t.Errorf("doctor complains of %+v, want one thing", complaints(r))
	}
	got := exec1(t, command(t, t.TempDir(), nil, "webhook", "install", "--url", p.url, "--timeout", "1s", "--database-url", p.address), "")
	if got.code != 1 || !strings.Contains(got.errs, "the webhook is there, but the secret can't be decrypted by Vault") || !strings.Contains(got.errs, "runcounter webhook rotate --finish") {
		t.Errorf("install exits with %d and says %q, want 1 and the two commands", got.code, got.errs)
	}
	must(t, t.TempDir(), "", "webhook", "rotate", "--database-url", p.address)
	must(t, t.TempDir(), "", "webhook", "rotate", "--finish", "--database-url", p.address)
	if left := complaints(examination(t, p.address, nil)); len(left) > 0 {
		t.Errorf("after the two commands doctor complains of %+v", left)
	}
}
