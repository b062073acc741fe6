package harness_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
)

// TestCaseH6_WhoUsesOneEngineLinksNoOther: a driver registers its name when it is
// linked, and where another library registers the same, the program panics
// before it begins.
func TestCaseH6_WhoUsesOneEngineLinksNoOther(t *testing.T) {
	const sqlite, pgx, of = "modernc.org/sqlite", "github.com/jackc/pgx/v5", "github.com/edgaze-ai/runcounter/harness"
	for pkg, want := range map[string]struct{ links, lacks []string }{
		of:               {nil, []string{sqlite, pgx, of + "/sqlite", of + "/postgres"}},
		of + "/sqlite":   {[]string{sqlite, of}, []string{pgx, of + "/postgres"}},
		of + "/postgres": {[]string{pgx, of}, []string{sqlite, of + "/sqlite"}},
	} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg).Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		linked := map[string]bool{}
		for _, dep := range strings.Fields(string(out)) {
			linked[dep] = true
		}
		for _, dep := range want.links {
			if !linked[dep] {
				t.Errorf("%s does not link %s", pkg, dep)
			}
		}
		for _, dep := range want.lacks {
			if linked[dep] {
				t.Errorf("%s links %s", pkg, dep)
			}
		}
	}
}

// TestCaseH6_BesideALibraryThatCallsItsDriverSQLite, in a module of its own.
func TestCaseH6_BesideALibraryThatCallsItsDriverSQLite(t *testing.T) {
	t.Parallel()
	need.NoRaceDetector(t)
	text, err := os.ReadFile("testdata/beside_test.go.txt")
	if err != nil {
		t.Fatal(err)
	}
	m := newPageModule(t, "")
	m.write("beside_test.go", string(text))
	if out := m.run("go test . -v"); !strings.Contains(out, "2 schedules, all orders, 0 failing") {
		t.Error(out)
	}
}
