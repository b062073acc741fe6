package server

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
)

// BenchmarkWebhooks is webhooks a second, end to end over HTTP on loopback
// with 64 connections. Every delivery is the captured end of a run, of another
// run each time and of one of 1,000 users, so every one changes state. The
// three run side by side:
//
//   - runcounter: decoded, committed with synchronous=full, and answered with
//     the count;
//   - decode-only: the same Fiber app with the same decoder, which answers
//     without having handed the changes to anybody;
//   - one-transaction-each: what is commonly written instead: a transaction a
//     webhook that upserts the run, counts the runs and stores the count.
func BenchmarkWebhooks(b *testing.B) {
	b.Run("runcounter", func(b *testing.B) {
		load(b, serveForBench(b, benchServer(b)), path, 1000)
	})
	b.Run("decode-only", func(b *testing.B) {
		load(b, serveForBench(b, decodeOnly(b)), path, 1000)
	})
	b.Run("one-transaction-each", func(b *testing.B) {
		s := benchServer(b)
		s.app.Post("/one-transaction-each", oneTransactionEach(b, s))
		load(b, serveForBench(b, s), "/one-transaction-each", 1000)
	})
}

// BenchmarkWebhooksBehind is the same for one user with so many runs: a
// webhook must cost no more for what is behind it. The rounds take turns, so
// that a machine that slows down slows both.
func BenchmarkWebhooksBehind(b *testing.B) {
	sizes := []int{1_000, 1_000_000}
	var addrs []string
	for _, behind := range sizes {
		s := benchServer(b)
		fill(b, s, behind)
		addrs = append(addrs, serveForBench(b, s))
	}
	for round := range 5 {
		for i, behind := range sizes {
			b.Run(fmt.Sprintf("runs=%d/round=%d", behind, round+1), func(b *testing.B) { loadFrom(b, addrs[i], path, 1, uint64(round)<<32) })
		}
	}
}

func benchServer(b *testing.B) *Server {
	b.Helper()
	return serverForBench(b, func(s Store) Store { return s })
}

// serverForBench returns a server on an empty database, which with may stand before.
func serverForBench(b *testing.B, with func(Store) Store) *Server {
	b.Helper()
	db, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "bench.db"), sqlite.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	secrets, err := webhook.ParseSecrets(token)
	if err != nil {
		b.Fatal(err)
	}
	s, err := New(Config{
		Store: with(db), Secrets: secrets, APIKeys: []string{apiKey}, Loopback: true, AdmissionTimeout: time.Second,
		Decoder: webhook.Decoder{Schema: "public", Table: "workflow_runs"}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func serveForBench(b *testing.B, s *Server) string {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		if err := s.Serve(ln); err != nil {
			b.Error(err)
		}
	}()
	b.Cleanup(func() { s.Shutdown(context.WithoutCancel(b.Context())) })
	return ln.Addr().String()
}

func oneTransactionEach(b *testing.B, s *Server) fiber.Handler {
	b.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(b.TempDir(), "naive.db")+
		"?_pragma=journal_mode(wal)&_pragma=synchronous(full)&_pragma=busy_timeout(5000)&_txlock=immediate")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(`
create table runs (id text primary key, user_id text, workflow_id text, status text, completed_at text);
create index runs_key on runs (user_id, workflow_id) where completed_at is not null;
create table counts (user_id text, workflow_id text, n integer, primary key (user_id, workflow_id))`); err != nil {
		b.Fatal(err)
	}
	apply := func(r store.Row) (n int64, err error) {
		tx, err := db.Begin()
		if err != nil {
			return 0, err
		}
		defer tx.Rollback()
		u, w := r.User.String(), r.Workflow.String()
		if _, err := tx.Exec(`insert into runs values (?1, ?2, ?3, ?4, ?5) on conflict (id) do update set status = ?4, completed_at = ?5`,
			r.ID.String(), u, w, string(r.Status), r.CompletedAt.Format(time.RFC3339Nano)); err != nil {
			return 0, err
		}
		if err := tx.QueryRow(`select count(*) from runs where user_id = ? and workflow_id = ? and completed_at is not null`, u, w).Scan(&n); err != nil {
			return 0, err
		}
		if _, err := tx.Exec(`insert into counts values (?1, ?2, ?3) on conflict do update set n = ?3`, u, w, n); err != nil {
			return 0, err
		}
		return n, tx.Commit()
	}
	return func(c *fiber.Ctx) error {
		body, err := request.NewBody(c, s.limits.body, s.limits.time)
		if err != nil {
			return err
		}
		d, err := s.cfg.Decoder.Decode(body)
		if err != nil {
			return err
		}
		for _, change := range d.Changes {
			if _, err := apply(change.Record); err != nil {
				return err
			}
		}
		return answer.JSON(c, fiber.StatusOK, webhook.AnswerTo(d, nil))
	}
}

// fill puts so many runs of user 0 behind the benchmark.
func fill(b *testing.B, s *Server, runs int) {
	b.Helper()
	d, err := s.cfg.Decoder.Decode(bytes.NewReader(captured(b)))
	if err != nil {
		b.Fatal(err)
	}
	for n := 0; n < runs; n += 1000 {
		changes := make([]store.Change, 1000)
		for i := range changes {
			c := d.Changes[0]
			var id, owner [16]byte
			idOf(uint64(1<<40+n+i), &id)
			userOf(0, &owner)
			c.Record.ID, c.Record.User = store.UUID(id), store.UUID(owner)
			c.Old.ID, c.Old.User = c.Record.ID, c.Record.User
			changes[i] = c
		}
		if _, err := s.cfg.Store.Apply(b.Context(), changes, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}

func captured(b *testing.B) []byte {
	b.Helper()
	body, err := os.ReadFile("../../testdata/webhooks/003-lifecycle-update-completed.json")
	if err != nil {
		b.Fatal(err)
	}
	return body
}

// idOf scatters the numbers of runs, as random UUIDs are scattered.
func idOf(n uint64, id *[16]byte) {
	binary.BigEndian.PutUint64(id[:8], (n+1)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(id[8:], n+1)
}

func userOf(n int, id *[16]byte) { binary.BigEndian.PutUint64(id[:8], uint64(n)+1) }

// load has 64 connections post b.N deliveries.
func load(b *testing.B, addr, path string, users int) {
	b.Helper()
	loadFrom(b, addr, path, users, 0)
}

// loadFrom begins at a number of a run.
func loadFrom(b *testing.B, addr, path string, users int, first uint64) {
	b.Helper()
	b.ResetTimer()
	posts(b, addr, path, "", users, first, b.N)
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "webhooks/s")
}

// posts has 64 connections post so many deliveries, each of another run.
func posts(b *testing.B, addr, path, secret string, users int, first uint64, deliveries int) {
	b.Helper()
	const connections = 64
	body := captured(b)
	var next atomic.Uint64
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			c, err := newSender(addr, path, secret, body)
			if err != nil {
				b.Error(err)
				return
			}
			defer c.conn.Close()
			for n := next.Add(1); n <= uint64(deliveries); n = next.Add(1) {
				if err := c.post(first+n, int(n)%users); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// sender is one keep-alive connection that posts one body with other ids, and
// spends as little as it can on that. With a secret it signs as our own webhook
// does, and asks for no counts.
type sender struct {
	conn    net.Conn
	reader  *bufio.Reader
	head    string // of a request, but for what is signed
	secret  string
	request []byte
	body    []byte
	runs    []int // where the run's id stands in it
	users   []int
}

// countless stands in place of a secret for a sender that signs nothing, and asks for
// no counts.
const countless = "no counts"

func newSender(addr, path, secret string, body []byte) (*sender, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", path, addr, len(body))
	switch secret {
	case "":
		head += "Authorization: Bearer " + token + "\r\n\r\n"
	case countless:
		head += "Authorization: Bearer " + token + "\r\nPrefer: return=minimal\r\n\r\n"
	}
	s := &sender{conn: conn, reader: bufio.NewReader(conn), head: head, secret: secret, body: bytes.Clone(body)}
	s.runs = places(s.body, "00000000-0000-4000-8000-000000000001")
	s.users = places(s.body, user)
	return s, nil
}

// signed are the headers that our own webhook puts before a body.
func (s *sender) signed(n uint64) (string, error) {
	if s.secret == "" || s.secret == countless {
		return "", nil
	}
	id, now := fmt.Sprintf("msg_%016x", n), time.Now()
	signature, err := webhook.Sign(s.secret, id, now, s.body)
	if err != nil {
		return "", err
	}
	proof, err := webhook.Prove(s.secret, id, now)
	return fmt.Sprintf("Prefer: return=minimal\r\nwebhook-id: %s\r\nwebhook-timestamp: %d\r\nwebhook-signature: %s\r\nwebhook-proof: %s\r\n\r\n", id, now.Unix(), signature, proof), err
}

func places(in []byte, of string) (all []int) {
	for from := 0; ; {
		i := bytes.Index(in[from:], []byte(of))
		if i < 0 {
			return all
		}
		all = append(all, from+i)
		from += i + len(of)
	}
}

func put(into []byte, at int, id [16]byte) {
	hex.Encode(into[at:], id[:4])
	hex.Encode(into[at+9:], id[4:6])
	hex.Encode(into[at+14:], id[6:8])
	hex.Encode(into[at+19:], id[8:10])
	hex.Encode(into[at+24:], id[10:])
}

func (s *sender) post(n uint64, of int) error {
	var run, owner [16]byte
	idOf(n, &run)
	userOf(of, &owner)
	for _, at := range s.runs {
		put(s.body, at, run)
	}
	for _, at := range s.users {
		put(s.body, at, owner)
	}
	signed, err := s.signed(n)
	if err != nil {
		return err
	}
	s.request = append(append(append(s.request[:0], s.head...), signed...), s.body...)
	if _, err := s.conn.Write(s.request); err != nil {
		return err
	}
	length := -1
	for first := true; ; first = false {
		line, err := s.reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimSpace(line)
		switch {
		case first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")):
			return fmt.Errorf("answered %q, want %d", line, http.StatusOK)
		case len(line) == 0:
			_, err := io.CopyN(io.Discard, s.reader, int64(length))
			return err
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		}
	}
}

// unapplied takes changes in without looking at them.
type unapplied struct{ Store }

func (unapplied) Apply(_ context.Context, changes []store.Change, _ time.Time) ([]store.ApplyResult, error) {
	return make([]store.ApplyResult, len(changes)), nil
}

// decodeOnly returns a server that answers without having handed the changes to a
// database.
func decodeOnly(b *testing.B) *Server {
	return serverForBench(b, func(s Store) Store { return unapplied{s} })
}
