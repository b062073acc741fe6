package store_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// instants are few, so that they are often equal, and now and then absent,
// years away, or a fraction of a millisecond apart.
var instants = rapid.OneOf(
	rapid.Just(time.Time{}),
	rapid.Map(rapid.IntRange(-5, 20), func(m int) time.Time { return epoch.Add(time.Duration(m) * time.Minute) }),
	rapid.Map(rapid.IntRange(-2000, 2000), func(us int) time.Time { return epoch.Add(time.Duration(us) * time.Microsecond) }),
	rapid.Map(rapid.IntRange(-60, 60), func(y int) time.Time { return epoch.AddDate(y, 0, 0) }),
)

var anyStatus = rapid.OneOf(
	rapid.SampledFrom([]store.Status{
		store.Pending, store.Running, store.Cancelling,
		store.Completed, store.Failed, store.Cancelled, store.Timeout,
	}),
	rapid.SampledFrom([]store.Status{"", "queued", "Completed", "success"}),
)

var anyRow = rapid.Custom(func(t *rapid.T) store.Row {
	return store.Row{
		ID:           store.UUID([16]byte{15: 1}),
		User:         store.UUID([16]byte{15: 2}),
		Workflow:     store.UUID([16]byte{15: 3}),
		Status:       anyStatus.Draw(t, "status"),
		CreatedAt:    instants.Draw(t, "created"),
		StartedAt:    instants.Draw(t, "started"),
		CompletedAt:  instants.Draw(t, "completed"),
		UpdatedAt:    instants.Draw(t, "updated"),
		LeaseAt:      instants.Draw(t, "lease"),
		DurationMS:   rapid.SampledFrom([]store.Millis{{}, store.MillisOf(0), store.MillisOf(4210)}).Draw(t, "duration"),
		ErrorDetails: rapid.SampledFrom([]store.JSON{"", `{"code":"x"}`}).Draw(t, "error"),
		Snapshot:     rapid.SampledFrom([]store.JSON{"", `{}`}).Draw(t, "snapshot"),
	}
})

func TestRepairReachesItsFixedPointInOneStep(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		row := anyRow.Draw(t, "row")
		once, reason := store.Repair(row)
		twice, again := store.Repair(once)
		if once != twice {
			t.Fatalf("repaired twice (-once +twice):\n%s", cmp.Diff(once, twice))
		}
		if again != store.Consistent && again != store.EndedTooSoon {
			t.Fatalf("a repaired row is still %s: %+v", again, once)
		}
		changed := reason == store.NoTime || reason == store.Overwritten
		if changed != (once != row) {
			t.Fatalf("reason %q for (-before +after):\n%s", reason, cmp.Diff(row, once))
		}
		if changed && !once.Ended() {
			t.Fatalf("repaired, but not ended: %+v", once)
		}
	})
}

func TestRepairLeavesAloneWhatItMust(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		row := anyRow.Draw(t, "row")
		repaired, _ := store.Repair(row)
		if !row.Status.Known() && repaired != row {
			t.Fatalf("an unknown status was touched:\n%s", cmp.Diff(row, repaired))
		}
		if row.Ended() && repaired != row {
			t.Fatalf("a run that had ended was touched:\n%s", cmp.Diff(row, repaired))
		}
		if !row.CompletedAt.IsZero() && !repaired.CompletedAt.Equal(row.CompletedAt) {
			t.Fatalf("completed_at moved from %v to %v", row.CompletedAt, repaired.CompletedAt)
		}
		// Repair has no clock to read: its time is one that the row names.
		if at := repaired.CompletedAt; at != row.CompletedAt && at != row.UpdatedAt && at != row.CreatedAt {
			t.Fatalf("completed_at is %v, which the row doesn't name: %+v", at, row)
		}
		outcome := repaired
		outcome.Status, outcome.CompletedAt, outcome.DurationMS = row.Status, row.CompletedAt, row.DurationMS
		if outcome != row {
			t.Fatalf("more than status, completed_at and duration_ms changed:\n%s", cmp.Diff(row, repaired))
		}
	})
}

func TestRepairByTheTable(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }
	for name, c := range map[string]struct {
		row, want store.Row
		reason    store.Reason
	}{
		"an end without a time happened at the last update": {
			store.Row{Status: store.Timeout, CreatedAt: at(0), StartedAt: at(1), UpdatedAt: at(9)},
			store.Row{
				Status: store.Timeout, CreatedAt: at(0), StartedAt: at(1), UpdatedAt: at(9),
				CompletedAt: at(9), DurationMS: store.MillisOf(8000),
			},
			store.NoTime,
		},
		"or at the creation, where nothing was updated": {
			store.Row{Status: store.Completed, CreatedAt: at(3)},
			store.Row{Status: store.Completed, CreatedAt: at(3), CompletedAt: at(3)},
			store.NoTime,
		},
		"a late running over an outcome is undone": {
			store.Row{Status: store.Running, StartedAt: at(0), CompletedAt: at(2)},
			store.Row{Status: store.Completed, StartedAt: at(0), CompletedAt: at(2), DurationMS: store.MillisOf(2000)},
			store.Overwritten,
		},
		"and failed, where the row holds an error": {
			store.Row{Status: store.Pending, CompletedAt: at(2), ErrorDetails: `{"code":"x"}`},
			store.Row{Status: store.Failed, CompletedAt: at(2), ErrorDetails: `{"code":"x"}`},
			store.Overwritten,
		},
		"a duration that is known stays": {
			store.Row{Status: store.Running, StartedAt: at(0), CompletedAt: at(2), DurationMS: store.MillisOf(7)},
			store.Row{Status: store.Completed, StartedAt: at(0), CompletedAt: at(2), DurationMS: store.MillisOf(7)},
			store.Overwritten,
		},
		"a negative duration stays null": {
			store.Row{Status: store.Completed, StartedAt: at(9), UpdatedAt: at(1)},
			store.Row{Status: store.Completed, StartedAt: at(9), UpdatedAt: at(1), CompletedAt: at(1)},
			store.NoTime,
		},
		"a duration of two months is capped": {
			store.Row{Status: store.Running, StartedAt: at(0), CompletedAt: epoch.AddDate(0, 2, 0)},
			store.Row{
				Status: store.Completed, StartedAt: at(0), CompletedAt: epoch.AddDate(0, 2, 0),
				DurationMS: store.Millis{MS: math.MaxInt32, Valid: true},
			},
			store.Overwritten,
		},
		"an end before the start is reported": {
			store.Row{Status: store.Failed, StartedAt: at(5), CompletedAt: at(4)},
			store.Row{Status: store.Failed, StartedAt: at(5), CompletedAt: at(4)},
			store.EndedTooSoon,
		},
		"a run that goes on is fine": {
			store.Row{Status: store.Cancelling, StartedAt: at(5)},
			store.Row{Status: store.Cancelling, StartedAt: at(5)},
			store.Consistent,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, reason := store.Repair(c.row)
			if diff := cmp.Diff(c.want, got); diff != "" || reason != c.reason {
				t.Errorf("reason %q, want %q; row (-want +got):\n%s", reason, c.reason, diff)
			}
		})
	}
}

func TestTwoSweepersAgree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		row := anyRow.Draw(t, "row")
		limits := store.Limits{
			store.Pending:    time.Duration(rapid.IntRange(0, 10).Draw(t, "pending")) * time.Minute,
			store.Running:    time.Duration(rapid.IntRange(0, 10).Draw(t, "running")) * time.Minute,
			store.Cancelling: time.Duration(rapid.IntRange(0, 10).Draw(t, "cancelling")) * time.Minute,
		}
		first := epoch.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "now")) * time.Minute)
		second := first.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "later")) * time.Minute)
		a, stuck := store.Presume(row, limits, first)
		if !stuck {
			if a != row {
				t.Fatalf("not stuck, but changed:\n%s", cmp.Diff(row, a))
			}
			return
		}
		if !row.Status.Active() || !row.CompletedAt.IsZero() {
			t.Fatalf("presumed for a run that does not go on: %+v", row)
		}
		if !a.Ended() || a.CompletedAt.After(first) {
			t.Fatalf("presumed %s at %v, seen at %v", a.Status, a.CompletedAt, first)
		}
		if _, again := store.Presume(a, limits, second); again {
			t.Fatalf("presumed twice: %+v", a)
		}
		if repaired, _ := store.Repair(a); repaired != a {
			t.Fatalf("a presumed outcome is not consistent:\n%s", cmp.Diff(a, repaired))
		}
		if comesAlive(row, first, second) {
			return // what was in the future for the first sweeper is a sign of life for the second
		}
		b, stuck := store.Presume(row, limits, second)
		if !stuck || a != b {
			t.Fatalf("two sweepers disagree, stuck %v:\n%s", stuck, cmp.Diff(a, b))
		}
	})
}

// comesAlive reports whether a time of the row lies between two moments.
func comesAlive(r store.Row, first, second time.Time) bool {
	for _, at := range [...]time.Time{r.StartedAt, r.UpdatedAt, r.LeaseAt} {
		if at.After(first) && !at.After(second) {
			return true
		}
	}
	return false
}

func TestTimesInTheFutureAreNoSignOfLife(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		row := anyRow.Draw(t, "row")
		got := store.LastSign(row, epoch)
		if got.After(epoch) {
			t.Fatalf("last sign of life at %v, and it is %v", got, epoch)
		}
		without := row
		for _, at := range [...]*time.Time{&without.CreatedAt, &without.StartedAt, &without.UpdatedAt, &without.LeaseAt} {
			if at.After(epoch) {
				*at = time.Time{}
			}
		}
		if want := store.LastSign(without, epoch); got != want {
			t.Fatalf("last sign of life at %v; without the future it is %v", got, want)
		}
	})
}

func TestPresumeNamesWhatTheRunWas(t *testing.T) {
	t.Parallel()
	limits := store.Limits{store.Running: 90 * time.Second, store.Cancelling: 5 * time.Minute}
	now := epoch.Add(time.Hour)
	for name, c := range map[string]struct {
		row  store.Row
		want store.Outcome
	}{
		"a silent run failed": {
			store.Row{Status: store.Running, StartedAt: epoch},
			store.Outcome{
				Status: store.Failed, CompletedAt: epoch.Add(90 * time.Second), DurationMS: store.MillisOf(90_000),
				ErrorDetails: `{"code":"stuck","message":"No sign of life for 1m30s.","was":"running"}`,
			},
		},
		"one that was being cancelled is cancelled": {
			store.Row{Status: store.Cancelling, UpdatedAt: epoch},
			store.Outcome{
				Status: store.Cancelled, CompletedAt: epoch.Add(5 * time.Minute),
				ErrorDetails: `{"code":"stuck","message":"No sign of life for 5m.","was":"cancelling"}`,
			},
		},
		"an error that was written before stays": {
			store.Row{Status: store.Running, LeaseAt: epoch, ErrorDetails: `{"code":"OOM"}`},
			store.Outcome{Status: store.Failed, CompletedAt: epoch.Add(90 * time.Second), ErrorDetails: `{"code":"OOM"}`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, stuck := store.Presume(c.row, limits, now)
			if diff := cmp.Diff(c.want, got.Outcome()); !stuck || diff != "" {
				t.Errorf("stuck %v (-want +got):\n%s", stuck, diff)
			}
		})
	}
	for name, row := range map[string]store.Row{
		"a status without a limit":   {Status: store.Pending, UpdatedAt: epoch},
		"an unknown status":          {Status: "queued", UpdatedAt: epoch},
		"silent for just its limit":  {Status: store.Running, UpdatedAt: now.Add(-90 * time.Second)},
		"a row without any time":     {Status: store.Running},
		"a run that has ended":       {Status: store.Failed, UpdatedAt: epoch, CompletedAt: epoch},
		"an outcome written over":    {Status: store.Running, UpdatedAt: epoch, CompletedAt: epoch},
		"a clock years in the front": {Status: store.Running, UpdatedAt: epoch.AddDate(9, 0, 0)},
	} {
		t.Run("never stuck: "+name, func(t *testing.T) {
			t.Parallel()
			if got, stuck := store.Presume(row, limits, now); stuck || got != row {
				t.Errorf("stuck %v (-before +after):\n%s", stuck, cmp.Diff(row, got))
			}
		})
	}
}

func TestWhatIsInOrder(t *testing.T) {
	t.Parallel()
	running := store.Row{Status: store.Running, StartedAt: epoch}
	ended := store.Row{Status: store.Completed, StartedAt: epoch, CompletedAt: epoch.Add(time.Minute)}
	later, failed := ended, ended
	later.CompletedAt, failed.Status = epoch.Add(2*time.Minute), store.Failed
	overwritten := ended
	overwritten.Status = store.Running
	for name, c := range map[string]struct {
		change store.Change
		want   bool
	}{
		"a run begins":       {store.Change{Op: store.Insert, Record: running}, true},
		"one that has ended": {store.Change{Op: store.Insert, Record: ended}, true},
		"one that has ended, and nobody knows when": {store.Change{Op: store.Insert, Record: store.Row{Status: store.Completed, CreatedAt: epoch}}, false},
		"one without any time, which may have one":  {store.Change{Op: store.Insert, Record: store.Row{Status: store.Completed}}, false},
		"a row that ended before it started":        {store.Change{Op: store.Insert, Record: store.Row{Status: store.Failed, StartedAt: epoch, CompletedAt: epoch.Add(-1)}}, true},
		"a run that had ended":                      {store.Change{Op: store.Insert, Record: overwritten}, false},
		"a run that goes":                           {store.Change{Op: store.Delete, Old: overwritten, HasOld: true}, true},
		"it ends":                                   {store.Change{Op: store.Update, Record: ended, Old: running, HasOld: true}, true},
		"it goes on":                                {store.Change{Op: store.Update, Record: running, Old: running, HasOld: true}, true},
		"an update that shows no old row":           {store.Change{Op: store.Update, Record: ended}, false},
		"it had been overwritten before":            {store.Change{Op: store.Update, Record: ended, Old: overwritten, HasOld: true}, false},
		"its outcome stays":                         {store.Change{Op: store.Update, Record: ended, Old: ended, HasOld: true}, true},
		"it is another one":                         {store.Change{Op: store.Update, Record: failed, Old: ended, HasOld: true}, false},
		"at another time":                           {store.Change{Op: store.Update, Record: later, Old: ended, HasOld: true}, false},
		"it is lost":                                {store.Change{Op: store.Update, Record: running, Old: ended, HasOld: true}, false},
	} {
		if got := store.InOrder(c.change); got != c.want {
			t.Errorf("%s: in order %t, want %t", name, got, c.want)
		}
	}
}

func TestAnOutcomeThatSupersedesTakesFromTheRunWhatItLeavesOut(t *testing.T) {
	t.Parallel()
	const stuck = `{"code":"stuck","message":"No sign of life for 1m.","was":"running"}`
	ended := store.Row{Status: store.Failed, StartedAt: epoch, CompletedAt: epoch.Add(time.Minute), DurationMS: store.MillisOf(60_000), ErrorDetails: stuck}
	theirs := ended
	theirs.DurationMS, theirs.ErrorDetails = store.MillisOf(7), `{"code":"theirs"}`
	said := store.Outcome{Status: store.Completed, CompletedAt: epoch.Add(90 * time.Second)}
	whole := said
	whole.DurationMS, whole.ErrorDetails = store.MillisOf(5), `{"code":"said"}`
	for name, c := range map[string]struct {
		row      store.Row
		presumed bool
		outcome  store.Outcome
		ms       int64
		details  store.JSON
	}{
		"what a sweep filled in goes, and the duration is that to the new end": {ended, true, said, 90_000, ""},
		"what the application wrote stays, beside a presumed outcome":          {theirs, true, said, 7, theirs.ErrorDetails},
		"and beside a real one, of whatever words":                             {ended, false, said, 60_000, stuck},
		"what the outcome says is said":                                        {ended, true, whole, 5, whole.ErrorDetails},
		"beside what the application wrote too":                                {theirs, false, whole, 5, whole.ErrorDetails},
	} {
		got := store.Supersede(c.row, c.presumed, c.outcome)
		want := c.outcome
		want.DurationMS, want.ErrorDetails = store.MillisOf(c.ms), c.details
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestMillisOfIsCappedAndNeverNegative(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ms := rapid.Int64().Draw(t, "ms")
		got := store.MillisOf(ms)
		want := store.Millis{}
		if ms >= 0 {
			want = store.Millis{MS: int32(min(ms, math.MaxInt32)), Valid: true}
		}
		if got != want {
			t.Fatalf("MillisOf(%d) = %+v, want %+v", ms, got, want)
		}
	})
}

func TestPolicyReadsWhatItPrints(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"outcomes", "terminal", "outcomes-except-presumed", "terminal-except-presumed"} {
		p, err := store.ParsePolicy(text)
		if err != nil || p.String() != text {
			t.Errorf("ParsePolicy(%q) prints %q, error %v", text, p, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		want := store.Policy{Terminal: rapid.Bool().Draw(t, "terminal"), ExceptPresumed: rapid.Bool().Draw(t, "except")}
		if got, err := store.ParsePolicy(want.String()); err != nil || got != want {
			t.Fatalf("got %+v, error %v, want %+v", got, err, want)
		}
	})
}

func TestACountIsTheSumOfTheRunsThatCount(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := store.Policy{Terminal: rapid.Bool().Draw(t, "terminal"), ExceptPresumed: rapid.Bool().Draw(t, "except")}
		runs := map[store.ID]storetest.Mirrored{}
		for i := range rapid.IntRange(0, 12).Draw(t, "runs") {
			row := anyRow.Draw(t, "row")
			row.ID = store.UUID([16]byte{byte(i + 1)})
			runs[row.ID] = storetest.Mirrored{Row: row, Presumed: rapid.Bool().Draw(t, "presumed")}
		}
		var want int64
		for _, r := range runs {
			if r.Row.Ended() && p.Counts(r.Row.Status, r.Presumed) {
				want++
			}
		}
		key := store.KeyOf(store.UUID([16]byte{15: 2}), store.UUID([16]byte{15: 3}), store.ID{})
		if got := p.Count(storetest.Tally(runs)[key]); got != want {
			t.Fatalf("counted %d, want %d", got, want)
		}
	})
}

func TestLimitsAreReadForAllStatusesOrForEach(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]store.Limits{
		"5m":                          store.DefaultLimits(),
		"0":                           {store.Pending: 0, store.Running: 0, store.Cancelling: 0},
		"running=30m":                 {store.Pending: 5 * time.Minute, store.Running: 30 * time.Minute, store.Cancelling: 5 * time.Minute},
		"1h, running=30m":             {store.Pending: time.Hour, store.Running: 30 * time.Minute, store.Cancelling: time.Hour},
		"pending=1s,cancelling=1.5ms": {store.Pending: time.Second, store.Running: 5 * time.Minute, store.Cancelling: 1500 * time.Microsecond},
	} {
		got, err := store.ParseLimits(text)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("ParseLimits(%q): error %v (-want +got):\n%s", text, err, diff)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		want := store.Limits{}
		var parts []string
		for _, s := range []store.Status{store.Pending, store.Running, store.Cancelling} {
			want[s] = time.Duration(rapid.Int64Range(0, 1<<50).Draw(t, string(s)))
			parts = append(parts, string(s)+"="+want[s].String())
		}
		got, err := store.ParseLimits(strings.Join(parts, ","))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("error %v (-want +got):\n%s", err, diff)
		}
	})
}

// The sentences are part of the interface: they tell the user what to write.
func TestSettingsThatCannotBeReadSayWhatToWrite(t *testing.T) {
	t.Parallel()
	const howLong = " is not a length of time: write 5m, or pending=5m,running=30m,cancelling=10m; 0 means never"
	for text, want := range map[string]string{
		"":             `""` + howLong,
		"5":            `"5"` + howLong,
		"-5m":          `"-5m"` + howLong,
		"running=":     `"running="` + howLong,
		"5m,":          `""` + howLong,
		"failed=5m":    `"failed" is not an active status: limits are for pending, running and cancelling`,
		"=5m":          `"" is not an active status: limits are for pending, running and cancelling`,
		"running=5m=6": `"running=5m=6"` + howLong,
	} {
		limits, err := store.ParseLimits(text)
		if err == nil || err.Error() != want || limits != nil {
			t.Errorf("ParseLimits(%q) = %v, %v; want the error\n%s", text, limits, err, want)
		}
	}
	const policies = `: use "outcomes" (completed and failed runs count) or "terminal" (cancelled and timed-out ones too); ` +
		`append "-except-presumed" to leave out outcomes that a sweep presumed`
	for _, text := range []string{"", "all", "Terminal", "-except-presumed", "outcomes-except-presumed-except-presumed"} {
		p, err := store.ParsePolicy(text)
		if want := `unknown count policy "` + text + `"` + policies; err == nil || err.Error() != want || p != (store.Policy{}) {
			t.Errorf("ParsePolicy(%q) = %v, %v; want the error\n%s", text, p, err, want)
		}
	}
}
