package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/edgaze-ai/runcounter/store"
	modernc "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// The sentences of storage faults, which last until an operator acts.
const (
	whileServing = " Until then deliveries are refused with 503; what was acked before is safe, and no restart is needed."

	diskFull     = "The disk of the database is full: free space on it." + whileServing
	fileReadOnly = "The database file can't be written: give the user of the server the right to write the file, its -wal and -shm and their folder, " +
		"and look whether the disk is mounted read-only." + whileServing
	diskBroken = "The disk of the database can't be read or written: look at the system's log for errors of the disk, and whether it is mounted read-only." + whileServing
	cannotOpen = "The database file can't be opened: look whether it and its folder are there, whether the user of the server may write them, " +
		"and whether the process may open more files." + whileServing
)

// storageFaults are the primary result codes that no other try heals soon.
var storageFaults = map[int]string{
	sqlite3.SQLITE_FULL:     diskFull,
	sqlite3.SQLITE_READONLY: fileReadOnly,
	sqlite3.SQLITE_PERM:     fileReadOnly,
	sqlite3.SQLITE_IOERR:    diskBroken,
	sqlite3.SQLITE_CANTOPEN: cannotOpen,
}

// atStart words a fault for a program that ends with it: the sentences are those of a
// server that goes on and heals by itself.
func atStart(err error) error {
	if fault, ok := errors.AsType[*store.StorageFault](translate(err)); ok {
		return &store.StorageFault{What: strings.TrimSuffix(fault.What, whileServing) + " Then try again.", Err: fault.Err}
	}
	return translate(err)
}

// translate turns the driver's errors into the contract's, by their code.
func translate(err error) error {
	var e *modernc.Error
	if !errors.As(err, &e) || errors.Is(err, store.ErrUnavailable) {
		return err
	}
	code := e.Code() & 0xff
	if what := storageFaults[code]; what != "" {
		return &store.StorageFault{What: what, Err: err}
	}
	switch code {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL:
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	return err
}

// release gives a connection back, or closes it where it has met a fault: one
// that failed to sync does not know what the disk has, and a new one looks
// anew. The connections of a process share the index of the log, with its right
// to be written: where the file could not be written when it was opened, that
// right is missing for as long as one of them is open, so the idle ones are
// closed as well. Those in use are when they meet a fault next.
func (s *Store) release(conn *sql.Conn, err error) {
	if fault, ok := errors.AsType[*store.StorageFault](err); ok {
		s.reopened()
		_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // it returns what it is given
		if fault.What == fileReadOnly && !s.writable.Load() {
			s.reader.SetMaxIdleConns(0)
			s.reader.SetMaxIdleConns(s.readers)
		}
	}
	_ = conn.Close() // back to the pool, and of no consequence to what was committed
}

// wrote looks whether a connection has written anything: a transaction that
// changed nothing is committed on a read-only file, too.
func (s *Store) wrote(ctx context.Context, conn *sql.Conn) {
	var changes int64
	if err := conn.QueryRowContext(ctx, `select total_changes()`).Scan(&changes); err == nil && changes > 0 {
		s.writable.Store(true)
	}
}

// failed remembers the fault that a write met, until [Store.Ping] has seen
// that it is over. A write that went well shows nothing: one that finds nothing
// to change succeeds on a full disk.
func (s *Store) failed(err error) {
	if fault, ok := errors.AsType[*store.StorageFault](err); ok {
		s.fault.Store(fault)
	}
}

// Ping reports whether the database answers, and whether it can be written: a
// full disk answers every read. Since a write that changes nothing is a write
// all the same, it is tried only before the first one and after one that met
// trouble.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	err := s.read(ctx, func(q querier) error {
		return q.QueryRowContext(ctx, "select 1 from settings").Scan(&one)
	})
	if err == nil {
		err = s.checkFiles()
	}
	before := s.fault.Load()
	if err != nil || s.readOnly || before == nil {
		return err
	}
	err = s.write(ctx, func(t *tx) error { return t.execText("try to write", "update settings set policy = policy") })
	if err == nil && before.What == diskFull {
		err = s.hasSpace()
	}
	if err == nil {
		s.healed(before)
	}
	return err
}

// healed forgets a fault that is over. A connection is open again by now.
func (s *Store) healed(fault *store.StorageFault) {
	s.fault.CompareAndSwap(fault, nil)
	if opened := s.files.Load(); opened != nil && opened.log == nil {
		if log, err := os.Stat(s.path + "-wal"); err == nil {
			s.files.Store(&openFiles{opened.file, log})
		}
	}
}

// spare is the space that must be free before a full disk is said to be so no
// more, in bytes: a single page would fit where the next delivery does not.
const spare = 256 << 10

// hasSpace writes a file beside the database, and removes it.
func (s *Store) hasSpace() error {
	file, err := os.CreateTemp(filepath.Dir(s.path), filepath.Base(s.path)+"-space-*")
	if err != nil {
		return &store.StorageFault{What: diskFull, Err: err}
	}
	_, err = file.Write(make([]byte, spare))
	if err = errors.Join(err, file.Sync(), file.Close(), os.Remove(file.Name())); err != nil {
		return &store.StorageFault{What: diskFull, Err: err}
	}
	return nil
}

// unwritten is the fault of a file that was not written yet.
var unwritten = &store.StorageFault{What: "The database was not written yet.", Err: errors.New("not tried")}
