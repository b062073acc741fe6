package harness_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// opaque is a scenario whose engine runs a function and a trigger of which it
// sees nothing but that they ran.
func opaque(fails bool) func(*harness.Sim) {
	return func(s *harness.Sim) {
		for _, name := range []string{"one", "two"} {
			s.Go(name, func(context.Context) error {
				if err := s.Step("select f()"); err != nil {
					return err
				}
				s.Engine().Unexplored("the trigger g")
				s.Engine().Unexplored("the function f")
				if fails {
					return errors.New("no luck")
				}
				return nil
			})
		}
	}
}

func TestAVerdictNamesWhatWasNotExplored(t *testing.T) {
	t.Chdir(t.TempDir())
	const butFor = ", but for what happens inside the function f and the trigger g"
	r := harness.Explore(t, opaque(false))
	if want := []string{"the function f", "the trigger g"}; !slices.Equal(r.Unexplored, want) {
		t.Errorf("unexplored %q, want %q", r.Unexplored, want)
	}
	if got, want := r.String(), "2 schedules, all orders"+butFor+", 0 failing"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	if s := harnesstest.Of("TestIt", opaque(false)); !strings.Contains(s.Logs.String(), "all orders"+butFor) {
		t.Errorf("the log says %s", s.Logs.String())
	}
	r = harness.Explore(t, opaque(true))
	if got := r.Report.String(); !strings.Contains(got, "the last of which fails"+butFor+"\n") {
		t.Errorf("the report says\n%s", got)
	}
	setFlag(t, "harness.replay", "o1t1")
	if s := harnesstest.Of("TestIt", opaque(false)); !strings.Contains(s.Logs.String(), "passes"+butFor) {
		t.Errorf("a replay says %s", s.Logs.String())
	}
	if s := harnesstest.Of("TestIt", opaque(true)); !strings.Contains(s.Errors.String(), "the schedule of the command line alone"+butFor) {
		t.Errorf("a replay says %s", s.Errors.String())
	}
	if got := butForOne(t); got != "1 schedule, all orders, but for what happens inside the function f, 0 failing" {
		t.Errorf("it says %q", got)
	}
}

func butForOne(t *testing.T) string {
	return harness.Explore(t, func(s *harness.Sim) { s.Engine().Unexplored("the function f") }).String()
}

// TestWhatWasNotScheduledFailsTheSchedule whenever the engine notices it, from
// whatever goroutine, and whatever else goes wrong.
func TestWhatWasNotScheduledFailsTheSchedule(t *testing.T) {
	const sentence = "one has sent a statement by a connection that the harness does not know"
	stray := func(s *harness.Sim) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Engine().Unscheduled(sentence)
		}()
		<-done
	}
	for name, scenario := range map[string]func(*harness.Sim){
		"within a step": func(s *harness.Sim) {
			s.Go("one", func(context.Context) error {
				err := s.Step("goes")
				stray(s)
				return errors.Join(err, s.Step("goes on"))
			})
		},
		"beside another failure": func(s *harness.Sim) {
			s.Go("one", func(context.Context) error {
				stray(s)
				return errors.New("no luck")
			})
		},
		"in the setup": func(s *harness.Sim) { stray(s) },
		"by an oracle": func(s *harness.Sim) { s.Eventually("it holds", func() error { stray(s); return nil }) },
		"when the engine is taken down": func(s *harness.Sim) {
			s.OnEnd(func() { stray(s) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := harness.Explore(t, scenario)
			harnesstest.MustFail(t, r, "unscheduled", sentence)
			if got := r.Report.String(); !strings.Contains(got, "VIOLATED  unscheduled    "+sentence) {
				t.Errorf("it says\n%s", got)
			}
		})
	}
	t.Run("after the last schedule", func(t *testing.T) {
		runs := 0 // the second is the last, which looks for what must be seen
		var last *harness.Sim
		r := harness.ExploreBefore(t, harness.Eyes{End: func(harness.Seen) {
			if runs++; runs == 2 {
				stray(last)
			}
		}}, func(s *harness.Sim) { last = s })
		if r.Failure == nil || r.Failure.Kind != "unscheduled" || r.Report == nil {
			t.Errorf("got %+v", r.Failure)
		}
	})
	t.Run("in the last schedule", func(t *testing.T) {
		runs := 0
		r := harness.Explore(t, func(s *harness.Sim) {
			if runs++; runs == 2 {
				stray(s)
			}
		})
		if r.Failure == nil || r.Failure.Kind != "unscheduled" {
			t.Errorf("got %+v", r.Failure)
		}
	})
	t.Run("nothing is kept of it", func(t *testing.T) {
		t.Chdir(t.TempDir())
		s := harnesstest.Of("TestIt", func(s *harness.Sim) { stray(s) })
		if got := s.Errors.String(); !strings.Contains(got, sentence) || strings.Contains(got, "saved") {
			t.Errorf("it says %s", got)
		}
	})
}
