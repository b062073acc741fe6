package storetest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

func noticeOf(subject, state, id string) store.Notice {
	return store.Notice{Subject: subject, State: state, ID: id, Body: `{"type": "` + state + `"}`, MadeAt: at(0)}
}

func (s *script) turn(was string, n store.Notice, due time.Time) bool {
	s.Helper()
	turned, err := s.Store.TurnNotice(s.ctx, was, n, due)
	if err != nil {
		s.Fatalf("TurnNotice of %s: %v", n.Subject, err)
	}
	return turned
}

func (s *script) take(now, until time.Duration) store.Notice {
	s.Helper()
	n, err := s.Store.TakeNotice(s.ctx, at(now), at(until))
	if err != nil {
		s.Fatalf("TakeNotice: %v", err)
	}
	return n
}

func (s *script) settle(id string, due time.Time) {
	s.Helper()
	if err := s.Store.SettleNotice(s.ctx, id, due); err != nil {
		s.Fatalf("SettleNotice: %v", err)
	}
}

func (s *script) wantNotice(subject string, n store.Notice) {
	s.Helper()
	got, err := s.Store.Notice(s.ctx, subject)
	if err != nil {
		s.Fatalf("Notice: %v", err)
	}
	want(s, "the notice of "+subject, got, n)
}

// noticeCases are messages to operators.
var noticeCases = []contractCase{
	{"a notice is told once for each turn of its subject", func(s *script) {
		ok, failing := noticeOf("doctor", "ok", "n1"), noticeOf("doctor", "failing", "n2")
		s.wantNotice("doctor", store.Notice{})
		want(s, "turned from nothing", s.turn("", ok, time.Time{}), true)
		want(s, "taken of what is never due", s.take(time.Hour, 2*time.Hour), store.Notice{})
		want(s, "turned from another", s.turn("n0", failing, at(0)), false)
		s.wantNotice("doctor", ok)
		want(s, "turned", s.turn("n1", failing, at(0)), true)
		s.quietly("a turn that was made", func() {
			want(s, "turned again", s.turn("n1", failing, at(0)), false)
			want(s, "turned again, from whatever it was", s.turn("", failing, at(0)), false)
		})
		s.wantNotice("doctor", failing)
		s.wantNotice("another", store.Notice{})
		want(s, "turned from whatever it was", s.turn("", noticeOf("doctor", "ok", "n3"), at(0)), true)
	}},
	{"a notice that is due is taken by one, and by another where it is not settled", func(s *script) {
		first, second := noticeOf("a", "near", "n1"), noticeOf("b", "near", "n2")
		s.turn("", first, at(time.Minute))
		s.turn("", second, at(time.Second))
		s.quietly("looking for what is due", func() { want(s, "before it is due", s.take(0, time.Hour), store.Notice{}) })
		first.Tries, second.Tries = 1, 1
		want(s, "the longest due", s.take(time.Minute, time.Hour), second)
		want(s, "the other", s.take(time.Minute, time.Hour), first)
		want(s, "of none left", s.take(time.Minute, time.Hour), store.Notice{})
		s.settle("n1", time.Time{})
		s.settle("n2", at(2*time.Minute))
		second.Tries = 2
		want(s, "what was put off", s.take(2*time.Minute, time.Hour), second)
		second.Tries = 3
		want(s, "what nobody settled", s.take(time.Hour, 2*time.Hour), second)
		want(s, "what was sent", s.take(90*time.Minute, 3*time.Hour), store.Notice{})
		s.settle("n0", at(0)) // which is no subject's last
		want(s, "after that", s.take(90*time.Minute, 3*time.Hour), store.Notice{})
	}},
	{"many who see a turn at once keep it once, and many who take at once take each once", func(s *script) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		turned, taken := map[string]int{}, map[string]int{}
		for i := range 40 {
			wg.Go(func() {
				id := fmt.Sprint("n", i%8)
				made, err := s.Store.TurnNotice(s.ctx, "", noticeOf(id, "near", id), at(0))
				n, err2 := s.Store.TakeNotice(s.ctx, at(0), at(time.Hour))
				if err != nil || err2 != nil {
					s.Errorf("got %v, %v", err, err2)
				}
				mu.Lock()
				defer mu.Unlock()
				if made {
					turned[id]++
				}
				if n.ID != "" {
					taken[n.ID]++
				}
			})
		}
		wg.Wait()
		for n := s.take(0, time.Hour); n.ID != ""; n = s.take(0, time.Hour) {
			taken[n.ID]++
		}
		once := map[string]int{}
		for i := range 8 {
			once[fmt.Sprint("n", i)] = 1
		}
		want(s, "turned", turned, once)
		want(s, "taken", taken, once)
	}},
	{"the notices that wait are bounded, and that of a verdict is taken in all the same", func(s *script) {
		s.turn("", noticeOf("doctor", "ok", "d1"), time.Time{})
		for i := range store.MaxNotices {
			s.turn("", noticeOf(fmt.Sprint("limit ", i), "near", fmt.Sprint("n", i)), at(0))
		}
		if turned, err := s.Store.TurnNotice(s.ctx, "", noticeOf("limit x", "near", "x"), at(0)); turned || !errors.Is(err, store.ErrNoticesFull) {
			s.Errorf("one more: got %v, %v; want ErrNoticesFull", turned, err)
		}
		want(s, "one that waits", s.turn("", noticeOf("limit 1", "near", "n1"), at(0)), false)
		want(s, "a verdict", s.turn("d1", noticeOf("doctor", "failing", "d2"), at(0)), true)
		s.settle("n7", time.Time{})
		s.settle("n8", time.Time{})
		want(s, "where there is room", s.turn("", noticeOf("limit x", "near", "x"), at(0)), true)
	}},
	{"notices are dropped as logs are, but for the verdict", func(s *script) {
		s.turn("", noticeOf("doctor", "ok", "d1"), time.Time{})
		s.turn("", noticeOf("limit 1", "near", "n1"), time.Time{})
		s.foldAt(store.KeepLogs)
		s.wantNotice("limit 1", noticeOf("limit 1", "near", "n1"))
		s.foldAt(store.KeepLogs + time.Second)
		s.wantNotice("limit 1", store.Notice{})
		s.wantNotice("doctor", noticeOf("doctor", "ok", "d1"))
	}},
}
