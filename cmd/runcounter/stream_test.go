package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

const streamSecret = "a legacy secret of a project, long enough for HS256"

// TestFiveHundredStreamsOnTwoInstances has 500 signed-in users watch their own
// counts by two instances on one PostgreSQL, while an application ends 200 runs
// a second by SQL, of which no webhook tells. Every stream ends on the right
// value; it says how long after its commit each change was seen, and what that
// cost.
func TestFiveHundredStreamsOnTwoInstances(t *testing.T) {
	t.Parallel()
	need.NoRaceDetector(t)
	const streams, rate = 500, 200
	const changes = 2000
	address := pgtest.Database(t)
	must(t, t.TempDir(), "", "migrate", "up", "--database-url", address)
	var serves []*process
	for range 2 {
		serves = append(serves, listens(t, t.TempDir(), []string{"DATABASE_URL=" + address, "SUPABASE_JWT_SECRET=" + streamSecret}))
	}
	w := &watchers{T: t, committed: map[string]time.Time{}}
	var watching sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: streams}}
	for i := range streams {
		body := w.connect(ctx, client, serves[i%len(serves)].url, i)
		watching.Go(func() { w.watch(body, i) })
	}
	w.await("all have been told where their count stands", func() bool { return w.told.Load() >= streams })

	before := [2]usage{usageOf(t, serves[0]), usageOf(t, serves[1])}
	began := time.Now()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	for n := range changes {
		// The pace of an application, and not a wait for something to happen.
		if ahead := time.Duration(n)*time.Second/rate - time.Since(began); ahead > 0 {
			<-time.After(ahead)
		}
		user := n * 7 % streams
		_, err := conn.Exec(ctx, `insert into public.workflow_runs (id, user_id, workflow_id, status, completed_at) values (gen_random_uuid(), $1::uuid, $2::uuid, 'completed', now())`,
			streamUser(user), sampleWorkflow)
		if err != nil {
			t.Fatal(err)
		}
		w.commit(user)
	}
	took := time.Since(began)
	if err := conn.Close(ctx); err != nil {
		t.Fatal(err)
	}
	w.await("every stream ends on the right value", w.right)
	for i, p := range serves {
		u := usageOf(t, p)
		t.Logf("instance %d: %.1f%% of a processor, %d MB resident", i+1, 100*(u.cpu-before[i].cpu).Seconds()/took.Seconds(), u.resident>>20)
	}
	w.report(changes, took)
	cancel()
	watching.Wait()
}

func streamUser(i int) string { return fmt.Sprintf("55555555-5555-4555-8555-%012d", i) }

// watchers are those who watch.
type watchers struct {
	*testing.T
	told atomic.Int64 // how many have been told anything

	mu        sync.Mutex
	seen      [500]int64 // the count that each was told last
	want      [500]int64
	committed map[string]time.Time // by user and count
	delays    []time.Duration
}

func (w *watchers) await(what string, holds func() bool) {
	w.Helper()
	await(w.T, what, holds)
}

func (w *watchers) connect(ctx context.Context, client *http.Client, url string, i int) *http.Response {
	w.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": streamUser(i), "role": "authenticated", "aud": "authenticated", "exp": time.Now().Add(time.Hour).Unix(),
	}).SignedString([]byte(streamSecret))
	if err != nil {
		w.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/counts/stream?workflow_id="+sampleWorkflow, nil)
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := client.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		w.Fatalf("stream %d: %s", i, res.Status)
	}
	return res
}

func (w *watchers) watch(res *http.Response, i int) {
	defer res.Body.Close()
	first := true
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		now := time.Now()
		var c struct {
			User  string `json:"user_id"`
			Count int64  `json:"count"`
		}
		if err := json.Unmarshal([]byte(data), &c); err != nil || c.User != streamUser(i) {
			w.Errorf("stream %d was told %s", i, data)
		}
		w.mu.Lock()
		if c.Count < w.seen[i] {
			w.Errorf("stream %d was told %d after %d", i, c.Count, w.seen[i])
		}
		w.seen[i] = c.Count
		if at, ok := w.committed[changeKey(i, c.Count)]; ok {
			w.delays = append(w.delays, now.Sub(at))
		}
		w.mu.Unlock()
		if first {
			w.told.Add(1)
			first = false
		}
	}
}

func changeKey(user int, count int64) string { return fmt.Sprint(user, "/", count) }

// commit remembers when a count was committed, at the latest.
func (w *watchers) commit(user int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.want[user]++
	w.committed[changeKey(user, w.want[user])] = time.Now()
}

func (w *watchers) right() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen == w.want
}

func (w *watchers) report(changes int, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.Sort(w.delays)
	if len(w.delays) == 0 {
		w.Fatal("nothing was seen as it changed")
	}
	at := func(part float64) time.Duration {
		return w.delays[int(part*float64(len(w.delays)-1))].Round(time.Millisecond)
	}
	w.Logf("%d streams, %d changes in %s; seen after their commit: p50 %s, p99 %s, at most %s (%d seen one by one)",
		len(w.seen), changes, took.Round(time.Second), at(0.5), at(0.99), at(1), len(w.delays))
}

// usage is what a process has used.
type usage struct {
	cpu      time.Duration
	resident int64
}

// usageOf asks Linux; elsewhere it is zero.
func usageOf(t *testing.T, p *process) (u usage) {
	t.Helper()
	const ticks = 100 // a second, as Linux tells every program (USER_HZ)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Process.Pid))
	if err != nil {
		return u
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	for _, i := range []int{11, 12} {
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			t.Fatal(err)
		}
		u.cpu += time.Duration(n) * time.Second / ticks
	}
	pages, err := strconv.ParseInt(fields[21], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	u.resident = pages * int64(os.Getpagesize())
	return u
}
