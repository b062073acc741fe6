package webhook

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
)

// answer is what a sender is told after the commit.
type answer struct {
	Received int `json:"received"`
	Changed  int `json:"changed"`
	Ignored  int `json:"ignored"`
	// Refused are the changes that can't be read; left out where there are none.
	Refused []refusedChange `json:"refused,omitempty"`
	Counts  []keyCount      `json:"counts"`
}

// refusedChange is a change that can't be read.
type refusedChange struct {
	Change int    `json:"change"` // which of the request's, from 0
	Reason string `json:"reason"` // [Refused.Told]
}

func refusedOf(d Delivery) []refusedChange {
	all := make([]refusedChange, 0, len(d.Refused))
	for _, r := range d.Refused {
		all = append(all, refusedChange{r.Index, r.Told})
	}
	return all
}

// keyCount is the count of a key.
type keyCount struct {
	User     store.ID `json:"user_id"`
	Workflow store.ID `json:"workflow_id"`
	Draft    store.ID `json:"draft_id"`
	Count    int64    `json:"count"`
}

// receive answers one delivery.
func (s *Server) receive(c *fiber.Ctx) error {
	start := s.cfg.Now()
	a, err := s.deliver(c, start)
	took := s.cfg.Now().Sub(start)
	result := resultOf(err)
	s.metrics.delivered(result, a, took)
	if s.cfg.Log.Enabled(context.Background(), slog.LevelDebug) {
		s.cfg.Log.Debug("delivery", "request", requestID(c), "result", result,
			"received", a.Received, "changed", a.Changed, "ignored", a.Ignored, "refused", len(a.Refused), "ms", took.Milliseconds())
	}
	if err != nil {
		return err
	}
	if s.cfg.Mirror {
		s.losses.hear(c, s.cfg.Secrets)
	}
	return writeJSON(c, fiber.StatusOK, asFor(c, a))
}

// deliver takes one delivery all the way: it returns after the commit.
func (s *Server) deliver(c *fiber.Ctx, now time.Time) (answer, error) {
	if err := wellFormed(c); err != nil {
		return answer{}, err
	}
	b, err := newBody(c, s.limits.body, s.limits)
	if err != nil {
		return answer{}, err
	}
	signed, err := s.authenticate(c, now)
	if err != nil {
		return answer{}, err
	}
	ours, proven := s.known, true
	if signed != nil {
		id := c.Get("webhook-id")
		if proven = s.cfg.Secrets.proves(func(name string) string { return c.Get(name) }, now) && s.proofs.take(id); proven {
			defer s.proofs.leave(id)
		} else {
			ours = s.unproven
			b.hurry(s.limits.unprovenWhole)
		}
	}
	if proven {
		guestOf(c).has(trusted)
	}
	if err := ours.places.enter(s.cfg.Room); err != nil {
		return answer{}, err
	}
	defer ours.places.leave()

	b.prefix = &excerpt{room: ours.remember}
	defer b.prefix.free()
	defer func() { s.metrics.bytes.Add(float64(b.read)) }()

	large, huge := &place{of: ours.large}, &place{of: ours.huge}
	defer large.leave()
	defer huge.leave()
	decoder := s.cfg.Decoder
	decoder.Large = func() error { return large.enter(s.cfg.Room) }
	decoder.Huge = func() error { return huge.enter(s.cfg.Room) }
	decoder.room = ours.remember

	d, err := s.read(b, decoder, signed)
	if result := resultOf(err); result == "applied" || result == "bad" {
		guestOf(c).has(trusted) // its signature fits
	}
	var applied []store.ApplyResult
	if err == nil && len(d.Changes) > 0 {
		s.metrics.arrived(d.Changes, now, &s.lately)
		applied, err = s.commit(d.Changes, prefersMinimal(c))
	}
	s.keep(c, unreadableIn(d, b, err), now)
	s.others.hear(d.Other, s.cfg.Decoder, now, s.cfg.Log)
	if _, bad := errors.AsType[*BadDelivery](err); bad && len(d.Refused) > 0 {
		p := problemOf(err).because(err)
		p.Refused = refusedOf(d)
		return answerTo(d, nil), p
	}
	if err != nil {
		return answer{}, err
	}
	return answerTo(d, applied), nil
}

// read decodes the body and reads it to its end, which is where a signature
// can be verified. An unsigned sender learns nothing about the body.
func (s *Server) read(b *body, decoder Decoder, signed *signature) (Delivery, error) {
	if signed != nil {
		b.also = signed
	}
	d, decoding := decoder.Decode(b)
	if errors.Is(decoding, errBusy) {
		return Delivery{}, decoding // don't wait for a body that is refused anyway
	}
	if err := b.drain(); err != nil {
		return Delivery{}, err
	}
	if signed != nil {
		if err := signed.verify(); err != nil {
			return Delivery{}, err
		}
	}
	return d, decoding
}

// unreadableIn returns what is to be kept of a delivery that is authentic, since
// its sender will not send it again: each change that can't be read by itself,
// or the beginning of a body of which nothing can. What was not authenticated,
// did not arrive whole, or failed for the store's sake is not kept: nothing is
// wrong with the last, and it can be sent again.
func unreadableIn(d Delivery, b *body, err error) []Refused {
	bad, unreadable := errors.AsType[*BadDelivery](err)
	if err != nil && !unreadable {
		return nil
	}
	all := d.Refused
	if unreadable && len(all) == 0 {
		all = []Refused{{Reason: bad.Error()}}
	}
	if len(all) == 1 && all[0].Bytes == 0 { // it is all of the body
		all[0].Body, all[0].Bytes = b.prefix.bytes(), b.read
	}
	return all
}

// keep keeps what can't be read, as many as a store keeps: each is a letter of
// its own, so that it can be replayed by itself.
func (s *Server) keep(c *fiber.Ctx, unreadable []Refused, now time.Time) {
	if len(unreadable) == 0 {
		return
	}
	letters := make([]store.DeadLetter, 0, len(unreadable))
	for _, r := range unreadable[:min(len(unreadable), store.MaxDeadLetters)] {
		letters = append(letters, store.DeadLetter{ReceivedAt: store.Instant(now), Reason: r.Reason, Bytes: r.Bytes, Body: r.Body})
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.limits.call)
	defer cancel()
	err := s.tries(ctx, func(ctx context.Context) error { return s.cfg.Store.KeepDeadLetter(ctx, letters...) })
	if err != nil {
		s.metrics.kept(0, len(unreadable))
		s.cfg.Log.Error("what a delivery holds could not be read, and could not be kept", "request", requestID(c), "refused", len(unreadable), "error", err)
		return
	}
	s.metrics.kept(len(letters), len(unreadable)-len(letters))
	s.cfg.Log.Warn("what a delivery holds could not be read; it was kept as dead letters", "request", requestID(c), "refused", len(unreadable), "kept", len(letters))
}

// answerTo adds up what became of the changes. Where several changes name a
// key, the last says its count.
func answerTo(d Delivery, applied []store.ApplyResult) answer {
	a := answer{Received: d.Received, Ignored: d.Ignored, Refused: refusedOf(d), Counts: []keyCount{}}
	last := make(map[store.Key]int64, 1)
	for _, one := range applied {
		if one.Changed {
			a.Changed++
		}
		for _, count := range one.Counts {
			last[count.Key] = count.Count
		}
	}
	keys := make([]store.Key, 0, len(last))
	for key := range last {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, store.Key.Compare)
	for _, key := range keys {
		a.Counts = append(a.Counts, keyCount{key.User, key.Workflow(), key.Draft(), last[key]})
	}
	return a
}

// wellFormed refuses what is no JSON by its headers. A web page can't make a
// browser send application/json to another site without asking first, so this
// also stops cross-site posts. Nothing is ever decompressed.
func wellFormed(c *fiber.Ctx) error {
	kind, _, _ := strings.Cut(c.Get(fiber.HeaderContentType), ";")
	if !strings.EqualFold(strings.TrimSpace(kind), fiber.MIMEApplicationJSON) {
		return newProblem(fiber.StatusUnsupportedMediaType, "The body must be JSON, and say so: send the header Content-Type: application/json.")
	}
	for _, coding := range c.Request().Header.PeekAll(fiber.HeaderContentEncoding) {
		if !strings.EqualFold(strings.TrimSpace(string(coding)), "identity") {
			return newProblem(fiber.StatusUnsupportedMediaType, "Compressed bodies are not read. Send it as it is, without Content-Encoding.")
		}
	}
	return nil
}

// authenticate looks at the headers alone. It returns a signature where the
// body has to be fed to it and verified.
func (s *Server) authenticate(c *fiber.Ctx, now time.Time) (*signature, error) {
	if s.cfg.Secrets.IsZero() {
		return nil, fromHere(c)
	}
	return s.cfg.Secrets.check(func(name string) string { return c.Get(name) }, now)
}
