package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// ErrNoLetter is the error for a dead letter that is not there.
var ErrNoLetter = errors.New("there is no such dead letter: it was replayed or dropped, or newer ones took its place")

// NotWhole is the error for a dead letter of which only the beginning was kept.
type NotWhole struct{ Kept, Bytes int64 }

// Error returns a sentence that says what to do.
func (n *NotWhole) Error() string {
	return fmt.Sprintf("only the first %d of %d bytes were kept, so it can't be taken in again: have its sender send it again, or tell a mirror by runcounter import, then drop it",
		n.Kept, n.Bytes)
}

// Letters is the part of [store.LetterBox] that a replay needs.
type Letters interface {
	DeadLetters(ctx context.Context, q store.DeadLetterQuery) ([]store.DeadLetter, error)
	DropDeadLetters(ctx context.Context, q store.DeadLetterQuery) (int, error)
}

// Replayed is what became of a dead letter that was taken in again.
type Replayed struct {
	Seq       int64
	Applied   bool   // all of it was committed
	Reason    string // why it is still listed; empty where it was applied and dropped
	Undropped error  // what kept one that was applied from being dropped
	Delivery
	Results []store.ApplyResult // of the changes of the delivery, in their order
}

// dropWithin is how long dropping a letter that was applied may take: as long as
// three tries of a transaction.
const dropWithin = 3 * time.Minute

// Replay takes a dead letter in again: it reads the body with the present
// decoder, applies the changes, and drops the letter after the commit. A letter
// that still can't be read stays, which is a result; so does one of several
// changes of which some can't, after the others were applied. What was committed
// is said to be applied whatever happens then: the drop has time of its own,
// also where ctx ends meanwhile, and that it failed is in Undropped. Replaying
// once more changes nothing (law 4).
//
// Errors: [ErrNoLetter], *[NotWhole], those of apply and of reading the letter.
func Replay(ctx context.Context, letters Letters, d Decoder, seq int64, apply func(context.Context, []store.Change) ([]store.ApplyResult, error)) (Replayed, error) {
	r := Replayed{Seq: seq}
	found, err := letters.DeadLetters(ctx, store.DeadLetterQuery{Seq: seq, Limit: 1})
	switch {
	case err != nil:
		return r, err
	case len(found) == 0:
		return r, ErrNoLetter
	case !found[0].Whole():
		return r, &NotWhole{found[0].Kept, found[0].Bytes}
	}
	r.Delivery, err = d.Decode(bytes.NewReader(found[0].Body))
	if bad, ok := errors.AsType[*BadDelivery](err); ok {
		r.Reason = bad.Error()
		return r, nil
	}
	if err == nil && len(r.Changes) > 0 {
		r.Results, err = apply(ctx, r.Changes)
	}
	if err != nil {
		return r, fmt.Errorf("replay dead letter %d: %w", seq, err)
	}
	if n := len(r.Refused); n > 0 {
		r.Reason = fmt.Sprintf("%d of its %d changes can't be read, change %d: %s; the others were applied", n, r.Received, r.Refused[0].Index, r.Refused[0].Reason)
		return r, nil
	}
	r.Applied = true
	drop, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropWithin)
	defer cancel()
	if _, r.Undropped = letters.DropDeadLetters(drop, store.DeadLetterQuery{Seq: seq}); r.Undropped != nil {
		r.Reason = "it was applied, but could not be dropped and is still listed; drop it, or replay it again, which changes nothing"
	}
	return r, nil
}

// replay is [Replay] on the server: its changes wait in the queue with those of
// deliveries, take a place among them, and are tried as often as those.
func (s *Server) replay(ctx context.Context, seq int64) (Replayed, error) {
	if err := s.known.places.enter(s.limits.wait); err != nil {
		return Replayed{Seq: seq}, err
	}
	defer s.known.places.leave()
	r, err := Replay(ctx, triedLetters{s}, s.cfg.Decoder, seq, func(_ context.Context, changes []store.Change) ([]store.ApplyResult, error) {
		return s.submit(changes)
	})
	if r.Undropped != nil {
		s.cfg.Log.Error("a dead letter was applied, and could not be dropped", "seq", seq, "error", r.Undropped)
	}
	return r, err
}

// triedLetters are the letters of a server's store, each call tried and bounded
// by itself.
type triedLetters struct{ s *Server }

func (l triedLetters) DeadLetters(ctx context.Context, q store.DeadLetterQuery) (found []store.DeadLetter, err error) {
	err = l.s.tries(ctx, func(ctx context.Context) (err error) {
		found, err = l.s.cfg.Lists.DeadLetters(ctx, q)
		return err
	})
	return found, err
}

func (l triedLetters) DropDeadLetters(ctx context.Context, q store.DeadLetterQuery) (n int, err error) {
	err = l.s.tries(ctx, func(ctx context.Context) (err error) {
		n, err = l.s.cfg.Lists.DropDeadLetters(ctx, q)
		return err
	})
	return n, err
}
