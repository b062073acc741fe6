package scenarios

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
	pg "github.com/edgaze-ai/runcounter/harness/postgres"
	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// A language runs a script in a process of its own.
type language struct {
	name    string
	command func(t *testing.T, modules string) []string
}

var languages = []language{
	{"Node", func(t *testing.T, _ string) []string { return []string{need.Program(t, "node", "nodejs")} }},
	{"Deno", func(t *testing.T, modules string) []string {
		path := filepath.Join(modules, ".bin", "deno")
		if _, err := os.Stat(path); err != nil {
			need.Missing(t, path+" is not there: npm install deno beside pg")
		}
		return []string{path, "run", "--quiet", "--no-prompt", "--allow-env", "--allow-net", "--allow-read", "--allow-sys", "--node-modules-dir=manual"}
	}},
}

// scripts are a copy of those of testdata, beside npm's packages.
func scripts(t *testing.T) (dir, modules string) {
	modules = os.Getenv("RUNCOUNTER_TEST_NODE_MODULES")
	if _, err := os.Stat(filepath.Join(modules, "pg", "package.json")); modules == "" || err != nil {
		need.Missing(t, "RUNCOUNTER_TEST_NODE_MODULES names no node_modules with npm's pg; .ci/run installs them")
	}
	dir = t.TempDir()
	if err := errors.Join(os.CopyFS(dir, os.DirFS("testdata/processes")), os.Symlink(modules, filepath.Join(dir, "node_modules"))); err != nil {
		t.Fatal(err)
	}
	return dir, modules
}

// countedBy runs a script for each of two runs that end at the same time. number is
// what the user is told, which is to be 3.
func countedBy(t *testing.T, c *source, command []string, dir, script, number string) func(s *harness.Sim) {
	var look *pgxpool.Pool
	return func(s *harness.Sim) {
		db := pg.New(s, c.config)
		if look == nil {
			look = appOf(t, db)
		}
		for n, name := range []string{"first", "second"} {
			address := db.Proxy(name)
			s.Go(name, func(ctx context.Context) error {
				args := append(command[1:len(command):len(command)], filepath.Join(dir, script), runID(n+1).String(), ada.String(), resize.String())
				cmd := osexec.CommandContext(ctx, command[0], args...)
				cmd.Env = append(os.Environ(), "DATABASE_URL="+address, "NO_COLOR=1", "DENO_NO_UPDATE_CHECK=1", "DENO_DIR="+filepath.Join(dir, "deno"))
				if out, err := cmd.CombinedOutput(); err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				return nil
			}, harness.Needed())
		}
		s.Eventually("the count is the number of runs", func() (err error) {
			var n int
			if err = look.QueryRow(context.Background(), number, ada.String()).Scan(&n); err == nil && n != 3 {
				err = fmt.Errorf("it is %d, of 3", n)
			}
			return err
		})
	}
}

// TestOtherLanguagesCount has the webhook's function of a Supabase project in the
// language in which it is written: counted in the usual way it loses a run, and
// where Run Counter counts it does not.
func TestOtherLanguagesCount(t *testing.T) {
	need.NoRaceDetector(t)
	dir, modules := scripts(t)
	c := newSource(t)
	product := c.config.Setup
	c.config.Setup = func(address string) error {
		if err := product(address); err != nil {
			return err
		}
		pgtest.Exec(t, address, `create table public.users (id uuid primary key, runs integer not null)`, `insert into public.users values ('`+ada.String()+`', 1)`)
		return nil
	}
	shared, first := harness.Share(t), ""
	for _, l := range languages {
		t.Run(l.name, func(t *testing.T) {
			command := l.command(t, modules)
			r := harnesstest.MustFail(t, harness.Explore(t, countedBy(t, c, command, dir, "count.mjs", `select runs from public.users where id = $1`), shared),
				"eventually", "the count is the number of runs")
			for _, want := range []string{"select count(*)::int as n from workflow_ru", "update users set runs = $2", "stale read: first read workflow_runs"} {
				if !strings.Contains(r.String(), want) {
					t.Errorf("%q is not in\n%s", want, r)
				}
			}
			if len(r.Steps) != 6 || r.Switches > 2 {
				t.Errorf("%d steps, %d switches\n%s", len(r.Steps), r.Switches, r)
			}
			_, story, _ := strings.Cut(r.String(), "MINIMAL")
			story, _, _ = strings.Cut(story, "EXPLORED")
			if first = cmp.Or(first, story); story != first {
				t.Errorf("got\n%s\nwant, as in another language,\n%s", story, first)
			}
			pass := harness.Explore(t, countedBy(t, c, command, dir, "ours.mjs", `select public.get_user_workflow_run_count($1, '`+resize.String()+`')`), shared)
			if pass.Failure != nil {
				t.Fatal(pass.Report)
			}
			if pass.Schedules() < 4 || !pass.Covered[0].Complete {
				t.Error(pass)
			}
			t.Log(pass)
		})
	}
}
