package live

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
	"github.com/edgaze-ai/runcounter/webhook/internal/conns"
	"github.com/edgaze-ai/runcounter/webhook/problem"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

const (
	heartbeat         = 15 * time.Second
	reconnect         = time.Second
	streamWriteWithin = 20 * time.Second // or the reader is gone
)

// Config configures [Streams].
type Config struct {
	// Counts reads the exact counts of keys, in their order and of one snapshot.
	Counts func(ctx context.Context, keys []store.Key) ([]store.Count, error)
	// Count and Allowance are those of [store.Store], for what else is watched.
	Count     func(ctx context.Context, of store.Scope, in store.Window) (store.Count, error)
	Allowance func(ctx context.Context, a store.AllowanceRequest) ([]store.Usage, error)
	// MaxStreams and MaxWatched bound the open streams, and the counts that all of
	// them watch.
	MaxStreams, MaxWatched int
	// Now is the clock.
	Now     func() time.Time
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Streams are the open streams of counts. Make them with [New], and close them.
type Streams struct {
	cfg      Config
	keys     *hub // of counts of keys
	others   *hub // of all other topics
	seats    seats
	streamed prometheus.Counter
}

// New returns streams of which none is open.
func New(cfg Config) *Streams {
	s := &Streams{
		cfg: cfg, seats: seats{most: cfg.MaxStreams, mostKeys: cfg.MaxWatched},
		streamed: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "runcounter", Name: "stream_events_total", Help: "Counts told to streams.",
		}),
	}
	s.keys = newHub(cfg.readKeys, paceOfKeys(), cfg.Log)
	s.others = newHub(cfg.readEach, paceAlone(), cfg.Log)
	cfg.Metrics.MustRegister(s.streamed,
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: "runcounter", Name: "streams_displaced_total", Help: "Streams that were ended for those of users who had fewer.",
		}, func() float64 { return float64(s.seats.taken()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "runcounter", Name: "streams", Help: "Streams of counts that are open.",
		}, func() float64 { return float64(s.Open()) }))
	return s
}

// Wake has the watched counts read at once: they may have changed.
func (s *Streams) Wake() {
	s.keys.wakeup()
	s.others.wakeup()
}

// Close ends all streams, and lets no more begin.
func (s *Streams) Close() {
	s.keys.close()
	s.others.close()
}

// Watched returns the number of counts that are watched.
func (s *Streams) Watched() int { return len(s.keys.topics()) + len(s.others.topics()) }

// Context ends when the streams are closed.
func (s *Streams) Context() context.Context { return s.keys.ctx }

// Open returns the number of open streams.
func (s *Streams) Open() int { return s.seats.open() }

// Tell returns a topic's state as an event of a stream.
type Tell func(State) (event string, data any)

// Watch answers with topics as they are now, and each change of them, as server-sent
// events, until the user's token expires. A reader that connects again is told the
// present values first, so that it never misses the last one. The topics are either
// all counts of keys, or none is. One that can't be read is refused at once.
func (s *Streams) Watch(c *fiber.Ctx, who users.User, topics []Topic, tell Tell) error {
	for _, t := range topics {
		if t.ofKey() {
			continue // nothing can be wrong with it
		}
		ctx, cancel := context.WithTimeout(c.UserContext(), aloneWithin)
		_, err := s.cfg.read(ctx, t)
		cancel()
		if err != nil {
			return err
		}
	}
	return s.Serve(c, who.ID, topics, func(out *Writer, sub *Subscription) {
		var end <-chan time.Time
		if !who.Expires.IsZero() {
			timer := time.NewTimer(who.Expires.Sub(s.cfg.Now()))
			defer timer.Stop()
			end = timer.C
		}
		s.stream(out, sub, tell, end)
	})
}

// hubOf returns the hub that reads topics.
func (s *Streams) hubOf(topics []Topic) *hub {
	if len(topics) > 0 && !topics[0].ofKey() {
		return s.others
	}
	return s.keys
}

// Serve answers with what write writes, in a goroutine of its own, for as long as
// that takes. A stream of no user, which is the zero ID, is never displaced.
func (s *Streams) Serve(c *fiber.Ctx, user store.ID, topics []Topic, write func(*Writer, *Subscription)) error {
	hub := s.hubOf(topics)
	if hub.ctx.Err() != nil {
		return problem.ErrClosing
	}
	c.Set(fiber.HeaderContentType, "text/event-stream")
	c.Set("X-Accel-Buffering", "no")
	if c.Method() == fiber.MethodHead {
		return nil
	}
	at, err := s.seats.enter(user, topics, c.Context().Conn())
	if err != nil {
		return err
	}
	from, id := conns.Of(c), answer.RequestID(c)
	from.Begin()
	c.Context().SetConnectionClose() // watchReader reads what would be the next request
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		defer from.End()
		defer s.seats.leave(at)
		defer s.seats.watchReader(at)()
		sub := hub.subscribe(topics)
		defer hub.unsubscribe(sub)
		defer func() {
			if r := recover(); r != nil { // it is in no handler any more
				s.cfg.Log.Error("a stream failed", "request", id, "error", fmt.Sprintf("panic: %v\n%s", r, debug.Stack()))
			}
		}()
		write(&Writer{w: w, at: at, closed: hub.ctx.Done()}, sub)
	})
	return nil
}

// stream writes events until the reader is gone, the token has expired, or the
// server shuts down.
func (s *Streams) stream(out *Writer, sub *Subscription, tell Tell, expired <-chan time.Time) {
	out.Text("retry: " + strconv.FormatInt(reconnect.Milliseconds(), 10) + "\n\n")
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for out.Err() == nil {
		select {
		case <-sub.Changed():
			for _, state := range sub.Take() {
				event, data := tell(state)
				out.Event(event, answer.Encode(data))
				s.streamed.Inc()
			}
			out.Flush()
		case <-beat.C:
			out.Text(": still here\n\n")
			out.Flush()
		case <-expired:
			out.Event("expired", answer.Encode(End{"The token has expired. Connect again with a new one."}))
			out.Flush()
			return
		case <-out.Displaced():
			out.farewell()
			return
		case <-out.Closed():
			out.Flush()
			return
		}
	}
}

// End is the last event of a stream that the server ends: expired or displaced.
type End struct {
	Detail string `json:"detail" doc:"Why the stream ends, and what to do."`
}

// Writer writes server-sent events. After the first error it writes nothing.
type Writer struct {
	w   *bufio.Writer
	at  *seat
	err error

	closed <-chan struct{}
}

// Err returns the first error.
func (e *Writer) Err() error { return e.err }

// Displaced is closed when the stream's place was given to another user's, or the
// reader is gone.
func (e *Writer) Displaced() <-chan struct{} { return e.at.over }

// Closed is closed when the streams are.
func (e *Writer) Closed() <-chan struct{} { return e.closed }

// Text writes text as it is.
func (e *Writer) Text(s string) {
	if e.err == nil {
		_, e.err = e.w.WriteString(s)
	}
}

// Event writes data, which has no line breaks since it is JSON.
func (e *Writer) Event(name string, data []byte) {
	e.Text("event: " + name + "\ndata: ")
	e.Text(string(bytes.TrimSpace(data)))
	e.Text("\n\n")
}

// Flush hands over what was written. The server's own deadline is that of a
// whole answer, which this one has none of, so each flush moves it. A few of
// them fit between here and the connection: a reader that takes nothing, and
// does not close, is cut off when the next one doesn't, after a minute and a
// half where only heartbeats come.
func (e *Writer) Flush() {
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
func (e *Writer) farewell() {
	if e.at.lost {
		e.Event("displaced", answer.Encode(End{"All streams are taken, and another user has fewer. Close some, or connect again later."}))
		e.Flush()
	}
}
