package postgres

import (
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// Supabase's own webhook is in no log, but for a table that says which
// answers are to it.
func TestAnswersToSupabasesWebhookCountToo(t *testing.T) {
	t.Parallel()
	p := newTelling(t)
	pgtest.InstallNet(t, p.address)
	pgtest.InstallHooks(t, p.address)
	pgtest.Exec(t, pgtest.Admin(t, p.address), `grant all on supabase_functions.hooks to owner`) // as Supabase does
	plain := func() {
		p.exec(`create trigger runs after insert on workflow_runs for each row execute function supabase_functions.http_request('` + p.receiver.URL + `/webhooks/workflow-runs', 'POST', '{"Content-Type": "application/json"}', '{}', '1000')`)
	}
	plain()
	n := pgtest.StartNet(t, p.address)
	// Calls of other tables are not counted.
	p.exec(`select net.http_post('`+p.receiver.URL+`') from generate_series(1, 3)`, `create table others (id int)`,
		`create trigger others after insert on others for each row execute function supabase_functions.http_request('http://127.0.0.1:1/', 'POST', '{"Content-Type": "application/json"}', '{}', '1000')`,
		`insert into others select generate_series(1, 2)`)
	p.runs(2)
	n.Idle(t)
	no := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusUnauthorized) })
	p.answer.Store(&no)
	p.runs(1)
	n.Idle(t)
	want := store.Deliveries{
		Calls:    map[store.Fate]int64{store.FateArrived: 2, store.FateUnauthorised: 1},
		Examples: map[store.Fate]string{store.FateUnauthorised: "status 401"}, Newest: store.FateUnauthorised, Worker: store.WorkerUp,
	}
	p.want("a sweep", p.after(0), want)
	p.want("doctor", p.inspected().Deliveries, want)
	// An answer of a server that is not ours says nothing of a call.
	elsewhere := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	p.answer.Store(&elsewhere)
	p.runs(1)
	n.Idle(t)
	p.want("another's answer", p.after(0), want)
	if d := p.after(16 * time.Minute); d.Known() != 0 {
		t.Errorf("a quarter of an hour later: got %v, want nothing", d.Calls)
	}
	// Both at once: each call counts once.
	p.answer.Store(nil)
	p.installs()
	p.runs(3)
	n.Idle(t)
	want.Calls[store.FateArrived] += 2 * 3
	want.Newest = store.FateArrived
	p.want("with a webhook of our own", p.after(0), want)
	// A crash has numbered a call of ours as one of theirs was.
	pgtest.Exec(t, pgtest.Admin(t, p.address), `insert into supabase_functions.hooks (hook_table_id, hook_name, request_id) select hook_table_id, hook_name, (select max(request_id) from run_counter_webhook.calls) from supabase_functions.hooks where hook_name = 'runs' limit 1`)
	p.want("with the number of one of ours", p.after(0), want)
	// What waits is seen.
	n.Stop()
	p.exec(`drop trigger run_counter_webhook_insert on workflow_runs`)
	p.runs(1)
	if d := p.after(time.Minute); d.Oldest < time.Minute || d.Queued != 1 {
		t.Errorf("got %d queued, the oldest for %s; want one that waits for a minute", d.Queued, d.Oldest)
	}
}

// Nothing to look at, or no right to, is no error, and says nothing.
func TestNothingIsWatchedWhereThereIsNothingToSee(t *testing.T) {
	t.Parallel()
	nothing := func(t *testing.T, what string, s *Store) {
		t.Helper()
		if d, err := s.Deliveries(t.Context(), time.Now()); err != nil || d.Watched || len(d.Complaints()) > 0 {
			t.Errorf("%s: got %+v, %v; want nothing", what, d, err)
		}
	}
	p := newTelling(t)
	nothing(t, "no pg_net", p.store)
	pgtest.InstallNet(t, p.address)
	p.exec(`select net.http_post('http://127.0.0.1:1/')`)
	nothing(t, "pg_net for other purposes", p.store)
	p.installs()
	p.runs(1)
	name := "runcounter_watcher_" + strconv.Itoa(os.Getpid())
	admin := pgtest.Admin(t, p.address)
	pgtest.Exec(t, admin, `create role `+name+` login bypassrls password '`+pgtest.Password+`'; grant all on workflow_runs to `+name+`; grant usage on schema run_counter to `+name+`; grant all on all tables in schema run_counter to `+name)
	t.Cleanup(func() { pgtest.Exec(t, admin, `drop owned by `+name, `drop role `+name) })
	stranger := mustOpen(t, pgtest.As(t, p.address, name), Options{})
	nothing(t, "a role without rights", stranger)
	pgtest.Exec(t, admin, `grant usage on schema run_counter_webhook to `+name+`; grant select on all tables in schema run_counter_webhook to `+name)
	nothing(t, "a role that may not write", stranger)
	pgtest.Exec(t, admin, `grant select, insert, update, delete on run_counter_webhook.calls, run_counter_webhook.losses to `+name+`; grant execute on function run_counter_webhook.add_up() to `+name)
	if d, err := stranger.Deliveries(t.Context(), time.Now()); err != nil || d.Calls[store.FateWaiting] != 1 || d.Worker != store.WorkerUnseen {
		t.Errorf("a role that may: got %+v, %v; want one that waits for a worker nobody sees", d, err)
	}
	direct := pgtest.Supabase(t)
	pgtest.Exec(t, direct, `create table public.workflow_runs (id uuid primary key, user_id uuid not null, workflow_id uuid, status text, started_at timestamptz,
    completed_at timestamptz, duration_ms integer, error_details jsonb, state_snapshot jsonb, created_at timestamptz, updated_at timestamptz)`)
	nothing(t, "a source without migrations", mustOpen(t, direct, Options{}))
}

func TestServiceRoleSettlesCalls(t *testing.T) {
	t.Parallel()
	p, n := newTellingNet(t)
	p.runs(2)
	n.Idle(t)
	name := newRole(t, p.address, `bypassrls inherit in role service_role`)
	s := mustOpen(t, pgtest.As(t, p.address, name), Options{})
	if d, err := s.Deliveries(t.Context(), time.Now()); err != nil || d.Calls[store.FateArrived] != 2 {
		t.Errorf("got %+v, %v; want two that arrived", d, err)
	}
	if got := p.log(); got != "2 arrived" {
		t.Errorf("the log holds %s", got)
	}
}

func TestDeliveriesThroughAPooler(t *testing.T) {
	t.Parallel()
	p, n := newTellingNet(t)
	p.runs(3)
	n.Idle(t)
	s := mustOpen(t, pgtest.Pooler(t, p.address), Options{})
	var asked sync.WaitGroup
	for range 4 {
		asked.Go(func() {
			if d, err := s.Deliveries(t.Context(), time.Now()); err != nil || d.Calls[store.FateArrived] != 3 || d.Worker != store.WorkerUp {
				t.Errorf("got %+v, %v; want three that arrived", d, err)
			}
		})
	}
	asked.Wait()
	if got := p.log(); got != "3 arrived" {
		t.Errorf("the log holds %s", got)
	}
}

// pg_net's tables fill before PostgreSQL has learned of it: a plan for the few
// rows that it believes in would take minutes.
func TestManyAnswersThatPostgreSQLHasNotCounted(t *testing.T) {
	t.Parallel()
	p := newTelling(t)
	p.installs()
	const calls = 3000
	pgtest.Exec(t, pgtest.Admin(t, p.address),
		`insert into run_counter_webhook.calls (request_id, message_id, changes, fate, settled_at) select -i, 'x', 1, 'arrived', now() from generate_series(1, 3000) as i`,
		`analyze run_counter_webhook.calls, net._http_response, net.http_request_queue`)
	p.runs(calls)
	p.exec(`insert into net._http_response (id, status_code, content, created) select -i, 200, 'x', now() from generate_series(1, 150000) as i`)
	if d := p.after(0); d.Calls[store.FateWaiting] != calls {
		t.Errorf("got %v, want %d that wait", d.Calls, calls)
	}
}

// An operator removes the webhook while a sweep looks.
func TestAWebhookMayGoWhileItIsLookedAt(t *testing.T) {
	t.Parallel()
	p := newTelling(t)
	p.installs()
	there := senders{net: true, own: true, may: true}
	p.runs(1)
	s, err := migrations.OpenWebhook(t.Context(), p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := p.store.settle(t.Context(), there, time.Now()); !objectMissing(err) {
		t.Errorf("got %v, want it missing, which makes Deliveries look again", err)
	}
	if d := p.after(0); d.Watched {
		t.Errorf("got %+v, want nothing watched", d)
	}
}

func TestInspectorSeesHowTheWebhookStands(t *testing.T) {
	t.Parallel()
	p := newTelling(t)
	look := func() WebhookState {
		t.Helper()
		i, err := Inspect(t.Context(), p.address, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer i.Close()
		w, err := i.Webhook(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		w.InstalledAt, w.RotatedAt = w.InstalledAt.Round(time.Hour), time.Time{}
		return w
	}
	if diff := cmp.Diff(WebhookState{}, look()); diff != "" {
		t.Errorf("before it is there (-want +got):\n%s", diff)
	}
	p.installs()
	healthy := WebhookState{
		Installed: true, URL: p.receiver.URL + migrations.ReceiverPath, Timeout: 5 * time.Second, Enabled: true, Table: `public.workflow_runs`,
		Columns:     strings.Fields("id user_id workflow_id draft_id status created_at started_at completed_at updated_at duration_ms error_details"),
		InstalledAt: time.Now().Round(time.Hour), Net: true, Vault: true, Secret: true,
		Triggers: []WebhookTrigger{{"run_counter_webhook_insert", "insert", "O"}, {"run_counter_webhook_update", "update", "O"}, {"run_counter_webhook_delete", "delete", "O"}},
	}
	got := look()
	healthy.InstalledAt, healthy.Columns, healthy.Gone = got.InstalledAt, got.Columns, got.Gone
	if diff := cmp.Diff(healthy, got); diff != "" || len(got.Columns) < 10 {
		t.Errorf("healthy (-want +got):\n%s", diff)
	}
	s, err := migrations.OpenWebhook(t.Context(), p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Rotate(); err != nil {
		t.Fatal(err)
	}
	if got := look(); !got.Rotating || !got.Secret {
		t.Errorf("while a rotation is under way: %+v", got)
	}
	if err := s.FinishRotation(); err != nil {
		t.Fatal(err)
	}
	if got := look(); got.Rotating || !got.Secret {
		t.Errorf("after a rotation: %+v", got)
	}
}
