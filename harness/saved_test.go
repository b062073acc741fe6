package harness_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// keep puts a schedule where a test that is named TestIt finds it.
func keep(t *testing.T, text string) (file string) {
	t.Helper()
	t.Chdir(t.TempDir())
	file = filepath.Join("testdata", "schedules", "TestIt-0001.schedule")
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o750), os.WriteFile(file, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	return file
}

// inOrder has actors that take two steps each, and keeps the order in which the
// first schedule had them.
func inOrder(order *[]string, names ...string) func(*harness.Sim) {
	first := true
	return func(s *harness.Sim) {
		for _, name := range names {
			s.Go(name, func(context.Context) error {
				for range 2 {
					if err := s.Step("goes"); err != nil {
						return err
					}
					if first {
						*order = append(*order, name)
					}
				}
				return nil
			})
		}
		s.OnEnd(func() { first = false })
	}
}

// TestAKeptScheduleNamesItsActors whatever letters they have by now.
func TestAKeptScheduleNamesItsActors(t *testing.T) {
	const kept = "w1r2w1\nactors: w \"worker\", r \"reaper\"\n\n  VIOLATED …\n"
	want := []string{"worker", "reaper", "reaper", "worker"}
	for name, actors := range map[string][]string{
		"as they were":                     {"worker", "reaper"},
		"in another order":                 {"reaper", "worker"},
		"with one whose name begins alike": {"watcher", "worker", "reaper"},
		"with one that takes both letters": {"w", "r", "worker", "reaper"},
	} {
		t.Run(name, func(t *testing.T) {
			keep(t, kept)
			var order []string
			s := harnesstest.Of("TestIt", inOrder(&order, actors...))
			if s.Errors.Len() > 0 || !slices.Equal(order[:4], want) {
				t.Errorf("it went in the order %q, want %q; %s", order, want, s.Errors.String())
			}
		})
	}
	t.Run("of whom two have one name", func(t *testing.T) {
		keep(t, "z1y2z1\nactors: z \"worker\", y \"worker\"\n")
		var order []string
		if s := harnesstest.Of("TestIt", inOrder(&order, "other", "worker", "worker")); s.Errors.Len() > 0 {
			t.Error(s.Errors.String())
		}
	})
	t.Run("and what it leaves out", func(t *testing.T) {
		keep(t, "w2!r\nactors: w \"worker\", r \"reaper\"\n")
		var order []string
		s := harnesstest.Of("TestIt", inOrder(&order, "reaper", "worker"))
		if want := []string{"worker", "worker"}; s.Errors.Len() > 0 || !slices.Equal(order, want) {
			t.Errorf("it went in the order %q, want %q; %s", order, want, s.Errors.String())
		}
	})
	t.Run("and what it leaves out, that is gone anyway", func(t *testing.T) {
		keep(t, "w2!r!r.1\nactors: w \"worker\", r \"reaper\"\n")
		var order []string
		if s := harnesstest.Of("TestIt", inOrder(&order, "worker")); s.Errors.Len() > 0 {
			t.Error(s.Errors.String())
		}
	})
}

// TestAKeptScheduleThatDoesNotFitFails until it is looked at: a regression test
// that tests nothing must not pass.
func TestAKeptScheduleThatDoesNotFitFails(t *testing.T) {
	for text, want := range map[string]string{
		"w1r2w1\nactors: w \"worker\", r \"reaper\"\n": `it has steps of "reaper", and there is no such actor. Delete the file if`,
		"w3s1\nactors: w \"worker\", s \"sweeper\"\n":  `step 3 of the schedule is one of "worker", who can't go on there. Delete the file if`,
		"w1x1\nactors: w \"worker\"\n":                 `it has steps of x, and there is no such actor`,
		"w1x1\n":                                       `step 2 of the schedule is one of x, who can't go on there`,
		"w1-1\n":                                       "lacks a number of steps",
		"w1\nactors: w worker\n":                       `its second line names actors like this: actors: f "first", s "second"; not like this: w worker`,
		"w1!x\n":                                       "there is no x to leave out",
		"w1!w.y\nactors: w \"worker\", s \"sweeper\"\n": "there is no w.y to leave out",
		"c1w2s2\nactors: w \"worker\", s \"sweeper\"\n": `step 1 of the schedule is one of c, who can't go on there`,
	} {
		file := keep(t, text)
		var order []string
		s := harnesstest.Of("TestIt", inOrder(&order, "worker", "sweeper"))
		if got := s.Errors.String(); !strings.Contains(got, want) || !strings.Contains(got, file) {
			t.Errorf("%q: it says %q, want %q", text, got, want)
		}
	}
	t.Run("but where all actors have returned before its end it says so", func(t *testing.T) {
		keep(t, "w2s3w1\nactors: w \"worker\", s \"sweeper\"\n")
		var order []string
		s := harnesstest.Of("TestIt", inOrder(&order, "worker", "sweeper"))
		if got := s.Logs.String(); s.Errors.Len() > 0 || !strings.Contains(got, "passes: all actors have returned after 4 of its 6 steps") {
			t.Errorf("it says %s%s", got, s.Errors.String())
		}
	})
}
