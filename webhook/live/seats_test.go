package live

import (
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

func userNamed(n int) store.ID { return store.UUID([16]byte{1, byte(n >> 8), byte(n)}) }

func keysOfUser(user store.ID, from, count int) (topics []Topic) {
	for n := range count {
		topics = append(topics, CountOf(store.Key{User: user, Kind: store.KindWorkflow, Ref: store.UUID([16]byte{2, byte((from + n) >> 8), byte(from + n)})}))
	}
	return topics
}

func TestCaseD9_StreamsAreFairByUser(t *testing.T) {
	t.Parallel()
	t.Run("case D9: ten users who watch all they can leave room for every other", func(t *testing.T) {
		s := &seats{most: MaxStreams, mostKeys: MaxWatched}
		held := map[store.ID][]*seat{}
		for n := range 10 {
			for i := range maxStreamsOfUser {
				at, err := s.enter(userNamed(n), keysOfUser(userNamed(n), i*MaxKeys, MaxKeys), nil)
				if err != nil {
					t.Fatalf("user %d, stream %d: %v", n, i, err)
				}
				held[userNamed(n)] = append(held[userNamed(n)], at)
			}
		}
		if s.watched != MaxWatched {
			t.Fatalf("%d counts are watched, want %d", s.watched, MaxWatched)
		}
		for n := range 100 {
			if _, err := s.enter(userNamed(100+n), keysOfUser(userNamed(100+n), 0, 5), nil); err != nil {
				t.Fatalf("another user's first stream, number %d: %v", n, err)
			}
		}
		if s.watched > MaxWatched {
			t.Errorf("%d counts are watched, want %d at most", s.watched, MaxWatched)
		}
		least := maxStreamsOfUser
		for user, seats := range held {
			lost := 0
			for i, at := range seats {
				if at.lost {
					lost++
				} else if lost > 0 {
					t.Errorf("user %s lost an older stream than number %d, want the newest lost first", user, i)
				}
			}
			least = min(least, maxStreamsOfUser-lost)
		}
		if least < maxStreamsOfUser-2 {
			t.Errorf("one of the ten has %d streams left, want the loss spread over all ten", least)
		}
		if _, err := s.enter(userNamed(0), keysOfUser(userNamed(0), 2000, MaxKeys), nil); err == nil {
			t.Error("one who has as much as any other got more, want 503")
		}
	})
	t.Run("case D9: who is refused has taken nothing", func(t *testing.T) {
		s := &seats{most: 3, mostKeys: 3}
		var held []*seat
		for n := range 3 {
			at, err := s.enter(userNamed(1), keysOfUser(userNamed(1), n, 1), nil)
			if err != nil {
				t.Fatal(err)
			}
			held = append(held, at)
		}
		if _, err := s.enter(userNamed(2), keysOfUser(userNamed(2), 0, 3), nil); err == nil {
			t.Error("one more stream, of as many counts as another has: got it, want 503")
		}
		for n, at := range held {
			if at.lost || at.left {
				t.Errorf("stream %d gave up its place for nothing", n)
			}
		}
		if s.all != 3 || s.watched != 3 || s.taken() != 0 || len(s.of) != 1 || len(s.of[userNamed(1)].seats) != 3 {
			t.Errorf("%d streams of %d counts are open, %d were taken; want three and none", s.all, s.watched, s.taken())
		}
		for _, at := range held {
			s.leave(at)
		}
		if s.all != 0 || s.watched != 0 || len(s.of) != 0 {
			t.Errorf("afterwards %d streams of %d counts are left", s.all, s.watched)
		}
	})
	t.Run("case D9: places are given to who has fewer, and nobody with as few loses one", func(t *testing.T) {
		s := &seats{most: 6, mostKeys: 100}
		enter := func(n int) (*seat, error) {
			return s.enter(userNamed(n), keysOfUser(userNamed(n), 0, 1), nil)
		}
		var many []*seat
		for range 4 {
			at, err := enter(1)
			if err != nil {
				t.Fatal(err)
			}
			many = append(many, at)
		}
		// User 4 has two of user 1's, and loses the second, the newest, to user 5.
		for _, n := range []int{2, 3, 4, 4, 5} {
			if _, err := enter(n); err != nil {
				t.Fatalf("user %d: %v", n, err)
			}
		}
		if many[0].lost || many[1].lost || !many[2].lost || !many[3].lost || len(s.of[userNamed(4)].seats) != 1 {
			t.Errorf("user 1 has lost %v %v %v %v, want the newer two; user 4 has %d, want 1",
				many[0].lost, many[1].lost, many[2].lost, many[3].lost, len(s.of[userNamed(4)].seats))
		}
		if _, err := enter(1); err == nil {
			t.Error("a user with one stream took that of one with two, want 503: it would go back and forth")
		}
		if _, err := enter(6); err != nil {
			t.Errorf("a user with none: %v, want a place of the one with two", err)
		}
		if _, err := enter(7); err == nil {
			t.Error("among users with one each, want 503")
		}
		if _, err := s.enter(store.ID{}, nil, nil); err != nil {
			t.Errorf("a program with a key: %v, want a place", err)
		}
		if s.all != 6 {
			t.Errorf("%d streams are open, want 6", s.all)
		}
	})
	t.Run("case D9: a count that several streams of a user watch is one", func(t *testing.T) {
		s := &seats{most: 100, mostKeys: 60}
		var all []*seat
		for range 10 {
			at, err := s.enter(userNamed(1), keysOfUser(userNamed(1), 0, MaxKeys), nil)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, at)
		}
		if s.watched != MaxKeys {
			t.Errorf("%d counts are watched, want %d", s.watched, MaxKeys)
		}
		for _, at := range all {
			s.leave(at)
			s.leave(at)
		}
		if s.watched != 0 || s.all != 0 || len(s.of) != 0 {
			t.Errorf("afterwards %d counts, %d streams, %d users; want none", s.watched, s.all, len(s.of))
		}
	})
	t.Run("case D9: what is read by itself takes as many places as it costs", func(t *testing.T) {
		s := &seats{most: 100, mostKeys: 3 * weightAlone}
		window := func(n int) []Topic {
			return []Topic{{Of: store.Scope{User: userNamed(n)}, In: store.Window{From: time.Unix(int64(n), 0)}}}
		}
		var all []*seat
		for n := range 3 {
			at, err := s.enter(userNamed(1), window(n), nil)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, at)
		}
		if _, err := s.enter(userNamed(1), window(3), nil); err == nil || s.watched != 3*weightAlone {
			t.Errorf("a fourth window: got a place among %d, want 503", s.watched)
		}
		if _, err := s.enter(userNamed(2), window(4), nil); err != nil || !all[2].lost {
			t.Errorf("another user's first: %v, want the place of the newest", err)
		}
		for _, at := range all {
			s.leave(at)
		}
		if s.watched != weightAlone || s.of[userNamed(2)].weight != weightAlone {
			t.Errorf("afterwards %d are watched, want the other user's", s.watched)
		}
	})
}
