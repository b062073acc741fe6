package mutants

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A Target is a directory whose mutants the tests of packages are to kill.
type Target struct {
	Dir  string   // with those below it that are no target of their own
	Then []string // packages that are asked after its own tests, the fastest first
}

// Own stands for the package in which a mutant stands.
const Own = "own"

// Packages are the directories whose tests are asked for a mutant of a file, in order:
// the one that it stands in, if it has tests, and those of the target; or those of ask,
// if there is one with tests.
func (t Target) Packages(root, file string, ask []string) []string {
	all := append([]string{Own}, t.Then...)
	if len(ask) > 0 {
		all = ask
	}
	var packages []string
	for _, dir := range all {
		if dir == Own {
			dir = path.Dir(file)
			if tests, err := filepath.Glob(filepath.Join(root, dir, "*_test.go")); err != nil || len(tests) == 0 {
				continue
			}
		}
		if !slices.Contains(packages, dir) {
			packages = append(packages, dir)
		}
	}
	if len(packages) == 0 {
		return t.Then
	}
	return packages
}

// Mutants returns all mutants of a target. Directories of test data, and of packages
// that serve tests, have none.
func (t Target) Mutants(root string, targets []Target) ([]Mutant, error) {
	var all []Mutant
	err := fs.WalkDir(os.DirFS(root), t.Dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			other := name != t.Dir && slices.ContainsFunc(targets, func(o Target) bool { return o.Dir == name })
			if other || d.Name() == "testdata" || strings.HasSuffix(d.Name(), "test") {
				return fs.SkipDir
			}
			return nil
		}
		src, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		made, err := Of(name, src)
		all = append(all, made...)
		return err
	})
	return all, err
}
