package live

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// The bounds of streams.
const (
	MaxStreams       = 2000 // of one instance
	maxStreamsOfUser = 20
	MaxKeys          = 50 // that one stream watches
	// MaxWatched bounds the counts that are watched at an instance: a thousand
	// take 14 to 29 ms to read, so up to two thousand are told within 100 ms of
	// their commit, and these within half a second. What is read by itself, such as a
	// window or an allowance, counts as twenty: 500 of them are told within seconds.
	MaxWatched = 10_000
	// farewell bounds the time in which a stream that gave its place to another
	// user's says so.
	farewell = time.Second
)

// seats holds the open streams by user. Places are shared
// fairly: while all are taken, a user who asks for one more gets that of the
// user who has most, if that is more than the asker has then. So users can
// crowd out themselves, and no other. A program with an API key has no share:
// what it opens is never taken away, and always finds a place while users hold
// any.
type seats struct {
	most, mostKeys int

	mu        sync.Mutex
	all       int
	watched   int // the weight of what is watched, what several streams of a user watch once
	of        map[store.ID]*share
	entered   uint64
	displaced int
}

// share holds the streams of one user.
type share struct {
	seats  []*seat // in the order in which they were taken
	topics map[Topic]int
	weight int // of the topics
}

func (s *share) last() *seat { return s.seats[len(s.seats)-1] }

// seat is the place of one stream.
type seat struct {
	user   store.ID
	topics []Topic
	conn   net.Conn
	over   chan struct{} // closed when the place was given back, or taken away
	nth    uint64        // in the order of all
	left   bool
	lost   bool // to another user
}

// enter takes a place.
func (s *seats) enter(user store.ID, topics []Topic, conn net.Conn) (*seat, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = map[store.ID]*share{}
	}
	mine := s.of[user]
	if mine == nil {
		mine = &share{}
	}
	if !user.IsZero() && len(mine.seats) >= maxStreamsOfUser {
		return nil, problem.New(fiber.StatusTooManyRequests, "This user has "+strconv.Itoa(maxStreamsOfUser)+" streams open already. Close one, or name several workflows in one stream.")
	}
	more := 0
	for _, topic := range topics {
		if mine.topics[topic] == 0 {
			more += topic.weight()
		}
	}
	seats := func(sh *share) int { return len(sh.seats) }
	counts := func(sh *share) int { return sh.weight }
	var out []*seat
	if !s.room(user, &out, func() bool { return s.all < s.most }, seats, 1) ||
		!s.room(user, &out, func() bool { return s.watched+more <= s.mostKeys }, counts, more) {
		for _, at := range slices.Backward(out) {
			s.add(at) // it would be taken for nothing
		}
		return nil, problem.New(fiber.StatusServiceUnavailable, "Too many streams are open here, and no user has more than this one would have. Connect again after the time in Retry-After, or ask for the count with GET /v1/counts.")
	}
	for _, at := range out {
		s.displace(at)
	}
	s.entered++
	at := &seat{user: user, topics: topics, conn: conn, over: make(chan struct{}), nth: s.entered}
	s.add(at)
	return at, nil
}

// add adds a seat to those of its user.
func (s *seats) add(at *seat) {
	mine := s.of[at.user]
	if mine == nil {
		mine = &share{topics: map[Topic]int{}}
		s.of[at.user] = mine
	}
	mine.seats = append(mine.seats, at)
	for _, topic := range at.topics {
		if mine.topics[topic]++; mine.topics[topic] == 1 {
			mine.weight += topic.weight()
			s.watched += topic.weight()
		}
	}
	s.all++
}

// displace tells a stream that its place was taken.
func (s *seats) displace(at *seat) {
	at.left, at.lost = true, true
	s.displaced++
	close(at.over)
	if at.conn != nil {
		_ = at.conn.SetDeadline(time.Now().Add(farewell)) // else it is gone anyway
	}
}

// room makes room by taking away the newest places of the user who has most,
// while that is more than the asker would have. They are added to out.
func (s *seats) room(asker store.ID, out *[]*seat, enough func() bool, size func(*share) int, more int) bool {
	for !enough() {
		most, would := s.largest(asker, size), 0
		if mine := s.of[asker]; !asker.IsZero() {
			would = more
			if mine != nil {
				would += size(mine)
			}
		}
		if most == nil || size(most) <= would {
			return false
		}
		last := most.last()
		s.withdraw(last)
		*out = append(*out, last)
	}
	return true
}

// largest returns the largest share of another user; of several the one that
// was added to last.
func (s *seats) largest(asker store.ID, size func(*share) int) (most *share) {
	for user, sh := range s.of {
		if user == asker || user.IsZero() {
			continue
		}
		if most == nil || cmp.Or(cmp.Compare(size(sh), size(most)), cmp.Compare(sh.last().nth, most.last().nth)) > 0 {
			most = sh
		}
	}
	return most
}

// leave gives a place back. It may be called again.
func (s *seats) leave(at *seat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.left {
		return
	}
	at.left = true
	close(at.over)
	s.withdraw(at)
}

// withdraw takes a seat from those of its user.
func (s *seats) withdraw(at *seat) {
	sh := s.of[at.user]
	s.all--
	for _, topic := range at.topics {
		if sh.topics[topic]--; sh.topics[topic] == 0 {
			delete(sh.topics, topic)
			sh.weight -= topic.weight()
			s.watched -= topic.weight()
		}
	}
	sh.seats = slices.DeleteFunc(sh.seats, func(other *seat) bool { return other == at })
	if len(sh.seats) == 0 {
		delete(s.of, at.user)
	}
}

// open returns the number of open streams.
func (s *seats) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

// taken returns how many places were given to another user.
func (s *seats) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.displaced
}

// watchReader gives the place back as soon as the reader of a stream is gone: a
// stream writes seldom, and its writes fail long after. What the reader sends
// meanwhile is read and thrown away, so the connection must be closed after it.
// The returned function ends the watch.
func (s *seats) watchReader(at *seat) (stop func()) {
	ended := make(chan struct{})
	_ = at.conn.SetReadDeadline(time.Time{}) // an error says that it is closed, as the read will
	go func() {
		defer close(ended)
		defer s.leave(at)
		var said [512]byte
		for {
			if _, err := at.conn.Read(said[:]); err != nil {
				return
			}
		}
	}()
	return func() {
		_ = at.conn.SetReadDeadline(time.Unix(1, 0))
		<-ended
	}
}
