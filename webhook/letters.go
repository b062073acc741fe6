package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"

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

// Replayed is what became of a dead letter that was taken in again.
type Replayed struct {
	Seq     int64
	Applied bool   // it was committed, and dropped after that
	Reason  string // why it still can't be read, where it was not
	Delivery
	Results []store.Applied // of the changes of the delivery, in their order
}

// Replay takes a dead letter in again: it reads the body with the present
// decoder, applies the changes, and drops the letter after the commit. A letter
// that still can't be read stays, which is a result. Where an error comes
// between the commit and the drop, replaying once more changes nothing (law 4).
//
// Errors: [ErrNoLetter], *[NotWhole], those of apply and of lists.
func Replay(ctx context.Context, lists Lists, d Decoder, seq int64, apply func(context.Context, []store.Change) ([]store.Applied, error)) (Replayed, error) {
	r := Replayed{Seq: seq}
	letters, err := lists.DeadLetters(ctx, store.DeadLetterQuery{Seq: seq, Limit: 1})
	switch {
	case err != nil:
		return r, err
	case len(letters) == 0:
		return r, ErrNoLetter
	case !letters[0].Whole():
		return r, &NotWhole{letters[0].Kept, letters[0].Bytes}
	}
	r.Delivery, err = d.Decode(bytes.NewReader(letters[0].Body))
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
	r.Applied = true
	_, err = lists.DropDeadLetters(ctx, store.DeadLetterQuery{Seq: seq})
	return r, err
}

// replay is [Replay] on the server: its changes wait in the queue with those of
// deliveries, take a place among them, and are tried as often as those.
func (s *Server) replay(ctx context.Context, seq int64) (r Replayed, err error) {
	if err := s.known.places.enter(s.limits.wait); err != nil {
		return Replayed{Seq: seq}, err
	}
	defer s.known.places.leave()
	err = s.try(ctx, func(ctx context.Context) (err error) {
		r, err = Replay(ctx, s.cfg.Lists, s.cfg.Decoder, seq, func(_ context.Context, changes []store.Change) ([]store.Applied, error) {
			return s.submit(changes)
		})
		return err
	})
	return r, err
}
