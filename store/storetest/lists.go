package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
)

var listCases = []contractCase{
	{"Lists/the counts of many keys are those of each, in their order", func(s *script) {
		keys := s.manyKeys(30)
		asked := slices.Concat(keys, keys[:3], []store.Key{store.KeyOf(MustID('a', 999), resize, store.ID{})})
		got := must(s.Store.CountsOf(s.ctx, asked))(s)
		for i, key := range asked {
			one := s.count(key)
			one.LastRunAt = time.Time{}
			want(s, fmt.Sprintf("count %d", i), got[i], one)
		}
		want(s, "none of none", len(must(s.Store.CountsOf(s.ctx, nil))(s)), 0)
		if _, err := s.Store.CountsOf(s.ctx, []store.Key{{}}); err == nil {
			s.Error("the zero key: got no error")
		}
	}},
	{"Lists/the counts of two keys are of one snapshot while a run changes hands", func(s *script) {
		id := s.mustBegin(adaResize)
		s.complete(id, store.Completed, time.Second)
		before := row(id, adaResize, store.Completed, time.Second, time.Second)
		stop := make(chan struct{})
		var moving sync.WaitGroup
		moving.Go(func() {
			for i, from := 2, before; ; i++ {
				to := row(id, bobResize, store.Completed, time.Duration(i)*time.Second, time.Second)
				if from.User == bob {
					to = row(id, adaResize, store.Completed, time.Duration(i)*time.Second, time.Second)
				}
				s.Deliver(s, at(time.Duration(i)*time.Second), updated(from, to))
				from = to
				select {
				case <-stop:
					return
				default:
				}
			}
		})
		for range 200 {
			got, err := s.Store.CountsOf(s.ctx, []store.Key{adaResize, bobResize})
			if err != nil || got[0].Count+got[1].Count != 1 {
				s.Errorf("got %+v, %v, want one run of one of them", got, err)
				break
			}
		}
		close(stop)
		moving.Wait()
	}},
	{"Lists/every page size gives the same counts, ledger or not", func(s *script) {
		keys := s.manyKeys(23)
		slices.SortFunc(keys, store.Key.Compare)
		for range 2 {
			for size := 1; size <= 24; size += 5 {
				var got []store.Key
				for after := (store.Key{}); ; {
					page := must(s.Store.SearchCounts(s.ctx, store.CountQuery{After: after, Limit: size}))(s)
					for _, c := range page {
						want(s, "listed", c, s.count(c.Key))
						got = append(got, c.Key)
					}
					if len(page) < size {
						break
					}
					after = page[size-1].Key
				}
				want(s, fmt.Sprintf("the keys in pages of %d", size), got, keys)
			}
			s.fold()
		}
		for _, q := range []store.CountQuery{{User: keys[0].User}, {Ref: keys[0].Ref}, {User: keys[0].User, Ref: keys[0].Ref}} {
			q.Limit = 100
			var got, wanted []store.Key
			for _, c := range must(s.Store.SearchCounts(s.ctx, q))(s) {
				got = append(got, c.Key)
			}
			for _, key := range keys {
				if (q.User.IsZero() || q.User == key.User) && (q.Ref.IsZero() || q.Ref == key.Ref) {
					wanted = append(wanted, key)
				}
			}
			want(s, fmt.Sprintf("the keys of %+v", q), got, wanted)
		}
	}},
	{"Lists/the counts of a user are theirs, and those of nobody are none", func(s *script) {
		keys := s.manyKeys(23)
		slices.SortFunc(keys, store.Key.Compare)
		var got, wanted []store.Key
		for _, c := range must(store.UserCounts(s.ctx, s.Store, keys[7].User, store.Key{}, 100))(s) {
			want(s, "listed", c, s.count(c.Key))
			got = append(got, c.Key)
		}
		for _, key := range keys {
			if key.User == keys[7].User {
				wanted = append(wanted, key)
			}
		}
		want(s, "the keys", got, wanted)
		want(s, "behind the first", len(must(store.UserCounts(s.ctx, s.Store, keys[7].User, wanted[0], 100))(s)), len(wanted)-1)
		want(s, "of nobody", len(must(store.UserCounts(s.ctx, s.Store, store.ID{}, store.Key{}, 100))(s)), 0)
	}},
	{"Lists/runs are listed by state, latest first, in pages", func(s *script) {
		var active, presumed []store.ID
		for i := range 7 {
			id := MustID('3', i)
			s.Deliver(s, at(0), inserted(row(id, adaResize, store.Running, time.Duration(i)*time.Second, 0)))
			presumed = append(presumed, id)
		}
		s.failStuck(time.Hour)
		superseded := presumed[2]
		s.complete(superseded, store.Completed, time.Hour)
		presumed = slices.Delete(presumed, 2, 3)
		slices.Reverse(presumed) // each was silent a second later than the one before it
		for i := range 5 {
			r := row(MustID('4', i), adaResize, store.Running, time.Hour, 0)
			r.CreatedAt = at(time.Duration(i) * time.Minute)
			s.Deliver(s, at(time.Hour), inserted(r))
			active = append(active, r.ID)
		}
		slices.Reverse(active)
		for _, size := range []int{1, 2, 3, 100} {
			want(s, "active", s.runsIn(store.ActiveRuns, size), active)
			want(s, "presumed", s.runsIn(store.PresumedRuns, size), presumed)
			want(s, "superseded", s.runsIn(store.SupersededRuns, size), []store.ID{superseded})
		}
		if _, err := s.Store.SearchRuns(s.ctx, store.RunQuery{State: "lost", Limit: 1}); err == nil {
			s.Error("an unknown state: got no error")
		}
	}},
	{"Lists/what was repaired, decided and recounted, latest first", func(s *script) {
		for i := range 5 {
			s.Deliver(s, at(0), inserted(row(MustID('3', i), adaResize, store.Running, time.Duration(i)*time.Second, 0)))
			s.failStuck(time.Hour + time.Duration(i)*time.Minute)
		}
		all := must(s.Store.Repairs(s.ctx, store.Cursor{}, 100))(s)
		if len(all) == 0 || all[0].Status != store.Failed || all[0].Was != store.Running || all[0].Reason != store.Stuck {
			s.Errorf("repairs: got %+v", all)
		}
		for size := 1; size < 4; size++ {
			var got []store.ListedRepair
			for after := (store.Cursor{}); ; {
				page := must(s.Store.Repairs(s.ctx, after, size))(s)
				if len(page) == 0 {
					break
				}
				got = append(got, page...)
				after = store.Cursor{At: page[len(page)-1].Last, ID: page[len(page)-1].ID}
			}
			want(s, fmt.Sprintf("repairs in pages of %d", size), got, all)
		}

		s.amend(MustID('3', 1), store.Cancelled, 2*time.Hour)
		s.amend(MustID('3', 2), store.Completed, 3*time.Hour)
		decided := must(s.Store.Amendments(s.ctx, 0, 100))(s)
		if len(decided) != 2 || decided[0].ID != MustID('3', 2) || decided[0].Who != "support" || decided[0].Status != store.Completed {
			s.Errorf("decisions: got %+v", decided)
		}
		want(s, "the decisions before the last", must(s.Store.Amendments(s.ctx, decided[0].Seq, 1))(s), decided[1:])

		for i, by := range []int64{3, -2} {
			s.Corrupt(s, adaResize, by)
			if _, err := s.Store.Recount(s.ctx, adaResize, at(time.Duration(4+i)*time.Hour)); err != nil {
				s.Fatal(err)
			}
		}
		recounts := must(s.Store.Recounts(s.ctx, 0, 100))(s)
		if len(recounts) != 2 || recounts[0].Key != adaResize || recounts[0].Before == recounts[0].After || !recounts[0].At.Equal(at(5*time.Hour)) {
			s.Errorf("recounts: got %+v", recounts)
		}
		want(s, "the recounts before the last", must(s.Store.Recounts(s.ctx, recounts[0].Seq, 1))(s), recounts[1:])
	}},
	{"Lists/dead letters are kept, found, and dropped by id and by filter", func(s *script) {
		for i, reason := range []string{"the body is not JSON", "record.id is missing", "The Body Is Cut Off", "record.id is no UUID"} {
			s.keepLetter(store.DeadLetter{ReceivedAt: at(time.Duration(i) * time.Hour), Reason: reason, Bytes: 10 + int64(i), Body: []byte(strings.Repeat("x", 10))})
		}
		all := must(s.Store.DeadLetters(s.ctx, store.DeadLetterQuery{Limit: 100}))(s)
		if len(all) != 4 || all[0].Reason != "record.id is no UUID" || all[0].Body != nil || !all[0].ReceivedAt.Equal(at(3*time.Hour)) {
			s.Fatalf("got %+v", all)
		}
		one := must(s.Store.DeadLetters(s.ctx, store.DeadLetterQuery{Seq: all[3].Seq, Limit: 1}))(s)
		if len(one) != 1 || string(one[0].Body) != "xxxxxxxxxx" || !one[0].Whole() {
			s.Errorf("got %+v, want it with its body", one)
		}
		for _, tt := range []struct {
			what string
			q    store.DeadLetterQuery
			want []store.DeadLetter
		}{
			{"by reason", store.DeadLetterQuery{Reason: "the BODY is"}, []store.DeadLetter{all[1], all[3]}},
			{"by time", store.DeadLetterQuery{Until: at(2 * time.Hour)}, all[2:]},
			{"behind one", store.DeadLetterQuery{Before: all[1].Seq}, all[2:]},
			{"none", store.DeadLetterQuery{Reason: "%"}, nil},
			{"of one reason", store.DeadLetterQuery{Is: all[1].Reason}, []store.DeadLetter{all[1]}},
			{"of a part of a reason", store.DeadLetterQuery{Is: "the body is"}, nil},
			{"of a reason in other letters", store.DeadLetterQuery{Is: strings.ToUpper(all[1].Reason)}, nil},
		} {
			tt.q.Limit = 100
			want(s, tt.what, must(s.Store.DeadLetters(s.ctx, tt.q))(s), tt.want)
		}
		want(s, "dropped by reason", must(s.Store.DropDeadLetters(s.ctx, store.DeadLetterQuery{Reason: "is cut off"}))(s), 1)
		want(s, "dropped by id", must(s.Store.DropDeadLetters(s.ctx, store.DeadLetterQuery{Seq: all[0].Seq}))(s), 1)
		want(s, "dropped again", must(s.Store.DropDeadLetters(s.ctx, store.DeadLetterQuery{Seq: all[0].Seq}))(s), 0)
		want(s, "left", must(s.Store.DeadLetters(s.ctx, store.DeadLetterQuery{Limit: 100}))(s), all[2:])
		want(s, "dropped, all", must(s.Store.DropDeadLetters(s.ctx, store.DeadLetterQuery{}))(s), 2)
		s.keepLetter(store.DeadLetter{ReceivedAt: at(9 * time.Hour), Reason: "a new one", Bytes: 1, Body: []byte("x")})
		if fresh := must(s.Store.DeadLetters(s.ctx, store.DeadLetterQuery{Limit: 1}))(s); len(fresh) != 1 || fresh[0].Seq <= all[0].Seq {
			s.Errorf("after all were dropped: got %+v, want a number above %d: an old one would name another letter", fresh, all[0].Seq)
		}
	}},
}

// Letters holds a store to the bounds of dead letters: number, bytes and age.
// It is no part of [Contract], which is run for each guard anew: a thousand
// letters take their time.
func Letters(t *testing.T, open Open) {
	t.Parallel()
	s := &script{TB: t, Backend: open(t), ctx: t.Context()}
	const big = 4 << 20
	for i := range 20 {
		s.keepLetter(store.DeadLetter{ReceivedAt: at(time.Duration(i) * time.Hour), Reason: "big", Bytes: big, Body: make([]byte, big)})
	}
	want(s, "big ones", len(must(s.Store.DeadLetters(s.ctx, store.DeadLetterQuery{Limit: 100}))(s)), 16)
	// Case D2: those of one request, which are kept together and stay in order.
	many := make([]store.DeadLetter, 1_500)
	for i := range many {
		many[i] = store.DeadLetter{ReceivedAt: at(20 * time.Hour), Reason: "of one request", Bytes: int64(i), Body: []byte("x")}
	}
	s.keepLetter(many...)
	all := must(s.Store.DeadLetters(s.ctx, store.DeadLetterQuery{Limit: 2_000}))(s)
	if len(all) != 1_000 || all[0].Bytes != 1_499 || all[999].Bytes != 500 {
		s.Errorf("1,500 at once: got %d letters, want the last 1,000 of them, the last first", len(all))
	}
	many = many[:20]
	for i := range many {
		many[i] = store.DeadLetter{ReceivedAt: at(21 * time.Hour), Reason: "big, of one request", Bytes: big, Body: make([]byte, big)}
	}
	s.keepLetter(many...)
	want(s, "20 big ones at once", len(must(s.Store.DeadLetters(s.ctx, store.DeadLetterQuery{Limit: 100}))(s)), 16)
	if need.Smaller(t) {
		t.Log("NOT RUN with the race detector: a thousand letters, for each of which all are looked through")
		return
	}
	for i := range 1_010 {
		s.keepLetter(store.DeadLetter{ReceivedAt: at(time.Duration(100+i) * time.Hour), Reason: "small", Bytes: 1, Body: []byte("x")})
	}
	want(s, "small ones", len(must(s.Store.DeadLetters(s.ctx, store.DeadLetterQuery{Limit: 2_000}))(s)), 1_000)
	if _, err := s.Store.Fold(s.ctx, at((100+1_009)*time.Hour+30*24*time.Hour-500*time.Hour), 1); err != nil {
		s.Fatal(err)
	}
	want(s, "after thirty days", len(must(s.Store.DeadLetters(s.ctx, store.DeadLetterQuery{Limit: 2_000}))(s)), 501)
}

// must returns a value, and fails the test where there is an error instead.
func must[T any](v T, err error) func(s *script) T {
	return func(s *script) T {
		s.Helper()
		if err != nil {
			s.Fatal(err)
		}
		return v
	}
}

// manyKeys makes so many keys, with one run to nine.
func (s *script) manyKeys(n int) (keys []store.Key) {
	s.Helper()
	var changes []store.Change
	for i := range n {
		key := store.KeyOf(MustID('a', i%5), MustID('c', i/5), store.ID{})
		if i%3 == 0 {
			key = store.KeyOf(MustID('a', i%5), store.ID{}, MustID('d', i/5))
		}
		keys = append(keys, key)
		for j := range 1 + i%9 {
			status := store.Terminals[j%len(store.Terminals)]
			changes = append(changes, inserted(row(MustID('5', 10*i+j), key, status, time.Second, time.Duration(1+i+j)*time.Second)))
		}
	}
	s.Deliver(s, at(time.Minute), changes...)
	return keys
}

func (s *script) runsIn(state store.RunState, size int) (ids []store.ID) {
	s.Helper()
	for after := (store.Cursor{}); ; {
		page := must(s.Store.SearchRuns(s.ctx, store.RunQuery{State: state, After: after, Limit: size}))(s)
		for _, r := range page {
			one := s.run(r.ID)
			one.Snapshot = ""
			want(s, "listed", r.Run, one)
			ids = append(ids, r.ID)
		}
		if len(page) < size {
			return ids
		}
		after = page[size-1].Cursor()
	}
}

func (s *script) keepLetter(letters ...store.DeadLetter) {
	s.Helper()
	if err := s.Store.KeepDeadLetter(s.ctx, letters...); err != nil {
		s.Fatal(err)
	}
}
