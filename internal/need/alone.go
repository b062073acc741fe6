package need

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const aloneVariable = "RUNCOUNTER_TEST_ALONE"

// Alone runs tests of this package once more, as on a machine that has Go and
// nothing else: no program is found, and no PostgreSQL. It fails where one of
// them is red, or where what was left out is not said.
func Alone(t *testing.T, run string) {
	t.Helper()
	if os.Getenv(aloneVariable) != "" {
		return // this is that run
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), self, "-test.run", run) //nolint:gosec // it is this program
	// The parent of the tests is not go test now: they print to their output.
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return name == "CI" || name == "PATH" || strings.HasPrefix(name, "RUNCOUNTER_")
	}), "PATH="+t.TempDir(), "RUNCOUNTER_TEST_POSTGRES=none", aloneVariable+"=1")
	out, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	if err != nil {
		t.Errorf("with Go alone %s is red: %v\n%s", run, err, tail(out))
	} else if !strings.Contains(string(out), "NOT RUN: ") {
		t.Errorf("with Go alone something of %s can't be run, and it is not said:\n%s", run, tail(out))
	}
}

// tail is the end of a long output.
func tail(out []byte) []byte { return out[max(0, len(out)-4000):] }
