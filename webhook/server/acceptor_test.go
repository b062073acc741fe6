package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/wait"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/console"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

func TestCaseD1_StrangersConnectionsCostAKnownOneNeitherItsOwnNorANewOne(t *testing.T) {
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
	wait.Until(t, "strangers were closed", func() bool { return metricOf(t, r, "runcounter_connection_events_total") >= 40 })
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
		cfg.Console, cfg.Users, cfg.Log = &console.Settings{}, project, quiet
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
	wait.Until(t, "most of them are there", func() bool { return open.Load() > int64(strangers) && asked.Load() > int64(4*strangers) })

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
	rawRequest{auth: "none", body: completed(1)}.String(),
	rawRequest{auth: "none", length: "100000", body: "[", headers: []string{
		"webhook-id: msg_1", fmt.Sprintf("webhook-timestamp: %d", time.Now().Unix()), "webhook-signature: v1," + strings.Repeat("A", 43) + "="}}.String(),
	rawRequest{method: "GET", path: "/v1/counts/stream?workflow_id=" + workflow, kind: "none", auth: "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0." + strings.Repeat("A", 43)}.String(),
	rawRequest{path: "/sign-in", auth: "none", kind: "application/x-www-form-urlencoded", body: "name=me&key=guess"}.String(),
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
// connection of its own, the others on sixteen that are kept. Each of these is one
// client's: a client with several opens some that it uses only later, which a server
// can't tell from a stranger's until then.
func (r *rig) sendOwn(t *testing.T, lasts time.Duration) (sent ownSent) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	kept := make([]*http.Client, 16)
	for i := range kept {
		transport := &http.Transport{MaxConnsPerHost: 1}
		defer transport.CloseIdleConnections()
		kept[i] = &http.Client{Transport: transport}
	}
	next := time.NewTimer(0)
	defer next.Stop()
	began := time.Now()
	for n := range int(lasts / (5 * time.Millisecond)) {
		<-next.C
		next.Reset(time.Until(began.Add(time.Duration(n+1) * 5 * time.Millisecond))) // at once where it is late
		client := kept[n/2%len(kept)]
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
	signature, err := webhook.Sign(signing, id, now, []byte(body))
	if err != nil {
		return nil, err
	}
	proof, err := webhook.Prove(signing, id, now)
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
	families, err := r.server.registry.Gather()
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
