// Package pgserver finds the binaries of PostgreSQL on a machine, and starts
// throw-away servers of them. They end, and their directories are removed, with
// the process that started them, whichever way that ends. It knows no driver:
// whether a server accepts connections is read from its directory.
package pgserver

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// ErrMissing is wrapped by an error that says that this machine has no
// PostgreSQL, and how to get one.
var ErrMissing = errors.New("not installed")

// The variables that name the directory of the binaries, the first of them
// before the second: this repository's, and everyone's. The directory none is
// like a machine that has no PostgreSQL.
const (
	OwnVariable = "RUNCOUNTER_TEST_POSTGRES"
	Variable    = "PGBIN"
)

// Find returns the directory that holds postgres and initdb: that of a variable;
// else the first of $PATH; else the newest of those where packages put them;
// else that of npm's @embedded-postgres, installed in the working directory or
// above it. The error wraps [ErrMissing] where there is none, and where it is
// npm's without its symbolic links. What a variable names must be there: else
// the error doesn't wrap it.
func Find() (dir string, err error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find PostgreSQL: %w", err)
	}
	return machine{root: "/", dir: wd, getenv: os.Getenv, npm: npmPlatform(runtime.GOOS, runtime.GOARCH)}.find()
}

// usual are the places of packages: Debian's, PGDG's for Fedora and its like,
// SUSE's and Alpine's, Homebrew's on both kinds of Mac, Postgres.app's, EDB's,
// and that of PostgreSQL's own make.
var usual = []string{
	"usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "usr/lib/postgresql[0-9]*/bin", "usr/libexec/postgresql[0-9]*",
	"opt/homebrew/opt/postgresql@*/bin", "usr/local/opt/postgresql@*/bin",
	"Applications/Postgres.app/Contents/Versions/*/bin", "Library/PostgreSQL/*/bin", "usr/local/pgsql/bin",
}

// machine is where it is looked.
type machine struct {
	root   string // of the file system
	dir    string // the working directory
	npm    string // what npm calls the platform
	getenv func(name string) string
}

func (m machine) find() (string, error) {
	for _, variable := range []string{OwnVariable, Variable} {
		switch dir := m.getenv(variable); {
		case dir == "":
		case dir == "none":
			return "", fmt.Errorf("PostgreSQL is taken as %w: %s is none", ErrMissing, variable)
		case !holdsServer(dir):
			return "", fmt.Errorf("%s: there is no postgres and initdb in %s", variable, dir)
		default:
			return whole(dir)
		}
	}
	for _, dir := range filepath.SplitList(m.getenv("PATH")) {
		if found, ok := behind(dir); ok {
			return found, nil
		}
	}
	if dir := m.newest(); dir != "" {
		return dir, nil
	}
	if dir, ok := m.embedded(); ok {
		return whole(dir)
	}
	return "", fmt.Errorf("PostgreSQL is %w: no postgres beside an initdb in %s, $PATH, /%s, node_modules/%s of %s and above; install postgresql (apt-get, dnf, brew) or npm's %[4]s, or name the directory in %[2]s",
		ErrMissing, Variable, strings.Join(usual, ", /"), m.embeddedPackage(), m.dir)
}

// behind is the directory that holds the server whose postgres is in a directory
// of $PATH, perhaps as a link. One that depends on where the test runs is not
// taken.
func behind(dir string) (string, bool) {
	if !filepath.IsAbs(dir) {
		return "", false
	}
	if path, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres")); err == nil && holdsServer(filepath.Dir(path)) {
		return filepath.Dir(path), true
	}
	return dir, holdsServer(dir)
}

// newest is the directory of the highest version in the usual places, or "".
func (m machine) newest() string {
	var dirs []string
	for _, pattern := range usual {
		found, _ := filepath.Glob(filepath.Join(m.root, pattern)) // the patterns are right
		dirs = append(dirs, found...)
	}
	dirs = slices.DeleteFunc(dirs, func(dir string) bool { return !holdsServer(dir) })
	if len(dirs) == 0 {
		return ""
	}
	of := func(dir string) float64 { return version(strings.TrimPrefix(dir, m.root)) }
	return slices.MaxFunc(dirs, func(a, b string) int { return cmp.Compare(of(a), of(b)) })
}

var versionPattern = regexp.MustCompile(`\d+(\.\d+)?`)

// version is 15 for /usr/lib/postgresql/15/bin, 9.6 for /usr/pgsql-9.6/bin, and 0
// where a path has none.
func version(dir string) float64 {
	found := versionPattern.FindAllString(dir, -1)
	if len(found) == 0 {
		return 0
	}
	n, _ := strconv.ParseFloat(found[len(found)-1], 64) // the pattern is that of a number
	return n
}

func (m machine) embeddedPackage() string { return "@embedded-postgres/" + m.npm }

// embedded is the directory of npm's binaries: beside what is asked for, or
// where npm and pnpm put what embedded-postgres asks for.
func (m machine) embedded() (string, bool) {
	name := m.embeddedPackage()
	for dir := m.dir; ; dir = filepath.Dir(dir) {
		modules := filepath.Join(dir, "node_modules")
		for _, pattern := range []string{
			name, filepath.Join("embedded-postgres", "node_modules", name),
			filepath.Join(".pnpm", strings.ReplaceAll(name, "/", "+")+"@*", "node_modules", name),
		} {
			found, _ := filepath.Glob(filepath.Join(modules, pattern, "native", "bin")) // the patterns are right
			for _, bin := range slices.Backward(found) {
				if holdsServer(bin) {
					return bin, true
				}
			}
		}
		if dir == filepath.Dir(dir) {
			return "", false
		}
	}
}

// whole is a directory of binaries, unless it is of a package of npm that lacks
// what its install script makes: then they don't start.
func whole(dir string) (string, error) {
	if !linked(dir) {
		return "", fmt.Errorf("PostgreSQL of npm is %w whole, since its install script has not been run: run node scripts/hydrate-symlinks.js in %s", ErrMissing, filepath.Join(dir, "..", ".."))
	}
	return dir, nil
}

// linked reports whether the symbolic links of npm's package are there. A
// package of npm can't hold any, so that its install script makes them.
func linked(bin string) bool {
	top := filepath.Join(bin, "..", "..")
	text, err := os.ReadFile(filepath.Join(top, "native", "pg-symlinks.json"))
	if err != nil {
		return true // some platforms need none
	}
	var links []struct{ Target string }
	if err := json.Unmarshal(text, &links); err != nil {
		return false
	}
	for _, link := range links {
		if _, err := os.Stat(filepath.Join(top, link.Target)); err != nil {
			return false
		}
	}
	return true
}

// npmPlatform is what npm calls a platform of Go's.
func npmPlatform(goos, goarch string) string {
	names := map[string]string{"amd64": "x64", "386": "ia32", "ppc64le": "ppc64"}
	return goos + "-" + cmp.Or(names[goarch], goarch)
}

func holdsServer(dir string) bool {
	for _, name := range []string{"postgres", "initdb"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}
