package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/sqlite"
)

// burst posts distinct completed runs over several connections, as fast as
// they are answered, until the server is gone.
type burst struct {
	url    string
	client *http.Client
	posts  sync.WaitGroup

	mu    sync.Mutex
	acks  *sync.Cond
	next  int             // the number of the next run
	sent  []store.ID      // all that were posted, acked or not
	acked map[string]bool // by the run's id
	odd   []string        // answers that are neither 200 nor 503
	ended int             // connections that have given up
}

const connections = 8

func newBurst(url string, first int) *burst {
	b := &burst{
		url: url + hookPath, next: first, acked: map[string]bool{},
		client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}},
	}
	b.acks = sync.NewCond(&b.mu)
	for range connections {
		b.posts.Go(b.post)
	}
	return b
}

func (b *burst) post() {
	defer func() {
		b.mu.Lock()
		b.ended++
		b.mu.Unlock()
		b.acks.Broadcast()
	}()
	for {
		b.mu.Lock()
		n := b.next
		b.next++
		id, err := store.ParseID(runID(n))
		b.sent = append(b.sent, id)
		b.mu.Unlock()
		if err != nil {
			panic(err) // runID makes only UUIDs
		}
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, b.url, strings.NewReader(completion(n)))
		if err != nil {
			panic(err) // the address is the server's own
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := b.client.Do(req)
		if err != nil {
			return // the server is gone
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		b.mu.Lock()
		switch {
		case err != nil: // gone between the head and the body: not acked in full
		case res.StatusCode == http.StatusOK:
			b.acked[id.String()] = true
		case res.StatusCode != http.StatusServiceUnavailable:
			b.odd = append(b.odd, fmt.Sprintf("%s: %s", res.Status, text))
		}
		b.mu.Unlock()
		b.acks.Broadcast()
	}
}

// await waits until so many posts were acked.
func (b *burst) await(t *testing.T, acks int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.acked) < acks {
		if b.ended == connections {
			t.Fatalf("the burst ended after %d of %d acks: %v", len(b.acked), acks, b.odd)
		}
		b.acks.Wait()
	}
}

// completion is the webhook of a run that completed. The runs belong to a few
// keys, so that these are contended.
func completion(n int) string {
	row := func(status, at string) string {
		return fmt.Sprintf(`{"id":"%s","user_id":"%s","workflow_id":"aaaaaaaa-aaaa-4aaa-8aaa-%012d","status":"%s","completed_at":%s,"updated_at":"2026-01-31T12:00:00Z"}`,
			runID(n), sampleUser, n%5, status, at)
	}
	return fmt.Sprintf(`{"type":"UPDATE","schema":"public","table":"workflow_runs","record":%s,"old_record":%s}`,
		row("completed", `"2026-01-31T12:00:00Z"`), row("running", "null"))
}

// check opens the database beside a running serve, or after it, and returns
// which of the runs it has as completed. A count that drifts is an error.
func check(t *testing.T, dir string, ids []store.ID) map[string]bool {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(dir, "runcounter.db"), sqlite.Options{KeepSchema: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	found := map[string]bool{}
	for _, id := range ids {
		run, err := db.Run(t.Context(), id)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		if err == nil && run.Status == store.Completed {
			found[id.String()] = true
		}
	}
	audited, err := store.AuditAll(t.Context(), db, db)
	if err != nil || audited.Wrong() {
		t.Errorf("of %d keys these drift: %v, %v", audited.Keys, audited.Drifts, err)
	}
	return found
}

// TestKilledInTheMiddleOfABurst is law 6 and law 1: after kill -9 at any
// moment serve starts again by itself, every acked change is there, and no
// count drifts.
func TestKilledInTheMiddleOfABurst(t *testing.T) {
	t.Parallel()
	rounds := 50
	if need.Smaller(t) || testing.Short() {
		rounds = 10
	}
	const seed = 20260131
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	first, sent, acked := 1, 0, 0
	for round := range rounds {
		p := listens(t, dir, nil, "--sweep-every", "20ms") // the sweep is killed as well
		b := newBurst(p.url, first)
		moment := 1 + random.IntN(120)
		b.await(t, moment)
		p.kill()
		b.posts.Wait()
		// serve is the first to open what the kill left.
		p = listens(t, dir, nil)
		found := check(t, dir, b.sent)
		for id := range b.acked {
			if !found[id] {
				t.Errorf("run %s was acked and is gone", id)
			}
		}
		if t.Failed() || len(b.odd) > 0 {
			t.Fatalf("round %d of seed %d, killed after %d acks; odd answers: %v", round, seed, moment, b.odd)
		}
		p.kill()
		first, sent, acked = b.next, sent+len(b.sent), acked+len(b.acked)
	}
	must(t, dir, "", "audit")
	t.Logf("%d kills: %d changes acked of %d sent, all there, drift 0", rounds, acked, sent)
}

// TestKilledDuringTheFirstStart kills serve while it makes its database: when
// the file has grown to some size, which is a moment somewhere in the
// migrations.
func TestKilledDuringTheFirstStart(t *testing.T) {
	t.Parallel()
	rounds := 12
	if need.Smaller(t) || testing.Short() {
		rounds = 4
	}
	const seed = 20260201
	random := rand.New(rand.NewPCG(seed, 0))
	early := 0
	for round := range rounds {
		dir := t.TempDir()
		p := start(t, dir, nil)
		size := random.Int64N(64 << 10)
		awaitSize(t, p, dir, size)
		p.kill()
		if !strings.Contains(p.said(), "listening") {
			early++
		}
		p = listens(t, dir, nil)
		must(t, dir, "", "send", "--url", p.url+hookPath, "--user", sampleUser, "--workflow", sampleWorkflow)
		if got := mustGet[countShape](t, p.url+"/v1/counts?user_id="+sampleUser+"&workflow_id="+sampleWorkflow); got.Count != 1 {
			t.Errorf("round %d of seed %d, killed at %d bytes: the count is %d, want 1", round, seed, size, got.Count)
		}
		must(t, dir, "", "audit")
		p.kill()
	}
	if early == 0 {
		t.Errorf("none of %d kills came before serve listened: this shows nothing", rounds)
	}
}

// awaitSize waits until the database and its log have more bytes than that
// together, or serve listens.
func awaitSize(t *testing.T, p *process, dir string, size int64) {
	t.Helper()
	look := time.NewTicker(100 * time.Microsecond)
	defer look.Stop()
	for range look.C {
		var bytes int64
		for _, name := range []string{"runcounter.db", "runcounter.db-wal", "runcounter.db-journal"} {
			if info, err := os.Stat(filepath.Join(dir, name)); err == nil {
				bytes += info.Size()
			}
		}
		p.mu.Lock()
		listening := len(p.log) > 0 || p.ended
		p.mu.Unlock()
		if bytes > size || listening {
			return
		}
	}
}

// TestSignalsFinishWhatWasAccepted: nothing is committed without an answer, and
// a request that is half sent when the signal comes is answered.
func TestSignalsFinishWhatWasAccepted(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			finishesWhatWasAccepted(t, signal)
		})
	}
}

func finishesWhatWasAccepted(t *testing.T, signal syscall.Signal) {
	dir := t.TempDir()
	p := listens(t, dir, nil)
	half := sendHalf(t, p.url)
	b := newBurst(p.url, 1)
	b.await(t, 100)
	p.Process.Signal(signal)
	if _, ok := p.await("stopping"); !ok {
		t.Fatalf("serve ended without a word:\n%s", p.said())
	}
	if status := half.finish(t); status != http.StatusOK {
		t.Errorf("the request that was half sent was answered %d, want 200", status)
	}
	if code := p.end(); code != exitFine {
		t.Errorf("exit code %d, want 0\n%s", code, p.said())
	}
	b.posts.Wait()
	if len(b.odd) > 0 {
		t.Errorf("odd answers: %v", b.odd)
	}
	found := check(t, dir, b.sent)
	for id := range found {
		if !b.acked[id] {
			t.Errorf("run %s was committed and never answered", id)
		}
	}
	for id := range b.acked {
		if !found[id] {
			t.Errorf("run %s was acked and is gone", id)
		}
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	p := listens(t, t.TempDir(), nil)
	sendHalf(t, p.url) // without this there would be nothing to wait for
	p.Process.Signal(os.Interrupt)
	if _, ok := p.await("stopping"); !ok {
		t.Fatalf("serve ended without a word:\n%s", p.said())
	}
	p.Process.Signal(os.Interrupt)
	if code := p.end(); code != -1 {
		t.Errorf("exit code %d, want death by the signal\n%s", code, p.said())
	}
}

// halfSent is a request whose head was accepted, and whose body is missing.
type halfSent struct {
	conn net.Conn
	body string
}

// sendHalf sends a head that asks for 100 Continue, which tells that the
// server has begun with the request.
func sendHalf(t *testing.T, base string) halfSent {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	h := halfSent{conn, completion(1 << 30)}
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n",
		hookPath, u.Host, len(h.body))
	head := bufio.NewReader(io.LimitReader(conn, int64(len("HTTP/1.1 100 Continue\r\n\r\n"))))
	if line, err := head.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("the head was answered %q, %v: want 100 Continue", line, err)
	}
	return h
}

func (h halfSent) finish(t *testing.T) int {
	t.Helper()
	if _, err := io.WriteString(h.conn, h.body); err != nil {
		t.Fatal(err)
	}
	rest := bufio.NewReader(h.conn)
	for { // what is left of the 100 Continue is an empty line
		if next, err := rest.Peek(1); err != nil {
			t.Fatal(err)
		} else if next[0] == 'H' {
			break
		}
		if _, err := rest.ReadByte(); err != nil {
			t.Fatal(err)
		}
	}
	res, err := http.ReadResponse(rest, nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}
