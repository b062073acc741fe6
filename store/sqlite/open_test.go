package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)

func endedRun(n int) store.Change {
	id := storetest.MustID('7', n)
	return store.Change{Op: store.Insert, Record: store.Row{
		ID: id, User: storetest.MustID('a', 1), Workflow: storetest.MustID('c', 1), Status: store.Completed,
		CreatedAt: now, UpdatedAt: now, CompletedAt: now,
	}}
}

// TestReadersCannotWrite: what reads by way of the readers' connections never takes the
// lock of writers, not by mistake either.
func TestReadersCannotWrite(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "runs.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	const write = `delete from tombstones`
	if _, err := s.writer.ExecContext(t.Context(), write); err != nil {
		t.Errorf("a writer: %v", err)
	}
	if _, err := s.reader.ExecContext(t.Context(), write); err == nil {
		t.Error("a reader deletes: want it refused")
	}
}

func TestAPathWithStrangeCharactersIsOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c#d%20é.db")
	s, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestWhatCannotBeOpenedSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, bytes.Repeat([]byte("not a database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ path, want string }{
		"a missing folder":           {filepath.Join(dir, "nowhere", "a.db"), "create it"},
		"a file that isn't SQLite":   {garbage, "not a database"},
		"a folder instead of a file": {dir, "database"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(t.Context(), c.path, Options{})
			if err == nil {
				t.Fatal(errors.Join(errors.New("opened"), s.Close()))
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.path) {
				t.Errorf("got %q, want it to name the file and hold %q", err, c.want)
			}
		})
	}
}

func TestTheDatabaseIsOpenedDurable(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "a.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, want := range map[string]string{"synchronous": "2", "journal_mode": "wal", "recursive_triggers": "1"} {
		var got string
		if err := s.writer.QueryRowContext(t.Context(), "pragma "+name).Scan(&got); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", name, got, err, want)
		}
	}
}

// Two Stores on one file are what two processes are to SQLite.
func TestTwoProcessesWriteTheSameRunsAndCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	var stores []*Store
	for range 2 {
		s, err := Open(t.Context(), path, Options{Volatile: true})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		stores = append(stores, s)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 50 {
				if _, err := stores[i%2].Apply(t.Context(), []store.Change{endedRun(n)}, now); err != nil {
					t.Errorf("Apply: %v", err)
				}
			}
		})
	}
	wg.Wait()
	for _, s := range stores {
		c, err := s.Count(t.Context(), endedRun(0).Record.Key().Scope(), store.AllTime)
		if err != nil || c.Count != 50 {
			t.Errorf("Count: got %d, %v; want 50", c.Count, err)
		}
		exact(t, s)
	}
}

func TestABusyDatabaseIsUnavailableAndNothingOfTheBatchIsLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	s, err := Open(t.Context(), path, Options{BusyTimeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	other, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	err = other.write(t.Context(), func(*tx) error {
		if _, err := s.Apply(t.Context(), []store.Change{endedRun(1)}, now); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("Apply beside a writer: got %v, want ErrUnavailable", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if a, err := s.Apply(t.Context(), []store.Change{endedRun(1)}, now); err != nil || !a[0].Changed || a[0].Counts[0].Count != 1 {
		t.Errorf("Apply afterwards: got %+v, %v; want it to change the count to 1", a, err)
	}
}

func TestACallThatWasCancelledWritesNothing(t *testing.T) {
	s := mustOpen(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Apply(ctx, []store.Change{endedRun(1)}, now); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply: got %v, want context.Canceled", err)
	}
	if _, err := s.Run(t.Context(), endedRun(1).ID()); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("Run: got %v, want ErrNotFound", err)
	}
}

func TestDeadLettersAreBounded(t *testing.T) {
	need.NoRaceDetector(t) // one goroutine, and much SQL
	s := mustOpen(t)
	total := func() (n, bytes int) {
		if err := s.reader.QueryRowContext(t.Context(), `select count(*), coalesce(sum(length(body)), 0) from dead_letters`).Scan(&n, &bytes); err != nil {
			t.Fatal(err)
		}
		return n, bytes
	}
	keep := func(body []byte) {
		if err := s.KeepDeadLetter(t.Context(), store.DeadLetter{ReceivedAt: now, Reason: "r", Bytes: 7, Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	for range store.MaxDeadLetters + 5 {
		keep(nil)
	}
	if n, _ := total(); n != store.MaxDeadLetters {
		t.Errorf("kept %d, want %d", n, store.MaxDeadLetters)
	}
	for range 20 {
		keep(make([]byte, 1<<20))
	}
	if n, bytes := total(); bytes > store.MaxDeadLetterBytes || n == 0 {
		t.Errorf("kept %d with %d bytes, want at most %d bytes", n, bytes, store.MaxDeadLetterBytes)
	}
	if _, err := s.Fold(t.Context(), now.Add(91*24*time.Hour), 100); err != nil {
		t.Fatal(err)
	}
	if n, _ := total(); n != 0 {
		t.Errorf("kept %d after 91 days, want 0", n)
	}
}

func TestWhatWasRepairedRecountedAndAmendedIsLogged(t *testing.T) {
	s := mustOpen(t)
	ctx := t.Context()
	id, key := storetest.MustID('1', 1), endedRun(0).Record.Key()
	if _, err := s.Begin(ctx, store.Begin{ID: id, User: key.User, Workflow: key.Ref, Now: now}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.FailStuck(ctx, store.FailStuck{Now: now.Add(time.Hour), Limits: store.DefaultLimits(), Max: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Amend(ctx, store.AmendRequest{ID: id, Status: store.Completed, Who: "eve", Why: "it ran", Now: now.Add(2 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	backend(t, s).Corrupt(t, key, 3)
	if _, err := s.Recount(ctx, key, now); err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string]string{
		"select kind || ' ' || times || ' ' || was || ' ' || status from repairs":                                           "stuck 1 pending failed",
		"select who || ' ' || why || ' ' || was || ' ' || status from amendments":                                           "eve it ran failed completed",
		"select json_extract(before, '$.ended.completed') || ' ' || json_extract(after, '$.ended.completed') from recounts": "4 1",
	} {
		var got string
		if err := s.reader.QueryRowContext(ctx, table).Scan(&got); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", table, got, err, want)
		}
	}
}

func TestHealthCountsWhatDeservesALook(t *testing.T) {
	s := mustOpen(t)
	odd := []store.Change{endedRun(1), endedRun(2), endedRun(3), endedRun(4)}
	odd[0].Record.Workflow = store.ID{}
	odd[1].Record.Status = "archived"
	odd[2].Record.StartedAt = now.Add(time.Second)
	if _, err := s.Apply(t.Context(), odd, now); err != nil {
		t.Fatal(err)
	}
	got, err := s.Health(t.Context())
	if want := (store.Health{Active: 1, NoKey: 1, UnknownStatus: 1, EndedTooSoon: 1}); err != nil || got != want {
		t.Errorf("Health: got %+v, %v; want %+v", got, err, want)
	}
}

func TestAUsersCountsComePageByPage(t *testing.T) {
	s := mustOpen(t)
	var changes []store.Change
	for n := range 7 {
		c := endedRun(n)
		c.Record.Workflow = storetest.MustID('c', n)
		if n%2 == 1 {
			c.Record.Workflow, c.Record.Draft = store.ID{}, storetest.MustID('d', n)
		}
		changes = append(changes, c)
	}
	if _, err := s.Apply(t.Context(), changes, now); err != nil {
		t.Fatal(err)
	}
	var after store.Key
	seen := 0
	for {
		page, err := store.UserCounts(t.Context(), s, storetest.MustID('a', 1), after, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page {
			if c.Count != 1 || c.Key.Compare(after) <= 0 {
				t.Errorf("got %+v after %s, want the next key with count 1", c, after)
			}
			after = c.Key
		}
		if seen += len(page); len(page) < 3 {
			break
		}
	}
	if seen != 7 {
		t.Errorf("saw %d keys, want 7", seen)
	}
}

func TestAPanicInATransactionKeepsNoLock(t *testing.T) {
	s := mustOpen(t)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic did not come through")
			}
		}()
		_ = s.write(t.Context(), func(*tx) error { panic("a fault of the program") })
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := s.Apply(ctx, []store.Change{endedRun(1)}, now); err != nil {
		t.Errorf("Apply after it: %v", err)
	}
}

func TestAWriterThatWaitsForAnotherCanBeCancelled(t *testing.T) {
	s := mustOpen(t)
	err := s.write(t.Context(), func(*tx) error {
		ctx, cancel := context.WithCancel(t.Context())
		cancelled := make(chan error, 1)
		go func() {
			_, err := s.Apply(ctx, []store.Change{endedRun(1)}, now)
			cancelled <- err
		}()
		cancel()
		if err := need.Await(t, "the end of the writer that was cancelled", cancelled); !errors.Is(err, context.Canceled) {
			t.Errorf("Apply: got %v, want context.Canceled", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A sweep must cost what is active, and not what has ended.
func TestALookForStuckRunsReadsTheActiveOnesAlone(t *testing.T) {
	s := mustOpen(t)
	rows, err := s.reader.QueryContext(t.Context(), "explain query plan "+suspectsSQL, 1, 1, 1, 1, 1, "", 1)
	var plan string
	err = eachRow(rows, err, func(rows *sql.Rows) error {
		var id, parent, unused int
		var detail string
		err := rows.Scan(&id, &parent, &unused, &detail)
		plan += detail + "\n"
		return err
	})
	if err != nil || !strings.Contains(plan, "workflow_runs_active") {
		t.Errorf("the plan is %q, %v; want it to walk workflow_runs_active", plan, err)
	}
}
