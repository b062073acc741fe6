package need

import (
	"fmt"
	"os"
	"os/exec"
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
