package need

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
)

func TestMain(m *testing.M) { Main(m) }

// TestAsks is nothing by itself: TestCaseO7 starts it in a process where what
// it asks for is missing.
func TestAsks(t *testing.T) {
	if os.Getenv(aloneVariable) == "" {
		return
	}
	for _, part := range []string{"one", "another"} {
		t.Run(part, func(t *testing.T) { Program(t, "a-program", "a-package") })
	}
	t.Run("a part of a test", func(t *testing.T) { InPart(t, "no checker is here") })
}

func TestCaseO7_WhatWasNotRunIsSaidOnceAtTheEndAndRedInCI(t *testing.T) {
	for _, c := range []struct {
		name, ci string
		red      bool
		want     []string
	}{
		{"on a developer's machine", "", false, []string{
			"NOT RUN: TestAsks: a-program is not installed: install a-package\n", "NOT RUN: TestAsks: in part: no checker is here\n",
		}},
		{"in CI", "true", true, []string{
			"not run, which in CI is a failure: a-program is not installed: install a-package\n", "not run, which in CI is a failure: no checker is here\n",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestAsks$")
			cmd.Env = append(os.Environ(), "CI="+c.ci, "PATH="+t.TempDir(), aloneVariable+"=1")
			out, err := cmd.CombinedOutput()
			if red := err != nil; red != c.red {
				t.Errorf("it failed: %v, want %v", red, c.red)
			}
			for _, line := range c.want {
				if n := strings.Count(string(out), line); n == 0 || !c.red && n > 1 {
					t.Errorf("%q is said %d times", line, n)
				}
			}
			if t.Failed() {
				t.Logf("%s", out)
			}
		})
	}
}

// told is a test that keeps to itself that it failed.
type told struct {
	testing.TB
	said string
}

func (w *told) Fatalf(format string, args ...any) {
	w.said = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestCaseATestThatWaitsInVainFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ended, from := &told{TB: t}, make(chan struct{}), make(chan int, 1)
		from <- 7
		if got := Await(w, "what is there", from); got != 7 {
			t.Errorf("got %d, want 7", got)
		}
		go func() {
			defer close(ended)
			Await(w, "what never comes", from)
		}()
		<-ended
		if !strings.Contains(w.said, "what never comes") {
			t.Errorf("it said %q, want what it waited for", w.said)
		}
	})
}

// TestTells is nothing by itself: TestWhatTheRaceDetectorLeavesOutIsTold starts it
// in a process that tells.
func TestTells(t *testing.T) {
	if os.Getenv(aloneVariable) == "" {
		return
	}
	t.Run("NoRaceDetector", func(t *testing.T) { NoRaceDetector(t) })
	t.Run("Serial", func(t *testing.T) { Serial(t) })
	t.Run("Smaller", func(t *testing.T) { Smaller(t) })
	t.Run("UsesPostgres", func(t *testing.T) { UsesPostgres(t); UsesPostgres(t) })
}

// TestWhatTheRaceDetectorLeavesOutIsTold to .ci/run, which runs it without.
func TestWhatTheRaceDetectorLeavesOutIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "told")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestTells$")
	cmd.Env = append(os.Environ(), aloneVariable+"=1", tellVariable+"="+path)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	words := []string{"postgres"}
	if Raced {
		words = []string{"once", "serial", "smaller", "postgres"}
	}
	want := ""
	for _, word := range words {
		want += word + " " + dir + " TestTells\n"
	}
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestNoBuildTagLeavesATestOut with the race detector: it would not be told of, and
// never be run.
func TestNoBuildTagLeavesATestOut(t *testing.T) {
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if line, _, _ := strings.Cut(string(text), "\n"); strings.HasPrefix(line, "//go:build") && strings.Contains(line, "race") {
			t.Errorf("%s begins with %s; want need.NoRaceDetector or need.Serial in each test", path, line)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
