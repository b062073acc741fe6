package harness_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// scene is a scenario whose traces are compared between processes.
type scene struct {
	name     string
	scenario func(*harness.Sim)
	plan     []harness.Strategy
}

var scenes = []scene{
	{"sqlite in memory, crashes", func(s *harness.Sim) {
		db := counter(s, false, harness.Refused, harness.LostAfter).Open()
		for i := range 3 {
			s.Go(fmt.Sprint("worker ", i), func(ctx context.Context) error { _ = harnesstest.Increment(ctx, db); return nil }, harness.Restarts())
		}
		s.Show("n", func() string { n, err := harnesstest.Read(db); return fmt.Sprint(n, err) })
	}, []harness.Strategy{harness.Exhaustive(300), harness.Random(100), harness.PCT(3, 100)}},
	{"sqlite with a log", func(s *harness.Sim) {
		db := counter(s, true).Open()
		for i := range 3 {
			s.Go(fmt.Sprint("worker ", i), func(ctx context.Context) error {
				if err := s.Sleep(10); err != nil {
					return err
				}
				return harnesstest.Increment(ctx, db)
			})
		}
		s.Show("n", func() string { n, err := harnesstest.Read(db); return fmt.Sprint(n, err) })
	}, []harness.Strategy{harness.Exhaustive(0), harness.Preemptions(1, 0), harness.Random(100), harness.PCT(2, 100)}},
	{"the model", drawProgram(rand.New(rand.NewPCG(3, 1)), 3).scenario, []harness.Strategy{harness.Exhaustive(0), harness.Random(100), harness.PCT(3, 100)}},
}

// TestTheSameSeedsGiveTheSameTraces holds every step, answer and value of many
// schedules to what another process has seen, whatever -cpu, with and without
// the race detector.
func TestTheSameSeedsGiveTheSameTraces(t *testing.T) {
	for round := range 2 {
		var text strings.Builder
		for _, scene := range scenes {
			for _, strategy := range scene.plan {
				sum, n := uint64(0), 0
				harness.ExploreBefore(t, harness.Eyes{Schedule: func(r harness.Seen) {
					sum = harness.Hash(fmt.Sprint(sum, r.Schedule(), r.Trace()))
					n++
				}}, scene.scenario, harness.WithStrategies(strategy), harness.Seed(7))
				fmt.Fprintf(&text, "%s, %s: %d schedules, %016x\n", scene.name, strategy, n, sum)
			}
		}
		golden(t, "traces.golden", text.String())
		if t.Failed() {
			t.Fatalf("in round %d", round+1)
		}
	}
}

// TestAFailureIsKeptAndRunFirst fails once, is run again, is mended, and finds
// files that it can't use.
func TestAFailureIsKeptAndRunFirst(t *testing.T) {
	t.Chdir(t.TempDir())
	broken, runs := true, 0
	scenario := func(s *harness.Sim) {
		runs++
		db := counter(s, true).Open()
		for _, name := range []string{"first", "second"} {
			s.Go(name, func(ctx context.Context) error {
				if !broken {
					return harnesstest.Increment(ctx, db)
				}
				n, err := harnesstest.Read(db)
				if err != nil {
					return err
				}
				_, err = db.ExecContext(ctx, `update counter set n = ?`, n+1)
				return err
			}, harness.Needed())
		}
		s.Eventually("both are counted", func() error {
			if n, err := harnesstest.Read(db); err != nil || n != 2 {
				return fmt.Errorf("n is %d, %v", n, err) //nolint:errorlint // a text
			}
			return nil
		})
	}
	first := harnesstest.Of("TestIt/with a name", scenario)
	files, err := filepath.Glob("testdata/schedules/TestIt_with_a_name-*.schedule")
	if err != nil || len(files) != 1 || !strings.Contains(first.Errors.String(), "saved "+files[0]) {
		t.Fatalf("kept %q, %v; the report is\n%s", files, err, first.Errors.String())
	}
	kept, err := os.ReadFile(files[0])
	if err != nil || !strings.HasPrefix(string(kept), "f1s2f1\nactors: f \"first\", s \"second\"\n\n") {
		t.Errorf("it holds %q, %v", kept, err)
	}

	runs = 0
	again := harnesstest.Of("TestIt/with a name", scenario)
	if !strings.Contains(again.Errors.String(), "both are counted") || strings.Contains(again.Errors.String(), "schedules of all orders") {
		t.Errorf("it was searched for again, in %d runs:\n%s", runs, again.Errors.String())
	}

	broken = false
	mended := harnesstest.Of("TestIt/with a name", scenario)
	if got := mended.Errors.String(); !strings.Contains(got, files[0]+" does not fit the code any more: step 4 of the schedule is one of \"first\", who has to wait there. Delete the file") {
		t.Errorf("mended, it fails with %s", got)
	}
	if got := mended.Logs.String(); !strings.Contains(got, "all orders, 0 failing") {
		t.Errorf("mended, nothing was searched: %s", got)
	}
	if err := os.WriteFile(files[0], []byte("f1s1f2s2\n"), 0o600); err != nil { // without names, as those that are older
		t.Fatal(err)
	}
	if fits := harnesstest.Of("TestIt/with a name", scenario); fits.Errors.Len() > 0 || !strings.Contains(fits.Logs.String(), "passes") {
		t.Errorf("a schedule that fits: %s%s", fits.Errors.String(), fits.Logs.String())
	}
	if err := os.WriteFile(files[0], []byte("3w\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if bad := harnesstest.Of("TestIt/with a name", scenario); !strings.Contains(bad.Errors.String(), "has no actor at place 1") || !strings.Contains(bad.Errors.String(), files[0]) {
		t.Errorf("a file that is no schedule: %s%s", bad.Errors.String(), bad.Logs.String())
	}
}

// TestReplayRunsOneScheduleAlone has the command line choose it.
func TestReplayRunsOneScheduleAlone(t *testing.T) {
	t.Chdir(t.TempDir())
	runs := 0
	scenario := func(s *harness.Sim) {
		runs++
		order := ""
		for _, name := range []string{"one", "two"} {
			s.Go(name, func(context.Context) error {
				if err := s.Step("goes"); err != nil {
					return err
				}
				order += name
				return nil
			})
		}
		s.Eventually("one is first", func() error {
			if order == "twoone" {
				return errors.New("two was")
			}
			return nil
		})
	}
	setFlag(t, "harness.replay", "o1t1")
	if s := harnesstest.Of("TestIt", scenario); s.Errors.Len() > 0 || runs != 1 {
		t.Errorf("%d runs, and %s", runs, s.Errors.String())
	}
	setFlag(t, "harness.replay", "t1o1")
	if s := harnesstest.Of("TestIt", scenario); !strings.Contains(s.Errors.String(), "two was") || !strings.Contains(s.Errors.String(), "-harness.replay=t1o1") {
		t.Errorf("it says %s", s.Errors.String())
	}
	if _, err := os.Stat("testdata"); err == nil {
		t.Error("a replay was kept")
	}
}

// TestWhatDoesNotHappenAgainSaysSo has something other than the schedule decide.
func TestWhatDoesNotHappenAgainSaysSo(t *testing.T) {
	runs := 0
	once := func(s *harness.Sim) {
		runs++
		s.Go("worker", func(context.Context) error {
			if err := s.Step("goes"); err != nil || runs > 1 {
				return err
			}
			return errors.New("it was the first time")
		})
	}
	r := harness.Explore(t, once)
	if r.Report == nil || r.Report.Again != 0 || !strings.Contains(r.Report.String(), "FLAKY     it did not happen again: the same schedule ended otherwise") {
		t.Errorf("it says\n%v", r.Report)
	}
	runs = 0
	values := func(s *harness.Sim) {
		runs++
		s.Go("worker", func(context.Context) error {
			if err := s.Step("goes"); err != nil {
				return err
			}
			return errors.New("always")
		})
		s.Show("runs", func() string { return fmt.Sprint(runs) })
	}
	if r = harness.Explore(t, values); r.Report.Again == 3 || !strings.Contains(r.Report.Diverged, "at step 1") {
		t.Errorf("the first step that differs is not named:\n%v", r.Report)
	}
}

// TestTheTestFails where what must be seen is not, and draws what goes wrong.
func TestTheTestFails(t *testing.T) {
	t.Chdir(t.TempDir())
	unseen := harnesstest.Of("TestIt", func(s *harness.Sim) {
		s.Go("worker", func(context.Context) error { return s.Step("goes") })
		s.Sometimes("pigs fly", func() bool { return false })
	})
	if got := unseen.Errors.String(); !strings.Contains(got, `NEVER SEEN  sometimes "pigs fly"`) {
		t.Errorf("it says %s", got)
	}
	setFlag(t, "harness.html", "pages")
	drawn := harnesstest.Of("TestIt/drawn", func(s *harness.Sim) {
		s.Go("worker", func(context.Context) error { return errors.New("no luck") })
	})
	page, err := os.ReadFile(filepath.Join("pages", "TestIt_drawn.html"))
	if err != nil || !strings.Contains(string(page), "no luck") {
		t.Errorf("%v: drew %s\n%s", err, page, drawn.Logs.String())
	}
}
