package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/edgaze-ai/runcounter/store"
)

const (
	fileReplaced = "The database file was replaced or removed under the server, which still has the old one open: what it would take now could never be read again. " +
		"Stop the server, see that the file is the one you want and that no -wal and -shm of another stand beside it, and start it again. " +
		"Until then deliveries are refused with 503."
	logRemoved = "The log beside the database file (-wal) was removed under the server: what it has taken since its last checkpoint is in no file that has a name. " +
		"Stop the server with SIGTERM, which writes it to the database, and start it again; kill -9 would lose it. Until then deliveries are refused with 503."
)

// openFiles are the files that were opened: the database, and the log beside it.
type openFiles struct{ file, log os.FileInfo }

// rememberFiles keeps which files are open. It is called when a connection has read,
// which makes the log. A race explorer's connections have no files, and one
// that only reads has no log to lose.
func (s *Store) rememberFiles(o Options) error {
	if o.Connector != nil || o.ReadOnly {
		return nil
	}
	file, fileErr := os.Stat(s.path)
	log, logErr := os.Stat(s.path + "-wal")
	if err := errors.Join(fileErr, logErr); err != nil {
		return err
	}
	s.files.Store(&openFiles{file, log})
	return nil
}

// checkFiles says whether the names still are those of the files that are open:
// SQLite does not look, and goes on writing to a file that has no name any more.
// It costs a microsecond or two.
func (s *Store) checkFiles() error {
	opened := s.files.Load()
	if opened == nil {
		return nil
	}
	for _, one := range []struct {
		path, what string
		was        os.FileInfo
	}{{s.path, fileReplaced, opened.file}, {s.path + "-wal", logRemoved, opened.log}} {
		if one.was == nil {
			continue
		}
		is, err := os.Stat(one.path)
		switch {
		case errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(one.was, is):
			return &store.StorageFault{What: one.what, Err: fmt.Errorf("%s is not the file that was opened", one.path)}
		case err != nil:
			return &store.StorageFault{What: cannotOpen, Err: err}
		}
	}
	return nil
}

// reopened forgets which log was opened, where connections are closed: the
// last one to close takes it away, and the next makes another.
func (s *Store) reopened() {
	if opened := s.files.Load(); opened != nil {
		s.files.Store(&openFiles{file: opened.file})
	}
}
