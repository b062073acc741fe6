package webhook

import (
	"log/slog"
	"sync"
	"time"
)

// sampleLines is the time in which a reason has one line in the log.
const sampleLines = 10 * time.Second

// sampler writes at most one line of the log for each reason in ten seconds,
// and the number of those that it left out since into the next: what strangers
// do must not fill a disk. A reason is ours, never the sender's, so that their
// number is bounded.
type sampler struct {
	log *slog.Logger
	now func() time.Time

	mu   sync.Mutex
	seen map[string]sampled
}

type sampled struct {
	at      time.Time // of the last line
	left    int       // out since
	message string
}

func newSampler(log *slog.Logger, now func() time.Time) *sampler {
	return &sampler{log: log, now: now, seen: map[string]sampled{}}
}

// warn writes a warning, or counts it.
func (s *sampler) warn(reason, message string, args ...any) {
	now := s.now()
	s.mu.Lock()
	last, known := s.seen[reason]
	if age := now.Sub(last.at); known && age >= 0 && age < sampleLines {
		last.left++
		s.seen[reason] = last
		s.mu.Unlock()
		return
	}
	s.seen[reason] = sampled{at: now, message: message}
	s.mu.Unlock()
	if last.left > 0 {
		args = append(args, "left_out", last.left)
	}
	s.log.Warn(message, args...)
}

// flush writes how many lines were left out and have not been told yet.
func (s *sampler) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for reason, last := range s.seen {
		if last.left > 0 {
			s.log.Warn(last.message, "reason", reason, "left_out", last.left)
		}
		delete(s.seen, reason)
	}
}
