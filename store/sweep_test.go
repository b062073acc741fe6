package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/sqlite"
)

var sweepStart = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// mirror is a database with runs in it.
type mirror struct {
	*sqlite.Store
	path string
}

func newMirror(t *testing.T) mirror {
	t.Helper()
	path := filepath.Join(t.TempDir(), "runs.db")
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return mirror{s, path}
}

func sweepID(n int) store.ID {
	return store.UUID([16]byte{0: 0x5e, 12: byte(n >> 24), 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)})
}

// mustInsert adds runs first to last, each of its own workflow, last heard of
// an hour before sweepStart.
func (m mirror) mustInsert(t *testing.T, first, last int, status store.Status) {
	t.Helper()
	at := sweepStart.Add(-time.Hour)
	var changes []store.Change
	for n := first; n <= last; n++ {
		row := store.Row{ID: sweepID(n), User: sweepID(1 << 20), Workflow: sweepID(n), Status: status, CreatedAt: at, StartedAt: at, UpdatedAt: at}
		if status.Terminal() {
			row.CompletedAt = at
		}
		changes = append(changes, store.Change{Op: store.Insert, Record: row})
	}
	if _, err := m.Apply(t.Context(), changes, sweepStart); err != nil {
		t.Fatal(err)
	}
}

// mustSpoil makes the count of a run's workflow wrong by one, as a hand in our
// tables would.
func (m mirror) mustSpoil(t *testing.T, n int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+m.path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), `
insert into counts (user_id, kind, ref_id, status, presumed, n) values (?, 'workflow', ?, 'completed', 0, 1)
    on conflict (user_id, kind, ref_id, status, presumed) do update set n = n + 1`, sweepID(1<<20).String(), sweepID(n).String())
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func (m mirror) sweeper() *store.Sweeper {
	return &store.Sweeper{Store: m, Now: func() time.Time { return sweepStart }}
}

func mustSweep(t *testing.T, s *store.Sweeper, o store.SweepOptions) store.SweepReport {
	t.Helper()
	r, err := s.Sweep(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustAudit(t *testing.T, m mirror) store.AuditResult {
	t.Helper()
	found, err := m.Audit(t.Context(), store.Audit{Max: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestSweepEndsEveryStuckRunInBatches(t *testing.T) {
	m := newMirror(t)
	m.mustInsert(t, 1, 5, store.Running)
	m.mustInsert(t, 6, 7, store.Cancelling)
	s := m.sweeper()
	s.Batch = 2
	s.Store = &broken{Maintainer: m, ledger: 7}
	r := mustSweep(t, s, store.SweepOptions{})
	if diff := cmp.Diff(map[store.Reason]int{store.Stuck: 7}, r.Reasons); diff != "" {
		t.Fatalf("repaired (-want +got):\n%s", diff)
	}
	for n, want := range map[int]store.Status{1: store.Failed, 5: store.Failed, 7: store.Cancelled} {
		run, err := m.Run(t.Context(), sweepID(n))
		if err != nil {
			t.Fatal(err)
		}
		if run.Status != want || !run.Presumed || !run.CompletedAt.Equal(sweepStart.Add(-55*time.Minute)) {
			t.Errorf("run %d is %s at %s, presumed %t; want %s five minutes after its last sign of life", n, run.Status, run.CompletedAt, run.Presumed, want)
		}
	}
	if r.Folded != 7 || r.Audited != 7 || r.Drifting != 0 {
		t.Errorf("folded %d, audited %d, drifting %d; want 7, 7, 0", r.Folded, r.Audited, r.Drifting)
	}
	if again := mustSweep(t, s, store.SweepOptions{Full: true}); again.Repairs() != 0 || again.Folded != 0 {
		t.Errorf("a second sweep repaired %d and folded %d: want nothing", again.Repairs(), again.Folded)
	}
}

func TestDryRunReportsWhatASweepDoesAndWritesNothing(t *testing.T) {
	m := newMirror(t)
	m.mustInsert(t, 1, 3, store.Pending)
	m.mustInsert(t, 4, 5, store.Completed)
	m.mustSpoil(t, 4)
	s := m.sweeper()
	would := mustSweep(t, s, store.SweepOptions{DryRun: true, Full: true})
	if got := mustAudit(t, m); len(got.Drifts) != 1 {
		t.Errorf("after the dry run %d keys drift: want 1", len(got.Drifts))
	}
	if run, err := m.Run(t.Context(), sweepID(1)); err != nil || run.Status != store.Pending {
		t.Errorf("after the dry run the run is %s, %v: want pending", run.Status, err)
	}
	if st := s.Status(); st.Sweeps != 0 {
		t.Errorf("the dry run counts as a sweep")
	}
	did := mustSweep(t, s, store.SweepOptions{Full: true})
	if diff := cmp.Diff(would.Repaired, did.Repaired); diff != "" {
		t.Errorf("what the dry run said (-) and the sweep did (+):\n%s", diff)
	}
	if diff := cmp.Diff(would.Drifts, did.Drifts); diff != "" || would.Corrected != 0 || did.Corrected != 1 {
		t.Errorf("drifts of the dry run (-) and the sweep (+), corrected %d and %d:\n%s", would.Corrected, did.Corrected, diff)
	}
}

func TestReportIsBounded(t *testing.T) {
	m := newMirror(t)
	const runs = store.MaxReported + 5
	m.mustInsert(t, 1, runs, store.Running)
	if would := mustSweep(t, m.sweeper(), store.SweepOptions{DryRun: true}); len(would.Repaired) != store.MaxReported || would.Repairs() != runs {
		t.Errorf("the dry run lists %d of %d repairs: want %d of %d", len(would.Repaired), would.Repairs(), store.MaxReported, runs)
	}
	did := mustSweep(t, m.sweeper(), store.SweepOptions{})
	if len(did.Repaired) != store.MaxReported || did.Repairs() != runs {
		t.Errorf("the sweep lists %d of %d repairs: want %d of %d", len(did.Repaired), did.Repairs(), store.MaxReported, runs)
	}
}

// drifting has that many keys whose counts are wrong.
type drifting struct {
	store.Maintainer
	keys int
}

func (d drifting) Audit(context.Context, store.Audit) (store.AuditResult, error) {
	found := store.AuditResult{Keys: d.keys}
	for n := range d.keys {
		found.Drifts = append(found.Drifts, store.Drift{Key: store.KeyOf(sweepID(1<<20), sweepID(n+1), store.ID{})})
	}
	return found, nil
}

func TestAReportListsTheFirstOfManyDrifts(t *testing.T) {
	const keys = store.MaxReported + 5
	s := &store.Sweeper{Store: drifting{newMirror(t), keys}, Now: func() time.Time { return sweepStart }}
	if r := mustSweep(t, s, store.SweepOptions{DryRun: true}); r.Drifting != keys || len(r.Drifts) != store.MaxReported {
		t.Errorf("the dry run lists %d of %d drifts: want %d of %d", len(r.Drifts), r.Drifting, store.MaxReported, keys)
	}
}

func TestDriftIsRepairedAndToldForADay(t *testing.T) {
	m := newMirror(t)
	m.mustInsert(t, 1, 3, store.Completed)
	m.mustSpoil(t, 2)
	now := sweepStart
	s := &store.Sweeper{Store: m, Now: func() time.Time { return now }}
	r := mustSweep(t, s, store.SweepOptions{})
	key := store.KeyOf(sweepID(1<<20), sweepID(2), store.ID{})
	want := []store.Drift{{
		Key:    key,
		Stored: store.Tallies{Ended: store.Tally{Completed: 2}},
		Actual: store.Tallies{Ended: store.Tally{Completed: 1}},
	}}
	if diff := cmp.Diff(want, r.Drifts); diff != "" || r.Corrected != 1 {
		t.Errorf("corrected %d, drifts (-want +got):\n%s", r.Corrected, diff)
	}
	if left := mustAudit(t, m).Drifts; len(left) != 0 {
		t.Errorf("after the sweep these drift: %v", left)
	}
	if told := s.Degraded(); len(told) != 1 || strings.Contains(told[0], key.User.String()) {
		t.Errorf("degraded: %q, want one sentence that names no user", told)
	}
	mustSweep(t, s, store.SweepOptions{})
	if told := s.Degraded(); len(told) != 1 {
		t.Errorf("after the next sweep the drift is forgotten: %q", told)
	}
	now = now.Add(25 * time.Hour)
	if told := s.Degraded(); len(told) != 0 {
		t.Errorf("a day later: %q, want nothing", told)
	}
}

func TestSlicesOfTheAuditComeRound(t *testing.T) {
	m := newMirror(t)
	m.mustInsert(t, 1, 5, store.Completed)
	s := m.sweeper()
	s.Slice = 2
	var got []int
	for range 4 {
		mustSweep(t, s, store.SweepOptions{DryRun: true}) // looks, and moves nothing
		got = append(got, mustSweep(t, s, store.SweepOptions{}).Audited)
	}
	if diff := cmp.Diff([]int{2, 2, 1, 2}, got); diff != "" {
		t.Errorf("keys per sweep (-want +got):\n%s", diff)
	}
	if r := mustSweep(t, s, store.SweepOptions{Full: true}); r.Audited != 5 {
		t.Errorf("a full sweep audited %d keys: want 5", r.Audited)
	}
}

// audits remembers where each audit began.
type audits struct {
	store.Maintainer
	after []store.Key
}

func (a *audits) Audit(ctx context.Context, o store.Audit) (store.AuditResult, error) {
	a.after = append(a.after, o.After)
	return a.Maintainer.Audit(ctx, o)
}

// A dry sweep looks where the next one would, however often, and leaves it there.
func TestCaseADrySweepDoesNotMoveTheAuditsPlace(t *testing.T) {
	m := newMirror(t)
	m.mustInsert(t, 1, 5, store.Completed)
	looked := &audits{Maintainer: m}
	s := &store.Sweeper{Store: looked, Slice: 2, Now: func() time.Time { return sweepStart }}
	begins := func(o store.SweepOptions) store.Key {
		t.Helper()
		looked.after = nil
		mustSweep(t, s, o)
		return looked.after[0]
	}
	key := func(n int) store.Key {
		return store.Key{User: sweepID(1 << 20), Kind: store.KindWorkflow, Ref: sweepID(n)}
	}
	for _, want := range []store.Key{{}, key(2), key(4), {}} {
		for _, full := range []bool{false, true, false} {
			if got := begins(store.SweepOptions{DryRun: true, Full: full}); !full && got != want {
				t.Errorf("a dry sweep began after %v, want %v", got, want)
			}
		}
		if got := begins(store.SweepOptions{}); got != want {
			t.Errorf("after dry sweeps the next began after %v, want %v", got, want)
		}
	}
}

// broken fails at some steps of a sweep.
type broken struct {
	store.Maintainer
	failStuck, fold, recount error
	ledger                   int // rows that wait to be folded, as a source has them
}

func (b *broken) FailStuck(ctx context.Context, f store.FailStuck) ([]store.Repaired, error) {
	if b.failStuck != nil {
		return nil, b.failStuck
	}
	return b.Maintainer.FailStuck(ctx, f)
}

func (b *broken) Fold(ctx context.Context, now time.Time, limit int) (int, error) {
	if b.fold != nil {
		return 0, b.fold
	}
	n := min(b.ledger, limit)
	b.ledger -= n
	_, err := b.Maintainer.Fold(ctx, now, limit)
	return n, err
}

func (b *broken) Recount(ctx context.Context, key store.Key, now time.Time) (store.RecountResult, error) {
	if b.recount != nil {
		return store.RecountResult{}, b.recount
	}
	return b.Maintainer.Recount(ctx, key, now)
}

func TestOneFailingStepDoesNotStopTheOthers(t *testing.T) {
	errStuck, errFold := errors.New("stuck"), errors.New("fold")
	for _, tt := range []struct {
		name          string
		broken        broken
		want          []error
		repairs, fold int
		corrected     int
	}{
		{"repairs fail", broken{failStuck: errStuck}, []error{errStuck}, 0, 3, 1},
		{"the fold fails", broken{fold: errFold}, []error{errFold}, 2, 0, 1},
		{"both fail", broken{failStuck: errStuck, fold: errFold}, []error{errStuck, errFold}, 0, 0, 1},
		{"a recount fails", broken{recount: store.ErrUnavailable}, []error{store.ErrUnavailable}, 2, 3, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMirror(t)
			m.mustInsert(t, 1, 2, store.Running)
			m.mustInsert(t, 3, 3, store.Completed)
			m.mustSpoil(t, 3)
			s := m.sweeper()
			tt.broken.Maintainer, tt.broken.ledger = m, 3
			s.Store = &tt.broken
			r, err := s.Sweep(t.Context(), store.SweepOptions{Full: true})
			for _, want := range tt.want {
				if !errors.Is(err, want) {
					t.Errorf("the error %v does not hold %v", err, want)
				}
			}
			if r.Repairs() != tt.repairs || r.Folded != tt.fold || r.Drifting != 1 || r.Corrected != tt.corrected {
				t.Errorf("repaired %d, folded %d, drifting %d, corrected %d; want %d, %d, 1, %d",
					r.Repairs(), r.Folded, r.Drifting, r.Corrected, tt.repairs, tt.fold, tt.corrected)
			}
			if st := s.Status(); st.Failures != 1 || !st.LastSuccess.IsZero() || !st.FailedAt.Equal(sweepStart) {
				t.Errorf("the status says %d failures, last success %s, failed at %s", st.Failures, st.LastSuccess, st.FailedAt)
			}
		})
	}
}

// ticking remembers when it was asked to repair, and fails the first time.
type ticking struct {
	store.Maintainer
	err   error
	times []time.Time
}

func (k *ticking) FailStuck(context.Context, store.FailStuck) ([]store.Repaired, error) {
	k.times = append(k.times, time.Now())
	if len(k.times) > 1 {
		return nil, nil
	}
	return nil, k.err
}
func (k *ticking) Suspects(context.Context, store.FailStuck) ([]store.Suspect, error) {
	return []store.Suspect{{ID: sweepID(1)}}, nil
}
func (k *ticking) NoteAhead(context.Context, time.Time) error               { return nil }
func (k *ticking) Fold(context.Context, time.Time, int) (int, error)        { return 0, nil }
func (k *ticking) AuditTotals(context.Context, bool) ([]store.Drift, error) { return nil, nil }
func (k *ticking) Audit(context.Context, store.Audit) (store.AuditResult, error) {
	return store.AuditResult{}, nil
}

func TestRunSweepsAtOnceAndThenAboutEverySoOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every = 30 * time.Second
		k := &ticking{}
		s := &store.Sweeper{Store: k, Log: slog.New(slog.DiscardHandler)}
		ctx, stop := context.WithCancel(t.Context())
		began, ended := time.Now(), make(chan struct{})
		go func() { s.Run(ctx, every); close(ended) }()
		<-time.After(100 * every) // of the bubble's clock
		stop()
		<-ended
		if len(k.times) < 90 || len(k.times) > 112 {
			t.Errorf("%d sweeps in the time of 100", len(k.times))
		}
		if !k.times[0].Equal(began) {
			t.Errorf("the first sweep came %s after the start", k.times[0].Sub(began))
		}
		pauses := map[time.Duration]bool{}
		for i := 1; i < len(k.times); i++ {
			pause := k.times[i].Sub(k.times[i-1])
			pauses[pause] = true
			if pause < every*9/10 || pause > every*11/10 {
				t.Errorf("a pause of %s, want %s more or less by a tenth", pause, every)
			}
		}
		if len(pauses) < 2 {
			t.Errorf("all pauses are the same: instances that start together stay together")
		}
	})
}

func TestRunGoesOnAfterAFailureAndTellsOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &ticking{err: fmt.Errorf("%w: out of reach", store.ErrUnavailable)}
		var log strings.Builder
		s := &store.Sweeper{Store: k, Log: slog.New(slog.NewTextHandler(&log, nil))}
		go s.Run(t.Context(), time.Minute)
		synctest.Wait()
		if told := s.Degraded(); len(told) != 1 || strings.Contains(told[0], k.err.Error()) {
			t.Errorf("degraded: %q, want one sentence that repeats no error", told)
		}
		if got := log.String(); !strings.Contains(got, "level=ERROR") {
			t.Errorf("the log says %q: want an error", got)
		}
		<-time.After(2 * time.Minute)
		synctest.Wait()
		if told := s.Degraded(); len(told) != 0 {
			t.Errorf("after a good sweep: %q, want nothing", told)
		}
		if st := s.Status(); st.Failures != 1 || st.LastSuccess.IsZero() {
			t.Errorf("%d failures, last success %s", st.Failures, st.LastSuccess)
		}
	})
}

func TestCaseD21_WhereNoLimitIsSetNothingIsPresumedAndTheLogSaysOnceWhatWouldBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &rehearsed{}
		var log strings.Builder
		s := &store.Sweeper{Store: m, Limits: store.Limits{}, Rehearse: store.DefaultLimits(), Log: slog.New(slog.NewTextHandler(&log, nil))}
		go s.Run(t.Context(), time.Minute)
		<-time.After(3 * time.Minute)
		synctest.Wait()
		asked := m.all()
		if len(asked) < 3 || !asked[0].DryRun || len(asked[0].Limits) == 0 {
			t.Fatalf("asked %+v: want a dry run under the limits that nobody set, and sweeps", asked)
		}
		for _, f := range asked[1:] {
			if f.DryRun || len(f.Limits) != 0 {
				t.Errorf("a sweep asked for %+v: want it to write, and to presume nothing", f)
			}
		}
		for _, want := range []string{"level=WARN", "RUNCOUNTER_STUCK_AFTER", "silent_for_5m_now=1", "run_id=" + sweepID(1).String(), "becomes=failed"} {
			if n := strings.Count(log.String(), want); n == 0 || want == "RUNCOUNTER_STUCK_AFTER" && n != 1 {
				t.Errorf("the log has %s %d times:\n%s", want, n, log.String())
			}
		}
	})
}

// rehearsed remembers what it was asked for, and has one run to repair.
type rehearsed struct {
	ticking
	mu    sync.Mutex
	asked []store.FailStuck
}

func (r *rehearsed) all() []store.FailStuck {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.asked)
}

func (r *rehearsed) FailStuck(_ context.Context, f store.FailStuck) ([]store.Repaired, error) {
	r.mu.Lock()
	r.asked = append(r.asked, f)
	r.mu.Unlock()
	if !f.DryRun {
		return nil, nil
	}
	row := store.Row{ID: sweepID(1), Status: store.Running}
	after := row
	after.Status = store.Failed
	return []store.Repaired{{Reason: store.Stuck, Before: row, After: after}}, nil
}
