package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
)

// These benchmarks start the real serve as a process of its own, whose memory
// is not that of its senders:
//
//	go test ./cmd/runcounter -run '^$' -bench Serve -benchtime 1x
//
// GOGC and the like are handed on to it.
const benchSecret = "a-secret-for-the-benchmarks-of-serve"

func serveForBench(b *testing.B) *process {
	b.Helper()
	env := []string{"RUNCOUNTER_WEBHOOK_SECRET=" + benchSecret, "RUNCOUNTER_API_KEY=" + benchSecret}
	for _, name := range []string{"GOGC", "GOMEMLIMIT", "GODEBUG"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return listens(b, b.TempDir(), env)
}

// peakMB is the most memory that the process has had resident.
func (p *process) peakMB(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	if err != nil {
		need.Missing(b, "peak memory is read from /proc, which this system doesn't have")
	}
	for line := range strings.Lines(string(text)) {
		if kB, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.Fields(kB)[0])
			if err != nil {
				b.Fatal(err)
			}
			return float64(n) / 1024
		}
	}
	b.Fatal("/proc has no VmHWM")
	return 0
}

// poster is one keep-alive connection.
type poster struct {
	conn   net.Conn
	reader *bufio.Reader
	body   []byte
}

func newPoster(p *process, body []byte) (*poster, error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		return nil, err
	}
	return &poster{conn: conn, reader: bufio.NewReader(conn), body: body}, nil
}

func benchHead(length int) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n",
		hookPath, benchSecret, length)
}

func (p *poster) answer() error {
	res, err := http.ReadResponse(p.reader, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("answered %s: %s", res.Status, text)
	}
	return err
}

// post posts the captured end of a run as that of run n, of one of 1,000
// users. Ids are scattered, as random UUIDs are.
func (p *poster) post(n uint64) error {
	var run, owner [16]byte
	binary.BigEndian.PutUint64(run[:], (n+1)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(run[8:], n+1)
	binary.BigEndian.PutUint64(owner[:], n%1000+1)
	body := bytes.ReplaceAll(p.body, []byte(sampleRun), []byte(store.UUID(run).String()))
	body = bytes.ReplaceAll(body, []byte(sampleUser), []byte(store.UUID(owner).String()))
	if _, err := p.conn.Write(append([]byte(benchHead(len(body))), body...)); err != nil {
		return err
	}
	return p.answer()
}

// due is a run to post, and when it should be.
type due struct {
	n  uint64
	at time.Time
}

// postAll has 64 connections post whatever comes, and returns when no more does.
func postAll(b *testing.B, p *process, runs <-chan due, answered func(due)) {
	b.Helper()
	body, err := os.ReadFile("../../testdata/webhooks/003-lifecycle-update-completed.json")
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			c, err := newPoster(p, body)
			if err != nil {
				b.Error(err)
				return
			}
			defer c.conn.Close()
			for d := range runs {
				if err := c.post(d.n); err != nil {
					b.Error(err)
					return
				}
				answered(d)
			}
		})
	}
	wg.Wait()
}

// BenchmarkServeLatency sends 1,000 webhooks a second for ten seconds, each at
// its time whether or not the ones before were answered, and measures from
// that time: a server that stalls is charged for all that fell due meanwhile.
func BenchmarkServeLatency(b *testing.B) {
	const rate, seconds = 1000, 10
	for b.Loop() {
		p := serveForBench(b)
		runs := make(chan due, rate*seconds)
		go func() {
			defer close(runs)
			start := time.Now()
			for n := range uint64(rate * seconds) {
				at := start.Add(time.Duration(n) * time.Second / rate)
				<-time.After(time.Until(at))
				runs <- due{n, at}
			}
		}()
		var mu sync.Mutex
		var took []time.Duration
		postAll(b, p, runs, func(d due) {
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(d.at))
		})
		if len(took) != rate*seconds {
			b.Fatalf("%d of %d were answered", len(took), rate*seconds)
		}
		slices.Sort(took)
		for name, i := range map[string]int{"p50-ms": len(took) / 2, "p99-ms": len(took) * 99 / 100, "max-ms": len(took) - 1} {
			b.ReportMetric(float64(took[i].Microseconds())/1000, name)
		}
	}
}

// BenchmarkServeMemorySmall is full load with small bodies for 15 seconds.
func BenchmarkServeMemorySmall(b *testing.B) {
	const long = 15 * time.Second
	for b.Loop() {
		p := serveForBench(b)
		ctx, cancel := context.WithTimeout(b.Context(), long)
		runs := make(chan due)
		go func() {
			defer close(runs)
			for n := uint64(0); ; n++ {
				select {
				case runs <- due{n: n}:
				case <-ctx.Done():
					return
				}
			}
		}()
		var answered atomic.Int64
		postAll(b, p, runs, func(due) { answered.Add(1) })
		cancel()
		b.ReportMetric(float64(answered.Load())/long.Seconds(), "webhooks/s")
		b.ReportMetric(p.peakMB(b), "peak-MB")
	}
}

// BenchmarkServeMemoryLarge is 200 bodies of 20 MB at once: all of them have
// sent their first megabyte before any goes on.
func BenchmarkServeMemoryLarge(b *testing.B) {
	const senders, half = 200, 10 << 20
	for b.Loop() {
		p := serveForBench(b)
		start := time.Now()
		var begun, done sync.WaitGroup
		begun.Add(senders)
		for n := range senders {
			done.Go(func() {
				if err := postLarge(p, n, half, &begun); err != nil {
					b.Errorf("sender %d: %v", n, err)
				}
			})
		}
		done.Wait()
		b.ReportMetric(time.Since(start).Seconds(), "seconds")
		b.ReportMetric(p.peakMB(b), "peak-MB")
		p.wantCount(b, senders)
	}
}

// postLarge posts the end of a run whose two rows hold a state_snapshot of so
// many bytes each, made while it is sent.
func postLarge(p *process, n, size int, begun *sync.WaitGroup) error {
	var once sync.Once
	defer once.Do(begun.Done) // also where it fails
	c, err := newPoster(p, nil)
	if err != nil {
		return err
	}
	defer c.conn.Close()
	const open, end = `"state_snapshot":{"text":"`, `"},"status"`
	parts := strings.Split(strings.ReplaceAll(completion(0), runID(0), runID(n)), `"status"`)
	length := (len(parts) - 1) * (len(open) + size + len(end))
	for _, part := range parts {
		length += len(part)
	}
	w := bufio.NewWriterSize(c.conn, 64<<10) // it keeps its first error until Flush
	w.WriteString(benchHead(length))
	chunk := strings.Repeat("0123456789abcdef", 64)
	for i, part := range parts {
		w.WriteString(part)
		if i == len(parts)-1 {
			break
		}
		w.WriteString(open)
		for sent := 0; sent < size; sent += len(chunk) {
			if sent == 1<<20 {
				once.Do(begun.Done)
				begun.Wait()
			}
			w.WriteString(chunk)
		}
		w.WriteString(end)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return c.answer()
}

// wantCount asks for the count of the key that the large bodies name.
func (p *process) wantCount(b *testing.B, want int) {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet,
		p.url+"/v1/counts?user_id="+sampleUser+"&workflow_id=aaaaaaaa-aaaa-4aaa-8aaa-000000000000", nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+benchSecret)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || !bytes.Contains(text, fmt.Appendf(nil, `"count":%d,`, want)) {
		b.Errorf("got %s, %v; want the count %d", text, err, want)
	}
}
