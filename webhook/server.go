package webhook

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"golang.org/x/sync/semaphore"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

// Lists is what the console, live counts and the dead letters' own API read.
type Lists interface {
	store.Reader
	store.LetterBox
}

// Store is what the server needs of a backend.
type Store interface {
	store.Store
	store.Maintainer
	store.CountSearcher

	// KeepDeadLetter keeps what was authenticated but can't be read, all of it
	// or nothing. The bodies are valid only during the call.
	KeepDeadLetter(ctx context.Context, letters ...store.DeadLetter) error

	// Ping reports whether the database can be reached.
	Ping(ctx context.Context) error
}

// Config is all that a Server is made of.
type Config struct {
	Store Store
	// Lists is what the backend lists beside its contract; nil where it lists
	// nothing, and then the server serves and streams none.
	Lists   Lists
	Secrets Secrets
	APIKeys []string
	// Decoder reads the bodies of deliveries. Its Large is set by the server.
	Decoder Decoder
	// Users verifies signed-in users, who may read their own counts; nil where
	// only API keys are accepted.
	Users *users.Verifier
	// Origins are the web origins, such as https://app.example.com, whose pages
	// may ask for a signed-in user's counts; "*" is all of them.
	Origins []string
	// Console is the pages for people; nil where there are none. It needs Lists.
	Console *Console
	// Room is how long a delivery may wait for a place before it is refused
	// with 503. A mirror's sender does not retry, so a mirror waits; a source
	// loses nothing by answering at once, which is what 0 means.
	Room time.Duration
	// Workers is the number of transactions at once; 1 where it is less.
	Workers int
	// Loopback says that only this machine can reach the server. Secrets and
	// APIKeys may be empty only then.
	Loopback bool
	// ClientHeader is the header in which the proxy before the server names the
	// client, such as Fly-Client-IP; none where empty, and then the client is the
	// connection's other end. It must be set only where requests come through
	// that proxy alone. Failed attempts to sign in are charged to the client.
	ClientHeader string
	// Now is the clock; time.Now where nil.
	Now func() time.Time
	// Log is slog.Default() where nil.
	Log *slog.Logger
	// Idle reports, without asking the database, whether a change leaves it
	// nothing to do; nil where only the database can tell.
	Idle func(store.Change) bool
	// Mirror says that the store knows what it is told alone, so that a call that
	// was lost on its way is missing in it.
	Mirror bool
	// Degraded returns what else /readyz shall report, a sentence each; may be
	// nil. It is called for each request, so it must not ask the database.
	Degraded func() []string
}

// limits are what the server allows at most. Tests set their own.
type limits struct {
	body   int64         // bytes of a delivery
	api    int64         // bytes of a request to the API
	memory int64         // bytes that all requests to the API may hold at once
	keep   int64         // bytes of long bodies that known senders' deliveries may remember at once
	wait   time.Duration // for that memory
	places int           // deliveries at once
	large  int           // large deliveries at once
	huge   int           // huge ones
	// A sender that can't be known before the body was read, since it signs and
	// proves nothing, has places apart: strangers must not take those of senders
	// that are known by a token or by a proof.
	unproven      int
	unprovenLarge int
	unprovenHuge  int
	unprovenKeep  int64
	unprovenWhole time.Duration // for a whole body
	conns         int           // open connections
	streams       int           // open at once; half of the connections at most
	watched       int           // counts that all streams watch
	header        int           // bytes of a request's head
	stall         time.Duration // without a byte of a body; also for the whole head
	whole         time.Duration // for a whole body
	idle          time.Duration // between two requests of a connection
	call          time.Duration // for one try of one transaction
}

func defaultLimits() limits {
	conns := connsFor(descriptors())
	return limits{
		body: 256 << 20, api: 32 << 20, memory: 64 << 20, keep: 48 << 20, wait: 4 * time.Second,
		places: 512, large: 32, huge: 2, conns: conns, streams: min(maxStreams, conns/2), watched: maxWatched, header: 16 << 10,
		unproven: 256, unprovenLarge: 32, unprovenHuge: 1, unprovenKeep: 16 << 20, unprovenWhole: time.Minute,
		stall: 30 * time.Second, whole: 5 * time.Minute, idle: 90 * time.Second,
		call: time.Minute,
	}
}

// Server receives deliveries and answers the API. Make one with [New].
type Server struct {
	cfg     Config
	limits  limits
	app     *fiber.App
	monitor *fiber.App // for a listener of its own
	metrics *metrics
	batch   *batcher
	submit  func([]store.Change) ([]store.ApplyResult, error) // to the batch
	known   house                                             // for senders that are known before their body was read
	// unproven is for those that are known after it: a sender that only signs,
	// and any stranger until then.
	unproven house
	proofs   proofs

	memory   *semaphore.Weighted
	keys     apiKeys
	ready    cached[struct{}]
	health   cached[store.Health]
	attempts attempts
	lately   lately
	sample   *sampler // for what strangers can cause
	losses   losses   // of a mirror
	others   others   // tables that are not watched

	hub     *hub     // nil where nothing is streamed
	console *console // nil where there are no pages
	streams streams

	process string        // the first part of each request id
	request atomic.Uint64 // the number of the last request

	mu      sync.Mutex
	closing bool
	leaving bool // no more than not ready yet
	open    []*acceptor
}

// New returns a server whose workers run until [Server.Shutdown]. It refuses
// to make one that strangers could reach.
func New(cfg Config) (*Server, error) { return newServer(cfg, defaultLimits()) }

func newServer(cfg Config, l limits) (*Server, error) {
	if cfg.Store == nil {
		return nil, errors.New("webhook: Config.Store is missing")
	}
	if cfg.Secrets.IsZero() && !cfg.Loopback {
		return nil, errors.New("without a webhook secret every caller could change the counts, so it is allowed on loopback alone: " +
			"make a secret with `openssl rand -base64 32` and set it in RUNCOUNTER_WEBHOOK_SECRET and in the webhook's Authorization header, or listen on 127.0.0.1")
	}
	if len(cfg.APIKeys) == 0 && !cfg.Loopback {
		return nil, errors.New("without an API key every caller could read and change runs, so it is allowed on loopback alone: " +
			"make a key with `openssl rand -base64 32` and set it in RUNCOUNTER_API_KEY, or listen on 127.0.0.1")
	}
	for i, key := range cfg.APIKeys {
		if err := checkToken(key); err != nil {
			return nil, fmt.Errorf("API key %d %w", i+1, err)
		}
	}
	cfg.Workers = max(cfg.Workers, 1)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	var process [4]byte
	rand.Read(process[:]) // never fails: the runtime ends the program rather
	s := &Server{
		cfg: cfg, limits: l, metrics: newMetrics(),
		known:    newHouse(l.places, l.large, l.huge, l.keep),
		unproven: newHouse(l.unproven, l.unprovenLarge, l.unprovenHuge, l.unprovenKeep),
		memory:   semaphore.NewWeighted(l.memory), keys: newAPIKeys(cfg.APIKeys),
		sample:  newSampler(cfg.Log, cfg.Now),
		process: hex.EncodeToString(process[:]),
		streams: streams{most: l.streams, mostKeys: l.watched},
	}
	s.batch = newBatcher(s.apply, cfg.Workers, l.places+l.unproven, s.metrics)
	s.submit = s.batch.submit
	if cfg.Lists != nil {
		s.hub = newHub(cfg.Lists.CountsOf, cfg.Log)
	}
	s.metrics.watch(s.batch.waiting, &s.streams, s.connections)
	if cfg.Mirror {
		s.metrics.registry.MustRegister(&s.losses)
	}
	if cfg.Console != nil && cfg.Lists != nil {
		var err error
		if s.console, err = s.newConsole(*cfg.Console); err != nil {
			return nil, fmt.Errorf("make the console: %w", err)
		}
		go s.console.watchPast(s.hub.ctx)
	}
	s.app, s.monitor = s.newApp(s.routes), s.newApp(s.routeMonitor)
	return s, nil
}

func (s *Server) newApp(routes func(*fiber.App)) *fiber.App {
	app := fiber.New(fiber.Config{
		// Bodies are bounded in the stream that reads them. With streaming,
		// BodyLimit bounds only what is read of a body before the handler is
		// called, which is as little as can be: strangers are refused first.
		StreamRequestBody:            true,
		BodyLimit:                    1,
		DisablePreParseMultipartForm: true,
		ReadBufferSize:               s.limits.header,
		ReadTimeout:                  s.limits.stall,
		WriteTimeout:                 s.limits.stall,
		IdleTimeout:                  s.limits.idle,
		CaseSensitive:                true,
		DisableStartupMessage:        true,
		ErrorHandler:                 s.refuse,
	})
	srv := app.Server()
	srv.CloseOnShutdown = true
	next, methods := srv.Handler, app.Config().RequestMethods
	srv.Handler = func(ctx *fasthttp.RequestCtx) {
		// Fiber answers a method that it doesn't know in plain text, before
		// any handler of ours.
		if !slices.Contains(methods, string(ctx.Method())) {
			writeProblem(&ctx.Response, newProblem(fiber.StatusNotImplemented, "This method does not exist here. Use GET or POST."))
			return
		}
		next(ctx)
	}
	routes(app)
	return app
}

func (s *Server) routes(app *fiber.App) {
	app.Use(s.every)
	app.Post("/webhooks/workflow-runs", s.receive)
	app.Post("/functions/v1/run-counter", s.receive) // stands in for an Edge Function
	if s.console != nil {
		s.console.routes(app)
	} else {
		app.Get("/", home)
	}
	app.Get("/livez", livez)
	app.Get("/readyz", s.readyz)
	app.Get("/metrics", s.serveMetrics)

	s.allowOrigins(app)
	v1 := app.Group("/v1", s.admit)
	v1.Get("/counts", s.getCount)
	v1.Get("/counts/stream", s.streamCounts)
	v1.Get("/users/:user/counts", s.getUserCounts)
	v1.Use(keyOnly) // what follows is for API keys alone
	v1.Get("/totals", s.getTotal)
	v1.Post("/runs", s.object(s.beginRun, "id", "user_id", "workflow_id", "draft_id", "limit", "idempotency_key"))
	v1.Get("/runs/:id", s.getRun)
	v1.Post("/runs/:id/start", s.object(s.startRun))
	v1.Post("/runs/:id/complete", s.object(s.completeRun, "status", "duration_ms", "error_details", "state_snapshot"))
	v1.Post("/runs/:id/amend", s.object(s.amendRun, "status", "reason", "who"))
	if s.cfg.Lists != nil {
		s.routeLetters(v1)
	}
}

// every goes before all handlers: it names the request, and turns a panic into
// an error.
func (s *Server) every(c *fiber.Ctx) (err error) {
	id := s.process + "-" + strconv.FormatUint(s.request.Add(1), 36)
	c.Set(fiber.HeaderXRequestID, id)
	c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	from := guestOf(c)
	from.begin()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
		from.end()
		if s.isLeaving() {
			c.Context().SetConnectionClose()
		}
	}()
	return c.Next()
}

// guestOf returns the connection of a request; nil where it came through no
// acceptor of ours.
func guestOf(c *fiber.Ctx) *guest {
	g, _ := c.Context().Conn().(*guest)
	return g
}

// Serve answers requests from a listener until Shutdown, and returns nil then.
// It closes the listener. A lack of file descriptors is waited out, and how
// many connections are open is bounded by how many descriptors there are.
func (s *Server) Serve(ln net.Listener) error { return s.serve(s.app, ln, s.limits.conns) }

func (s *Server) serve(app *fiber.App, ln net.Listener, conns int) error {
	a := newAcceptor(ln, conns, s.accepting)
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return ln.Close()
	}
	s.open = append(s.open, a)
	s.mu.Unlock()
	return app.Listener(a)
}

// accepting counts and logs what the acceptor had to do.
func (s *Server) accepting(event connEvent, err error) {
	s.metrics.connEvents.WithLabelValues(string(event)).Inc()
	if event == notLetIn {
		s.sample.warn(string(event), "a connection could not be accepted; trying again", "error", err)
		return
	}
	s.sample.warn(string(event), "too many connections are open: one was closed for a new one, first of those that have shown no key and no secret", "most", s.limits.conns)
}

// connections returns how many are open.
func (s *Server) connections() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.open {
		n += a.open()
	}
	return n
}

// Leave makes /readyz answer 503 while requests are served still, so that a
// proxy sends them elsewhere before Shutdown closes the listener. Connections
// end after their next answer.
func (s *Server) Leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
}

// Shutdown stops accepting, finishes what was accepted, and drains the queue.
// When the context ends before that, it gives up what has not been committed
// (none of which was answered) and returns the context's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	// A listener that Serve has not handed over yet is closed by nobody else.
	for _, ln := range s.open {
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			s.cfg.Log.Warn("close the listener", "error", err)
		}
	}
	s.mu.Unlock()
	if s.hub != nil {
		s.hub.close() // which ends the streams, or they would outlast the time
	}

	var err error
	for _, app := range [...]*fiber.App{s.app, s.monitor} {
		if ended := app.ShutdownWithContext(ctx); !errors.Is(ended, net.ErrClosed) { // closed above
			err = errors.Join(err, ended)
		}
	}
	err = errors.Join(err, s.batch.close(ctx))
	s.sample.flush()
	return err
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

func (s *Server) isLeaving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaving || s.closing
}

// Registry returns the registry behind /metrics, for collectors of others.
func (s *Server) Registry() *prometheus.Registry { return s.metrics.registry }

// house is the places of deliveries, from before the body is read until the
// answer: for each, for a large one, for a huge one, and the memory for bodies
// that may become dead letters.
type house struct {
	places, large, huge room
	remember            *semaphore.Weighted
}

func newHouse(places, large, huge int, keep int64) house {
	return house{make(room, places), make(room, large), make(room, huge), semaphore.NewWeighted(keep)}
}

// room is a bounded number of places.
type room chan struct{}

// enter takes a place, and waits for it as long as that.
func (r room) enter(wait time.Duration) error {
	select {
	case r <- struct{}{}:
		return nil
	default:
	}
	if wait <= 0 {
		return errBusy
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case r <- struct{}{}:
		return nil
	case <-timer.C:
		return errBusy
	}
}

func (r room) leave() { <-r }

// place is one in a room, which may never be taken.
type place struct {
	of    room
	taken bool
}

func (p *place) enter(wait time.Duration) error {
	if p.taken {
		return nil
	}
	err := p.of.enter(wait)
	p.taken = err == nil
	return err
}

func (p *place) leave() {
	if p.taken {
		p.of.leave()
	}
}
