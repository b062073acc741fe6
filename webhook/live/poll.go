package live

import (
	"context"
	"errors"
	"slices"
	"time"
)

const (
	// pollEvery is the time between two readings of the counts of keys. With
	// the time that reading takes it stays below the 100 ms within which a commit
	// on any instance shall be seen.
	pollEvery = 50 * time.Millisecond
	// pollSoonest is the pause after a commit of this instance, which others may
	// follow.
	pollSoonest = 10 * time.Millisecond
	// pollWithin bounds the time of one statement that reads many keys.
	pollWithin = 10 * time.Second
	// pollKeys bounds the keys of one statement.
	pollKeys = 1000

	// aloneEvery is the time between two readings of what is read one by one, which a
	// commit of this instance shortens to pollSoonest.
	aloneEvery = 250 * time.Millisecond
	// aloneShare gives the readings of quick topics a fifth of the time of a
	// connection, and those of slow ones another fifth.
	aloneShare = 4
	// aloneWithin bounds the time of each reading of one topic.
	aloneWithin = 2 * time.Second
	// aloneSlow is the time from which on a topic is slow.
	aloneSlow = 50 * time.Millisecond
	// slowTurn is the time for slow readings in one turn. The one that exceeds it is
	// the last.
	slowTurn = 250 * time.Millisecond
	// slowWait puts a slow topic back by so many times as long as it took. So each gets
	// about the same time, and those that time out don't hold up one that takes 0.2 s.
	slowWait = 20
)

// pace says how to read, and when to read again.
type pace struct {
	every   time.Duration // after the end of the last reading
	soonest time.Duration // after a commit of this instance
	share   int           // and at least so many times as long as the reading took

	at     int           // most topics of one reading
	within time.Duration // most time of one reading
	slow   time.Duration // topics whose reading takes as long, or fails, take turns; 0: none does
}

// paceOfKeys is the pace of the counts of keys.
func paceOfKeys() pace {
	return pace{every: pollEvery, soonest: pollSoonest, at: pollKeys, within: pollWithin}
}

// paceAlone is the pace of what is read one by one.
func paceAlone() pace {
	return pace{every: aloneEvery, soonest: pollSoonest, share: aloneShare, at: 1, within: aloneWithin, slow: aloneSlow}
}

// poll reads topics, and tells those who watch them what is new after each reading:
// first all quick topics, then those with a new watcher, then the slow ones if their last
// turn is long enough ago. Either of the last two kinds has a turn of [slowTurn] for slow
// readings, and what is left of it is read in a later poll. So a topic that is slow or
// fails keeps a quick one waiting for little more than a reading's time or two.
//
// It returns the time that quick readings took, and the numbers of those that succeeded
// and that failed.
func (h *hub) poll(topics []Topic) (took time.Duration, read, failed int) {
	one := func(topics []Topic) (late time.Duration) {
		d, slow, err := h.readAt(topics)
		if err != nil {
			failed++
		} else {
			read++
		}
		if slow {
			return d
		}
		took += d
		return 0
	}
	turn := func(topics []Topic) (late time.Duration) {
		for topics := range slices.Chunk(topics, h.pace.at) {
			if late >= slowTurn {
				break
			}
			late += one(topics)
		}
		return late
	}
	quick, fresh, slow := h.split(topics)
	for topics := range slices.Chunk(quick, h.pace.at) {
		one(topics)
	}
	turn(fresh)
	if len(slow) > 0 && !time.Now().Before(h.slowAt) {
		before := failed
		rest := time.Duration(h.pace.share) * turn(slow)
		if failed > before {
			rest = max(rest, pollAgain)
		}
		h.slowAt = time.Now().Add(rest)
	}
	return took, read, failed
}

// split returns the topics that are quick to read, those with a new watcher, and those
// that are slow, in the order in which they are due. Where the pace has no slow topics
// all are quick.
func (h *hub) split(topics []Topic) (quick, fresh, slow []Topic) {
	if h.pace.slow == 0 {
		return topics, nil, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	due := map[Topic]time.Time{}
	for _, t := range topics {
		switch w := h.watched[t]; {
		case w == nil: // it is not watched any more
		case w.fresh:
			fresh = append(fresh, t)
		case w.slow:
			due[t] = w.due
			slow = append(slow, t)
		default:
			quick = append(quick, t)
		}
	}
	slices.SortFunc(slow, func(a, b Topic) int { return due[a].Compare(due[b]) })
	return quick, fresh, slow
}

// readAt reads topics at once, within a time of their own, and tells of them. It notes
// of each whether its reading was slow, and its error. A topic whose reading fails is
// slow, and is quick again after the first one that is.
func (h *hub) readAt(topics []Topic) (took time.Duration, slow bool, err error) {
	ctx, cancel := context.WithTimeout(h.ctx, h.pace.within)
	defer cancel()
	began := time.Now()
	states, err := h.read(ctx, topics)
	end := time.Now()
	took = end.Sub(began)
	slow = h.pace.slow > 0 && (err != nil || took >= h.pace.slow)
	h.mu.Lock()
	for _, t := range topics {
		if w := h.watched[t]; w != nil {
			w.fresh, w.slow, w.due, w.err = false, slow, end.Add(slowWait*took), err
		}
	}
	h.mu.Unlock()
	if err == nil {
		h.publish(states)
	}
	return took, slow, err
}

// unread returns the number of watched topics whose last reading failed, and their
// joined errors, each text once and at most three.
func (h *hub) unread() (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	said := map[string]bool{}
	for _, w := range h.watched {
		if w.err == nil {
			continue
		}
		if n++; len(said) < 3 && !said[w.err.Error()] {
			said[w.err.Error()] = true
			err = errors.Join(err, w.err)
		}
	}
	return n, err
}
