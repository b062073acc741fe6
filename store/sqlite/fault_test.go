package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	modernc "modernc.org/sqlite"
)

// mustBeStorageFault checks that an error is one that senders are told to wait for,
// with a sentence that says so.
func mustBeStorageFault(t *testing.T, err error, what string) {
	t.Helper()
	trouble, ok := errors.AsType[*store.StorageFault](err)
	if !errors.Is(err, store.ErrUnavailable) || !ok || trouble.What != what {
		t.Errorf("got %v, want ErrUnavailable with %q", err, what)
	}
}

// The engine's own limit of pages stands in for the disk's: SQLITE_FULL comes
// from the same place.
func TestAFullDatabaseIsUnavailableUntilThereIsSpace(t *testing.T) {
	s := mustOpen(t)
	ctx := t.Context()
	limit := func(pages int) {
		if _, err := s.writer.ExecContext(ctx, fmt.Sprintf("pragma max_page_count = %d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	limit(1) // as many as there are
	var many []store.Change
	for n := range 2000 {
		many = append(many, endedRun(n))
	}
	_, err := s.Apply(ctx, many, now)
	mustBeStorageFault(t, err, diskFull)
	exact(t, s)
	limit(1 << 20)
	if _, err := s.Apply(ctx, many, now); err != nil {
		t.Fatalf("Apply with space again: %v", err)
	}
	if c, err := s.Count(ctx, many[0].Record.Key().Scope(), store.AllTime); err != nil || c.Count != 2000 {
		t.Errorf("Count: got %d, %v; want 2000", c.Count, err)
	}
}

// opener opens connections read-only for as long as it is told to, as SQLite
// does by itself where the file may not be written.
type opener struct {
	driver   *modernc.Driver
	dsn      string
	readOnly *atomic.Bool
}

func (o opener) Connect(context.Context) (driver.Conn, error) {
	if o.readOnly.Load() {
		return o.driver.Open(o.dsn + "&mode=ro")
	}
	return o.driver.Open(o.dsn)
}

func (o opener) Driver() driver.Driver { return o.driver }

func TestAReadOnlyFileIsUnavailableUntilItCanBeWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	first, err := Open(t.Context(), path, Options{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close() // it keeps the log, without which nobody can open it read-only
	var readOnly atomic.Bool
	readOnly.Store(true)
	s, err := Open(t.Context(), path, Options{KeepSchema: true, Volatile: true, Connector: func(dsn string) driver.Connector {
		return opener{new(modernc.Driver), dsn, &readOnly}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	mustBeStorageFault(t, s.Ping(t.Context()), fileReadOnly)
	_, err = s.Apply(t.Context(), []store.Change{endedRun(1)}, now)
	mustBeStorageFault(t, err, fileReadOnly)
	if _, err := s.Count(t.Context(), endedRun(1).Record.Key().Scope(), store.AllTime); err != nil {
		t.Errorf("Count of a file that can be read: %v", err)
	}
	readOnly.Store(false)
	if _, err := s.Apply(t.Context(), []store.Change{endedRun(1)}, now); err != nil {
		t.Errorf("Apply to a file that can be written again: %v", err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("Ping: %v", err)
	}
}

// TestPingTriesToWriteOnce: a sound file's Ping waits for no writer, behind the first.
func TestPingTriesToWriteOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "runs.db")
	s, err := Open(t.Context(), path, Options{Volatile: true, BusyTimeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	other, err := Open(t.Context(), path, Options{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, tried := range []bool{false, true} {
		if tried {
			if err := s.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		writer, err := other.writer.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Ping(t.Context()); (err == nil) != tried {
			t.Errorf("Ping beside a writer: got %v; that it was written before: %t", err, tried)
		}
		if err := writer.Rollback(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheSentencesOfTroubleNameNoPath(t *testing.T) {
	for code, what := range storageFaults {
		if strings.ContainsAny(what, "/\\") || !strings.HasSuffix(what, ".") {
			t.Errorf("code %d: %q is told to strangers", code, what)
		}
	}
}
