package server

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/wait"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/webhook/console"
)

// watchedServer is a server whose clock and surroundings a test sets.
type watchedServer struct {
	*rig
	*browser
	sweeper *store.Sweeper

	mu       sync.Mutex
	now      time.Time
	away     error
	webhooks store.Deliveries
	doctor   []report.Finding
	asked    atomic.Int64 // how often the webhooks were looked at
}

func (w *watchedServer) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *watchedServer) set(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

func (w *watchedServer) pass(d time.Duration) { w.set(func() { w.now = w.now.Add(d) }) }

func serveWatched(t *testing.T, with func(*Config)) *watchedServer {
	t.Helper()
	w := &watchedServer{now: time.Now()}
	w.rig = serve(t, func(c *Config, _ *limits, g *gated) {
		all := g.Store.(reader)
		w.sweeper = &store.Sweeper{Store: g, Now: w.clock}
		c.Reader, c.Letters, c.Now = all, all, w.clock
		g.pings = func() error {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.away
		}
		c.Console = &console.Settings{
			Where: "/data/runcounter.db", Swept: w.sweeper.Status, Activity: all.(store.ActivityLog), Statistics: all.(store.Statistics),
			Webhooks: func(context.Context) (store.Deliveries, error) {
				w.asked.Add(1)
				w.mu.Lock()
				defer w.mu.Unlock()
				return w.webhooks, nil
			},
			Doctor: func(context.Context) []report.Finding {
				w.mu.Lock()
				defer w.mu.Unlock()
				return w.doctor
			},
		}
		if with != nil {
			with(c)
		}
	})
	w.browser = newBrowser(t, w.rig).signIn()
	return w
}

var levelOf = regexp.MustCompile(`data-level="([a-z]+)"`)

// level is the verdict of the overview.
func (w *watchedServer) level() string {
	w.browser.t.Helper()
	found := levelOf.FindStringSubmatch(w.get("/").html)
	if w.status != http.StatusOK || found == nil {
		w.browser.t.Fatalf("the overview has no verdict: %d %s", w.status, w.html)
	}
	return found[1]
}

// askedFor is longer than any answer of the database is used for the verdict. With the
// two seconds between two events of a page it makes five.
const askedFor = 3 * time.Second

// wants fails the test unless, seconds after its cause, the overview has a verdict.
func (w *watchedServer) wants(what, level string, texts ...string) {
	w.browser.t.Helper()
	w.pass(askedFor)
	if got := w.level(); got != level {
		w.browser.t.Errorf("%s: the verdict is %s, want %s:\n%s", what, got, level, w.html)
	}
	w.has(texts...)
}

func (w *watchedServer) refused(n int) {
	w.browser.t.Helper()
	for range n {
		if got := w.rig.do("POST", path, completed(1), "Authorization: Bearer wrong"); got.status != http.StatusUnauthorized {
			w.browser.t.Fatalf("got %d", got.status)
		}
	}
}

func TestTheVerdictTurnsRedWhenAllCallsAreRefused(t *testing.T) {
	t.Parallel()
	w := serveWatched(t, nil)
	w.deliver(completed(1))
	w.wants("at first", "good", "All is well.")
	w.refused(2)
	if w.wants("two strangers", "warn", "2 of 3 deliveries in the last hour were refused."); strings.Contains(w.html, "Each of the last") {
		t.Error("two refusals are all")
	}
	w.refused(1)
	w.wants("all are refused", "bad", "1 thing is wrong.", "Each of the last 3 deliveries was refused: none had a secret that fits.", "RUNCOUNTER_WEBHOOK_SECRET")
	w.deliver(completed(2))
	w.wants("one was taken", "warn")
	w.pass(2 * time.Hour)
	w.wants("two hours later", "good")
}

func TestTheVerdictTurnsRedWhenTheReceiverIsDownOrTheWorkerDead(t *testing.T) {
	t.Parallel()
	w := serveWatched(t, nil)
	arrived := store.Deliveries{Watched: true, Own: true, Window: 15 * time.Minute, Worker: store.WorkerUp, Newest: store.FateArrived, Calls: map[store.Fate]int64{store.FateArrived: 4}}
	down, dead, behind := arrived, arrived, arrived
	down.Newest, down.Calls = store.FateRefused, map[store.Fate]int64{store.FateArrived: 4, store.FateRefused: 2}
	dead.Worker, dead.Queued, dead.Oldest = store.WorkerDown, 9, 5*time.Second
	behind.Calls = down.Calls
	tell := func(d store.Deliveries) { w.set(func() { w.webhooks = d }) }
	tell(arrived)
	w.wants("all arrive", "good", "Calls that arrived", ">4<", "runs")
	tell(down)
	w.wants("the receiver is down", "bad", "2 of the last 6 calls of workflow_runs within 15 minutes were refused or led nowhere, the newest among them.", "check the URL&#39;s host and port", `class="lost">2<`)
	tell(behind)
	w.wants("it is up again", "warn", "but the newest arrived")
	tell(arrived)
	w.wants("and that is long ago", "good")
	tell(dead)
	w.wants("the worker is dead", "bad", "worker does not run: nothing is sent, and 9 calls wait for it", "select net.worker_restart()", "does not run")
	tell(arrived)
	w.wants("it runs", "good")
	before := w.asked.Load()
	for range 20 {
		w.level()
	}
	if n := w.asked.Load() - before; n > 1 {
		t.Errorf("20 looks at once asked for the calls %d times", n)
	}
}

func TestTheVerdictTurnsRedWhenDriftIsFound(t *testing.T) {
	t.Parallel()
	w := serveWatched(t, nil)
	sweep := func() store.SweepReport {
		t.Helper()
		r, err := w.sweeper.Sweep(t.Context(), store.SweepOptions{Full: true})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	w.deliver(completed(1))
	sweep()
	w.wants("at first", "good")
	db, err := sql.Open("sqlite", w.file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `update counts set n = n + 3; update totals set n = n + 3`); err != nil {
		t.Fatal(err)
	}
	if r := sweep(); r.Drifting != 1 {
		t.Fatalf("the sweep found %d", r.Drifting)
	}
	w.wants("drift", "bad", "Drift was found: 1 count differed from the runs behind them, and 1 were corrected.", "runcounter audit")
	sweep()
	w.wants("corrected", "warn", "Drift was found and corrected")
	w.pass(25 * time.Hour)
	sweep()
	w.signIn() // the session has ended
	w.wants("a day later", "good")
}

func TestTheVerdictTurnsRedWhenStuckRunsGrow(t *testing.T) {
	t.Parallel()
	w := serveWatched(t, func(c *Config) { c.Console.Limits = store.DefaultLimits() })
	run := func(id int) {
		at := w.clock().UTC()
		w.deliver(inserted(row(id, "running", map[string]any{"created_at": at, "started_at": at, "updated_at": at})))
	}
	w.wants("at first", "good")
	run(1)
	run(2)
	w.pass(6 * time.Minute)
	w.wants("a sweep has its time", "good")
	w.pass(2 * time.Minute)
	w.wants("no sweep came", "bad", "2 runs are silent for longer than the limit, 2 more than within the last 10 minutes", "/runs?state=stuck")
	w.pass(11 * time.Minute)
	w.wants("they are no more", "warn", "2 runs are silent for longer than the limit, and no sweep has ended them.")
	run(3)
	w.pass(8 * time.Minute)
	w.wants("one more", "bad")
	if _, err := w.sweeper.Sweep(t.Context(), store.SweepOptions{}); err != nil {
		t.Fatal(err)
	}
	w.wants("swept", "good")
}

func TestTheVerdictTurnsRedWhenTheDiskIsFull(t *testing.T) {
	t.Parallel()
	w := serveWatched(t, nil)
	w.wants("at first", "good")
	w.set(func() {
		w.away = &store.StorageFault{What: "The disk of the database is full: free space on it.", Err: errors.New("13")}
	})
	w.wants("full", "bad", "Not ready: The disk of the database is full: free space on it.")
	w.set(func() { w.away = nil })
	w.wants("freed", "good")
	w.set(func() { w.away = store.ErrUnavailable })
	w.wants("the database is away", "bad", "Not ready: The database does not answer")
}

// The causes of the alerts that are no page of their own.
func TestTheVerdictHasWhatDoctorAndTheSweepsFind(t *testing.T) {
	t.Parallel()
	w := serveWatched(t, func(c *Config) { c.Sweeper = &store.Sweeper{Store: c.Store} })
	w.wants("at first", "good")
	w.set(func() {
		w.doctor = []report.Finding{{Check: "counts", Status: report.Failure, Text: "3 of 5 counts are wrong", Fix: "runcounter recount"}, {Check: "runs", Status: report.Warning, Text: "2 runs"}}
	})
	w.pass(6 * time.Minute)
	wait.Until(t, "doctor has looked", func() bool { return w.level() == "bad" })
	if w.has("Doctor, of the counts: 3 of 5 counts are wrong.", "runcounter recount", "1 thing is wrong."); strings.Contains(w.html, "2 runs") {
		t.Error("what the verdict counts itself is said twice")
	}
	w.set(func() { w.doctor = nil })
	w.pass(31 * time.Second)
	wait.Until(t, "doctor has looked again", func() bool { return w.level() == "good" })
	w.pass(5 * time.Minute)
	w.wants("no sweep for eleven minutes", "bad", "No sweep has gone well for 11 minutes")
}

// A restart and a second instance forget nothing.
func TestChartsOutliveTheirServer(t *testing.T) {
	t.Parallel()
	w := serveWatched(t, nil)
	w.deliver(completed(1))
	w.deliver(completed(2))
	w.refused(1)
	w.level()
	if err := w.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.pass(2 * time.Minute)
	next := w.second(func(*Config) {})
	b := newBrowser(t, next).signIn()
	b.has("Deliveries in the last hour: 3, at most 3 in a minute", "Refused in the last hour: 1", "no data: no instance was watching", "2 changes were new, 0 known already, 0 out of order.")
	b.get("/?span=week").has("Deliveries in the last week: 3", "at most 3 in 2 hours", `aria-current="true">Week`, "/console/events?span=week")
}

// slowStatistics answers when it is let.
type slowStatistics struct {
	store.Statistics
	let   chan struct{}
	asked atomic.Int64
}

func (s *slowStatistics) Days(ctx context.Context, from, to time.Time) ([]store.Day, error) {
	s.asked.Add(1)
	select {
	case <-s.let:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.Statistics.Days(ctx, from, to)
}

// What reads all runs keeps no page waiting, and is asked for once a minute by all.
func TestTheOverviewShowsTheRunsAndWaitsForNoScan(t *testing.T) {
	t.Parallel()
	slow := &slowStatistics{let: make(chan struct{})}
	w := serveWatched(t, func(c *Config) {
		slow.Statistics = c.Console.Statistics
		c.Console.Statistics = slow
	})
	at := w.clock().UTC()
	ended := map[string]any{"created_at": at, "started_at": at, "updated_at": at, "completed_at": at}
	w.deliver(inserted(row(1, "completed", ended)))
	w.deliver(inserted(row(2, "failed", ended)))
	w.api("POST", "/v1/runs", `{"user_id":"`+user+`","workflow_id":"`+workflow+`","limit":3}`)
	w.get("/").has("It is being read.")
	close(slow.let)
	wait.Until(t, "it was read", func() bool { return strings.Contains(w.get("/").html, "2 runs have ended in 30 days") })
	w.has("1 completed", "1 failed", `class="failed"`, "Users with the greatest counts, of all time", "Near a limit", "3 of 3", "/counts?ref="+workflow)
	for range 20 {
		w.get("/")
	}
	if n := slow.asked.Load(); n != 1 {
		t.Errorf("it was read %d times in a minute", n)
	}
	w.pass(2 * time.Minute)
	wait.Until(t, "it was read again", func() bool { w.get("/"); return slow.asked.Load() == 2 })
}
