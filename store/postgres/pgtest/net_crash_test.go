package pgtest

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
)

func TestADeadWorkerSendsNothing(t *testing.T) {
	address := Supabase(t)
	n := StartNet(t, address)
	const (
		up   = `select net.check_worker_is_up()`
		seen = `select count(*) from pg_stat_activity where datname = current_database() and application_name = 'pg_net 0.20.4'`
	)
	eventually(t, seen+" is 1", func() bool { return ask(t, address, seen) == "1" })
	ask(t, address, up)
	n.Stop()
	n.Stop()
	eventually(t, seen+" is 0", func() bool { return ask(t, address, seen) == "0" })
	if got := refused(t, address, up); got != "P0001" {
		t.Errorf("a dead worker: got %s, want P0001", got)
	}
	b := listen(t, nil)
	post(t, address, b.url, 3)
	if got := ask(t, address, `select count(*) from net.http_request_queue`); got != "3" || len(b.bodies()) != 0 {
		t.Errorf("got %s queued and %d sent, want all queued", got, len(b.bodies()))
	}
	n.Start()
	n.Idle(t)
	if got := len(b.bodies()); got != 3 {
		t.Errorf("got %d, want 3", got)
	}
}

func TestACancelledWorkerSendsItsWholeBatchAgain(t *testing.T) {
	address := Supabase(t)
	n := StartNet(t, address)
	n.Stop()
	b := listen(t, nil)
	post(t, address, b.url, 50)
	n.Start()
	n.Cancel(t)
	n.Idle(t)
	times := func() map[int]int {
		count, times := map[string]int{}, map[int]int{}
		for _, body := range b.bodies() {
			count[body]++
		}
		for _, n := range count {
			times[n]++
		}
		return times
	}
	// What was sent before it broke off may take a while to be read.
	eventually(t, "each came twice", func() bool { return times()[2] == 50 })
	if got := ask(t, address, `select count(*) from net._http_response`); got != "50" {
		t.Errorf("got %s answers, want those of the second time", got)
	}
}

func TestKillLosesTheQueue(t *testing.T) {
	address := Supabase(t)
	n := StartNet(t, address)
	b := listen(t, nil)
	post(t, address, b.url, 2)
	n.Idle(t)
	n.Stop()
	post(t, address, b.url, 1000)
	n.Kill(t)
	n.Start()
	n.Idle(t)
	if got := len(b.bodies()); got != 2 {
		t.Errorf("got %d requests, want the 2 from before", got)
	}
	if got := ask(t, address, `select count(*) from net._http_response`); got != "0" {
		t.Errorf("got %s answers, want none", got)
	}
	if got := ask(t, address, `select net.http_post('`+b.url+`')`); got != "1" {
		t.Errorf("got request %s, want them numbered from 1 again", got)
	}
}

// What Kill does is what a crash does.
func TestACrashLosesTheQueue(t *testing.T) {
	s := NewServer(t)
	address := s.Database(t)
	n := StartNet(t, address)
	wait, release := gate()
	var broken atomic.Int32
	b := listen(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
			broken.Add(1)
		case <-wait:
		}
	})
	t.Cleanup(release)
	post(t, address, b.url, 1000)
	eventually(t, "a batch is under way", func() bool { return len(b.bodies()) == 200 })
	s.Kill(t)
	// The worker dies with its server.
	eventually(t, "it broke off", func() bool { return broken.Load() == 200 })
	s.Start(t)
	release()
	n.Idle(t)
	if got := len(b.bodies()); got != 200 {
		t.Errorf("got %d requests, want those that were under way", got)
	}
	if got := ask(t, address, `select net.http_post('`+b.url+`')`); got != "1" {
		t.Errorf("got request %s, want them numbered from 1 again", got)
	}
	n.Idle(t)
	if got := ask(t, address, `select string_agg(id || ' ' || status_code, ',') from net._http_response`); got != "1 200" {
		t.Errorf("got %s, want the answer of the new one alone", got)
	}
}

func TestAConnectionThatIsClosedDuplicates(t *testing.T) {
	address := Supabase(t)
	n := StartNet(t, address)
	for _, c := range []struct {
		kept, closes int // connections, and how many of them eat what they get
		want         int
		answer       string
	}{
		{kept: 1, closes: 9, want: 2, answer: curlNothing},
		{kept: 3, closes: 9, want: 4, answer: curlNothing},
		{kept: 9, closes: 9, want: 6, answer: curlGaveUp},
		{kept: 9, closes: 2, want: 3, answer: "200"},
	} {
		t.Run(fmt.Sprintf("%d are kept, %d are closed", c.kept, c.closes), func(t *testing.T) {
			n.Stop()
			b := listen(t, barrier(c.kept))
			post(t, address, b.url, c.kept)
			n.Start()
			n.Idle(t)
			var closed atomic.Int32
			b.answers(func(http.ResponseWriter, *http.Request) {
				if closed.Add(1) <= int32(c.closes) {
					panic(http.ErrAbortHandler)
				}
			})
			id := ask(t, address, `select net.http_post('`+b.url+`')`)
			n.Idle(t)
			if got := len(b.bodies()); got != c.want {
				t.Errorf("got %d requests, want %d", got, c.want)
			}
			if got := ask(t, address, `select coalesce(status_code::text, error_msg) from net._http_response where id = `+id); got != c.answer {
				t.Errorf("got %s, want %s", got, c.answer)
			}
		})
	}
}
