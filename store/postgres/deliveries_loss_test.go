package postgres

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// ten makes ten runs in one statement, and so in one call.
func (p *telling) ten() {
	p.Helper()
	p.exec(fmt.Sprintf(`insert into workflow_runs (id, user_id, workflow_id, status) select gen_random_uuid(), '%[1]s', '%[1]s', 'running' from generate_series(1, 10)`, storetest.MustID('a', 1)))
}

// lost returns the losses that nothing has recovered, without their ages.
func lost(d store.Deliveries) map[store.Fate]store.Loss {
	all := map[store.Fate]store.Loss{}
	for fate, l := range d.Lost {
		l.Since = 0
		all[fate] = l
	}
	return all
}

func (p *telling) wantLost(when string, want map[store.Fate]store.Loss, all ...store.Deliveries) {
	p.Helper()
	for _, d := range all {
		if diff := cmp.Diff(want, lost(d)); diff != "" {
			p.Errorf("%s: what is lost (-want +got):\n%s", when, diff)
		}
	}
}

// A crash takes one call with ten rows, hundreds of others follow, a sweep
// settles them, and the log of calls is pruned: the loss is known until it is
// recovered.
func TestCaseD6_ALossIsKnownUntilItIsRepaired(t *testing.T) {
	t.Parallel()
	p, n := newTellingNet(t)
	n.Pace(0)
	n.Stop()
	p.ten()
	n.Kill(t)
	n.Start()
	p.runs(510)
	n.Idle(t)
	want := map[store.Fate]store.Loss{store.FateVanished: {Calls: 1, Changes: 10}}
	p.wantLost("before a sweep, to doctor", want, p.inspected().Deliveries)
	p.wantLost("a sweep", want, p.after(0), p.inspected().Deliveries)
	p.runs(510)
	n.Idle(t)
	for _, later := range []time.Duration{16 * time.Minute, 25 * time.Hour, 8 * 24 * time.Hour} {
		d := p.after(later)
		p.wantLost("after "+later.String(), want, d, p.inspected().Deliveries)
		all := d.Complaints()
		if len(all) != 1 || !strings.Contains(all[0].What, "1 call with 10 changes vanished from pg_net") || !strings.Contains(all[0].Fix, "runcounter webhook acknowledge") {
			t.Errorf("after %s: got %+v, want the loss by name", later, all)
		}
	}
	if got := p.log(); got != "1 arrived" {
		t.Errorf("the log holds %s, want the newest that arrived alone", got)
	}
	if got := p.text(`select run_counter_webhook.acknowledge()::text`); got != "1" {
		t.Errorf("acknowledged are %s, want 1", got)
	}
	p.wantLost("acknowledged", map[store.Fate]store.Loss{}, p.after(0), p.inspected().Deliveries)
	if d := p.inspected(); len(d.Complaints()) > 0 {
		t.Errorf("acknowledged, and doctor complains of %+v", d.Complaints())
	}
}

// What an import read needs no call any more: of those that were lost and of
// those that are lost later, unless their transaction was open when it began, or
// they told of a deletion.
func TestCaseD6_AnImportRepairsWhatItHasRead(t *testing.T) {
	t.Parallel()
	p := newTelling(t)
	p.installs() // and nothing sends
	open, err := p.store.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer open.Rollback(t.Context())
	if _, err := open.Exec(t.Context(), fmt.Sprintf(`insert into workflow_runs (id, user_id, workflow_id, status) values ('%[1]s', '%[1]s', '%[1]s', 'running')`, storetest.MustID('a', 1))); err != nil {
		t.Fatal(err)
	}
	p.runs(2)
	p.exec(`delete from net.http_request_queue`)
	p.after(10 * time.Minute) // two are lost
	p.exec(`delete from vault.secrets`)
	p.runs(1) // as a statement
	p.exec(`delete from workflow_runs`)
	p.exec(`select vault.create_secret('whsec_'||encode(sha256('x'),'base64'), 'run_counter_webhook')`)
	p.ten()                             // is on its way when the import begins
	p.exec(`delete from workflow_runs`) // and so is this
	seen, at := p.text(`select pg_current_snapshot()::text`), p.text(`select clock_timestamp()::text`)
	p.runs(1) // comes after that
	if got := p.text(fmt.Sprintf(`select run_counter_webhook.acknowledge('%s', '%s')::text`, seen, at)); got != "3" {
		t.Errorf("the import has recovered %s, want two calls and a statement", got)
	}
	if err := open.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.exec(`delete from net.http_request_queue`)
	d := p.after(10 * time.Minute)
	p.wantLost("afterwards", map[store.Fate]store.Loss{store.FateVanished: {Calls: 3, Changes: 12, Deletions: 1}}, d, p.inspected().Deliveries)
	if d.Failed != 1 || p.inspected().Failed != 1 {
		t.Errorf("%d statements are left, to doctor %d; want the deletion that no import brings", d.Failed, p.inspected().Failed)
	}
}

// However much is lost, the sums are few rows, and they are exact.
func TestCaseD6_LossesAreSummedUp(t *testing.T) {
	t.Parallel()
	p := newTelling(t)
	p.installs()
	const rounds = 230
	for range rounds {
		p.exec(`insert into run_counter_webhook.calls (request_id, message_id, changes, deletions, at) select 1000, 'x', 2, n - 1, now() - interval '1 hour' from generate_series(1, 2) as n`)
		p.after(0)
	}
	p.wantLost("summed up", map[store.Fate]store.Loss{store.FateVanished: {Calls: 2 * rounds, Changes: 4 * rounds, Deletions: rounds}}, p.after(0), p.inspected().Deliveries)
	if got := p.text(`select (count(*) <= 210)::text from run_counter_webhook.losses`); got != "true" {
		t.Errorf("they are %s rows", p.text(`select count(*)::text from run_counter_webhook.losses`))
	}
}

// A call that pg_net has forgotten before a sweep came is no call that arrived.
func TestCaseD6_WhatNobodyLookedAtInTimeIsSaid(t *testing.T) {
	t.Parallel()
	p := newTelling(t)
	p.installs()
	p.runs(3)
	p.exec(`delete from net.http_request_queue`)
	want := map[store.Fate]store.Loss{store.FateUnseen: {Calls: 3, Changes: 3}}
	p.wantLost("seven hours later", want, p.after(7*time.Hour))
	p.runs(2)
	pgtest.Exec(t, pgtest.Admin(t, p.address), `drop extension pg_net`)
	want[store.FateUnseen] = store.Loss{Calls: 5, Changes: 5}
	p.wantLost("and without pg_net", want, p.after(7*time.Hour), p.inspected().Deliveries)
}

func TestCaseD7_AWorkerThatStandsStillIsNamedByTheCallThatWaits(t *testing.T) {
	t.Parallel()
	p, n := newTellingNet(t)
	n.Pace(time.Hour) // after the next batch it takes nothing, as after SIGSTOP, and its session stays
	p.runs(1)
	n.Idle(t)
	p.runs(3)
	if d := p.after(10 * time.Second); len(d.Complaints()) > 0 || d.Worker != store.WorkerUp {
		t.Errorf("after ten seconds: got %+v, the worker %s; want nothing yet", d.Complaints(), d.Worker)
	}
	all := p.after(25 * time.Second).Complaints()
	// By the test's clock they wait for 25 seconds, and for as long as the test has run since.
	byAge := regexp.MustCompile(`^3 calls wait for pg_net's worker, the oldest of workflow_runs for (2[5-9]s|[3-5]\ds|1m)`)
	if len(all) != 1 || all[0].Kind != store.ComplaintQueue || !byAge.MatchString(all[0].What) {
		t.Errorf("after 25 seconds: got %+v, want the calls that wait by their age", all)
	}
	p.exec(`update run_counter_webhook.calls set at = at - interval '25 seconds' where fate is null`)
	if all := p.inspected().Complaints(); len(all) != 1 || all[0].Kind != store.ComplaintQueue {
		t.Errorf("doctor says %+v, want the calls that wait", all)
	}
}

// What the receiver refused of a call is lost, and the others of it are not; a
// reason may repeat what looks like another one.
func TestCaseD2_WhatWasRefusedOfACallIsALoss(t *testing.T) {
	t.Parallel()
	p, n := newTellingNet(t)
	p.answers(`{"received":10,"changed":8,"ignored":0,"refused":[{"change":3,"reason":"record.status is \"{\\\"change\\\":1,\", too odd"},{"change":9,"reason":"record.id is missing"}]}`)
	p.ten()
	n.Idle(t)
	want := map[store.Fate]store.Loss{store.FatePartly: {Calls: 1, Changes: 2}}
	p.wantLost("before a sweep, to doctor", want, p.inspected().Deliveries)
	p.wantLost("a sweep", want, p.after(0), p.inspected().Deliveries)
	all := p.after(0).Complaints()
	if len(all) != 1 || !all[0].Now || all[0].Why != "2 refused" || !strings.Contains(all[0].What, "arrived with changes that the receiver could not read") {
		t.Errorf("got %+v, want what was refused by name", all)
	}
	p.answers(`{"received":1,"changed":1,"ignored":0}`)
	p.runs(1)
	n.Idle(t)
	p.wantLost("the next arrived whole", want, p.after(0), p.inspected().Deliveries)
}

// answers lets the receiver say so from now on.
func (p *telling) answers(body string) {
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) })
	p.answer.Store(&answer)
}
