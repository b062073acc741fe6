package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/webhook"
)

// front is what a webhook's URL leads to: it hands each request to all of the
// processes behind it, and answers what the last of them does. What was taken
// by the last is kept.
type front struct {
	*testing.T
	server *httptest.Server
	url    string
	behind atomic.Pointer[[]string]
	client http.Client
	table  webhook.Decoder

	mu       sync.Mutex
	statuses map[int]int
	seen     map[string]int // requests by webhook-id
	taken    []store.Change // by the last, in the order of its answers
}

func newFront(t *testing.T, behind ...string) *front {
	t.Helper()
	f := &front{T: t, table: mustTable(), statuses: map[int]int{}, seen: map[string]int{}}
	f.client.Transport = &http.Transport{MaxIdleConnsPerHost: 256}
	f.behind.Store(&behind)
	f.server = httptest.NewServer(f)
	t.Cleanup(f.server.Close)
	f.url = f.server.URL
	return f
}

// settle waits until all that has arrived is answered: pg_net may have given
// some of it up. Nothing comes after that.
func (f *front) settle() { f.server.Close() }

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // pg_net broke it off
	}
	status, answer := 0, []byte(nil)
	for _, base := range *f.behind.Load() {
		// What was begun is finished, whatever becomes of the caller, as a
		// request is that has arrived.
		req, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), r.Method, base+r.URL.Path, bytes.NewReader(body))
		if err != nil {
			f.Error(err)
			return
		}
		req.Header = r.Header.Clone()
		resp, err := f.client.Do(req)
		if err != nil {
			f.Errorf("%s: %v", base, err)
			return
		}
		status = resp.StatusCode
		answer, err = io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			f.Errorf("%s: %v", base, err)
			return
		}
		f.mu.Lock()
		f.statuses[status]++
		f.mu.Unlock()
	}
	if status == http.StatusOK {
		f.take(r.Header.Get("webhook-id"), body)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(answer) // to whoever is still there
}

func (f *front) take(id string, body []byte) {
	d, err := f.table.Decode(bytes.NewReader(body))
	if err != nil {
		f.Error(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[id]++
	f.taken = append(f.taken, d.Changes...)
}

func (f *front) answered(status int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.statuses[status]
}

const plainToken = "a-token-of-a-plain-webhook"

// plainWebhook is Supabase's own, of every sixteenth run.
func plainWebhook(t *testing.T, address, url string) {
	t.Helper()
	pgtest.InstallHooks(t, address)
	for event, row := range map[string]string{"insert": "new", "update": "new", "delete": "old"} {
		pgtest.Exec(t, address, fmt.Sprintf(`
create trigger plain_%s after %[1]s on workflow_runs for each row when (%s.id::text like '%%0') execute function supabase_functions.http_request(
    '%s/webhooks/workflow-runs', 'POST', '{"Content-Type": "application/json", "Authorization": "Bearer %s"}', '{}', '5000')`, event, row, url, plainToken))
	}
}

// TestTenThousandRunsThroughPgNet lets an application finish 10,000 runs whose
// webhooks, ours and for some also Supabase's own, go through pg_net's worker
// into a source and into a mirror: in bursts, in disorder, some twice and some
// never, since the worker is cancelled and PostgreSQL killed in the middle.
func TestTenThousandRunsThroughPgNet(t *testing.T) {
	t.Parallel()
	need.NoRaceDetector(t)
	server := pgtest.NewServer(t)
	address := server.Database(t)
	must(t, t.TempDir(), "", "migrate", "up", "--database-url", address)
	pgtest.InstallVault(t, address)
	net := pgtest.StartNet(t, address)
	f := newFront(t)
	secret := mustJSON[struct{ URL, Table, Secret string }](t, t.TempDir(), "", "webhook", "install", "--database-url", address, "--url", f.url).Secret
	plainWebhook(t, address, f.url)
	dir := t.TempDir()
	accepts := "RUNCOUNTER_WEBHOOK_SECRET=" + plainToken + "," + secret
	source := listens(t, t.TempDir(), []string{"DATABASE_URL=" + address, accepts}, "--sweep-every", "300ms", "--stuck-after", "1h")
	mirror := listens(t, dir, []string{accepts}, "--sweep-every", "300ms", "--stuck-after", "1h")
	f.behind.Store(&[]string{source.url, mirror.url})

	const all = 10_000
	a := &finisher{T: t, address: address, left: all}
	var work sync.WaitGroup
	for range 4 {
		work.Go(a.work)
	}
	looking, stop := context.WithCancel(t.Context())
	var looks sync.WaitGroup
	c := &cluster{T: t, address: address}
	looks.Go(func() { c.look(looking) })
	var mirrorLooks atomic.Int64
	looks.Go(func() { lookAtMirror(looking, t, filepath.Join(dir, "runcounter.db"), &mirrorLooks) })

	a.await(all / 4)
	net.Cancel(t)
	a.await(all / 2)
	net.Stop() // so that something is queued when it happens, on any machine
	a.await(all/2 + 400)
	server.Kill(t)
	server.Start(t)
	net.Start()
	work.Wait()
	net.Idle(t)
	f.settle()
	stop()
	looks.Wait()

	// Law 3: one full sweep, and nothing is wrong.
	must(t, dir, "", "sweep", "--full", "--stuck-after", "1h", "--database-url", address)
	must(t, dir, "", "sweep", "--full", "--stuck-after", "1h")
	must(t, dir, "", "audit", "--database-url", address)
	must(t, dir, "", "audit")
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var runs, odd, sent int
	err = conn.QueryRow(t.Context(), `
select count(*), count(*) filter (where (completed_at is null) <> (status in ('pending', 'running', 'cancelling'))),
       (select count(*) from run_counter_webhook.calls)
  from workflow_runs`).Scan(&runs, &odd, &sent)
	if err != nil || runs != all || odd > 0 {
		t.Errorf("the source has %d runs of %d, %d of them contradict themselves: %v", runs, all, odd, err)
	}
	known := f.sameAsMerge(filepath.Join(dir, "runcounter.db"))
	twice := 0
	for id, n := range f.seen {
		if id != "" && n > 1 {
			twice++
		}
	}
	lost := sent - len(f.seen) + 1 // all plain ones have no id
	t.Logf("%d requests signed, %d of them lost, %d taken more than once; %d and %d answers of 200 and 503; %d of %d runs known to the mirror; %d and %d looks in one snapshot",
		sent, lost, twice, f.answered(200), f.answered(503), known, all, c.looks.Load(), mirrorLooks.Load())
	if twice == 0 || lost <= 0 || c.looks.Load() == 0 || mirrorLooks.Load() == 0 || known < all/2 {
		t.Error("no delivery came twice, or none was lost, or nobody looked: nothing is shown by this")
	}
	for status := range f.statuses {
		if status != http.StatusOK && status != http.StatusServiceUnavailable {
			t.Errorf("%d answers were %d", f.statuses[status], status)
		}
	}
}

// finisher is an application that takes runs through their life, eight at a
// time, each step a transaction that it tries until it knows that it is done.
type finisher struct {
	*testing.T
	address string

	mu         sync.Mutex
	left, done int
}

func (a *finisher) work() {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			conn.Close(context.Background())
		}
	}()
	for {
		a.mu.Lock()
		n := min(a.left, 8)
		first := a.left
		a.left -= n
		a.mu.Unlock()
		if n == 0 {
			return
		}
		// A late writer comes last, whom the guard refuses.
		for _, step := range []string{
			`insert into workflow_runs (id, user_id, workflow_id, status) select id, ('11111111-1111-4111-8111-' || lpad((n % 50)::text, 12, '0'))::uuid, '` + sampleWorkflow + `', 'pending'
  from unnest($1::uuid[], $2::integer[]) as r (id, n) on conflict do nothing`,
			`update workflow_runs set status = 'running', started_at = now(), updated_at = now() where id = any ($1) and cardinality($2::integer[]) > 0 and status = 'pending'`,
			`update workflow_runs as r set status = (array['completed', 'failed', 'cancelled', 'timeout'])[1 + n % 4], updated_at = now() from unnest($1::uuid[], $2::integer[]) as o (id, n) where r.id = o.id`,
			`update workflow_runs set status = 'running', completed_at = null, updated_at = now() where id = any ($1) and cardinality($2::integer[]) > 0`,
		} {
			ids, numbers := []string{}, []int32{}
			for i := range n {
				ids, numbers = append(ids, runID(first-i)), append(numbers, int32(first-i))
			}
			for {
				var err error
				if conn == nil || conn.IsClosed() { // PostgreSQL is away
					if conn, err = pgx.Connect(a.Context(), a.address); err != nil {
						if a.Context().Err() != nil {
							return
						}
						continue
					}
				}
				if _, err = conn.Exec(a.Context(), step, ids, numbers); err == nil {
					break
				}
			}
		}
		a.mu.Lock()
		a.done += n
		a.mu.Unlock()
	}
}

// await waits until so many runs are done.
func (a *finisher) await(n int) {
	a.Helper()
	for deadline := time.After(10 * time.Minute); ; {
		a.mu.Lock()
		done := a.done
		a.mu.Unlock()
		if done >= n {
			return
		}
		select {
		case <-deadline:
			a.Fatalf("ten minutes passed, and %d of %d runs are done", done, n)
		case <-time.After(time.Millisecond):
		}
	}
}

// lookAtMirror audits a mirror in one snapshot, over and over.
func lookAtMirror(ctx context.Context, t *testing.T, path string, looks *atomic.Int64) {
	db, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Error(err)
		return
	}
	defer db.Close()
	for ctx.Err() == nil {
		audited, err := db.Audit(t.Context(), store.Audit{Max: 1000})
		if err != nil || len(audited.Drifts) > 0 {
			t.Errorf("law 1: the mirror's counts drift: %+v, %v", audited.Drifts, err)
			return
		}
		looks.Add(1)
	}
}

// sameAsMerge compares a mirror with the merge of what it took, and returns how
// many runs that are.
func (f *front) sameAsMerge(path string) int {
	f.Helper()
	db, err := sqlite.Open(f.Context(), path, sqlite.Options{})
	if err != nil {
		f.Fatal(err)
	}
	defer db.Close()
	rand.Shuffle(len(f.taken), func(i, j int) { f.taken[i], f.taken[j] = f.taken[j], f.taken[i] })
	merged := map[store.ID]store.State{}
	for _, c := range f.taken {
		s := merged[c.ID()]
		s.ID = c.ID()
		merged[c.ID()] = s.Learn(c, time.Now())
	}
	wrong := 0
	for id, s := range merged {
		run, err := db.Run(f.Context(), id)
		if want := s.Row(); err != nil || run.Row != want {
			if wrong++; wrong < 4 {
				f.Errorf("law 3: the mirror has %+v, %v; the merge of what it received is %+v", run.Row, err, want)
			}
		}
	}
	if wrong > 0 {
		f.Errorf("law 3: %d runs differ from the merge", wrong)
	}
	return len(merged)
}

// TestASecretIsRotatedUnderLoad rotates the secret of a webhook while 500
// deliveries a second arrive, and the receiver is replaced by one that knows
// the second secret alone: none is refused.
func TestASecretIsRotatedUnderLoad(t *testing.T) {
	t.Parallel()
	address := pgtest.NewServer(t).Database(t)
	pgtest.Exec(t, address, runsTable)
	pgtest.InstallVault(t, address)
	net := pgtest.StartNet(t, address)
	f := newFront(t)
	type rotation struct {
		Rotating bool
		Secret   string
	}
	hook := func(args ...string) rotation {
		t.Helper()
		return mustJSON[rotation](t, t.TempDir(), "", append([]string{"webhook", "rotate", "--database-url", address}, args...)...)
	}
	first := mustJSON[struct{ URL, Table, Secret string }](t, t.TempDir(), "", "webhook", "install", "--database-url", address, "--url", f.url).Secret
	dir := t.TempDir()
	receiver := func(secrets string) string {
		return listens(t, dir, []string{"RUNCOUNTER_WEBHOOK_SECRET=" + secrets}, "--stuck-after", "1h").url
	}
	f.behind.Store(&[]string{receiver(first)})

	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	var sent atomic.Int64
	work.Go(func() {
		conn, err := pgx.Connect(t.Context(), address)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.Background())
		for tick := time.NewTicker(10 * time.Millisecond); ; { // five statements each: 500 a second
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for range 5 {
				n := sent.Add(1)
				if _, err := conn.Exec(t.Context(), `insert into workflow_runs (id, user_id, workflow_id, status, completed_at) values ($1, $2, $3, 'completed', now())`,
					runID(int(n)), sampleUser, sampleWorkflow); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	progress := func() { // some more are delivered
		t.Helper()
		want := f.answered(http.StatusOK) + 500
		for deadline := time.After(5 * time.Minute); f.answered(http.StatusOK) < want; {
			select {
			case <-deadline:
				t.Fatalf("no 500 deliveries in five minutes, of %d answered 200", f.answered(http.StatusOK))
			case <-time.After(time.Millisecond):
			}
		}
	}
	begun := time.Now()
	progress()
	second := hook().Secret
	progress() // signed by both, known by the first
	f.behind.Store(&[]string{receiver(second)})
	progress() // signed by both, known by the second
	hook("--finish")
	progress() // signed by the second
	cancel()
	work.Wait()
	net.Idle(t)
	f.settle()
	t.Logf("%d deliveries in %v: %v", sent.Load(), time.Since(begun).Round(time.Millisecond), f.statuses)
	if f.answered(http.StatusOK) != int(sent.Load()) || len(f.statuses) != 1 || first == second {
		t.Errorf("of %d deliveries these were answered: %v; want all with 200", sent.Load(), f.statuses)
	}
	f.sameAsMerge(filepath.Join(dir, "runcounter.db"))
}

// TestTenThousandRowsOfOneStatement arrive in 20 requests, whose signatures the
// receiver verifies over the bytes that it gets: it knows no token.
func TestTenThousandRowsOfOneStatement(t *testing.T) {
	t.Parallel()
	const all = 10_000
	need.NoRaceDetector(t)
	address := pgtest.Database(t)
	pgtest.Exec(t, address, runsTable)
	pgtest.InstallVault(t, address)
	net := pgtest.StartNet(t, address)
	f := newFront(t)
	secret := mustJSON[struct{ URL, Table, Secret string }](t, t.TempDir(), "", "webhook", "install", "--database-url", address, "--url", f.url).Secret
	pgtest.PatientWebhook(t, address)
	dir := t.TempDir()
	f.behind.Store(&[]string{listens(t, dir, []string{"RUNCOUNTER_WEBHOOK_SECRET=" + secret}, "--stuck-after", "0").url})
	pgtest.Exec(t, address, manyRuns(all, orderlyID), `update workflow_runs set error_details = '{"message": "größer 漢 \u0001 🚀 \" \\"}', status = 'failed' where completed_at is not null`)
	net.Idle(t)
	f.settle()
	// 500 a request: 20 for the insert, and 14 for the 6,667 that have ended.
	if most := all/500 + all*2/3/500 + 1; len(f.statuses) != 1 || f.answered(http.StatusOK) > most {
		t.Errorf("got %v, want at most %d requests, all let in", f.statuses, most)
	}
	if known := f.sameAsMerge(filepath.Join(dir, "runcounter.db")); known != all {
		t.Errorf("the mirror knows %d runs, want %d", known, all)
	}
	f.taken = slices.DeleteFunc(f.taken, func(c store.Change) bool { return strings.Contains(string(c.Record.ErrorDetails), "🚀") })
	if len(f.taken) > all {
		t.Error("what was not ASCII was lost on the way")
	}
}
