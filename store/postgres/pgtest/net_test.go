package pgtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/internal/pgserver"
)

// inbox is a receiver that remembers what it got.
type inbox struct {
	url string

	mu     sync.Mutex
	got    []string // the bodies
	conns  int      // that were opened
	answer http.HandlerFunc
}

// listen starts a receiver that answers 200, or by a handler.
func listen(t *testing.T, answer http.HandlerFunc) *inbox {
	t.Helper()
	b := &inbox{answer: answer}
	server := httptest.NewUnstartedServer(http.HandlerFunc(b.receive))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.conns++
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	b.url = server.URL
	return b
}

func (b *inbox) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	b.mu.Lock()
	b.got = append(b.got, string(body))
	answer := b.answer
	b.mu.Unlock()
	if answer != nil {
		answer(w, r)
	}
}

func (b *inbox) answers(h http.HandlerFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer, b.got = h, nil
}

func (b *inbox) bodies() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.got)
}

func (b *inbox) opened() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.conns
}

// post sends n requests in one transaction, whose bodies are the numbers from 1.
func post(t *testing.T, address, url string, n int) {
	t.Helper()
	Exec(t, address, fmt.Sprintf(`select net.http_post('%s', to_jsonb(n)) from generate_series(1, %d) as n`, url, n))
}

// gate holds answers until they are released. A test does so at its end at the
// latest, after [listen], whose server ends when all are answered.
func gate() (wait <-chan struct{}, release func()) {
	c := make(chan struct{})
	return c, sync.OnceFunc(func() { close(c) })
}

// barrier is an answer that waits until n requests are held at once.
func barrier(n int) http.HandlerFunc {
	var arrived atomic.Int32
	full := make(chan struct{})
	return func(_ http.ResponseWriter, r *http.Request) {
		if arrived.Add(1) == int32(n) {
			close(full)
		}
		select {
		case <-full:
		case <-r.Context().Done():
		}
	}
}

func TestABatchIsSentAllAtOnce(t *testing.T) {
	address := Supabase(t)
	n := StartNet(t, address)
	n.Stop()
	const all = 450
	var held, most, arrived atomic.Int32
	gates := []http.HandlerFunc{barrier(200), barrier(200), barrier(50)}
	b := listen(t, func(w http.ResponseWriter, r *http.Request) {
		batch := (arrived.Add(1) - 1) / 200
		now := held.Add(1)
		for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
		}
		gates[batch](w, r)
		held.Add(-1)
	})
	post(t, address, b.url, all)
	n.Start()
	n.Idle(t)
	got := b.bodies()
	slices.Sort(got)
	if len(got) != all || len(slices.Compact(got)) != all {
		t.Errorf("got %d requests, want each of %d once", len(got), all)
	}
	if most.Load() != 200 {
		t.Errorf("got %d at once, want 200", most.Load())
	}
	if b.opened() != 200 {
		t.Errorf("got %d connections, want 200 that are kept", b.opened())
	}
	if got := ask(t, address, `select count(*) || ' ' || count(distinct id) from net._http_response where status_code = 200 and not timed_out and error_msg is null`); got != "450 450" {
		t.Errorf("got %s answers, want 450", got)
	}
}

func TestThreeQuickTransactionsArriveInAnyOrder(t *testing.T) {
	address := Supabase(t)
	n := StartNet(t, address)
	n.Stop()
	b := listen(t, nil)
	const runs = 66 // of three: one batch
	for step := 1; step <= 3; step++ {
		Exec(t, address, fmt.Sprintf(`select net.http_post('%s', jsonb_build_array(run, %d)) from generate_series(1, %d) as run`, b.url, step, runs))
	}
	n.Start()
	n.Idle(t)
	steps := map[int][]int{}
	for _, body := range b.bodies() {
		var run, step int
		if _, err := fmt.Sscanf(body, "[%d, %d]", &run, &step); err != nil {
			t.Fatal(err)
		}
		steps[run] = append(steps[run], step)
	}
	disordered := 0
	for _, s := range steps {
		if !slices.IsSorted(s) {
			disordered++
		}
	}
	t.Logf("out of order: %d of %d runs", disordered, runs)
	if disordered < runs/4 || disordered == runs {
		t.Errorf("got %d of %d runs out of order, want many and not all", disordered, runs)
	}
}

func TestNothingIsTriedAgain(t *testing.T) {
	address := Supabase(t)
	n := StartNet(t, address)
	nobody := httptest.NewServer(nil)
	nobody.Close()
	for _, c := range []struct {
		name    string
		answer  http.HandlerFunc
		url     string
		timeout int
		want    string // status, timed_out, content and the start of the error
	}{
		{"500", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusInternalServerError) }, "", 5000, "500/false/no\n/text/plain; charset=utf-8/"},
		{"429", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}, "", 5000, "429/false///"},
		{"refused", nil, nobody.URL, 5000, "/false///Couldn't connect to server"},
		{"timed out", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "", 50, "/true///Timeout of 50 ms reached. Total time: "},
		{"closed without an answer, new", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "", 5000, "/false///Server returned nothing (no headers, no data)"},
		{"a wrong protocol", nil, "ftp://127.0.0.1/", 5000, "/false///Unsupported protocol"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := listen(t, c.answer)
			want := 1
			if c.url == "" {
				c.url = b.url
			} else {
				want = 0
			}
			id := ask(t, address, fmt.Sprintf(`select net.http_post('%s', timeout_milliseconds := %d)`, c.url, c.timeout))
			n.Idle(t)
			got := ask(t, address, `select concat_ws('/', coalesce(status_code::text, ''), timed_out::text, coalesce(content, ''), coalesce(content_type, ''), coalesce(error_msg, '')) from net._http_response where id = `+id)
			if !strings.HasPrefix(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if got := len(b.bodies()); got != want {
				t.Errorf("got %d requests, want %d", got, want)
			}
		})
	}
}

func TestARedirectIsFollowedWithoutTheBody(t *testing.T) {
	address := Supabase(t)
	n := StartNet(t, address)
	for _, c := range []struct {
		status int
		want   string
	}{
		{301, `GET /there "" application/json`},
		{302, `GET /there "" application/json`},
		{308, `POST /there "{}" application/json`},
	} {
		var last atomic.Value
		b := listen(t, nil)
		b.answers(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/here" {
				http.Redirect(w, r, "/there", c.status)
				return
			}
			bodies := b.bodies()
			last.Store(fmt.Sprintf("%s %s %q %s", r.Method, r.URL.Path, bodies[len(bodies)-1], r.Header.Get("Content-Type")))
		})
		id := ask(t, address, `select net.http_post('`+b.url+`/here')`)
		n.Idle(t)
		if got := last.Load(); got != c.want {
			t.Errorf("%d: got %v, want %s", c.status, got, c.want)
		}
		if got := ask(t, address, `select status_code || ' ' || (headers ->> 'Location') from net._http_response where id = `+id); got != "200 /there" {
			t.Errorf("%d: got %s, want it recorded as 200, with the headers of the first answer", c.status, got)
		}
	}
	b := listen(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusMovedPermanently) })
	id := ask(t, address, `select net.http_post('`+b.url+`')`)
	n.Idle(t)
	if got := ask(t, address, `select error_msg from net._http_response where id = `+id); got != curlRedirects {
		t.Errorf("a circle: got %s, want %s", got, curlRedirects)
	}
}

func TestTheBytesAreThoseOfTheQueue(t *testing.T) {
	address := Supabase(t)
	n := StartNet(t, address)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	const body = `{"z": 1.50, "a": "\u0001 漢 Zoë🚀", "n": `
	digits := strings.Repeat("1234567890", 40)
	Exec(t, address, `select net.http_post('http://`+listener.Addr().String()+`/functions/v1/run-counter', '`+body+digits+`}', headers := '{"webhook-id": "msg_1", "Authorization": "Bearer xxx", "empty": "", "null": null}')`)
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		head.WriteString(line)
	}
	// As in the requests that were captured.
	text := ask(t, address, `select '`+body+digits+`}'::jsonb::text`)
	want := "POST /functions/v1/run-counter HTTP/1.1\r\nHost: " + listener.Addr().String() + "\r\nAccept: */*\r\n" +
		"webhook-id: msg_1\r\nContent-Type: application/json\r\nAuthorization: Bearer xxx\r\n" +
		"User-Agent: pg_net/0.20.4\r\nContent-Length: " + fmt.Sprint(len(text)) + "\r\n\r\n"
	if diff := cmp.Diff(want, head.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(in, got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(text, string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	io.WriteString(conn, "HTTP/1.1 200 OK\r\nx-Odd-CASE: kept\r\nContent-Length: 2\r\n\r\nok")
	n.Idle(t)
	if got := ask(t, address, `select (headers ->> 'x-Odd-CASE') || content from net._http_response`); got != "keptok" {
		t.Errorf("got %s, want headers as they came", got)
	}
}

func TestALargeBodyIsAskedFor(t *testing.T) {
	address := Supabase(t)
	n := StartNet(t, address)
	var asked atomic.Value
	b := listen(t, func(_ http.ResponseWriter, r *http.Request) { asked.Store(r.Header.Get("Expect")) })
	for _, c := range []struct {
		bytes int
		want  string
	}{{1 << 20, ""}, {1<<20 + 1, "100-continue"}} {
		b.answers(b.answer)
		Exec(t, address, fmt.Sprintf(`select net.http_post('%s', to_jsonb(repeat('x', %d)))`, b.url, c.bytes-2))
		n.Idle(t)
		if got := b.bodies(); len(got) != 1 || len(got[0]) != c.bytes {
			t.Errorf("%d bytes: got %d requests, want one with all of them", c.bytes, len(got))
		}
		if got := asked.Load(); got != c.want {
			t.Errorf("%d bytes: got Expect %q, want %q", c.bytes, got, c.want)
		}
	}
	// A receiver that refuses by the headers alone never gets the body.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	defer server.Close()
	id := ask(t, address, `select net.http_post('`+server.URL+`', to_jsonb(repeat('x', 9000000)))`)
	n.Idle(t)
	if got := ask(t, address, `select status_code from net._http_response where id = `+id); got != "401" {
		t.Errorf("got %s, want 401", got)
	}
}

func TestNoAnswerIsSeenBeforeTheSlowest(t *testing.T) {
	address := Supabase(t)
	n := StartNet(t, address)
	n.Stop()
	var answered atomic.Int32
	wait, release := gate()
	b := listen(t, func(_ http.ResponseWriter, r *http.Request) {
		if answered.Add(1) == 10 {
			<-wait
		}
	})
	t.Cleanup(release)
	post(t, address, b.url, 10)
	n.Start()
	eventually(t, "ten requests are there", func() bool { return answered.Load() == 10 })
	if got := ask(t, address, `select (select count(*) from net._http_response) || '/' || (select count(*) from net.http_request_queue)`); got != "0/10" {
		t.Errorf("got %s answers and requests while one is under way, want 0/10", got)
	}
	release()
	n.Idle(t)
	if got := ask(t, address, `select count(*) from net._http_response`); got != "10" {
		t.Errorf("got %s answers, want 10", got)
	}
}

// eventually waits for what is said to be so.
func eventually(t *testing.T, said string, so func() bool) {
	t.Helper()
	err := pgserver.Until(func() (bool, error) {
		if so() {
			return true, nil
		}
		return false, errors.New(said)
	})
	if err != nil {
		t.Fatal(err)
	}
}
