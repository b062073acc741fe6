package storetest

import (
	"errors"
	"strings"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
)

// month is when one month turns into the next, in the stories of windows.
const month = 720 * time.Hour

// The windows of these stories; lastMonth ends where thisMonth begins.
var (
	lastMonth = between(0, month)
	thisMonth = between(month, 2*month)
)

func between(from, to time.Duration) store.Window { return store.Window{From: at(from), To: at(to)} }
func since(from time.Duration) store.Window       { return store.Window{From: at(from)} }
func until(to time.Duration) store.Window         { return store.Window{To: at(to)} }

// windows makes the indexes of windows, and skips the test where there can be none.
func (s *script) windows() {
	s.Helper()
	if s.Windows == nil {
		need.Skip(s, "the store has no indexes of windows")
	}
	s.Windows(s)
}

func (s *script) countIn(of store.Scope, in store.Window) store.Count {
	s.Helper()
	c, err := s.Store.Count(s.ctx, of, in)
	if err != nil {
		s.Fatalf("Count of %s in %v: %v", of, in, err)
	}
	return c
}

func (s *script) wantIn(of store.Scope, in store.Window, want int64) {
	s.Helper()
	if got := s.countIn(of, in); got.Count != want || got.Key != store.Key(of) {
		s.Errorf("count of %s from %v to %v: got %d (%+v), want %d", of, in.From, in.To, got.Count, got, want)
	}
}

// wantMonths compares the counts of a scope in last month, in this one, and in both
// together.
func (s *script) wantMonths(of store.Scope, last, this int64) {
	s.Helper()
	s.wantIn(of, lastMonth, last)
	s.wantIn(of, thisMonth, this)
	s.wantIn(of, between(0, 2*month), last+this)
	s.wantIn(of, store.AllTime, last+this)
}

// endedAt is a run that took a minute, and ended then.
func endedAt(n int, key store.Key, status store.Status, end time.Time) store.Row {
	began := end.Add(-time.Minute)
	return store.Row{
		ID: MustID('2', n), User: key.User, Workflow: key.Workflow(), Draft: key.Draft(), Status: status,
		CreatedAt: began, StartedAt: began, UpdatedAt: end, CompletedAt: end,
	}
}

// deliverEnded delivers runs that ended at these moments, numbered from first on.
func (s *script) deliverEnded(first int, key store.Key, ends ...time.Duration) (rows []store.Row) {
	s.Helper()
	for i, end := range ends {
		rows = append(rows, endedAt(first+i, key, store.Completed, at(end)))
		s.Deliver(s, at(2*month), inserted(rows[i]))
	}
	return rows
}

var adas, bobs = store.Scope{User: ada}, store.Scope{User: bob}

// scopeCases are counts of users and workflows, and in windows.
var scopeCases = []contractCase{
	{"a window has the runs that ended from its beginning on and before its end", func(s *script) {
		s.deliverEnded(1, adaResize, time.Hour, 2*time.Hour, 3*time.Hour)
		s.deliverEnded(4, bobResize, 2*time.Hour)
		s.quietly("counts in windows", func() {
			for _, c := range []struct {
				in   store.Window
				want int64
			}{
				{store.AllTime, 3},
				{between(time.Hour, 3*time.Hour), 2},
				{between(time.Hour, 3*time.Hour+time.Second), 3},
				{between(time.Hour+time.Second, 3*time.Hour), 1},
				{between(2*time.Hour, 2*time.Hour), 0},
				{between(2*time.Hour, 2*time.Hour+time.Second), 1},
				{since(3 * time.Hour), 1},
				{since(3*time.Hour + time.Second), 0},
				{since(time.Hour), 3},
				{until(time.Hour), 0},
				{until(time.Hour + time.Second), 1},
				{until(month), 3},
			} {
				s.wantIn(adaResize.Scope(), c.in, c.want)
			}
		})
		got := s.countIn(adaResize.Scope(), since(2*time.Hour))
		want(s, "the count in a window", got, store.Count{Key: adaResize, Count: 2, Tallies: ended(2)})
	}},
	{"a window turns at a midnight to the microsecond, whatever zone names it", func(s *script) {
		midnight := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
		for i, end := range []time.Duration{-time.Microsecond, 0, time.Microsecond} {
			s.Deliver(s, at(2*month), inserted(endedAt(i+1, adaResize, store.Completed, midnight.Add(end))))
		}
		for _, bound := range []time.Time{midnight, midnight.In(time.FixedZone("", 9*60*60)), midnight.Add(time.Nanosecond)} {
			s.wantIn(adaResize.Scope(), store.Window{To: bound}, 1)
			s.wantIn(adaResize.Scope(), store.Window{From: bound}, 2)
			s.wantIn(adaResize.Scope(), store.Window{From: bound, To: bound.Add(time.Microsecond)}, 1)
			s.wantIn(adaResize.Scope(), store.Window{From: bound.AddDate(0, -1, 0), To: bound}, 1)
		}
		s.wantIn(adaResize.Scope(), store.Window{From: time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC), To: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}, 3)
	}},
	{"the first and the last end that there is are in every window that is open there", func(s *script) {
		end := store.LastTime.Truncate(time.Second)        // a column may keep no more
		begin := store.FirstTime.Add(6 * time.Microsecond) // Rounded moves it to the first
		for i, end := range []time.Time{begin, at(month), end} {
			s.Deliver(s, at(2*month), inserted(endedAt(i+1, adaResize, store.Completed, end)))
		}
		first, last := store.FirstTime.AddDate(-1, 0, 1), store.LastTime.AddDate(1, 0, 0)
		for _, c := range []struct {
			in   store.Window
			want int64
		}{
			{store.AllTime, 3},
			{store.Window{From: first}, 3},
			{store.Window{From: store.FirstTime}, 3},
			{store.Window{From: at(month)}, 2},
			{store.Window{From: end}, 1},
			{store.Window{From: last}, 0},
			{store.Window{To: first}, 0},
			{store.Window{To: store.FirstTime}, 0},
			{store.Window{To: at(month)}, 1},
			{store.Window{To: end}, 2},
			{store.Window{To: last}, 3},
			{store.Window{From: first, To: last}, 3},
		} {
			s.wantIn(adaResize.Scope(), c.in, c.want)
		}
	}},
	{"a count of nothing, and a window that ends before it begins, are invalid", func(s *script) {
		s.windows()
		for _, of := range []store.Scope{{}, {Kind: store.KindWorkflow}, {User: ada, Ref: resize}, {Ref: resize}} {
			for _, in := range []store.Window{store.AllTime, lastMonth} {
				if got, err := s.Store.Count(s.ctx, of, in); !errors.Is(err, store.ErrInvalid) {
					s.Errorf("Count of %+v: got %+v, %v; want ErrInvalid", of, got, err)
				}
			}
		}
		for _, of := range []store.Scope{adaResize.Scope(), adas, allResize.Scope()} {
			if got, err := s.Store.Count(s.ctx, of, between(month, month-time.Second)); !errors.Is(err, store.ErrInvalid) {
				s.Errorf("Count of %s in a window that is exchanged: got %+v, %v; want ErrInvalid", of, got, err)
			}
			s.wantIn(of, between(month, month), 0)
		}
	}},
	{"a user's count has all their keys, drafts among them unless a kind is named", func(s *script) {
		s.windows()
		s.wantMonths(adas, 0, 0)
		adaCrop := store.KeyOf(ada, MustID('c', 2), store.ID{})
		s.deliverEnded(1, adaResize, time.Hour, month)
		s.deliverEnded(11, adaCrop, time.Hour)
		s.deliverEnded(21, adaSketch, 2*time.Hour, month-time.Second, month+time.Hour)
		s.deliverEnded(31, bobResize, time.Hour, month)
		s.mustBegin(adaResize)
		for range 2 {
			s.wantMonths(adas, 4, 2)
			s.wantMonths(store.Scope{User: ada, Kind: store.KindWorkflow}, 2, 1)
			s.wantMonths(store.Scope{User: ada, Kind: store.KindDraft}, 2, 1)
			s.wantMonths(bobs, 1, 1)
			s.wantMonths(store.Scope{User: MustID('a', 9)}, 0, 0)
			s.fold()
		}
		s.deliverEnded(41, adaSketch, time.Hour) // counts and a ledger, side by side
		s.wantMonths(adas, 5, 2)
	}},
	{"a run that is in no key is in no scope", func(s *script) {
		s.windows()
		s.deliverEnded(1, adaResize, time.Hour)
		guest := endedAt(2, adaResize, store.Completed, at(time.Hour))
		guest.User = store.ID{}
		s.Deliver(s, at(month), inserted(guest))
		for _, of := range []store.Scope{adaResize.Scope(), adas, allResize.Scope()} {
			s.wantMonths(of, 1, 0)
		}
	}},
	{"a run with an unknown status is in no window", func(s *script) {
		s.windows()
		odd := endedAt(1, adaResize, "archived", at(time.Hour))
		s.Deliver(s, at(month), inserted(odd))
		for _, of := range []store.Scope{adaResize.Scope(), adas, allResize.Scope()} {
			s.wantMonths(of, 0, 0)
		}
	}},
	{"a workflow and a draft have the runs of all their users in a window", func(s *script) {
		s.windows()
		s.wantMonths(allResize.Scope(), 0, 0)
		s.deliverEnded(1, adaResize, time.Hour, month)
		s.deliverEnded(11, bobResize, 2*time.Hour, month-time.Second)
		s.deliverEnded(21, adaSketch, time.Hour, month)
		s.deliverEnded(31, store.KeyOf(ada, MustID('c', 2), store.ID{}), time.Hour)
		for range 2 {
			s.wantMonths(allResize.Scope(), 3, 1)
			s.wantMonths(allSketch.Scope(), 1, 1)
			s.fold()
		}
	}},
	{"a window tells what of it is presumed, and its count follows the policy", func(s *script) {
		s.windows()
		for i, status := range store.Terminals {
			s.Deliver(s, at(month), inserted(endedAt(i+1, adaResize, status, at(time.Hour))))
		}
		s.mustBegin(adaResize)
		s.failStuck(time.Hour) // as of 5 minutes
		tallies := store.Tallies{Ended: store.Tally{Completed: 1, Failed: 2, Cancelled: 1, Timeout: 1}, Presumed: store.Tally{Failed: 1}}
		for _, of := range []store.Scope{adaResize.Scope(), adas, allResize.Scope()} {
			for policy, n := range map[store.Policy]int64{
				{}: 3, {Terminal: true}: 5, {ExceptPresumed: true}: 2, {Terminal: true, ExceptPresumed: true}: 4,
			} {
				s.setPolicy(policy)
				s.wantMonths(of, n, 0)
				want(s, "the tallies of "+of.String(), s.countIn(of, lastMonth).Tallies, tallies)
				want(s, "the tallies of "+of.String()+", for all time", s.countIn(of, store.AllTime).Tallies, tallies)
				want(s, "without the presumed one", s.countIn(of, since(10*time.Minute)).Tallies.Presumed, store.Tally{})
			}
		}
	}},
	{"a run that is handed over leaves each window of its user, and comes into the next one's", func(s *script) {
		s.windows()
		run := s.deliverEnded(1, adaResize, time.Hour)[0]
		s.deliverEnded(2, adaResize, month)
		bobsRun, sketched := run, run
		bobsRun.User, bobsRun.UpdatedAt = bob, at(month+time.Hour)
		sketched.User, sketched.Workflow, sketched.Draft, sketched.UpdatedAt = bob, store.ID{}, sketch, at(month+2*time.Hour)
		for i, step := range []struct {
			change                              store.Change
			adas, bobs, resize, sketch, bobsKey int64 // in the month that is over
		}{
			{updated(run, bobsRun), 0, 1, 1, 0, 1},
			{updated(bobsRun, sketched), 0, 1, 0, 1, 0},
			{deleted(sketched), 0, 0, 0, 0, 0},
		} {
			s.Deliver(s, at(month+time.Duration(i+1)*time.Hour), step.change)
			s.wantMonths(adas, step.adas, 1)
			s.wantMonths(adaResize.Scope(), step.adas, 1)
			s.wantMonths(bobs, step.bobs, 0)
			s.wantMonths(bobResize.Scope(), step.bobsKey, 0)
			s.wantMonths(allResize.Scope(), step.resize, 1)
			s.wantMonths(allSketch.Scope(), step.sketch, 0)
		}
	}},
	{"a completion that comes late is in the month that it names", func(s *script) {
		s.windows()
		id := s.mustBegin(adaResize)
		s.complete(s.mustBegin(adaResize), store.Completed, month)
		s.completeAt(id, store.Completed, month-time.Second, month+24*time.Hour)
		for _, of := range []store.Scope{adaResize.Scope(), adas, allResize.Scope()} {
			s.wantMonths(of, 1, 1)
		}
	}},
	{"an end that was presumed in one month is in the next where a real one supersedes it", func(s *script) {
		s.windows()
		b := store.Begin{ID: MustID('1', 9), User: ada, Workflow: resize, Now: at(month - 10*time.Minute)}
		s.begin(b)
		s.failStuck(month + 10*time.Minute)
		scopes := []store.Scope{adaResize.Scope(), adas, allResize.Scope()}
		for _, of := range scopes {
			s.wantMonths(of, 1, 0)
			want(s, "presumed", s.countIn(of, lastMonth).Tallies.Presumed, store.Tally{Failed: 1})
		}
		s.complete(b.ID, store.Completed, month+20*time.Minute)
		for _, of := range scopes {
			s.wantMonths(of, 0, 1)
			want(s, "presumed", s.countIn(of, thisMonth).Tallies, ended(1))
		}
	}},
	{"an amendment takes a run out of its month, and a re-opened one ends in another", func(s *script) {
		s.windows()
		refunded, reopened := s.mustBegin(adaResize), s.mustBegin(adaResize)
		s.complete(refunded, store.Completed, time.Hour)
		s.complete(reopened, store.Failed, 2*time.Hour)
		scopes := []store.Scope{adaResize.Scope(), adas, allResize.Scope()}
		for _, of := range scopes {
			s.wantMonths(of, 2, 0)
		}
		s.amend(refunded, store.Cancelled, month+time.Hour)
		s.amend(reopened, store.Running, month+time.Hour)
		for _, of := range scopes {
			s.wantMonths(of, 0, 0)
		}
		s.complete(reopened, store.Completed, month+2*time.Hour)
		s.amend(refunded, store.Completed, month+3*time.Hour)
		for _, of := range scopes {
			s.wantMonths(of, 1, 1)
		}
	}},
	{"a recount sets a user's sum right, and windows are counted from the runs", func(s *script) {
		s.windows()
		s.deliverEnded(1, adaResize, time.Hour)
		s.deliverEnded(2, bobResize, time.Hour, month)
		s.fold()
		s.deliverEnded(4, adaResize, month)
		s.Corrupt(s, adaResize, 7)
		s.wantIn(adas, store.AllTime, 9)
		for _, of := range []store.Scope{adaResize.Scope(), adas} {
			s.wantIn(of, between(0, 2*month), 2)
		}
		if r, err := s.Store.Recount(s.ctx, adaResize, at(month)); err != nil || !r.Changed() {
			s.Errorf("Recount: got %+v, %v", r, err)
		}
		s.wantMonths(adas, 1, 1)
		s.wantMonths(bobs, 1, 1)
		s.wantMonths(allResize.Scope(), 2, 2)
		want(s, "wrong totals", s.auditTotals(false), nil)
	}},
	{"a user's window, and a workflow's, need an index, and a key's none", func(s *script) {
		if s.Windows == nil {
			need.Skip(s, "the store has no indexes of windows")
		}
		s.deliverEnded(1, adaResize, time.Hour)
		ask := func(of store.Scope) error {
			_, err := s.Store.Count(s.ctx, of, lastMonth)
			return err
		}
		allow := func(limits ...store.Limit) error {
			_, err := s.Store.Allowance(s.ctx, store.AllowanceRequest{User: ada, Workflow: resize, Limits: limits, Now: at(month)})
			return err
		}
		begin := func(n int, limits ...store.Limit) error {
			_, err := s.Store.Begin(s.ctx, store.Begin{ID: MustID('1', n), User: ada, Workflow: resize, Limits: limits, Now: at(month)})
			return err
		}
		ofKey, ofUser := store.Limit{Scope: store.KeyLimit, Max: 9, From: at(0)}, store.Limit{Scope: store.UserLimit, Max: 9, From: at(0)}
		allTime := ofUser
		allTime.From = time.Time{}
		for what, err := range map[string]error{"a key": ask(adaResize.Scope()), "its limit": begin(1, ofKey), "its allowance": allow(ofKey), "a user for all time": begin(2, allTime)} {
			if err != nil {
				s.Errorf("%s: %v, want no need of an index", what, err)
			}
		}
		asked := map[string]func() error{
			"--user-windows": func() error { return ask(adas) }, "--user-windows, of a kind": func() error { return ask(store.Scope{User: ada, Kind: store.KindWorkflow}) },
			"--user-windows, of a begin": func() error { return begin(3, ofKey, ofUser) }, "--user-windows, of an allowance": func() error { return allow(ofUser, ofKey) },
			"--workflow-windows": func() error { return ask(allResize.Scope()) },
		}
		for what, call := range asked {
			var missing *store.NoIndexError
			if err := call(); !errors.As(err, &missing) || !errors.Is(err, store.ErrInvalid) || !strings.HasPrefix(what, missing.Flag()) {
				s.Errorf("%s: got %v, want a NoIndexError with that flag", what, err)
			}
		}
		if _, err := s.Store.Run(s.ctx, MustID('1', 3)); !errors.Is(err, store.ErrNotFound) {
			s.Errorf("a begin that was refused: the run is %v, want ErrNotFound", err)
		}
		s.Windows(s)
		for what, call := range asked {
			if err := call(); err != nil {
				s.Errorf("%s, with the indexes: %v", what, err)
			}
		}
	}},
	{"a begin that finds its run needs no index", func(s *script) {
		if s.Windows == nil {
			need.Skip(s, "the store has no indexes of windows")
		}
		s.Windows(s)
		ofKey, ofUser := store.Limit{Scope: store.KeyLimit, Max: 9, From: at(0)}, store.Limit{Scope: store.UserLimit, Max: 9, From: at(0)}
		b := store.Begin{ID: MustID('1', 1), User: ada, Workflow: resize, IdempotencyKey: "order-7", Limits: []store.Limit{ofUser, ofKey}, Now: at(month)}
		first := s.begin(b)
		s.NoWindows(s)
		s.quietly("a repeated begin", func() {
			again := s.begin(b)
			if again.Created || again.LimitReached || again.Run.ID != first.Run.ID {
				s.Errorf("Begin: got %+v, want the first run", again)
			}
			want(s, "the usages that can be counted", again.Usages, first.Usages[1:])
		})
		var missing *store.NoIndexError
		b.ID, b.IdempotencyKey = MustID('1', 2), "order-8"
		if _, err := s.Store.Begin(s.ctx, b); !errors.As(err, &missing) || missing.Flag() != "--user-windows" {
			s.Errorf("Begin of another order: got %v, want a NoIndexError", err)
		}
		b.ID, b.IdempotencyKey, b.Workflow = first.Run.ID, "", MustID('c', 9)
		if _, err := s.Store.Begin(s.ctx, b); !errors.Is(err, store.ErrConflict) {
			s.Errorf("Begin of another key's run: got %v, want ErrConflict", err)
		}
	}},
}
