package webhook

import (
	"bufio"
	"bytes"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
)

const (
	heartbeat         = 15 * time.Second
	reconnect         = time.Second
	streamWriteWithin = 20 * time.Second // or the reader is gone
)

// streamCounts answers GET /v1/counts/stream: the counts as they are now, and
// each change of them, as server-sent events. Whoever connects again is told
// the present values first, so that the last one is never missed.
func (s *Server) streamCounts(c *fiber.Ctx) error {
	if s.hub == nil {
		return newProblem(fiber.StatusNotFound, "This server streams no counts.")
	}
	keys, err := s.streamKeys(c)
	if err != nil {
		return err
	}
	who := callerOf(c).user
	return s.openStream(c, who.ID, keys, func(out *eventWriter, sub *subscription) {
		var end <-chan time.Time
		if !who.Expires.IsZero() {
			timer := time.NewTimer(who.Expires.Sub(s.cfg.Now()))
			defer timer.Stop()
			end = timer.C
		}
		s.stream(out, sub, end)
	})
}

// openStream answers with what write writes, in a goroutine of its own, for as
// long as that takes.
func (s *Server) openStream(c *fiber.Ctx, user store.ID, keys []store.Key, write func(*eventWriter, *subscription)) error {
	if s.isClosing() {
		return errClosing
	}
	c.Set(fiber.HeaderContentType, "text/event-stream")
	c.Set("X-Accel-Buffering", "no")
	if c.Method() == fiber.MethodHead {
		return nil
	}
	at, err := s.streams.enter(user, keys, c.Context().Conn())
	if err != nil {
		return err
	}
	from, id := guestOf(c), requestID(c)
	from.begin()
	c.Context().SetConnectionClose() // watchReader reads what would be the next request
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		defer from.end()
		defer s.streams.leave(at)
		defer s.streams.watchReader(at)()
		sub := s.hub.subscribe(keys)
		defer s.hub.unsubscribe(sub)
		defer func() {
			if r := recover(); r != nil { // it is in no handler any more
				s.cfg.Log.Error("a stream failed", "request", id, "error", fmt.Sprintf("panic: %v\n%s", r, debug.Stack()))
			}
		}()
		write(&eventWriter{w: w, at: at}, sub)
	})
	return nil
}

// stream writes events until the reader is gone, the token has expired, or the
// server shuts down.
func (s *Server) stream(out *eventWriter, sub *subscription, expired <-chan time.Time) {
	out.text("retry: " + strconv.FormatInt(reconnect.Milliseconds(), 10) + "\n\n")
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for out.err == nil {
		select {
		case <-sub.changed:
			for _, count := range sub.take() {
				out.event("count", encode(liveCount{keyCount{count.Key.User, count.Key.Workflow(), count.Key.Draft(), count.Count}, count.Tallies.Ended}))
				s.metrics.streamed.Inc()
			}
			out.flush()
		case <-beat.C:
			out.text(": still here\n\n")
			out.flush()
		case <-expired:
			out.event("expired", []byte(`{"detail":"The token has expired. Connect again with a new one."}`))
			out.flush()
			return
		case <-out.at.over:
			out.farewell()
			return
		case <-s.hub.ctx.Done():
			out.flush()
			return
		}
	}
}

// liveCount is a count as a stream tells it: when the last run ended is left
// to GET /v1/counts.
type liveCount struct {
	keyCount
	store.Tally
}

// eventWriter writes server-sent events. After the first error it writes
// nothing.
type eventWriter struct {
	w   *bufio.Writer
	at  *seat
	err error
}

func (e *eventWriter) text(s string) {
	if e.err == nil {
		_, e.err = e.w.WriteString(s)
	}
}

// event writes data, which has no line breaks since it is JSON.
func (e *eventWriter) event(name string, data []byte) {
	e.text("event: " + name + "\ndata: ")
	e.text(string(bytes.TrimSpace(data)))
	e.text("\n\n")
}

// flush hands over what was written. The server's own deadline is that of a
// whole answer, which this one has none of, so each flush moves it. A few of
// them fit between here and the connection: a reader that takes nothing, and
// does not close, is cut off when the next one doesn't, after a minute and a
// half where only heartbeats come.
func (e *eventWriter) flush() {
	select {
	case <-e.at.over: // its deadline is set
	default:
		if e.err == nil {
			e.err = e.at.conn.SetWriteDeadline(time.Now().Add(streamWriteWithin))
		}
	}
	if e.err == nil {
		e.err = e.w.Flush()
	}
}

// farewell tells a reader that is still there why the stream ends.
func (e *eventWriter) farewell() {
	if e.at.lost {
		e.event("displaced", []byte(`{"detail":"All streams are taken, and another user has fewer. Close some, or connect again later."}`))
		e.flush()
	}
}

// streamKeys reads which keys shall be watched.
func (s *Server) streamKeys(c *fiber.Ctx) ([]store.Key, error) {
	var keys []store.Key
	user := callerOf(c).user.Counts
	given := store.ID{}
	var refs []store.Key // without their user
	for name, value := range c.Context().QueryArgs().All() {
		id, err := store.ParseID(string(value))
		if err != nil {
			return nil, newProblem(fiber.StatusBadRequest, clip(string(name))+" is "+err.Error()+". "+idAdvice)
		}
		switch string(name) {
		case "user_id":
			if !given.IsZero() {
				return nil, newProblem(fiber.StatusBadRequest, "user_id is given twice. Give it once.")
			}
			given = id
		case "workflow_id":
			refs = append(refs, store.Key{Kind: store.KindWorkflow, Ref: id})
		case "draft_id":
			refs = append(refs, store.Key{Kind: store.KindDraft, Ref: id})
		default:
			return nil, newProblem(fiber.StatusBadRequest, strconv.Quote(clip(string(name)))+" is not known here. Known are user_id, workflow_id, draft_id.")
		}
	}
	ref := store.ID{}
	if len(refs) > 0 {
		ref = refs[0].Ref
	}
	whose, what, err := s.cfg.Decoder.complete(given, ref, store.ID{})
	if err != nil {
		return nil, err
	}
	if what == store.Absent {
		refs = []store.Key{{Kind: store.KindAll, Ref: store.Absent}}
	}
	given = whose
	switch {
	case user.IsZero() && given.IsZero():
		return nil, newProblem(fiber.StatusBadRequest, "Say whose counts: add user_id to the query.")
	case user.IsZero():
		user = given
	case !given.IsZero():
		if err := callerOf(c).mayRead(given); err != nil {
			return nil, err
		}
	}
	seen := map[store.Key]bool{}
	for _, key := range refs {
		key.User = user
		if !seen[key] {
			seen[key] = true
			keys = append(keys, key)
		}
	}
	switch {
	case len(keys) == 0:
		return nil, newProblem(fiber.StatusBadRequest, "Say which counts: add workflow_id or draft_id to the query, each as often as needed.")
	case len(keys) > maxStreamKeys:
		return nil, newProblem(fiber.StatusBadRequest, "One stream tells of at most "+strconv.Itoa(maxStreamKeys)+" counts. Open another one for the rest.")
	}
	return keys, nil
}
