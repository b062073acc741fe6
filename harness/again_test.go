package harness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// scene is a scenario whose traces are compared between processes.
type scene struct {
	name     string
	scenario func(*Sim)
	plan     []Strategy
}

var scenes = []scene{
	{"sqlite in memory, crashes", func(s *Sim) {
		db := counter(s, false, Refused, LostAfter).Open()
		for i := range 3 {
			s.Go(fmt.Sprint("worker ", i), func(ctx context.Context) error { _ = increment(ctx, db); return nil }, Restarts())
		}
		s.Show("n", func() string { n, err := read(db); return fmt.Sprint(n, err) })
	}, []Strategy{Exhaustive(300), Random(100), PCT(3, 100)}},
	{"sqlite with a log", func(s *Sim) {
		db := counter(s, true).Open()
		for i := range 3 {
			s.Go(fmt.Sprint("worker ", i), func(ctx context.Context) error {
				if err := s.Sleep(10); err != nil {
					return err
				}
				return increment(ctx, db)
			})
		}
		s.Show("n", func() string { n, err := read(db); return fmt.Sprint(n, err) })
	}, []Strategy{Exhaustive(0), Preemptions(1, 0), Random(100), PCT(2, 100)}},
	{"the model", drawProgram(rand.New(rand.NewPCG(3, 1)), 3).scenario, []Strategy{Exhaustive(0), Random(100), PCT(3, 100)}},
}

// TestTheSameSeedsGiveTheSameTraces holds every step, answer and value of many
// schedules to what another process has seen, whatever -cpu, with and without
// the race detector.
func TestTheSameSeedsGiveTheSameTraces(t *testing.T) {
	for round := range 2 {
		var text strings.Builder
		for _, scene := range scenes {
			for _, strategy := range scene.plan {
				x := newExplorer(t, scene.scenario, []Option{WithStrategies(strategy), Seed(7)})
				sum, n := uint64(0), 0
				x.observe = func(r *execution) {
					sum = hash(fmt.Sprint(sum, r.schedule(), r.trace()))
					n++
				}
				x.explore(&Result{})
				x.close()
				fmt.Fprintf(&text, "%s, %s: %d schedules, %016x\n", scene.name, strategy, n, sum)
			}
		}
		golden(t, "traces.golden", text.String())
		if t.Failed() {
			t.Fatalf("in round %d", round+1)
		}
	}
}

// endOfTest is how a stand-in for a test ends.
type endOfTest struct{}

// A stand is a test that may fail.
type stand struct {
	testing.TB
	name         string
	logs, failed strings.Builder
}

func (s *stand) Helper()                         {}
func (s *stand) Name() string                    { return s.name }
func (s *stand) Logf(format string, args ...any) { fmt.Fprintf(&s.logs, format+"\n", args...) }
func (s *stand) Log(args ...any)                 { fmt.Fprintln(&s.logs, args...) }
func (s *stand) Errorf(format string, a ...any)  { fmt.Fprintf(&s.failed, format+"\n", a...) }
func (s *stand) Fatalf(format string, a ...any)  { s.Errorf(format, a...); panic(endOfTest{}) }

// testOf runs a test as go test would.
func testOf(name string, scenario func(*Sim), options ...Option) (s *stand) {
	s = &stand{name: name}
	func() {
		defer func() {
			if v := recover(); v != nil {
				if _, ok := v.(endOfTest); !ok {
					panic(v)
				}
			}
		}()
		Test(s, scenario, options...)
	}()
	return s
}

// TestAFailureIsKeptAndRunFirst fails once, is run again, is mended, and finds
// files that it can't use.
func TestAFailureIsKeptAndRunFirst(t *testing.T) {
	t.Chdir(t.TempDir())
	broken, runs := true, 0
	scenario := func(s *Sim) {
		runs++
		db := counter(s, true).Open()
		for _, name := range []string{"first", "second"} {
			s.Go(name, func(ctx context.Context) error {
				if !broken {
					return increment(ctx, db)
				}
				n, err := read(db)
				if err != nil {
					return err
				}
				_, err = db.ExecContext(ctx, `update counter set n = ?`, n+1)
				return err
			}, Needed())
		}
		s.Eventually("both are counted", func() error {
			if n, err := read(db); err != nil || n != 2 {
				return fmt.Errorf("n is %d, %v", n, err) //nolint:errorlint // a text
			}
			return nil
		})
	}
	first := testOf("TestIt/with a name", scenario)
	files, err := filepath.Glob("testdata/schedules/TestIt_with_a_name-*.schedule")
	if err != nil || len(files) != 1 || !strings.Contains(first.failed.String(), "saved "+files[0]) {
		t.Fatalf("kept %q, %v; the report is\n%s", files, err, first.failed.String())
	}
	kept, err := os.ReadFile(files[0])
	if err != nil || !strings.HasPrefix(string(kept), "f1s2f1\nactors: f \"first\", s \"second\"\n\n") {
		t.Errorf("it holds %q, %v", kept, err)
	}

	runs = 0
	again := testOf("TestIt/with a name", scenario)
	if !strings.Contains(again.failed.String(), "both are counted") || strings.Contains(again.failed.String(), "schedules of all orders") {
		t.Errorf("it was searched for again, in %d runs:\n%s", runs, again.failed.String())
	}

	broken = false
	mended := testOf("TestIt/with a name", scenario)
	if got := mended.failed.String(); !strings.Contains(got, files[0]+" does not fit the code any more: step 4 of the schedule is one of \"first\", who has to wait there. Delete the file") {
		t.Errorf("mended, it fails with %s", got)
	}
	if got := mended.logs.String(); !strings.Contains(got, "all orders, 0 failing") {
		t.Errorf("mended, nothing was searched: %s", got)
	}
	if err := os.WriteFile(files[0], []byte("f1s1f2s2\n"), 0o600); err != nil { // without names, as those that are older
		t.Fatal(err)
	}
	if fits := testOf("TestIt/with a name", scenario); fits.failed.Len() > 0 || !strings.Contains(fits.logs.String(), "passes") {
		t.Errorf("a schedule that fits: %s%s", fits.failed.String(), fits.logs.String())
	}
	if err := os.WriteFile(files[0], []byte("3w\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if bad := testOf("TestIt/with a name", scenario); !strings.Contains(bad.failed.String(), "has no actor at place 1") || !strings.Contains(bad.failed.String(), files[0]) {
		t.Errorf("a file that is no schedule: %s%s", bad.failed.String(), bad.logs.String())
	}
}

// TestReplayRunsOneScheduleAlone has the command line choose it.
func TestReplayRunsOneScheduleAlone(t *testing.T) {
	t.Chdir(t.TempDir())
	runs := 0
	scenario := func(s *Sim) {
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
	defer func(before string) { *flagReplay = before }(*flagReplay)
	*flagReplay = "o1t1"
	if s := testOf("TestIt", scenario); s.failed.Len() > 0 || runs != 1 {
		t.Errorf("%d runs, and %s", runs, s.failed.String())
	}
	*flagReplay = "t1o1"
	if s := testOf("TestIt", scenario); !strings.Contains(s.failed.String(), "two was") || !strings.Contains(s.failed.String(), "-harness.replay=t1o1") {
		t.Errorf("it says %s", s.failed.String())
	}
	if _, err := os.Stat("testdata"); err == nil {
		t.Error("a replay was kept")
	}
}

// TestWhatDoesNotHappenAgainSaysSo has something other than the schedule decide.
func TestWhatDoesNotHappenAgainSaysSo(t *testing.T) {
	runs := 0
	once := func(s *Sim) {
		runs++
		s.Go("worker", func(context.Context) error {
			if err := s.Step("goes"); err != nil || runs > 1 {
				return err
			}
			return errors.New("it was the first time")
		})
	}
	r := Explore(t, once)
	if r.Report == nil || r.Report.Again != 0 || !strings.Contains(r.Report.String(), "FLAKY     it did not happen again: the same schedule ended otherwise") {
		t.Errorf("it says\n%v", r.Report)
	}
	runs = 0
	values := func(s *Sim) {
		runs++
		s.Go("worker", func(context.Context) error {
			if err := s.Step("goes"); err != nil {
				return err
			}
			return errors.New("always")
		})
		s.Show("runs", func() string { return fmt.Sprint(runs) })
	}
	if r = Explore(t, values); r.Report.Again == 3 || !strings.Contains(r.Report.Diverged, "at step 1") {
		t.Errorf("the first step that differs is not named:\n%v", r.Report)
	}
}

// TestTheTestFails where what must be seen is not, and draws what goes wrong.
func TestTheTestFails(t *testing.T) {
	t.Chdir(t.TempDir())
	unseen := testOf("TestIt", func(s *Sim) {
		s.Go("worker", func(context.Context) error { return s.Step("goes") })
		s.Sometimes("pigs fly", func() bool { return false })
	})
	if got := unseen.failed.String(); !strings.Contains(got, `NEVER SEEN  sometimes "pigs fly"`) {
		t.Errorf("it says %s", got)
	}
	defer func(before string) { *flagHTML = before }(*flagHTML)
	*flagHTML = "pages"
	drawn := testOf("TestIt/drawn", func(s *Sim) {
		s.Go("worker", func(context.Context) error { return errors.New("no luck") })
	})
	page, err := os.ReadFile(filepath.Join("pages", "TestIt_drawn.html"))
	if err != nil || !strings.Contains(string(page), "no luck") {
		t.Errorf("%v: drew %s\n%s", err, page, drawn.logs.String())
	}
}
