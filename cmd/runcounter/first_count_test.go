package main

import (
	"os"
	"os/exec"
	"regexp"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// TestFirstCount walks both paths in a fresh clone, by the commands of the pages. It logs
// what each step took, and asks no figure of a busy machine.
func TestFirstCount(t *testing.T) {
	t.Parallel()
	need.NoRaceDetector(t)
	for path, programs := range map[string][]string{"mirror": {"git", "curl"}, "source": {"git", "psql"}} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			for _, program := range programs {
				need.Program(t, program, program)
			}
			cmd := exec.CommandContext(t.Context(), "bash", "testdata/first-count", path)
			cmd.Env = append(os.Environ(), "PGOPTIONS=", "PSQLRC=/dev/null")
			if path == "source" {
				cmd.Env = append(cmd.Env, "SUPABASE_DB_URL="+pgtest.Supabase(t))
			}
			out, err := cmd.CombinedOutput()
			if err != nil || !regexp.MustCompile(`(?m)^ *\d+ ms  from the clone to the first count, as a `+path+`$`).Match(out) {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("\n%s", out)
		})
	}
}
