package sqlite

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// guards are what keeps the laws, each with a small, plausible way to be
// without it.
var guards = []struct {
	name string
	off  func(t testing.TB, s *Store)
}{
	{"a tombstone beats all", func(_ testing.TB, s *Store) {
		s.hooks.join = func(a, b store.State) store.State {
			if !a.DeletedAt.IsZero() && b.DeletedAt.IsZero() {
				return b
			}
			return a.Join(b)
		}
	}},
	{"more evidence beats an earlier completed_at", func(_ testing.TB, s *Store) {
		s.hooks.observe = func(c store.Change, received time.Time) []store.State {
			seen := store.Observe(c, received)
			for i := range seen {
				seen[i].Outcome.Evidence = min(seen[i].Outcome.Evidence, store.Rewritten)
			}
			return seen
		}
	}},
	{"an earlier completed_at beats the order of arrival", func(_ testing.TB, s *Store) {
		s.hooks.join = func(a, b store.State) store.State {
			j := a.Join(b)
			if a.Outcome.Evidence == b.Outcome.Evidence && a.DeletedAt.IsZero() && b.DeletedAt.IsZero() {
				j.Outcome = a.Outcome
			}
			return j
		}
	}},
	{"an old_record testifies to an outcome", func(_ testing.TB, s *Store) {
		s.hooks.observe = func(c store.Change, received time.Time) []store.State {
			if c.Op == store.Update {
				c.Old.Status, c.Old.CompletedAt = store.Running, time.Time{}
			}
			return store.Observe(c, received)
		}
	}},
	{"an active row with completed_at had ended", func(_ testing.TB, s *Store) {
		s.hooks.observe = func(c store.Change, received time.Time) []store.State {
			for _, r := range []*store.Row{&c.Record, &c.Old} {
				if r.Status.Active() {
					r.CompletedAt = time.Time{}
				}
			}
			return store.Observe(c, received)
		}
	}},
	{"a terminal row without completed_at has ended", func(_ testing.TB, s *Store) {
		s.hooks.observe = func(c store.Change, received time.Time) []store.State {
			for _, r := range []*store.Row{&c.Record, &c.Old} {
				if r.Status.Terminal() && r.CompletedAt.IsZero() {
					r.Status = store.Running
				}
			}
			return store.Observe(c, received)
		}
	}},
	{"a real outcome supersedes a presumed one", func(_ testing.TB, s *Store) {
		s.hooks.join = func(a, b store.State) store.State {
			j := a.Join(b)
			if a.Presumed() && b.Ended() {
				j.Outcome = a.Outcome
			}
			return j
		}
	}},
	{"the last writer is the one with the latest instant", func(_ testing.TB, s *Store) {
		s.hooks.join = func(a, b store.State) store.State {
			j := a.Join(b)
			if b.DeletedAt.IsZero() && len(b.Last.Heads)+len(b.Last.Past) > 0 {
				j.Last = b.Last // the last to arrive
			}
			return j
		}
	}},
	{"an old_record is older than its record at the same instant", func(_ testing.TB, s *Store) {
		s.hooks.observe = func(c store.Change, received time.Time) []store.State {
			seen := store.Observe(c, received)
			for i := range seen {
				last := &seen[i].Last
				last.Heads, last.Past = append(last.Heads, last.Past...), nil
			}
			return seen
		}
	}},
	{"what a source presumed is provisional", without(store.MarkPresumed)},
	{"what superseded a presumed outcome stands", without(store.MarkSuperseding)},
	{"an administrator's decision outranks what was seen", without(store.MarkAmended)},
	{"law 5: what is true already is not written", func(_ testing.TB, s *Store) {
		s.hooks.equal = func(store.State, store.State) bool { return false }
	}},
	{"only an active or presumed run can be completed", func(_ testing.TB, s *Store) {
		s.hooks.open = func(store.State) bool { return true }
		s.hooks.join = func(a, b store.State) store.State {
			j := a.Join(b)
			if b.Outcome.Evidence == store.Confirmed {
				j.Outcome = b.Outcome
			}
			return j
		}
	}},
	{"a presumed outcome can still be completed", func(_ testing.TB, s *Store) {
		s.hooks.open = func(st store.State) bool { return !st.Ended() }
	}},
	{"an outcome that was told to a caller outranks webhooks", func(_ testing.TB, s *Store) {
		s.hooks.join = func(a, b store.State) store.State {
			for _, c := range []*store.Claim{&a.Outcome, &b.Outcome} {
				if c.Evidence == store.Confirmed {
					c.Evidence = store.SawEnd
				}
			}
			return a.Join(b)
		}
	}},
	{"a limit counts the active runs too", func(_ testing.TB, s *Store) {
		s.hooks.full = func(u store.Usage) bool { u.Active = 0; return u.Full() }
	}},
	{"a stuck run is looked at again under the lock", func(t testing.TB, s *Store) {
		s.hooks.presume = func(r store.Row, l store.Limits, now time.Time) (store.Row, bool) {
			after, _ := store.Presume(r, l, now)
			return after, true
		}
	}},
	{"a run that is new and has ended is counted", misses(func(was, is *counter) bool { return was == nil })},
	{"a run that is gone is not", misses(func(was, is *counter) bool { return is == nil })},
	{"the old key of a run that changes hands is written", func(_ testing.TB, s *Store) {
		s.hooks.difference = func(was, is store.State, add func(at counter, n int64)) {
			difference(was, is, func(at counter, n int64) {
				if n > 0 || is.Row().Key() == at.key || !is.DeletedAt.IsZero() {
					add(at, n)
				}
			})
		}
	}},
	{"a key that changes alone is noticed", misses(func(was, is *counter) bool {
		return was != nil && is != nil && was.status == is.status && was.presumed == is.presumed
	})},
	{"a status that changes alone is noticed", misses(func(was, is *counter) bool {
		return was != nil && is != nil && was.key == is.key && was.presumed == is.presumed
	})},
	{"a presumed outcome that becomes real is noticed", misses(func(was, is *counter) bool {
		return was != nil && is != nil && was.key == is.key && was.status == is.status
	})},
	{"all differences of a transaction are added", func(t testing.TB, s *Store) {
		replace(t, s, &s.stmts.add, strings.Replace(addSQL, "where true", "where k.key = 0", 1))
	}},
	{"a difference is added once", func(t testing.TB, s *Store) {
		replace(t, s, &s.stmts.add, strings.Replace(addSQL, "n = n + excluded.n", "n = n + 2 * excluded.n", 1))
	}},
	{"a difference is added to the count that is there", func(t testing.TB, s *Store) {
		replace(t, s, &s.stmts.add, strings.Replace(addSQL, "n = n + excluded.n", "n = excluded.n", 1))
	}},
	{"and to the totals", func(t testing.TB, s *Store) {
		replace(t, s, &s.stmts.addTotals, strings.Replace(addTotalsSQL, "where true", "where k.key = 0", 1))
	}},
}

// limitGuards are those of scopes, windows, limits and grants, for which the contract has
// to speak.
var limitGuards = []struct {
	name string
	off  func(t testing.TB, s *Store)
}{
	{"a user's limit has the runs of all keys", func(_ testing.TB, s *Store) {
		s.hooks.scope = func(_ store.Limit, key store.Key) store.Scope { return key.Scope() }
	}},
	{"a user's limit has the runs of drafts", func(_ testing.TB, s *Store) {
		s.hooks.scope = func(l store.Limit, key store.Key) store.Scope {
			if l.Scope == store.UserLimit {
				return store.Scope{User: key.User, Kind: store.KindWorkflow}
			}
			return l.Of(key)
		}
	}},
	{"a window ends before its To", window(func(in *store.Window) *time.Time { return &in.To })},
	{"a window begins with its From", window(func(in *store.Window) *time.Time { return &in.From })},
	{"a grant is used in one window alone", func(_ testing.TB, s *Store) {
		s.hooks.raises = func(g store.Grant, l store.Limit, key store.Key, now time.Time) bool {
			l.From = time.Time{}
			return g.Raises(l, key, now)
		}
	}},
	{"a grant is not used up by runs", func(_ testing.TB, s *Store) {
		s.hooks.full = func(u store.Usage) bool {
			u.Granted -= max(0, u.Counted-u.Limit.Max)
			return u.Full()
		}
	}},
	{"a grant that was revoked raises nothing", func(_ testing.TB, s *Store) {
		s.hooks.raises = func(g store.Grant, l store.Limit, key store.Key, now time.Time) bool {
			g.RevokedAt = time.Time{}
			return g.Raises(l, key, now)
		}
		s.hooks.standing = strings.Replace(standingSQL, "revoked_at is null and", "", 1)
	}},
	{"a grant that has expired raises nothing", func(_ testing.TB, s *Store) {
		s.hooks.raises = func(g store.Grant, l store.Limit, key store.Key, now time.Time) bool {
			g.ExpiresAt = time.Time{}
			return g.Raises(l, key, now)
		}
		s.hooks.standing = strings.Replace(standingSQL, "expires_at > ?2", "true", 1)
	}},
	{"a grant raises the limit of its key and of no other", func(_ testing.TB, s *Store) {
		s.hooks.raises = func(g store.Grant, l store.Limit, key store.Key, now time.Time) bool {
			g.Of = l.Of(key)
			return g.Raises(l, key, now)
		}
	}},
	{"a grant of a key raises its user's limit", func(_ testing.TB, s *Store) {
		s.hooks.raises = func(g store.Grant, l store.Limit, key store.Key, now time.Time) bool {
			return g.Raises(l, key, now) && (l.Scope == store.KeyLimit || g.Of.OfUser())
		}
	}},
	{"a recount adds the difference to the total", func(_ testing.TB, s *Store) {
		s.hooks.recount = func(t *tx, r store.RecountResult, now time.Time) error {
			if err := errors.Join(t.recount(r, now), t.writeDifferences()); err != nil {
				return err
			}
			return t.execText("set the total", `update totals set n = ?3 where kind = ?1 and ref_id = ?2 and status = 'completed' and presumed = 0`,
				string(r.Key.Kind), r.Key.Ref.String(), r.After.Ended.Completed-r.After.Presumed.Completed)
		}
	}},
}

// window moves a bound by a microsecond.
func window(bound func(in *store.Window) *time.Time) func(testing.TB, *Store) {
	return func(_ testing.TB, s *Store) {
		s.hooks.window = func(in store.Window) store.Window {
			if at := bound(&in); !at.IsZero() {
				*at = at.Add(time.Microsecond)
			}
			return in
		}
	}
}

// The contract goes red with each guard of limits switched off in turn.
func TestTheContractMissesEachGuardOfLimits(t *testing.T) {
	need.NoRaceDetector(t)
	for _, g := range limitGuards {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			where, said := redContract(t, g.off)
			if said == "" {
				t.Fatal("nothing goes red without it: either it guards nothing, or a case is missing")
			}
			t.Logf("red in %s: %s", where, said)
		})
	}
}

// misses takes no difference where a run was in one row of the counts, or in none,
// and is in another.
func misses(which func(was, is *counter) bool) func(testing.TB, *Store) {
	return func(_ testing.TB, s *Store) {
		s.hooks.difference = func(was, is store.State, add func(at counter, n int64)) {
			at := func(state store.State) *counter {
				if c, counted := counterOf(state); counted {
					return &c
				}
				return nil
			}
			if !which(at(was), at(is)) {
				difference(was, is, add)
			}
		}
	}
}

// without ignores a mark.
func without(mark store.Mark) func(testing.TB, *Store) {
	return func(_ testing.TB, s *Store) {
		s.hooks.observe = func(c store.Change, received time.Time) []store.State {
			if c.Mark == mark {
				c.Mark = store.NoMark
			}
			return store.Observe(c, received)
		}
	}
}

// The negative control: with each guard switched off in turn, the chaos test
// goes red, or for what only our own calls can reach, the suite.
func TestEveryGuardIsMissedWhenItIsOff(t *testing.T) {
	need.NoRaceDetector(t)
	for _, g := range guards {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			where, said := firstRed(t, 30, g.off)
			if said == "" {
				t.Fatal("nothing goes red without it: either it guards nothing, or a test is missing")
			}
			t.Logf("red in %s: %s", where, said)
		})
	}
}

// The control of the control: with all guards on, the same tests are green.
func TestNothingIsRedWithAllGuardsOn(t *testing.T) {
	need.NoRaceDetector(t)
	if where, said := firstRed(t, 20, func(testing.TB, *Store) {}); said != "" {
		t.Errorf("red in %s: %s", where, said)
	}
}

// firstRed returns the first complaint of the chaos test or the suite.
func firstRed(t *testing.T, seeds uint64, off func(testing.TB, *Store)) (where, said string) {
	open := func(t testing.TB) storetest.Backend {
		s := mustOpen(t)
		off(t, s)
		return backend(t, s)
	}
	for seed := range seeds {
		said := storetest.Watch(t, func(t testing.TB) { storetest.ChaosSeed(t, open(t), seed) })
		if len(said) > 0 {
			return fmt.Sprintf("chaos, seed %d", seed), said[0]
		}
	}
	said1 := storetest.Watch(t, func(t testing.TB) {
		s := mustOpen(t)
		off(t, s)
		signOfLife(t, s)
	})
	if len(said1) > 0 {
		return "a sign of life between look and decision", said1[0]
	}
	return redContract(t, off)
}

// redContract returns the first complaint of the suite.
func redContract(t *testing.T, off func(testing.TB, *Store)) (where, said string) {
	for name, test := range storetest.Contract(func(t testing.TB) storetest.Backend {
		s := mustOpen(t)
		off(t, s)
		return backend(t, s)
	}) {
		if said := storetest.Watch(t, test); len(said) > 0 {
			return name, said[0]
		}
	}
	return "", ""
}

func TestASignOfLifeBetweenLookAndDecisionSavesARun(t *testing.T) { signOfLife(t, mustOpen(t)) }

// signOfLife starts a run at the one moment that matters: after the sweep has
// found it, and before it takes the lock.
func signOfLife(t testing.TB, s *Store) {
	t.Helper()
	ctx, now := t.Context(), time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	id := storetest.MustID('1', 1)
	if _, err := s.Begin(ctx, store.Begin{ID: id, User: id, Workflow: id, Now: now}); err != nil {
		t.Fatal(err)
	}
	f := store.FailStuck{Now: now.Add(time.Hour), Limits: store.DefaultLimits(), Max: 10}
	found, err := s.stuck(ctx, f)
	if err != nil || len(found) != 1 {
		t.Fatalf("stuck: got %+v, %v; want the run", found, err)
	}
	if _, err := s.Start(ctx, id, f.Now); err != nil {
		t.Fatal(err)
	}
	if done, err := s.fail(ctx, f, found); err != nil || len(done) != 0 {
		t.Errorf("fail: got %+v, %v; want it left alone", done, err)
	}
	if r, err := s.Run(ctx, id); err != nil || r.Status != store.Running {
		t.Errorf("run: got %s, %v; want running", r.Status, err)
	}
}

func replace(t testing.TB, s *Store, stmt **sql.Stmt, text string) {
	t.Helper()
	prepared, err := s.writer.PrepareContext(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	if err := (*stmt).Close(); err != nil {
		t.Fatal(err)
	}
	*stmt = prepared
}
