package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/edgaze-ai/runcounter/store"
)

func TestCaseD24_AFileThatIsReplacedOrRemovedUnderTheStoreIsNoticed(t *testing.T) {
	for _, c := range []struct {
		name   string
		spoil  func(t *testing.T, path string)
		repair func(t *testing.T, path string)
		want   string
	}{
		{"case D24: another file is moved to its place", func(t *testing.T, path string) {
			other := filepath.Join(t.TempDir(), "copy.db")
			s, err := Open(t.Context(), other, Options{})
			if err := errors.Join(err, s.Close(), os.Rename(path, path+".old"), os.Rename(other, path)); err != nil {
				t.Fatal(err)
			}
		}, func(t *testing.T, path string) { mustRename(t, path+".old", path) }, fileReplaced},
		{"case D24: it is moved away", func(t *testing.T, path string) { mustRename(t, path, path+".old") },
			func(t *testing.T, path string) { mustRename(t, path+".old", path) }, fileReplaced},
		{"case D24: its log is moved away", func(t *testing.T, path string) { mustRename(t, path+"-wal", path+".log") },
			func(t *testing.T, path string) { mustRename(t, path+".log", path+"-wal") }, logRemoved},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.db")
			s, err := Open(t.Context(), path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if _, err := s.Apply(t.Context(), []store.Change{endedRun(1)}, now); err != nil {
				t.Fatal(err)
			}
			c.spoil(t, path)
			mustBeStorageFault(t, s.Ping(t.Context()), c.want)
			mustBeStorageFault(t, s.Ping(t.Context()), c.want)
			_, err = s.Apply(t.Context(), []store.Change{endedRun(2)}, now)
			mustBeStorageFault(t, err, c.want)
			_, err = s.Fold(t.Context(), now, 100)
			mustBeStorageFault(t, err, c.want)
			c.repair(t, path)
			if err := s.Ping(t.Context()); err != nil {
				t.Errorf("Ping, with everything in its place again: %v", err)
			}
			if _, err := s.Apply(t.Context(), []store.Change{endedRun(2)}, now); err != nil {
				t.Errorf("Apply, with everything in its place again: %v", err)
			}
			if c, err := s.Count(t.Context(), endedRun(1).Record.Key().Scope(), store.AllTime); err != nil || c.Count != 2 {
				t.Errorf("Count: got %d, %v; want both runs", c.Count, err)
			}
		})
	}
}

func mustRename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}
