package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// ErrNoLetter is the error for a dead letter that is not there.
var ErrNoLetter error = noLetter{}

type noLetter struct{}

func (noLetter) Error() string {
	return "there is no such dead letter: it was replayed or dropped, or newer ones took its place"
}

// Problem says it over HTTP.
func (noLetter) Problem() *problem.Problem {
	return problem.New(http.StatusNotFound, "There is no such dead letter: it was replayed or dropped, or newer ones took its place. GET /v1/dead-letters lists those that are there.")
}

// NotWhole is the error for a dead letter of which only the beginning was kept.
type NotWhole struct{ Kept, Bytes int64 }

// Error returns a sentence that says what to do.
func (n *NotWhole) Error() string {
	return fmt.Sprintf("only the first %d of %d bytes were kept, so it can't be taken in again: have its sender send it again, or tell a mirror by runcounter import, then drop it",
		n.Kept, n.Bytes)
}

// Problem says it over HTTP.
func (n *NotWhole) Problem() *problem.Problem {
	p := problem.New(http.StatusConflict, "Of this dead letter "+n.Error()+".")
	p.Code = "not_whole"
	return p
}

// Letters is the part of [store.LetterBox] that a replay needs.
type Letters interface {
	DeadLetters(ctx context.Context, q store.DeadLetterQuery) ([]store.DeadLetter, error)
	DropDeadLetters(ctx context.Context, q store.DeadLetterQuery) (int, error)
}

// Replayed is the result of taking a dead letter in again.
type Replayed struct {
	Seq       int64
	Applied   bool   // all of it was committed
	Reason    string // why it is still listed; empty where it was applied and dropped
	Undropped error  // what kept one that was applied from being dropped
	Delivery
	Results []store.ApplyResult // of the changes of the delivery, in their order
}

// dropWithin bounds the time to drop a letter that was applied: as long as
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

// ReplayEach replays letters, whose order makes no difference (law 4). One that a second
// process was faster with is left out; one of which only the beginning was kept stays,
// and that is its reason. It ends at the first other error of replay, with the results
// up to there.
func ReplayEach(letters []store.DeadLetter, replay func(seq int64) (Replayed, error)) (results []Replayed, err error) {
	for _, d := range letters {
		r, err := replay(d.Seq)
		switch part, cut := errors.AsType[*NotWhole](err); {
		case errors.Is(err, ErrNoLetter):
			continue
		case cut:
			r.Reason = part.Error()
		case err != nil:
			return results, err
		}
		results = append(results, r)
	}
	return results, nil
}

// ReplayAll replays the letters that a query names, page after page, latest first. With
// an error come the results up to there.
//
// Errors: [ErrNoLetter] where the query names one that is not there, and those of replay.
func ReplayAll(ctx context.Context, letters Letters, q store.DeadLetterQuery, replay func(seq int64) (Replayed, error)) (results []Replayed, err error) {
	for q.Limit = 100; ; {
		page, err := letters.DeadLetters(ctx, q)
		if err != nil {
			return results, err
		}
		replayed, err := ReplayEach(page, replay)
		results = append(results, replayed...)
		switch {
		case err != nil:
			return results, err
		case q.Seq != 0 && len(results) == 0:
			return nil, ErrNoLetter
		case q.Seq != 0 || len(page) < q.Limit:
			return results, nil
		}
		q.Before = page[len(page)-1].Seq
	}
}

// Replay is [Replay] for a receiver: its changes wait in the queue with those of
// deliveries, and take a slot among them.
func (r *Receiver) Replay(ctx context.Context, seq int64) (Replayed, error) {
	if err := r.known.slots.acquire(r.cfg.Limits.Wait); err != nil {
		return Replayed{Seq: seq}, err
	}
	defer r.known.slots.release()
	result, err := Replay(ctx, r.cfg.Letters, r.cfg.Decoder, seq, func(_ context.Context, changes []store.Change) ([]store.ApplyResult, error) {
		return r.batch.submit(changes)
	})
	if result.Undropped != nil {
		r.cfg.Log.Error("a dead letter was applied, and could not be dropped", "seq", seq, "error", result.Undropped)
	}
	return result, err
}
