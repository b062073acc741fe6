package harness

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// opaque is a scenario whose engine runs a function and a trigger of which it
// sees nothing but that they ran.
func opaque(fails bool) func(*Sim) {
	return func(s *Sim) {
		for _, name := range []string{"one", "two"} {
			s.Go(name, func(context.Context) error {
				if err := s.Step("select f()"); err != nil {
					return err
				}
				s.x.unexplored("the trigger g")
				s.x.unexplored("the function f")
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
	r := Explore(t, opaque(false))
	if want := []string{"the function f", "the trigger g"}; !slices.Equal(r.Unexplored, want) {
		t.Errorf("unexplored %q, want %q", r.Unexplored, want)
	}
	if got, want := r.String(), "2 schedules, all orders"+butFor+", 0 failing"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	if s := testOf("TestIt", opaque(false)); !strings.Contains(s.logs.String(), "all orders"+butFor) {
		t.Errorf("the log says %s", s.logs.String())
	}
	r = Explore(t, opaque(true))
	if got := r.Report.String(); !strings.Contains(got, "the last of which fails"+butFor+"\n") {
		t.Errorf("the report says\n%s", got)
	}
	defer func(before string) { *flagReplay = before }(*flagReplay)
	*flagReplay = "o1t1"
	if s := testOf("TestIt", opaque(false)); !strings.Contains(s.logs.String(), "passes"+butFor) {
		t.Errorf("a replay says %s", s.logs.String())
	}
	if s := testOf("TestIt", opaque(true)); !strings.Contains(s.failed.String(), "the schedule of the command line alone"+butFor) {
		t.Errorf("a replay says %s", s.failed.String())
	}
	if got := butForOne(t); got != "1 schedule, all orders, but for what happens inside the function f, 0 failing" {
		t.Errorf("it says %q", got)
	}
}

func butForOne(t *testing.T) string {
	return Explore(t, func(s *Sim) { s.x.unexplored("the function f") }).String()
}

// TestWhatWasNotScheduledFailsTheSchedule whenever the engine notices it, from
// whatever goroutine, and whatever else goes wrong.
func TestWhatWasNotScheduledFailsTheSchedule(t *testing.T) {
	const sentence = "one has sent a statement by a connection that the harness does not know"
	stray := func(run *execution) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			run.unscheduled(sentence)
		}()
		<-done
	}
	for name, scenario := range map[string]func(*Sim){
		"within a step": func(s *Sim) {
			s.Go("one", func(context.Context) error {
				err := s.Step("goes")
				stray(s.run)
				return errors.Join(err, s.Step("goes on"))
			})
		},
		"beside another failure": func(s *Sim) {
			s.Go("one", func(context.Context) error {
				stray(s.run)
				return errors.New("no luck")
			})
		},
		"in the setup": func(s *Sim) { stray(s.run) },
		"by an oracle": func(s *Sim) { s.Eventually("it holds", func() error { stray(s.run); return nil }) },
		"when the engine is taken down": func(s *Sim) {
			s.OnEnd(func() { stray(s.run) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := Explore(t, scenario)
			mustFail(t, r, "unscheduled", sentence)
			if got := r.Report.String(); !strings.Contains(got, "VIOLATED  unscheduled    "+sentence) {
				t.Errorf("it says\n%s", got)
			}
		})
	}
	t.Run("after the last schedule", func(t *testing.T) {
		x := newExplorer(t, func(s *Sim) {}, nil)
		defer x.close()
		runs := 0 // the second is the last, which looks for what must be seen
		x.observeEnd = func(r *execution) {
			if runs++; runs == 2 {
				stray(r)
			}
		}
		r := &Result{}
		x.explore(r)
		if r.Failure == nil || r.Failure.Kind != "unscheduled" || r.Report == nil {
			t.Errorf("got %+v", r.Failure)
		}
	})
	t.Run("in the last schedule", func(t *testing.T) {
		runs := 0
		r := Explore(t, func(s *Sim) {
			if runs++; runs == 2 {
				stray(s.run)
			}
		})
		if r.Failure == nil || r.Failure.Kind != "unscheduled" {
			t.Errorf("got %+v", r.Failure)
		}
	})
	t.Run("nothing is kept of it", func(t *testing.T) {
		t.Chdir(t.TempDir())
		s := testOf("TestIt", func(s *Sim) { stray(s.run) })
		if got := s.failed.String(); !strings.Contains(got, sentence) || strings.Contains(got, "saved") {
			t.Errorf("it says %s", got)
		}
	})
}
