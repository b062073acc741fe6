package harness_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/engine"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
	"github.com/edgaze-ai/runcounter/internal/need"
)

// elsewhere is what an engine says of an actor whose statements come from another
// process.
func elsewhere(s *harness.Sim, name string, left func(engine.Actor)) engine.Host {
	host := s.Engine()
	host.Outside()
	host.Unsteady()
	host.Addressed(name, left)
	return host
}

// TestAProcessThatSendsNothing fails the test by a sentence that names its actor,
// and ends.
func TestAProcessThatSendsNothing(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	s := harnesstest.Of("TestQuiet", func(s *harness.Sim) {
		elsewhere(s, "quiet", func(engine.Actor) {})
		s.Go("quiet", func(ctx context.Context) error {
			defer close(ended)
			<-ctx.Done()
			return ctx.Err()
		})
	}, harness.WithQuiet(20*time.Millisecond))
	if want := "for 20ms the actor quiet has sent nothing to its address, and its function has not returned"; !strings.Contains(s.Errors.String(), want) {
		t.Errorf("%q is not in %s", want, &s.Errors)
	}
	need.Await(t, "the end of the function", ended)
}

// TestWhatComesFromElsewhereIsAStep of its actor while that runs, one after the
// other; and is refused before and afterwards.
func TestWhatComesFromElsewhereIsAStep(t *testing.T) {
	t.Parallel()
	orders, left := map[string]bool{}, 0
	r := harness.Explore(t, func(s *harness.Sim) {
		host := elsewhere(s, "remote", func(engine.Actor) { left++ })
		order := ""
		if err := host.Ask("remote", func(engine.Actor) { order += "early" }); !errors.Is(err, engine.ErrIdle) {
			t.Errorf("before it has begun: %v", err)
		}
		step := func(name string) func(a engine.Actor) {
			return func(a engine.Actor) {
				if _, err := a.Gate(engine.Op{Text: name, Foot: engine.Footprint{Everything: true}}); err == nil {
					order += name
				}
			}
		}
		s.Go("remote", func(context.Context) error {
			said := make(chan error)
			go func() { // as a process would
				said <- errors.Join(host.Ask("remote", step("a")), host.Ask("remote", step("b")))
			}()
			return <-said
		})
		s.Go("here", func(context.Context) error {
			err := s.Step("c")
			order += "c"
			return err
		})
		s.Eventually("it has returned", func() error {
			orders[order] = true
			if err := host.Ask("remote", func(engine.Actor) { order += "late" }); !errors.Is(err, engine.ErrIdle) {
				t.Errorf("when it has returned: %v", err)
			}
			return nil
		})
	})
	if r.Failure != nil || r.Schedules() != 3 || len(orders) != 3 || !orders["abc"] || !orders["acb"] || !orders["cab"] || left < 3 {
		t.Errorf("%s: %v, left %d times", r, orders, left)
	}
}

// TestACrashEndsTheFunctionOfAProcess by its context, and what its process sends
// then is told so.
func TestACrashEndsTheFunctionOfAProcess(t *testing.T) {
	t.Parallel()
	crashes, told := 0, map[string]bool{}
	r := harness.Explore(t, func(s *harness.Sim) {
		host := elsewhere(s, "remote", func(a engine.Actor) {
			if err := a.Dead(); err != nil {
				crashes++
				told[host(s).Ask("remote", func(engine.Actor) {}).Error()] = true
			}
		})
		s.Go("remote", func(ctx context.Context) error {
			var failed error
			err := host.Ask("remote", func(a engine.Actor) {
				_, failed = a.Gate(engine.Op{Text: "a", Foot: engine.Footprint{Everything: true}, Last: true})
			})
			if failed != nil {
				<-ctx.Done()
			}
			return errors.Join(err, failed)
		}, harness.MayCrash())
	})
	if r.Failure != nil || crashes == 0 || len(told) != 1 || !told["harness: the process crashed"] {
		t.Errorf("%s: %d crashes, told %v", r, crashes, told)
	}
}

func host(s *harness.Sim) engine.Host { return s.Engine() }

// TestAnAddressIsOfOneActor alone.
func TestAnAddressIsOfOneActor(t *testing.T) {
	t.Parallel()
	defer func() {
		if v, _ := recover().(string); !strings.Contains(v, "2 actors are called twin") {
			t.Errorf("got %q", v)
		}
	}()
	harness.Explore(t, func(s *harness.Sim) {
		elsewhere(s, "twin", func(engine.Actor) {})
		for range 2 {
			s.Go("twin", func(context.Context) error { return nil })
		}
	})
}
