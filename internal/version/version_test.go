package version

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestABuildIsNamedByTheLinkerAndElseByGo(t *testing.T) {
	t.Parallel()
	const commit = "0123456789abcdef0123456789abcdef01234567"
	cloned := &debug.BuildInfo{Main: debug.Module{Version: "v0.2.0"}, Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: commit}}}
	changed := &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: commit}, {Key: "vcs.modified", Value: "true"},
	}}
	for name, c := range map[string]struct {
		version, revision string
		info              *debug.BuildInfo
		want              string
	}{
		"a release":                   {"v1.2.3", "abc1234", cloned, "v1.2.3 (abc1234, " + runtime.Version() + ")"},
		"go install of a tag":         {"", "", cloned, "v0.2.0 (0123456789ab, " + runtime.Version() + ")"},
		"a clone with changes":        {"", "", changed, "devel (0123456789ab+dirty, " + runtime.Version() + ")"},
		"an archive without a commit": {"", "", &debug.BuildInfo{}, "unknown (unknown, " + runtime.Version() + ")"},
	} {
		if diff := cmp.Diff(c.want, of(c.version, c.revision, c.info).String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// The symbols that a release sets are there: the linker says nothing of one that is not.
func TestTheLinkerSetsTheVersion(t *testing.T) {
	t.Parallel()
	const flags = "-X github.com/edgaze-ai/runcounter/internal/version.version=v9.8.7 -X github.com/edgaze-ai/runcounter/internal/version.revision=fedcba9"
	program := filepath.Join(t.TempDir(), "says")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-ldflags", flags, "-o", program, "./testdata/says").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), program).Output()
	if err != nil || !strings.HasPrefix(string(out), "v9.8.7 (fedcba9, go1.") {
		t.Errorf("got %q, %v", out, err)
	}
}
