package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/internal/wait"
	"github.com/edgaze-ai/runcounter/store"
)

// door holds each Apply until it is opened.
type door struct {
	arrived chan int // the length of the batch that stands before it
	open    chan struct{}
}

func newDoor() *door { return &door{make(chan int, 1024), make(chan struct{})} }

func (d *door) pass(ctx context.Context, changes []store.Change) error {
	d.arrived <- len(changes)
	select {
	case <-d.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// later delivers in the background.
func (r *rig) later(body string) <-chan reply {
	done := make(chan reply, 1)
	go func() {
		a, err := r.try("POST", path, body, "Authorization: Bearer "+token)
		if err != nil {
			a = reply{body: []byte(err.Error())}
		}
		done <- a
	}()
	return done
}

func TestWhatPilesUpIsCommittedTogether(t *testing.T) {
	d := newDoor()
	r := serve(t, func(_ *Config, _ *limits, g *gated) { g.before = d.pass })
	replies := []<-chan reply{r.later(completed(0))}
	wait.For(t, "a batch stands before the door", d.arrived) // the first stands before the door alone
	const others = 40
	for i := range others {
		replies = append(replies, r.later(completed(1+i)))
	}
	wait.Until(t, "all others wait in the queue", func() bool { return r.server.receiver.Waiting() == others })
	close(d.open)
	for _, reply := range replies {
		if a := wait.For(t, "the answer", reply).answer(t); a.Changed != 1 {
			t.Errorf("got %+v, want one change", a)
		}
	}
	if diff := cmp.Diff([]int{1, others}, r.store.batches); diff != "" {
		t.Errorf("the batches (-want +got):\n%s", diff)
	}
	if got := r.counted(); got != others+1 {
		t.Errorf("the count: got %d, want %d", got, others+1)
	}
}

func TestABatchHoldsAtMost256ChangesOrOneLargeDelivery(t *testing.T) {
	d := newDoor()
	r := serve(t, func(_ *Config, _ *limits, g *gated) { g.before = d.pass })
	replies := []<-chan reply{r.later(completed(0))}
	wait.For(t, "a batch stands before the door", d.arrived)
	for i, count := range []int{60, 60, 60, 60, 60, 1000, 60} {
		replies = append(replies, r.later(batchOf(10_000*(i+1), count)))
		wait.Until(t, "the delivery waits in the queue", func() bool { return r.server.receiver.Waiting() == i+1 })
	}
	close(d.open)
	for _, reply := range replies {
		wait.For(t, "the answer", reply).answer(t)
	}
	if diff := cmp.Diff([]int{1, 240, 60, 1000, 60}, r.store.batches); diff != "" {
		t.Errorf("the batches (-want +got):\n%s", diff)
	}
}

func TestAnAnswerComesAfterTheCommitOnly(t *testing.T) {
	d := newDoor()
	r := serve(t, func(_ *Config, _ *limits, g *gated) { g.before = d.pass })
	c := r.dial()
	defer c.Close()
	if _, err := io.WriteString(c, rawRequest{body: completed(1)}.String()); err != nil {
		t.Fatal(err)
	}
	wait.For(t, "a batch stands before the door", d.arrived)
	// What was written before the door would be here by then.
	if err := c.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatalf("read %d bytes and %v before the commit, want none", n, err)
	}
	close(d.open)
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readReply(res)
	if err != nil {
		t.Fatal(err)
	}
	if a := got.answer(t); a.Changed != 1 {
		t.Errorf("got %+v, want one change", a)
	}
}

func TestADatabaseThatIsDownIsTriedThreeTimes(t *testing.T) {
	r := serve(t, func(_ *Config, _ *limits, g *gated) {
		g.before = func(context.Context, []store.Change) error { return fmt.Errorf("apply: %w", store.ErrUnavailable) }
	})
	got := r.deliver(completed(1))
	if got.status != http.StatusServiceUnavailable {
		t.Fatalf("got %d %s, want 503", got.status, got.body)
	}
	got.problem(t)
	if after, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || after < 1 {
		t.Errorf("Retry-After: got %q, want whole seconds", got.header.Get("Retry-After"))
	}
	if tries := r.store.applies.Load(); tries != maxTries {
		t.Errorf("the store was called %d times, want %d", tries, maxTries)
	}
	if letters := r.store.kept(); len(letters) != 0 {
		t.Errorf("%d dead letters were kept of a delivery that can be sent again", len(letters))
	}
}

func TestADatabaseThatComesBackIsNotNoticed(t *testing.T) {
	var calls atomic.Int64
	r := serve(t, func(_ *Config, _ *limits, g *gated) {
		g.before = func(context.Context, []store.Change) error {
			if calls.Add(1) < maxTries {
				return store.ErrUnavailable
			}
			return nil
		}
	})
	if a := r.deliver(completed(1)).answer(t); a.Changed != 1 || r.counted() != 1 {
		t.Errorf("got %+v and the count %d, want 1 and 1", a, r.counted())
	}
}

func TestADatabaseThatHangsIsNotAvailable(t *testing.T) {
	d := newDoor()
	r := serve(t, func(_ *Config, l *limits, g *gated) { g.before, l.call = d.pass, 50*time.Millisecond })
	if got := r.deliver(completed(1)); got.status != http.StatusServiceUnavailable {
		t.Errorf("got %d %s, want 503", got.status, got.body)
	}
}

func TestAPoisonousDeliveryFailsAlone(t *testing.T) {
	for _, poison := range []struct {
		name string
		fail func() error
	}{
		{"the store returns an error", func() error { return errors.New("a constraint failed") }},
		{"the store panics", func() error { panic("a bug") }},
	} {
		t.Run(poison.name, func(t *testing.T) {
			d := newDoor()
			r := serve(t, func(_ *Config, _ *limits, g *gated) {
				g.before = func(ctx context.Context, changes []store.Change) error {
					for _, c := range changes {
						if c.ID().String() == runID(3) {
							return poison.fail()
						}
					}
					return d.pass(ctx, changes)
				}
			})
			replies := []<-chan reply{r.later(completed(0))}
			wait.For(t, "a batch stands before the door", d.arrived)
			for i := 1; i <= 5; i++ {
				replies = append(replies, r.later(completed(i)))
			}
			wait.Until(t, "five wait in the queue", func() bool { return r.server.receiver.Waiting() == 5 })
			close(d.open)
			for i, reply := range replies {
				got, want := wait.For(t, "the answer", reply), http.StatusOK
				if i == 3 {
					want = http.StatusInternalServerError
				}
				if got.status != want {
					t.Errorf("delivery %d: got %d %s, want %d", i, got.status, got.body, want)
				}
				if strings.Contains(string(got.body), "a constraint failed") || strings.Contains(string(got.body), "a bug") {
					t.Errorf("the answer tells internals: %s", got.body)
				}
			}
			if got := r.counted(); got != 5 {
				t.Errorf("the count: got %d, want the five neighbours", got)
			}
			if letters := r.store.kept(); len(letters) != 0 {
				t.Errorf("%d dead letters were kept of what failed for the store's sake", len(letters))
			}
		})
	}
}

func TestAFullRoomRefusesAndLosesNothing(t *testing.T) {
	d := newDoor()
	r := serve(t, func(cfg *Config, l *limits, g *gated) { cfg.AdmissionTimeout, l.known.Slots, g.before = 0, 3, d.pass })
	var accepted []<-chan reply
	for i := range 3 {
		accepted = append(accepted, r.later(completed(i)))
	}
	wait.Until(t, "all places are taken", func() bool { return r.known().Slots == 3 })
	got := r.deliver(completed(3))
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
		t.Errorf("got %d with Retry-After %q, want 503 and a time", got.status, got.header.Get("Retry-After"))
	}
	got.problem(t)
	close(d.open)
	for _, reply := range accepted {
		wait.For(t, "the answer", reply).answer(t)
	}
	if a := r.deliver(completed(3)).answer(t); a.Changed != 1 || r.counted() != 4 {
		t.Errorf("sent again: got %+v and the count %d, want one change and 4", a, r.counted())
	}
}

func TestAMirrorPausesBeforeItRefuses(t *testing.T) {
	d := newDoor()
	r := serve(t, func(cfg *Config, l *limits, g *gated) {
		cfg.AdmissionTimeout, l.known.Slots, g.before = 10*time.Second, 1, d.pass
	})
	first := r.later(completed(1))
	wait.For(t, "a batch stands before the door", d.arrived)
	second := r.later(completed(2))
	wait.Until(t, "both have arrived", func() bool { return r.server.app.Server().GetCurrentConcurrency() == 2 })
	close(d.open)
	wait.For(t, "the answer", first).answer(t)
	wait.For(t, "the answer", second).answer(t)
	if got := r.counted(); got != 2 {
		t.Errorf("the count: got %d, want 2", got)
	}
}

func TestALargeDeliveryNeedsALargePlace(t *testing.T) {
	d := newDoor()
	r := serve(t, func(cfg *Config, l *limits, g *gated) { cfg.AdmissionTimeout, l.known.Large, g.before = 0, 1, d.pass })
	first := r.later(batchOf(0, 100))
	wait.For(t, "a batch stands before the door", d.arrived)
	if got := r.deliver(batchOf(200, 100)); got.status != http.StatusServiceUnavailable {
		t.Errorf("the second large one: got %d %s, want 503", got.status, got.body)
	}
	small := r.later(completed(500))
	close(d.open)
	wait.For(t, "the answer", first).answer(t)
	wait.For(t, "the answer", small).answer(t)
	if a := r.deliver(batchOf(200, 100)).answer(t); a.Changed != 100 {
		t.Errorf("the second again: got %+v, want 100 changes", a)
	}
	if got := r.known().Large; got != 0 {
		t.Errorf("%d large places are still taken", got)
	}
}

func TestAHugeDeliveryNeedsAHugePlace(t *testing.T) {
	d := newDoor()
	r := serve(t, func(cfg *Config, l *limits, g *gated) { cfg.AdmissionTimeout, l.known.Huge, g.before = 0, 1, d.pass })
	first := r.later(batchOf(0, 600))
	wait.For(t, "a batch stands before the door", d.arrived)
	if got := r.deliver(batchOf(1000, 600)); got.status != http.StatusServiceUnavailable {
		t.Errorf("the second huge one: got %d %s, want 503", got.status, got.body)
	}
	large := r.later(batchOf(2000, 500))
	close(d.open)
	wait.For(t, "the answer", first).answer(t)
	wait.For(t, "the answer", large).answer(t)
	if h, l := r.known().Huge, r.known().Large; h+l != 0 {
		t.Errorf("%d huge and %d large places are still taken", h, l)
	}
}

func TestASenderThatLeavesCancelsNothing(t *testing.T) {
	d := newDoor()
	r := serve(t, func(_ *Config, _ *limits, g *gated) { g.before = d.pass })
	c := r.dial()
	if _, err := io.WriteString(c, rawRequest{body: completed(1)}.String()); err != nil {
		t.Fatal(err)
	}
	wait.For(t, "a batch stands before the door", d.arrived)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	close(d.open)
	wait.Until(t, "the commit of a sender that left", func() bool { return r.counted() == 1 })
}

func TestShutdownFinishesWhatWasAccepted(t *testing.T) {
	d := newDoor()
	r := serve(t, func(_ *Config, _ *limits, g *gated) { g.before = d.pass })
	replies := []<-chan reply{r.later(completed(0))}
	wait.For(t, "a batch stands before the door", d.arrived)
	for i := 1; i < 5; i++ {
		replies = append(replies, r.later(completed(i)))
	}
	wait.Until(t, "one commits and four wait", func() bool { return r.server.receiver.Waiting() == 4 })
	stopped := make(chan error, 1)
	go func() { stopped <- r.server.Shutdown(context.Background()) }()
	wait.Until(t, "nobody new gets in", func() bool {
		c, err := http.Get("http://" + r.addr + "/livez")
		if err == nil {
			c.Body.Close()
		}
		return err != nil
	})
	select {
	case err := <-stopped:
		t.Fatalf("Shutdown returned %v before the queue was empty", err)
	default:
	}
	close(d.open)
	for _, reply := range replies {
		wait.For(t, "the answer", reply).answer(t)
	}
	if err := wait.For(t, "the end of Shutdown", stopped); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if got := r.counted(); got != 5 {
		t.Errorf("the count: got %d, want 5", got)
	}
}

func TestShutdownGivesUpWhenItsTimeIsOver(t *testing.T) {
	d := newDoor()
	r := serve(t, func(_ *Config, _ *limits, g *gated) { g.before = d.pass })
	waiting := r.later(completed(1))
	wait.For(t, "a batch stands before the door", d.arrived)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := r.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: got %v, want %v", err, context.DeadlineExceeded)
	}
	if got := wait.For(t, "the answer", waiting); got.status != http.StatusServiceUnavailable {
		t.Errorf("the delivery that was given up: got %d %s, want 503", got.status, got.body)
	}
	if got := r.counted(); got != 0 {
		t.Errorf("the count: got %d, want 0", got)
	}
}
