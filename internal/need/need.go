// Package need is for tests: they ask it for the programs that a machine may
// lack. A test that can't have one is skipped, and said to be, at the end of its
// package and where a reader sees it: without -v, go test shows nothing of what
// a green package prints. In CI it fails instead.
package need

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

// notRun are the tests that were not run, or not in all their parts, by the
// reason.
var notRun = struct {
	sync.Mutex
	why map[string][]string
}{why: map[string][]string{}}

// CI reports whether nothing may be left out, and what is large is to be run in
// its full size: the variable CI is set.
func CI() bool { return os.Getenv("CI") != "" }

// Program returns the path of a program. Where there is none, the test is
// skipped, or fails in CI; install names what to install.
func Program(t testing.TB, name, install string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, fmt.Sprintf("%s is not installed: install %s", name, install))
	}
	return path
}

// Missing skips a test for what this machine lacks. CI must not go green by
// skipping: there the test fails.
func Missing(t testing.TB, what string) {
	t.Helper()
	if CI() {
		t.Fatalf("not run, which in CI is a failure: %s", what)
	}
	Skip(t, what)
}

// Root skips a test that needs root, or fails in CI.
func Root(t testing.TB, what string) {
	t.Helper()
	if os.Getuid() != 0 {
		Missing(t, "only root can "+what)
	}
}

// NoRaceDetector skips a test that looks from outside at other programs, or
// that is too long with the race detector. CI runs it once without.
func NoRaceDetector(t testing.TB) {
	t.Helper()
	if Raced {
		tell(t, "once")
		Skip(t, "left out with the race detector, run without it")
	}
}

// Serial skips a test with the race detector: in it no goroutines of ours meet, or
// none but those of another test. CI runs it without, on each PostgreSQL.
func Serial(t testing.TB) {
	t.Helper()
	if Raced {
		tell(t, "serial")
		Skip(t, "serial, and left out with the race detector")
	}
}

// Smaller reports whether a test is to do a part of what it can do, since the
// race detector is on. CI runs it without as well, as a whole; on each PostgreSQL
// where it asks for one.
func Smaller(t testing.TB) bool {
	t.Helper()
	if Raced {
		tell(t, "smaller")
	}
	return Raced
}

// UsesPostgres notes that a test has asked for a server. CI runs it on each
// PostgreSQL.
func UsesPostgres(t testing.TB) {
	t.Helper()
	tell(t, "postgres")
}

// InPart notes that a part of a test is left out for what this machine lacks, and
// lets the rest go on. In CI it fails.
func InPart(t testing.TB, what string) {
	t.Helper()
	if CI() {
		t.Fatalf("not run, which in CI is a failure: %s", what)
	}
	note(t, "in part: "+what)
}

// Skip skips a test, in CI too, for a reason that is no fault of the machine.
func Skip(t testing.TB, why string) {
	t.Helper()
	note(t, why)
	t.Skip("NOT RUN: " + why) //nolint:forbidigo // it has been noted
}

func note(t testing.TB, why string) {
	notRun.Lock()
	defer notRun.Unlock()
	test, _, _ := strings.Cut(t.Name(), "/")
	notRun.why[why] = append(notRun.why[why], test)
}

// Main is TestMain: it runs a package's tests, ends what they had in common,
// and says which were not run.
func Main(m *testing.M, ends ...func()) {
	code := m.Run()
	for _, end := range ends {
		end()
	}
	if text := Report(); text != "" {
		say(text)
	}
	os.Exit(code)
}

// Report is a line for each reason for which tests were not run, or "".
func Report() string {
	notRun.Lock()
	defer notRun.Unlock()
	reasons := slices.SortedFunc(maps.Keys(notRun.why), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(notRun.why[b]), len(notRun.why[a])), cmp.Compare(a, b))
	})
	var b strings.Builder
	for _, why := range reasons {
		tests := slices.Compact(slices.Sorted(slices.Values(notRun.why[why])))
		const shown = 3
		names, more := strings.Join(tests[:min(len(tests), shown)], ", "), ""
		if n := len(tests) - shown; n > 0 {
			more = fmt.Sprintf(" and %d more", n)
		}
		fmt.Fprintf(&b, "NOT RUN: %s%s: %s\n", names, more, why)
	}
	return b.String()
}

// say prints to where go test itself complains, since it throws away what a
// green package prints. Elsewhere, and with -v, it prints like any test. What
// go test writes to a file stays its own: two writers would overwrite each other.
func say(text string) {
	out := os.Stdout
	parent := fmt.Sprintf("/proc/%d/", os.Getppid())
	if name, err := os.ReadFile(parent + "comm"); err == nil && string(name) == "go\n" && !testing.Verbose() {
		if info, err := os.Stat(parent + "fd/2"); err == nil && info.Mode()&(os.ModeNamedPipe|os.ModeCharDevice) != 0 {
			if shown, err := os.OpenFile(parent+"fd/2", os.O_WRONLY, 0); err == nil {
				defer func() { _ = shown.Close() }()
				out = shown
			}
		}
	}
	fmt.Fprint(out, text)
}
