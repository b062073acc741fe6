package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/webhook/users"
)

// lacking is a listener that has no descriptor for some connections.
type lacking struct {
	net.Listener
	errs []error // of the next accepts
}

func (l *lacking) Accept() (net.Conn, error) {
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", err)}
	}
	return l.Listener.Accept()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func TestCasesOfConnections(t *testing.T) {
	t.Run("case D1: a lack of descriptors is waited out", func(t *testing.T) {
		var seen []error
		a := newAcceptor(&lacking{listen(t), []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED}}, 8,
			func(_ connEvent, err error) { seen = append(seen, err) })
		c, err := net.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		got, err := a.Accept()
		if err != nil {
			t.Fatalf("Accept: %v, want the connection", err)
		}
		defer got.Close()
		if len(seen) != 5 {
			t.Errorf("%d errors were told, want 5", len(seen))
		}
	})
	t.Run("case D1: an error that does not pass is returned, and a closed listener's too", func(t *testing.T) {
		a := newAcceptor(&lacking{listen(t), []error{syscall.EINVAL}}, 8, func(connEvent, error) {})
		if _, err := a.Accept(); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("got %v, want EINVAL", err)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: got %v, want net.ErrClosed", err)
		}
	})
	t.Run("case D1: an accept that waits for a place ends when the listener is closed", func(t *testing.T) {
		a := newAcceptor(listen(t), 1, func(connEvent, error) {})
		c, err := net.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		first, err := a.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer first.Close()
		first.(*guest).begin()
		first.(*guest).has(trusted)
		ended := make(chan error, 1)
		go func() { _, err := a.Accept(); ended <- err }()
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		if err := await(t, "the end of Accept", ended); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v, want net.ErrClosed", err)
		}
	})
	t.Run("case D1: connections that have shown nothing are closed first", closedFirst)
	t.Run("case D1: a connection that shows what it is while it is chosen (with the race detector)", func(t *testing.T) {
		a := newAcceptor(listen(t), 2, func(connEvent, error) {})
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		defer all.Wait()
		defer stop()
		for range 200 {
			c, err := net.Dial("tcp", a.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			conn, err := a.Accept()
			if err != nil {
				t.Fatal(err)
			}
			g := conn.(*guest)
			all.Go(func() {
				for shown := ofStranger; ctx.Err() == nil && a.holds(g); shown = min(shown+1, trusted) {
					g.begin()
					g.has(shown)
					g.end()
				}
				g.Close()
			})
		}
	})
	t.Run("case D1: strangers' connections cost a known one neither its own nor a new one", func(t *testing.T) {
		r := serve(t, func(_ *Config, l *limits, _ *gated) { l.conns = 8 })
		if a := r.deliver(completed(1)).answer(t); a.Changed != 1 {
			t.Fatalf("got %+v, want one change", a)
		}
		var idle []net.Conn
		for range 50 {
			idle = append(idle, r.dial())
		}
		defer func() {
			for _, c := range idle {
				c.Close()
			}
		}()
		eventually(t, "strangers were closed", func() bool { return metricOf(t, r, "runcounter_connection_events_total") >= 40 })
		reused := false
		req, _ := http.NewRequestWithContext(traced(t, &reused), http.MethodPost, "http://"+r.addr+path, strings.NewReader(completed(2)))
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		res, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if a, err := readReply(res); err != nil || a.answer(t).Changed != 1 || !reused {
			t.Errorf("on the open connection: got %v, reused %v; want it answered there", err, reused)
		}
		r.client.CloseIdleConnections()
		if a := r.deliver(completed(3)).answer(t); a.Changed != 1 {
			t.Errorf("on a new connection: got %+v, want one change", a)
		}
		if n := r.server.connections(); n > 9 {
			t.Errorf("%d connections are open, want 8 and the newest", n)
		}
	})
}

// holds reports whether a connection still has its place.
func (a *acceptor) holds(g *guest) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.guests[g]
}

// closedFirst opens connections of each standing, and lets new ones come.
func closedFirst(t *testing.T) {
	a := newAcceptor(listen(t), 6, func(connEvent, error) {})
	come := func() *guest {
		t.Helper()
		c, err := net.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		g, err := a.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { g.Close() })
		return g.(*guest)
	}
	names := map[*guest]string{}
	named := func(name string, busy bool, shown standing) {
		g := come()
		names[g] = name
		g.has(shown)
		if busy {
			g.begin()
		}
	}
	named("a sender at rest", false, trusted)
	named("a user at rest", false, ofUser)
	named("a sender's request", true, trusted)
	named("a stranger's request", true, ofStranger)
	named("a stranger at rest", false, ofStranger)
	named("a user's request", true, ofUser)
	var gone []string
	for range 4 {
		come().has(trusted)
		for g := range a.guests {
			if g.busy == 0 && names[g] == "" {
				g.begin()
			}
		}
		for g, name := range names {
			if !a.guests[g] && !slices.Contains(gone, name) {
				gone = append(gone, name)
			}
		}
	}
	if got, want := fmt.Sprint(gone), "[a stranger at rest a stranger's request a user at rest a sender at rest]"; got != want {
		t.Errorf("closed were %s, want %s", got, want)
	}
	if a.mayEnter() {
		t.Error("with requests of users and senders alone, want the next to wait")
	}
}

// TestCaseItem3_OneThousandStrangersAtEveryDoor is item 3 of what issue 12 must
// show: our own webhook sends 200 a second, and none is refused.
func TestCaseItem3_OneThousandStrangersAtEveryDoor(t *testing.T) {
	strangers, lasts := 1000, 5*time.Second
	if testing.Short() {
		strangers, lasts = 300, time.Second
	}
	if need := uint64(4*2*strangers + 512); descriptors() < need {
		strangers = int(descriptors()-512) / 8
		t.Logf("with %d descriptors there are %d strangers at each door", descriptors(), strangers)
	}
	project, err := users.New(users.Config{Secret: strings.Repeat("s", 40)})
	if err != nil {
		t.Fatal(err)
	}
	r := serve(t, func(cfg *Config, l *limits, _ *gated) {
		cfg.Console, cfg.Users, cfg.Log = &Console{}, project, quiet
		l.conns = 2 * strangers // so that they need one another's, too
	})
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var asked, open atomic.Int64
	for i := range 4 * strangers {
		all.Go(func() { besiege(ctx, r.addr, doors[i%len(doors)], &asked, &open) })
	}
	defer all.Wait()
	defer stop()
	eventually(t, "most of them are there", func() bool { return open.Load() > int64(strangers) && asked.Load() > int64(4*strangers) })

	sent := r.sendOwn(t, lasts)
	if len(sent.refused) > 0 {
		t.Errorf("%d of %d of our own deliveries were refused, the first: %s", len(sent.refused), sent.all, sent.refused[0])
	}
	t.Logf("%d deliveries in %s, %d refused, the slowest took %s; %d requests of strangers, %d connections open", sent.all, lasts, len(sent.refused), sent.slowest, asked.Load(), r.server.connections())
	if got := r.counted(); got != int64(sent.all) {
		t.Errorf("the count is %d, want %d", got, sent.all)
	}
}

// The doors, each with what a stranger says there.
var doors = []string{
	request{auth: "none", body: completed(1)}.String(),
	request{auth: "none", length: "100000", body: "[", headers: []string{
		"webhook-id: msg_1", fmt.Sprintf("webhook-timestamp: %d", time.Now().Unix()), "webhook-signature: v1," + strings.Repeat("A", 43) + "="}}.String(),
	request{method: "GET", path: "/v1/counts/stream?workflow_id=" + workflow, kind: "none", auth: "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0." + strings.Repeat("A", 43)}.String(),
	request{path: "/sign-in", auth: "none", kind: "application/x-www-form-urlencoded", body: "name=me&key=guess"}.String(),
}

// besiege asks again and again, every two seconds, on a connection that is opened
// anew whenever it was closed.
func besiege(ctx context.Context, addr, says string, asked, open *atomic.Int64) {
	pause := time.NewTicker(2 * time.Second)
	defer pause.Stop()
	for ctx.Err() == nil {
		if c, err := net.Dial("tcp", addr); err == nil {
			open.Add(1)
			left := context.AfterFunc(ctx, func() { c.Close() })
			go io.Copy(io.Discard, c)
			for ctx.Err() == nil {
				if _, err := io.WriteString(c, says); err != nil {
					break
				}
				asked.Add(1)
				select {
				case <-pause.C:
				case <-ctx.Done():
				}
			}
			left()
			c.Close()
			open.Add(-1)
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// ownSent is what became of our own deliveries.
type ownSent struct {
	all     int
	refused []string
	slowest time.Duration
}

// sendOwn sends as our own webhook does, 200 a second, every other one on a
// connection of its own.
func (r *rig) sendOwn(t *testing.T, lasts time.Duration) (sent ownSent) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	next := time.NewTimer(0)
	defer next.Stop()
	began := time.Now()
	for n := range int(lasts / (5 * time.Millisecond)) {
		<-next.C
		next.Reset(time.Until(began.Add(time.Duration(n+1) * 5 * time.Millisecond))) // at once where it is late
		client := r.client
		if n%2 == 0 {
			client = fresh
		}
		sent.all++
		all.Go(func() {
			began := time.Now()
			a, err := ownDelivery(client, r.addr, completed(n+1), fmt.Sprint("msg_", n))
			mu.Lock()
			defer mu.Unlock()
			sent.slowest = max(sent.slowest, time.Since(began))
			if err != nil || a.status != http.StatusOK {
				sent.refused = append(sent.refused, fmt.Sprintf("%d %s %v", a.status, a.body, err))
			}
		})
	}
	all.Wait()
	return sent
}

// ownDelivery sends a body as our own webhook does: signed, and proven by its
// headers.
func ownDelivery(client *http.Client, addr, body, id string) (reply, error) {
	req, err := ownRequest(addr, body, id)
	if err != nil {
		return reply{}, err
	}
	res, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	return readReply(res)
}

func ownRequest(addr, body, id string) (*http.Request, error) {
	now := time.Now()
	signature, err := Sign(signing, id, now, []byte(body))
	if err != nil {
		return nil, err
	}
	proof, err := Prove(signing, id, now)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(http.MethodPost, "http://"+addr+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "webhook-id": id, "webhook-timestamp": fmt.Sprint(now.Unix()),
		"webhook-signature": signature, "webhook-proof": proof,
	} {
		req.Header.Set(name, value)
	}
	return req, nil
}

var quiet = slog.New(slog.DiscardHandler)

// metricOf adds up a metric over its labels.
func metricOf(t *testing.T, r *rig, name string) (sum float64) {
	t.Helper()
	families, err := r.server.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// traced returns a context that notes whether a connection was used again.
func traced(t *testing.T, reused *bool) context.Context {
	return httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { *reused = info.Reused }})
}
