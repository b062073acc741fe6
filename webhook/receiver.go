package webhook

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
	"github.com/edgaze-ai/runcounter/webhook/internal/conns"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// Store is the part of a backend that a receiver needs. It is handed over as one that tries
// again what failed for a moment: a receiver calls each method once.
type Store interface {
	// Apply is that of [store.Store].
	Apply(ctx context.Context, changes []store.Change, received time.Time) ([]store.ApplyResult, error)

	// KeepDeadLetter keeps what was authenticated but can't be read, all of it
	// or nothing. The bodies are valid only during the call.
	KeepDeadLetter(ctx context.Context, letters ...store.DeadLetter) error
}

// AdmissionLimits bound the deliveries that are under way at once.
type AdmissionLimits struct {
	Slots int   // all of them
	Large int   // large ones
	Huge  int   // huge ones
	Keep  int64 // bytes of long bodies that they may remember
}

// Limits bound what deliveries may cost.
type Limits struct {
	Body int64 // bytes of a delivery
	// Known are for senders that are known before their body is read, by a token or
	// a proof. Unverified are for those that only sign, and can't be known before:
	// strangers must not take the slots of the known.
	Known, Unverified AdmissionLimits
	Time              request.Limits // for a body
	UnverifiedWhole   time.Duration  // for a whole body of an unverified sender
	Wait              time.Duration  // for a slot, of a dead letter that is replayed
	Call              time.Duration  // for keeping dead letters
}

// Config configures a [Receiver].
type Config struct {
	Store Store
	// Letters are the dead letters that can be replayed; nil where none can.
	Letters Letters
	Secrets Secrets
	// Decoder reads the bodies of deliveries. Its Large and Huge are set by the
	// receiver.
	Decoder Decoder
	// AdmissionTimeout bounds how long a delivery waits for a slot before it is
	// refused with 503. A mirror's sender does not retry, so a mirror waits; a source
	// loses nothing by answering at once, which is what 0 means.
	AdmissionTimeout time.Duration
	// Workers is the number of transactions at once.
	Workers int
	Limits  Limits
	// Now is the clock.
	Now     func() time.Time
	Log     *slog.Logger
	Metrics prometheus.Registerer
	// Idle reports, without asking the database, whether a change leaves it
	// nothing to do; nil where only the database can tell.
	Idle func(store.Change) bool
	// Mirror says that the store knows what it is told alone, so that a call that
	// was lost on its way is missing in it.
	Mirror bool
	// Committed is called when counts may have changed; it must not block.
	Committed func()
}

// Paths are the addresses of a receiver: its own, and one that stands in for a Supabase
// Edge Function, so that only the host of a webhook has to be changed.
var Paths = [...]string{"/webhooks/workflow-runs", "/functions/v1/run-counter"}

// Receiver takes deliveries in. Make one with [NewReceiver], and close it.
type Receiver struct {
	cfg        Config
	metrics    *metrics
	batch      *batcher
	known      admission
	unverified admission
	proofs     proofs
	order      orderTracker
	losses     losses // of a mirror
	others     others // tables that are not watched
}

// NewReceiver returns a receiver whose workers run until [Receiver.Close].
func NewReceiver(cfg Config) *Receiver {
	l := cfg.Limits
	r := &Receiver{
		cfg: cfg, metrics: newMetrics(cfg.Metrics),
		known: newAdmission(l.Known), unverified: newAdmission(l.Unverified),
	}
	r.batch = newBatcher(r.apply, cfg.Workers, l.Known.Slots+l.Unverified.Slots, r.metrics.batches)
	r.metrics.watchQueue(cfg.Metrics, r.Waiting)
	if cfg.Mirror {
		cfg.Metrics.MustRegister(&r.losses)
	}
	return r
}

// Close drains the queue. When the context ends before that, it gives up what has
// not been committed (none of which was answered) and returns the context's error.
func (r *Receiver) Close(ctx context.Context) error { return r.batch.close(ctx) }

// Waiting returns the number of deliveries that wait for a transaction.
func (r *Receiver) Waiting() int { return r.batch.waiting() }

// Degraded lists, a sentence each, what is lost or ignored.
func (r *Receiver) Degraded() []string {
	return append(r.losses.degraded(), r.others.degraded(r.cfg.Decoder, r.cfg.Now())...)
}

// Receive answers one delivery.
func (r *Receiver) Receive(c *fiber.Ctx) error {
	start := r.cfg.Now()
	a, err := r.deliver(c, start)
	took := r.cfg.Now().Sub(start)
	result := resultOf(err)
	r.metrics.delivered(result, a, took)
	if r.cfg.Log.Enabled(context.Background(), slog.LevelDebug) {
		r.cfg.Log.Debug("delivery", "request", answer.RequestID(c), "result", result,
			"received", a.Received, "changed", a.Changed, "ignored", a.Ignored, "refused", len(a.Refused), "ms", took.Milliseconds())
	}
	if err != nil {
		return err
	}
	if r.cfg.Mirror {
		r.losses.hear(c, r.cfg.Secrets)
	}
	return answer.JSON(c, fiber.StatusOK, preferred(c, a))
}

// deliver takes one delivery all the way: it returns after the commit.
func (r *Receiver) deliver(c *fiber.Ctx, now time.Time) (Answer, error) {
	if err := request.RequireJSON(c); err != nil {
		return Answer{}, err
	}
	b, err := request.NewBody(c, r.cfg.Limits.Body, r.cfg.Limits.Time)
	if err != nil {
		return Answer{}, err
	}
	signed, err := r.authenticate(c, now)
	if err != nil {
		return Answer{}, err
	}
	admitted, verified := r.known, true
	if signed != nil {
		id := c.Get("webhook-id")
		if verified = r.cfg.Secrets.proves(func(name string) string { return c.Get(name) }, now) && r.proofs.take(id); verified {
			defer r.proofs.leave(id)
		} else {
			admitted = r.unverified
			b.Hurry(r.cfg.Limits.UnverifiedWhole)
		}
	}
	if verified {
		conns.Of(c).Show(conns.Trusted)
	}
	if err := admitted.slots.acquire(r.cfg.AdmissionTimeout); err != nil {
		return Answer{}, err
	}
	defer admitted.slots.release()
	defer func() { r.metrics.bytes.Add(float64(b.BytesRead())) }()

	prefix := &excerpt{room: admitted.remember}
	defer prefix.free()
	b.Tee(prefix)
	large, huge := &slot{of: admitted.large}, &slot{of: admitted.huge}
	defer large.release()
	defer huge.release()
	decoder := r.cfg.Decoder
	decoder.Large = func() error { return large.acquire(r.cfg.AdmissionTimeout) }
	decoder.Huge = func() error { return huge.acquire(r.cfg.AdmissionTimeout) }
	decoder.remember = admitted.remember

	d, err := read(b, decoder, signed)
	if result := resultOf(err); result == resultApplied || result == resultBad {
		conns.Of(c).Show(conns.Trusted) // its signature fits
	}
	var applied []store.ApplyResult
	if err == nil && len(d.Changes) > 0 {
		r.metrics.arrived(d.Changes, now, &r.order)
		applied, err = r.commit(d.Changes, prefersMinimal(c))
	}
	r.keep(c, unreadableIn(d, prefix, b.BytesRead(), err), now)
	r.others.hear(d.Other, r.cfg.Decoder, now, r.cfg.Log)
	if _, bad := errors.AsType[*BadDelivery](err); bad && len(d.Refused) > 0 {
		p := problem.Of(err).Because(err)
		p.Refused = refusedOf(d)
		return AnswerTo(d, nil), p
	}
	if err != nil {
		return Answer{}, err
	}
	return AnswerTo(d, applied), nil
}

// authenticate looks at the headers alone. It returns a signature where the
// body has to be fed to it and verified.
func (r *Receiver) authenticate(c *fiber.Ctx, now time.Time) (*signature, error) {
	if r.cfg.Secrets.IsZero() {
		return nil, request.RequireLoopback(c)
	}
	return r.cfg.Secrets.check(func(name string) string { return c.Get(name) }, now)
}

// read decodes the body and reads it to its end, which is where a signature
// can be verified. An unsigned sender learns nothing about the body.
func read(b *request.Body, decoder Decoder, signed *signature) (Delivery, error) {
	if signed != nil {
		b.Tee(signed)
	}
	d, decoding := decoder.Decode(b)
	if errors.Is(decoding, problem.ErrBusy) {
		return Delivery{}, decoding // don't wait for a body that is refused anyway
	}
	if err := b.Drain(); err != nil {
		return Delivery{}, err
	}
	if signed != nil {
		if err := signed.verify(); err != nil {
			return Delivery{}, err
		}
	}
	return d, decoding
}

// commit returns when the changes are committed. Where no counts are wanted,
// those that leave the database nothing to do never get there.
func (r *Receiver) commit(changes []store.Change, countless bool) ([]store.ApplyResult, error) {
	if countless && r.cfg.Idle != nil {
		changes = slices.DeleteFunc(slices.Clone(changes), r.cfg.Idle)
	}
	if len(changes) > 0 {
		return r.batch.submit(changes)
	}
	r.cfg.Committed() // the application has written
	return nil, nil
}

// apply commits changes in one transaction, for the batcher.
func (r *Receiver) apply(ctx context.Context, changes []store.Change) ([]store.ApplyResult, error) {
	applied, err := r.cfg.Store.Apply(ctx, changes, store.Instant(r.cfg.Now()))
	if err == nil {
		r.cfg.Committed()
	}
	return applied, err
}

// unreadableIn returns what is to be kept of a delivery that is authentic, since
// its sender will not send it again: each change that can't be read by itself,
// or the beginning of a body of which nothing can. What was not authenticated,
// did not arrive whole, or failed for the store's sake is not kept: nothing is
// wrong with the last, and it can be sent again.
func unreadableIn(d Delivery, prefix *excerpt, read int64, err error) []Refused {
	bad, unreadable := errors.AsType[*BadDelivery](err)
	if err != nil && !unreadable {
		return nil
	}
	all := d.Refused
	if unreadable && len(all) == 0 {
		all = []Refused{{Reason: bad.Error()}}
	}
	if len(all) == 1 && all[0].Bytes == 0 { // it is all of the body
		all[0].Body, all[0].Bytes = prefix.Bytes(), read
	}
	return all
}

// keep keeps what can't be read, as many as a store keeps: each is a letter of
// its own, so that it can be replayed by itself.
func (r *Receiver) keep(c *fiber.Ctx, unreadable []Refused, now time.Time) {
	if len(unreadable) == 0 {
		return
	}
	letters := make([]store.DeadLetter, 0, len(unreadable))
	for _, u := range unreadable[:min(len(unreadable), store.MaxDeadLetters)] {
		letters = append(letters, store.DeadLetter{ReceivedAt: store.Instant(now), Reason: u.Reason, Bytes: u.Bytes, Body: u.Body})
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.Limits.Call)
	defer cancel()
	if err := r.cfg.Store.KeepDeadLetter(ctx, letters...); err != nil {
		r.metrics.kept(0, len(unreadable))
		r.cfg.Log.Error("what a delivery holds could not be read, and could not be kept", "request", answer.RequestID(c), "refused", len(unreadable), "error", err)
		return
	}
	r.metrics.kept(len(letters), len(unreadable)-len(letters))
	r.cfg.Log.Warn("what a delivery holds could not be read; it was kept as dead letters", "request", answer.RequestID(c), "refused", len(unreadable), "kept", len(letters))
}
