package store_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
)

func TestFateOfACall(t *testing.T) {
	for _, tt := range []struct {
		name string
		r    store.Response
		want store.Fate
	}{
		{"our answer", store.Response{Status: 200, Ours: true}, store.FateArrived},
		{"case D2: our answer, with changes that it refused", store.Response{Status: 200, Ours: true, Refused: 7}, store.FatePartly},
		{"case D2: another page that refuses", store.Response{Status: 200, Refused: 7}, store.FateElsewhere},
		{"case D2: an answer that refused them all", store.Response{Status: 400, Refused: 7}, store.FateUnreadable},
		{"nobody listens", store.Response{Error: "Couldn't connect to server"}, store.FateRefused},
		{"a circle of redirects", store.Response{Error: "Number of redirects hit maximum amount"}, store.FateRefused},
		{"no answer in time", store.Response{TimedOut: true, Error: "Timeout of 5000 ms reached"}, store.FateTimedOut},
		{"a wrong secret", store.Response{Status: 401}, store.FateUnauthorised},
		{"a firewall", store.Response{Status: 403}, store.FateUnauthorised},
		{"a redirect without a place", store.Response{Status: 304}, store.FateRedirected},
		{"a redirect to a page", store.Response{Status: 200, Moved: true}, store.FateRedirected},
		{"a redirect to no page", store.Response{Status: 404, Moved: true}, store.FateRedirected},
		{"a redirect that takes no credentials along", store.Response{Status: 401, Moved: true}, store.FateRedirected},
		{"a redirect that takes the body along", store.Response{Status: 200, Ours: true, Moved: true}, store.FateArrived},
		{"another page", store.Response{Status: 200}, store.FateElsewhere},
		{"another page without a body", store.Response{Status: 204}, store.FateElsewhere},
		{"no page", store.Response{Status: 404}, store.FateNoPage},
		{"a page for GET", store.Response{Status: 405}, store.FateNoPage},
		{"a body that can't be read", store.Response{Status: 400}, store.FateUnreadable},
		{"a body that is too large", store.Response{Status: 413}, store.FateUnreadable},
		{"a proxy without a server", store.Response{Status: 502}, store.FateTrouble},
		{"an error that says received", store.Response{Status: 503, Ours: true}, store.FateTrouble},
	} {
		if got := store.FateOf(tt.r); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
	for _, fate := range store.Fates {
		lost := fate != store.FateArrived && fate != store.FateWaiting
		if fate.Lost() != lost || fate.What() == "" || (fate.Fix() != "") != lost {
			t.Errorf("%s: lost %t, %q, fix %q; want a fix for what is lost alone", fate, fate.Lost(), fate.What(), fate.Fix())
		}
	}
	if store.Fate("").Lost() {
		t.Error("no fate is a loss")
	}
}

func TestComplaintsOfDeliveries(t *testing.T) {
	const window = 15 * time.Minute
	calls := func(fates ...any) map[store.Fate]int64 {
		m := map[store.Fate]int64{}
		for i := 0; i < len(fates); i += 2 {
			m[fates[i].(store.Fate)] = int64(fates[i+1].(int))
		}
		return m
	}
	for _, tt := range []struct {
		name string
		d    store.Deliveries
		want []string // kind, now or not, and what
	}{
		{"nothing was watched", store.Deliveries{}, nil},
		{"all arrived", store.Deliveries{Watched: true, Calls: calls(store.FateArrived, 9, store.FateWaiting, 3), Newest: store.FateArrived, Worker: store.WorkerUp, Queued: 3, Oldest: time.Second}, nil},
		{"the newest is lost", store.Deliveries{Window: window, Calls: calls(store.FateArrived, 1, store.FateTimedOut, 2), Newest: store.FateTimedOut},
			[]string{"timed_out now: 2 of the last 3 calls of workflow_runs within 15 minutes timed out, the newest among them"}},
		{"it is over", store.Deliveries{Window: window, Calls: calls(store.FateArrived, 1, store.FateRefused, 1), Newest: store.FateArrived},
			[]string{"refused: 1 of the last 2 calls of workflow_runs within 15 minutes were refused or led nowhere, but the newest arrived"}},
		{"two kinds", store.Deliveries{Calls: calls(store.FateTrouble, 1, store.FateRefused, 1, store.FateWaiting, 7), Newest: store.FateTrouble},
			[]string{"refused: 1 of the last 2 calls of workflow_runs were refused or led nowhere", "trouble now: 1 of the last 2 calls of workflow_runs met a server in trouble (5xx), the newest among them"}},
		{"another's webhook", store.Deliveries{Calls: calls(store.FateElsewhere, 1), Newest: store.FateElsewhere}, []string{"elsewhere: 1 of the last 1 call of workflow_runs got a 2xx that is no answer of Run Counter"}},
		{"our webhook at another's", store.Deliveries{Own: true, Calls: calls(store.FateElsewhere, 1), Newest: store.FateElsewhere},
			[]string{"elsewhere now: 1 of the last 1 call of workflow_runs got a 2xx that is no answer of Run Counter, the newest among them"}},
		{"everybody's", store.Deliveries{AllTables: true, Calls: calls(store.FateRefused, 1)}, []string{"refused: 1 of the last 1 call of all webhooks of this database were refused or led nowhere"}},
		{"a dead worker", store.Deliveries{Worker: store.WorkerDown}, []string{"worker now: pg_net's worker does not run: nothing is sent"}},
		{"a dead worker and a queue", store.Deliveries{Worker: store.WorkerDown, Queued: 10_001, Oldest: 90*time.Second + time.Millisecond},
			[]string{"worker now: pg_net's worker does not run: nothing is sent, and more than 10000 calls wait for it, the oldest of workflow_runs for 1m30s"}},
		{"a long queue", store.Deliveries{Queued: 1001}, []string{"queue: 1001 calls wait for pg_net's worker"}},
		{"a long queue that moves", store.Deliveries{Queued: 5000, Oldest: 25 * time.Second}, nil},
		{"a short queue that does not", store.Deliveries{Queued: 1, Oldest: 2 * time.Minute}, []string{"queue: 1 call waits for pg_net's worker, the oldest of workflow_runs for 2m0s"}},
		{"case D7: a call that waits for longer than a batch takes", store.Deliveries{Worker: store.WorkerUp, Queued: 3, Oldest: 21 * time.Second, Timeout: 5 * time.Second},
			[]string{"queue: 3 calls wait for pg_net's worker, the oldest of workflow_runs for 21s"}},
		{"case D7: a receiver that may take a minute", store.Deliveries{Worker: store.WorkerUp, Queued: 3, Oldest: 70 * time.Second, Timeout: time.Minute}, nil},
		{"case D7: and takes more", store.Deliveries{Worker: store.WorkerUp, Queued: 3, Oldest: 76 * time.Second, Timeout: time.Minute},
			[]string{"queue: 3 calls wait for pg_net's worker, the oldest of workflow_runs for 1m16s"}},
		{"case D2: what was refused of the newest call", store.Deliveries{Own: true, Calls: calls(store.FateArrived, 1, store.FatePartly, 1), Newest: store.FatePartly,
			Lost: map[store.Fate]store.Loss{store.FatePartly: {Calls: 3, Changes: 9}}},
			[]string{"partly now: 1 of the last 2 calls of workflow_runs arrived with changes that the receiver could not read, the newest among them; with those before, 3 calls with 9 changes"}},
		{"case D6: lost longer ago than the look goes", store.Deliveries{Own: true, Calls: calls(store.FateArrived, 500), Newest: store.FateArrived,
			Lost: map[store.Fate]store.Loss{store.FateVanished: {Calls: 1, Changes: 10, Since: 26*time.Hour + 31*time.Second}}},
			[]string{"lost: 1 call with 10 changes vanished from pg_net, the first 26h1m0s ago, and nothing has recovered it"}},
		{"case D6: lost lately, and before", store.Deliveries{Own: true, Calls: calls(store.FateArrived, 1, store.FateTimedOut, 2), Newest: store.FateArrived,
			Lost: map[store.Fate]store.Loss{store.FateTimedOut: {Calls: 5, Changes: 7, Since: time.Hour}}},
			[]string{"timed_out: 2 of the last 3 calls of workflow_runs timed out, but the newest arrived; with those before, 5 calls with 7 changes"}},
		{"case D6: a statement without its webhook, an hour ago", store.Deliveries{Failed: 2, FailedAgo: time.Hour}, []string{"statements: 2 statements were committed without their webhook"}},
		{"a statement without its webhook", store.Deliveries{Window: window, Failed: 1}, []string{"statements now: 1 statement was committed without its webhook"}},
	} {
		var got []string
		for _, c := range tt.d.Complaints() {
			text := c.Kind
			if c.Now {
				text += " now"
			}
			got = append(got, text+": "+c.What)
			if c.Fix == "" {
				t.Errorf("%s: %q has no fix", tt.name, c.What)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// quiet is a source of which nothing is to be said.
type quiet struct{ store.Source }

func (quiet) Altered(context.Context) (string, error)              { return "", nil }
func (quiet) AuditDue(context.Context) (int64, error)              { return 0, nil }
func (quiet) Partitions(context.Context) (store.Partitions, error) { return store.Partitions{}, nil }

// told answers what became of webhooks.
type told struct {
	quiet
	mu    sync.Mutex
	asked int
	d     store.Deliveries
	err   error
}

func (w *told) Deliveries(context.Context, time.Time) (store.Deliveries, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	return w.d, w.err
}

func (w *told) set(d store.Deliveries, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.d, w.err = d, err
}

func timedOut(n int64) store.Deliveries {
	return store.Deliveries{
		Watched: true, Calls: map[store.Fate]int64{store.FateTimedOut: n}, Newest: store.FateTimedOut,
		Examples: map[store.Fate]string{store.FateTimedOut: "of counter.internal"},
	}
}

func TestASweepAsksWhatBecameOfWebhooks(t *testing.T) {
	m := newMirror(t)
	w := &told{d: timedOut(3)}
	s := m.sweeper()
	s.Source = w
	if r := mustSweep(t, s, store.SweepOptions{DryRun: true}); w.asked != 0 || r.Webhooks.Watched {
		t.Errorf("a dry run asked %d times, and reports %+v: want nothing", w.asked, r.Webhooks)
	}
	if r := mustSweep(t, s, store.SweepOptions{}); r.Webhooks.Calls[store.FateTimedOut] != 3 {
		t.Errorf("got %+v, want what was answered", r.Webhooks)
	}
	got := s.Degraded()
	if len(got) != 1 || !strings.HasPrefix(got[0], "3 of the last 3 calls of workflow_runs timed out, the newest among them. Fix: raise the webhook's timeout") {
		t.Errorf("degraded: got %q, want one sentence with its fix", got)
	}
	if strings.Contains(strings.Join(got, ""), "internal") {
		t.Errorf("degraded: %q repeats an error to strangers", got)
	}
	w.set(store.Deliveries{}, errors.New("no answer"))
	m.mustInsert(t, 1, 1, store.Running)
	r, err := s.Sweep(t.Context(), store.SweepOptions{})
	if !errors.Is(err, w.err) || r.Repairs() != 1 || r.Audited != 1 {
		t.Errorf("got %v, repaired %d, audited %d; want the error, and the other steps done", err, r.Repairs(), r.Audited)
	}
	w.set(store.Deliveries{}, nil)
	mustSweep(t, s, store.SweepOptions{})
	if got := s.Degraded(); len(got) != 0 {
		t.Errorf("nothing is watched any more, and degraded is %q", got)
	}
}

func TestRunComplainsOfWebhooksOncePerChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &told{d: timedOut(1)}
		var log strings.Builder
		s := &store.Sweeper{Store: &ticking{}, Source: w, Log: slog.New(slog.NewTextHandler(&log, nil))}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go s.Run(ctx, time.Minute)
		for step, next := range []struct {
			d    store.Deliveries
			err  error
			want map[string]int // how often the log has it by then
		}{
			{timedOut(1), nil, map[string]int{"timed out": 1, "of counter.internal": 1, "raise the webhook's timeout": 1}},
			{timedOut(7), nil, map[string]int{"timed out": 1}},
			{store.Deliveries{}, store.ErrUnavailable, map[string]int{"timed out": 1, "this is over": 0}},
			{timedOut(8), nil, map[string]int{"timed out": 1}},
			{store.Deliveries{Watched: true, Worker: store.WorkerDown}, nil, map[string]int{"worker does not run": 1, "this is over": 1}},
			{store.Deliveries{Watched: true}, nil, map[string]int{"worker does not run": 2, "this is over": 2}},
			{timedOut(1), nil, map[string]int{"raise the webhook's timeout": 2}},
		} {
			synctest.Wait()
			w.set(next.d, next.err)
			<-time.After(2 * time.Minute)
			synctest.Wait()
			for text, want := range next.want {
				if got := strings.Count(log.String(), text); got != want {
					t.Errorf("step %d: the log has %q %d times, want %d:\n%s", step, text, got, want, log.String())
				}
			}
		}
	})
}
