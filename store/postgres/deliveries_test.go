package postgres

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// telling is a Supabase project with a webhook of our own, and a receiver of it
// that answers as the test wants.
type telling struct {
	*testing.T
	address  string
	store    *Store
	receiver *httptest.Server
	answer   atomic.Pointer[http.HandlerFunc] // "received" where nil
}

func newTelling(t *testing.T) *telling {
	t.Helper()
	p := &telling{T: t, address: pgtest.Supabase(t)}
	p.receiver = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer := p.answer.Load(); answer != nil {
			(*answer)(w, r)
			return
		}
		io.WriteString(w, `{"received":1,"changed":1}`)
	}))
	t.Cleanup(p.receiver.Close)
	sourcetest.Migrate(t, p.address, (*migrations.Migrator).Up)
	p.store = mustOpen(t, p.address, Options{})
	return p
}

// newTellingNet is newTelling with our own webhook, and pg_net's worker running.
func newTellingNet(t *testing.T) (*telling, *pgtest.Net) {
	t.Helper()
	p := newTelling(t)
	p.installs()
	return p, pgtest.StartNet(t, p.address)
}

// installs makes the webhook, with pg_net and Vault before it.
func (p *telling) installs() {
	p.Helper()
	pgtest.InstallNet(p, p.address)
	pgtest.InstallVault(p, p.address)
	s, err := migrations.OpenWebhook(p.Context(), p.address)
	if err != nil {
		p.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Install(migrations.Webhook{URL: p.receiver.URL, Timeout: 5 * time.Second, Schema: "public", Table: "workflow_runs"}); err != nil {
		p.Fatal(err)
	}
}

func (p *telling) exec(statements ...string) {
	p.Helper()
	pgtest.Exec(p, p.address, statements...)
}

// runs makes so many runs, each in a call of its own.
func (p *telling) runs(n int) {
	p.Helper()
	p.exec(fmt.Sprintf(`do $$ begin for i in 1..%[1]d loop insert into workflow_runs (id, user_id, workflow_id, status) values (gen_random_uuid(), '%[2]s', '%[2]s', 'running'); end loop; end $$`, n, storetest.MustID('a', 1)))
}

func (p *telling) text(query string) (text string) {
	p.Helper()
	if err := p.store.pool.QueryRow(p.Context(), query).Scan(&text); err != nil {
		p.Fatalf("%s: %v", query, err)
	}
	return text
}

// log is what is written down of calls, by what became of them.
func (p *telling) log() string {
	p.Helper()
	return p.text(`select coalesce(string_agg(n || ' ' || fate, ', ' order by fate), 'nothing') from (select coalesce(fate, 'open') as fate, count(*) as n from run_counter_webhook.calls group by 1) as l`)
}

// after asks so much later than now what became of webhooks.
func (p *telling) after(later time.Duration) store.Deliveries {
	p.Helper()
	d, err := p.store.Deliveries(p.Context(), time.Now().Add(later))
	if err != nil {
		p.Fatal(err)
	}
	return d
}

func (p *telling) inspected() Deliveries {
	p.Helper()
	i, err := Inspect(p.Context(), p.address, Options{})
	if err != nil {
		p.Fatal(err)
	}
	defer i.Close()
	d, err := i.Deliveries(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	return d
}

func (p *telling) want(what string, got, want store.Deliveries) {
	p.Helper()
	got.Window, got.NewestAgo, got.FailedAgo, got.Timeout, got.Watched, got.Own = 0, 0, 0, 0, want.Watched, want.Own
	for fate, lost := range got.Lost {
		lost.Since = 0
		got.Lost[fate] = lost
	}
	if diff := cmp.Diff(want, got); diff != "" {
		p.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestDeliveriesAreSettledOnceBySeveralSweepers(t *testing.T) {
	t.Parallel()
	p := newTelling(t)
	p.installs()
	newCaller(t, p.address).lint("without a comment")
	n := pgtest.StartNet(t, p.address)
	n.Pace(0)
	const calls = 3 * settleBatch / 2
	p.exec(`create table settled (seq bigint)`,
		`create function settled() returns trigger language plpgsql as $$ begin insert into public.settled values (new.seq); return new; end $$`,
		`create trigger settled before update on run_counter_webhook.calls for each row execute function settled()`)
	p.runs(calls)
	n.Idle(t)
	if got := p.log(); got != fmt.Sprintf("%d open", calls) {
		t.Fatalf("before a sweep: %s", got)
	}
	if got := p.inspected().Calls[store.FateArrived]; got != calls {
		t.Errorf("before a sweep doctor sees %d that arrived, want %d", got, calls)
	}
	var sweepers sync.WaitGroup
	for range 4 {
		sweepers.Go(func() {
			for range 3 {
				if _, err := p.store.Deliveries(t.Context(), time.Now()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	sweepers.Wait()
	if got := p.log(); got != fmt.Sprintf("%d arrived", calls) {
		t.Errorf("after four sweepers: %s", got)
	}
	if got := p.text(`select count(*) || ' ' || count(distinct seq) from settled`); got != fmt.Sprintf("%d %d", calls, calls) {
		t.Errorf("got %s, want each settled once", got)
	}
	d := p.after(0)
	p.want("a sweep", d, store.Deliveries{
		Watched: true, Own: true, Calls: map[store.Fate]int64{store.FateArrived: calls}, Examples: map[store.Fate]string{}, Newest: store.FateArrived, Worker: store.WorkerUp,
	})
}

func TestASweepWaitsForNobodyWhoHoldsTheLogOfCalls(t *testing.T) {
	t.Parallel()
	p, n := newTellingNet(t)
	p.runs(10)
	n.Idle(t)
	p.exec(`insert into run_counter_webhook.calls (request_id, message_id, changes, fate, settled_at) select -i, 'x', 1, 'refused', now() - interval '8 days' from generate_series(1, 5) as i`)
	tx, err := p.store.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), `delete from run_counter_webhook.calls where seq <= 4 or request_id in (-1, -2)`); err != nil {
		t.Fatal(err)
	}
	if d := p.after(0); d.Calls[store.FateArrived] != 10 {
		t.Errorf("got %v, want all ten, of which four are another's to settle", d.Calls)
	}
	if got := p.log(); got != "6 arrived, 4 open, 2 refused" {
		t.Errorf("got %s, want what nobody holds settled and pruned", got)
	}
}

// A crash empties pg_net's tables and numbers calls from 1 again. Whatever was
// asked in between, an answer is never taken for another's.
func TestCallsThatACrashTookAreNamed(t *testing.T) {
	t.Parallel()
	p, n := newTellingNet(t)
	p.runs(2)
	n.Idle(t)
	p.after(0)
	n.Stop()
	p.runs(7)
	if d := p.after(0); d.Calls[store.FateWaiting] != 7 || d.Queued != 7 || d.Worker != store.WorkerDown {
		t.Errorf("before the crash: %+v, want seven that wait for a dead worker", d)
	}
	n.Kill(t)
	d := p.after(0)
	p.want("after the crash", d, store.Deliveries{
		Calls:    map[store.Fate]int64{store.FateArrived: 2, store.FateVanished: 7},
		Examples: map[store.Fate]string{store.FateVanished: "PostgreSQL came back with an empty queue"}, Newest: store.FateVanished, Worker: store.WorkerDown,
		Lost: map[store.Fate]store.Loss{store.FateVanished: {Calls: 7, Changes: 7}},
	})
	n.Start()
	p.runs(4) // numbered as the first were
	n.Idle(t)
	p.want("four later", p.after(0), store.Deliveries{
		Calls:    map[store.Fate]int64{store.FateArrived: 6, store.FateVanished: 7},
		Examples: map[store.Fate]string{store.FateVanished: "PostgreSQL came back with an empty queue"}, Newest: store.FateArrived, Worker: store.WorkerUp,
		Lost: map[store.Fate]store.Loss{store.FateVanished: {Calls: 7, Changes: 7}},
	})
}

func TestAnAnswerIsNotTakenForThatOfAnEarlierCallOfItsNumber(t *testing.T) {
	t.Parallel()
	p, n := newTellingNet(t)
	n.Stop()
	p.runs(3)
	n.Kill(t)
	n.Start()
	p.runs(5)
	n.Idle(t)
	if got := p.text(`select string_agg(request_id::text, '/' order by seq) from run_counter_webhook.calls`); got != "1/2/3/1/2/3/4/5" {
		t.Fatalf("the calls are numbered %s", got)
	}
	p.after(0)
	if got := p.text(`select string_agg(fate, '/' order by seq) from run_counter_webhook.calls`); got != "lost/lost/lost/arrived/arrived/arrived/arrived/arrived" {
		t.Errorf("got %s", got)
	}
}

// The answer of an older call of the number stays in pg_net's table where
// somebody resets its numbers.
func TestAnAnswerFromBeforeACallIsNotIts(t *testing.T) {
	t.Parallel()
	p := newTelling(t)
	p.installs()
	p.runs(1)
	p.exec(`update run_counter_webhook.calls set at = now() - interval '10 minutes'`) // and it still waits
	p.runs(1)
	p.exec(`insert into net._http_response (id, status_code, content, created) values (2, 500, '', now() - interval '2 minutes')`)
	if d := p.after(0); d.Calls[store.FateWaiting] != 2 || d.Known() != 0 {
		t.Errorf("got %v, want two that wait", d.Calls)
	}
	p.exec(`insert into net._http_response (id, status_code, content, created) values (2, 200, '{"received":1}', now() - interval '50 seconds')`, `delete from net.http_request_queue where id = 2`)
	if d := p.after(0); d.Calls[store.FateArrived] != 1 || d.Calls[store.FateWaiting] != 1 {
		t.Errorf("got %v, want one that arrived, by a batch that began before it was made", d.Calls)
	}
}

func TestACallWithoutAnAnswerIsLostOnceItsTimeIsOver(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		done  string // to its place in the queue
		later time.Duration
		want  map[store.Fate]int64
		log   string
	}{
		{"it may be under way", `delete from net.http_request_queue`, time.Minute, map[store.Fate]int64{store.FateWaiting: 1}, "1 open"},
		{"its time is over", `delete from net.http_request_queue`, 66 * time.Second, map[store.Fate]int64{store.FateVanished: 1}, "1 lost"},
		{"it is queued, for however long", `select`, 9 * time.Hour, map[store.Fate]int64{store.FateWaiting: 1}, "1 open"},
		{"pg_net has forgotten it", `delete from net.http_request_queue`, 6 * time.Hour, map[store.Fate]int64{}, "nothing"},
		{"pg_net remembers less", `delete from net.http_request_queue; do $$ begin execute format('alter database %I set pg_net.ttl = ''10 minutes''', current_database()); end $$`, 10 * time.Minute, map[store.Fate]int64{}, "nothing"},
		{"pg_net's memory makes no sense", `delete from net.http_request_queue; do $$ begin execute format('alter database %I set pg_net.ttl = ''for ever''', current_database()); end $$`, 5 * time.Hour, map[store.Fate]int64{store.FateVanished: 1}, "1 lost"},
		{"its number is not reached", `truncate net.http_request_queue restart identity`, 0, map[store.Fate]int64{store.FateVanished: 1}, "1 lost"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newTelling(t)
			p.installs()
			p.runs(1)
			pgtest.Exec(t, pgtest.Admin(t, p.address), tt.done)
			p.store.pool.Reset() // settings of a database are for sessions to come
			if diff := cmp.Diff(tt.want, p.after(tt.later).Calls); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if got := p.log(); got != tt.log {
				t.Errorf("the log holds %s, want %s", got, tt.log)
			}
		})
	}
}

func TestTheLogOfCallsIsBounded(t *testing.T) {
	t.Parallel()
	p := newTelling(t)
	p.installs()
	insert := func(n int, fate, ago string) {
		p.exec(fmt.Sprintf(`insert into run_counter_webhook.calls (request_id, message_id, changes, at, fate, settled_at) select i, 'msg_' || i, 1, now() - interval '%s', '%s', now() - interval '%s' from generate_series(1, %d) as i`, ago, fate, ago, n))
	}
	insert(2*settleBatch+1, "arrived", "61 minutes")
	insert(3, "timed_out", "61 minutes")
	insert(4, "refused", "169 hours")
	p.after(0)
	if got := p.log(); got != "1 arrived, 3 timed_out" {
		t.Errorf("got %s, want the newest that arrived, and what was lost in the last week", got)
	}
	insert(2, "arrived", "1 minute")
	p.after(0)
	if got := p.log(); got != "2 arrived, 3 timed_out" {
		t.Errorf("got %s, want the older one gone", got)
	}
	if d := p.inspected(); d.Newest != store.FateArrived || d.Calls[store.FateTimedOut] != 3 {
		t.Errorf("got %+v, want doctor to see the losses, and that the newest arrived", d)
	}
	// Without pg_net nobody will ever know.
	insert(5, "x", "1 hour")
	p.exec(`update run_counter_webhook.calls set fate = null, at = now() - interval '7 hours' where fate = 'x'`)
	pgtest.Exec(t, pgtest.Admin(t, p.address), `drop extension pg_net`)
	d := p.after(0)
	if got := p.log(); got != "2 arrived, 3 timed_out" || !d.Watched {
		t.Errorf("got %s, watched %t; want the open ones gone", got, d.Watched)
	}
}

func TestStatementsWithoutTheirWebhookAreCounted(t *testing.T) {
	t.Parallel()
	p := newTelling(t)
	p.installs()
	p.exec(`delete from vault.secrets`)
	p.runs(3)
	d := p.after(0)
	if d.Failed != 3 || d.FailedWhy != "P0002 the secret run_counter_webhook is not in Vault" || d.Known() != 0 {
		t.Errorf("got %+v, want three statements and why", d)
	}
	if d := p.after(16 * time.Minute); d.Failed != 3 || d.FailedAgo < 15*time.Minute {
		t.Errorf("a quarter of an hour later: got %d, the newest %s ago; want them as they are until they are recovered", d.Failed, d.FailedAgo)
	}
}
