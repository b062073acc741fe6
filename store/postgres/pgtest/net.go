package pgtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	netBatch = 200 // requests of a batch
	netTTL   = "6 hours"
	netPace  = 20 * time.Millisecond
	netPoll  = 10 * time.Millisecond
)

// Net is a stand-in for pg_net's worker, with the habits that were measured of
// the real one (see DESIGN.md, and its sources for what was not): it takes up
// to 200 requests from the queue and sends them all at once, each on a
// connection of its own, which it keeps; it deletes them and writes all answers
// in one transaction, so no answer is seen before the slowest has come; it
// tries nothing again, but for a connection that it had used before and that is
// closed without an answer: then up to five times.
//
// What differs: it looks for requests every few milliseconds instead of being
// woken, pauses for 20 ms after a batch (see [Net.Pace]), speaks no HTTP/2, and
// its session is a client's in pg_stat_activity, with the same application_name.
type Net struct {
	admin   string // a superuser's address, as the real worker is one
	session string // its own, by whose name the worker is known
	pace    atomic.Int64
	cancels chan struct{}

	mu     sync.Mutex
	worker *netWorker // nil where it is stopped
	fault  error      // the last that ended a session of it
}

// StartNet starts the worker for a database, and installs the extension where
// it isn't yet. The test's end ends it. It comes back after PostgreSQL does.
func StartNet(t testing.TB, address string) *Net {
	t.Helper()
	InstallNet(t, address)
	n := &Net{admin: Admin(t, address), cancels: make(chan struct{})}
	n.session = With(t, n.admin, "application_name", "pg_net "+netVersion)
	n.pace.Store(int64(netPace))
	n.Start()
	t.Cleanup(func() { n.end(func(w *netWorker) { w.kill() }) })
	return n
}

// Pace sets the pause after each batch. The real one pauses for a second, from
// which its 200 requests a second come.
func (n *Net) Pace(pause time.Duration) { n.pace.Store(int64(pause)) }

// Start starts the worker after Stop. It has no connections to receivers yet.
func (n *Net) Start() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.worker != nil {
		return
	}
	ctx, kill := context.WithCancel(context.Background())
	w := &netWorker{net: n, kill: kill, stop: make(chan struct{}), done: make(chan struct{})}
	n.worker = w
	go w.run(ctx)
}

// Stop ends the worker after the batch under way, and leaves the queue to fill
// up: a dead worker.
func (n *Net) Stop() { n.end(func(w *netWorker) { close(w.stop) }) }

// Cancel cancels the worker as pg_cancel_backend does: once all requests of a
// batch are sent, before their answers are recorded. Its connections break off,
// its transaction is rolled back, so that all of the batch is queued again, and
// it starts anew. Cancel waits for such a batch. (pg_terminate_backend on the
// worker's session does the same, at any time.)
func (n *Net) Cancel(t testing.TB) {
	t.Helper()
	if !n.running() {
		t.Fatal("cancel pg_net's worker: it is stopped")
	}
	select {
	case n.cancels <- struct{}{}:
	case <-time.After(patience):
		t.Fatalf("cancel pg_net's worker: it had no batch within %v%s", patience, n.lastFault())
	}
}

// Kill does to pg_net what a crash of PostgreSQL does: requests under way break
// off, and what is queued is lost, as are the answers, since recovery empties
// unlogged tables and their sequences. Other sessions live on: for those there
// is [Server.Kill], which needs no help to empty the tables.
func (n *Net) Kill(t testing.TB) {
	t.Helper()
	ran := n.end(func(w *netWorker) { w.kill() })
	Exec(t, n.admin, `truncate net.http_request_queue, net._http_response restart identity`)
	if ran {
		n.Start()
	}
}

// Idle waits until nothing is queued and all answers are recorded. It fails the
// test where the queue doesn't move for as long as our patience lasts.
func (n *Net) Idle(t testing.TB) {
	t.Helper()
	var (
		conn *pgx.Conn
		last string
	)
	defer func() {
		if conn != nil {
			closeConn(conn)
		}
	}()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(netPoll)
	defer tick.Stop()
	for {
		var err error
		if conn == nil || conn.IsClosed() { // PostgreSQL may be away for a while
			conn, err = connect(n.admin)
		}
		var state string
		var idle bool
		if err == nil {
			state, idle, err = queued(conn)
		}
		switch {
		case err == nil && idle:
			return
		case err == nil && !n.running():
			t.Fatalf("wait for pg_net: its worker is stopped, and in the queue are %s", state)
		case err == nil && state != last:
			last, deadline = state, time.Now().Add(patience)
		case time.Now().After(deadline):
			t.Fatalf("wait for pg_net: nothing moved for %v; in the queue are %s: %v%s", patience, state, err, n.lastFault())
		}
		<-tick.C
	}
}

// queued tells how many requests are queued, and which is the first. Those of a
// batch under way still are, for all sessions but the worker's.
func queued(conn *pgx.Conn) (state string, idle bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var count, first int64
	err = conn.QueryRow(ctx, `select count(*), coalesce(min(id), 0) from net.http_request_queue`).Scan(&count, &first)
	return fmt.Sprintf("%d requests from %d", count, first), count == 0, err
}

func (n *Net) running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.worker != nil
}

func (n *Net) lastFault() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fault == nil {
		return ""
	}
	return fmt.Sprintf("; the worker's last error: %v", n.fault)
}

func (n *Net) end(how func(*netWorker)) (ran bool) {
	n.mu.Lock()
	w := n.worker
	n.worker = nil
	n.mu.Unlock()
	if w == nil {
		return false
	}
	how(w)
	<-w.done
	return true
}

// netWorker is one life of the worker.
type netWorker struct {
	net  *Net
	kill context.CancelFunc
	stop chan struct{} // after the batch under way
	done chan struct{}
}

// run has one session after the other, as PostgreSQL starts a worker again that
// has ended.
func (w *netWorker) run(ctx context.Context) {
	defer close(w.done)
	defer w.kill()
	for {
		err := w.session(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		w.net.mu.Lock()
		w.net.fault = err
		w.net.mu.Unlock()
		if !w.pause(ctx, netPoll) {
			return
		}
	}
}

// pause reports whether the worker is to go on after it.
func (w *netWorker) pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-w.stop:
	case <-timer.C:
		return true
	}
	return false
}

var (
	errNetCancelled = errors.New("canceling statement due to user request")
	errNetLost      = errors.New("the connection to PostgreSQL is gone")
)

func (w *netWorker) session(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, w.net.session)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	client := &netClient{idle: map[string][]*netConn{}}
	defer client.close()
	for {
		var queued bool
		if err := conn.QueryRow(ctx, `select exists (select from net.http_request_queue)`).Scan(&queued); err != nil {
			return err
		}
		pause := netPoll
		if queued {
			if err := w.batch(ctx, conn, client); err != nil {
				return err
			}
			pause = time.Duration(w.net.pace.Load())
		}
		if !w.pause(ctx, pause) {
			return nil
		}
	}
}

// batch is one transaction from the queue to the answers.
func (w *netWorker) batch(ctx context.Context, conn *pgx.Conn, client *netClient) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.Background()) }() // a connection that is gone has rolled back
	if _, err := tx.Exec(ctx, `
delete from net._http_response
 where ctid = any(array(select ctid from net._http_response where created < now() - $1::interval order by created limit $2))`, netTTL, netBatch); err != nil {
		return err
	}
	rows, _ := tx.Query(ctx, `
delete from net.http_request_queue
 where id in (select id from net.http_request_queue order by id limit $1)
returning id, method::text, url, array(select key || ': ' || value from jsonb_each_text(headers) where value is not null), body, timeout_milliseconds`, netBatch) // its error is that of the rows
	requests, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[netRequest])
	if err != nil {
		return err
	}
	answers, err := w.send(ctx, conn, client, requests)
	if err != nil {
		return err
	}
	if err := record(ctx, tx, answers); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// send sends all requests at once, and returns the answers in the order in
// which they came.
func (w *netWorker) send(ctx context.Context, conn *pgx.Conn, client *netClient, requests []*netRequest) ([]netAnswer, error) {
	ctx, abort := context.WithCancel(ctx)
	lost := make(chan error, 1)
	go func() { // PostgreSQL takes its worker along when it ends
		_, err := conn.WaitForNotification(ctx)
		lost <- err
	}()
	rand.Shuffle(len(requests), func(i, j int) { requests[i], requests[j] = requests[j], requests[i] })
	var (
		sent, answered sync.WaitGroup
		came           = make(chan netAnswer, len(requests))
	)
	// All take their connections before any can give one back.
	first := make([]*netConn, len(requests))
	for i, r := range requests {
		first[i] = client.take(r.key())
	}
	for i, r := range requests {
		sent.Add(1)
		answered.Go(func() {
			once := sync.OnceFunc(sent.Done)
			defer once()
			came <- client.do(ctx, r, first[i], once)
		})
	}
	err := w.await(ctx, lost, &sent, &answered)
	abort()
	answered.Wait()
	if gone := <-lost; conn.IsClosed() { // the watcher has given it back
		err = errors.Join(errNetLost, gone)
	}
	if err != nil {
		return nil, err
	}
	close(came)
	answers := make([]netAnswer, 0, len(requests))
	for a := range came {
		answers = append(answers, a)
	}
	return answers, nil
}

// await waits for all answers, or for what breaks the batch off. A worker is
// cancelled once it has sent all of the batch.
func (w *netWorker) await(ctx context.Context, lost chan error, sent, answered *sync.WaitGroup) error {
	var cancels chan struct{}
	allSent, allAnswered := closedAfter(sent), closedAfter(answered)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-lost:
			lost <- err
			return errNetLost
		case <-cancels:
			return errNetCancelled
		case <-allSent:
			cancels, allSent = w.net.cancels, nil
		case <-allAnswered:
			select { // who waits already
			case <-w.net.cancels:
				return errNetCancelled
			default:
				return nil
			}
		}
	}
}

// closedAfter returns a channel that is closed when all are done.
func closedAfter(all *sync.WaitGroup) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	return done
}

// record writes the answers of a batch.
func record(ctx context.Context, tx pgx.Tx, answers []netAnswer) error {
	columns := []string{"id", "status_code", "content_type", "headers", "content", "timed_out", "error_msg"}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"net", "_http_response"}, columns, pgx.CopyFromSlice(len(answers), func(i int) ([]any, error) {
		a := answers[i]
		return []any{a.id, a.status, a.contentType, a.headers, a.content, a.timedOut, a.errorMessage}, nil
	}))
	return err
}
