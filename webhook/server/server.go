package server

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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/api"
	"github.com/edgaze-ai/runcounter/webhook/console"
	"github.com/edgaze-ai/runcounter/webhook/internal/cached"
	"github.com/edgaze-ai/runcounter/webhook/internal/conns"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/live"
	"github.com/edgaze-ai/runcounter/webhook/notify"
	"github.com/edgaze-ai/runcounter/webhook/problem"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

// Store is the part of a backend that the server needs: the contract, upkeep, lists of
// counts, dead letters and a ping.
type Store interface {
	store.Store
	store.Maintainer
	store.CountSearcher

	// KeepDeadLetter is that of [store.LetterBox].
	KeepDeadLetter(ctx context.Context, letters ...store.DeadLetter) error

	// Ping reports whether the database can be reached.
	Ping(ctx context.Context) error
}

// Config configures a [Server].
type Config struct {
	Store Store
	// Reader and Letters are what the backend lists beside its contract; nil where it
	// lists nothing, and then the server serves and streams none.
	Reader  store.Reader
	Letters webhook.Letters
	// Grants give runs on top of limits; nil where the backend has none.
	Grants  store.Granter
	Secrets webhook.Secrets
	APIKeys []string
	// Decoder reads the bodies of deliveries.
	Decoder webhook.Decoder
	// Users verifies signed-in users, who may read their own counts; nil where
	// only API keys are accepted.
	Users *users.Verifier
	// Origins are the web origins, such as https://app.example.com, whose pages
	// may ask for a signed-in user's counts; "*" is all of them.
	Origins []string
	// Totals says who may read the counts of a workflow over all its users.
	Totals api.Audience
	// Console is the pages for people; nil where there are none. It needs Reader.
	Console *console.Settings
	// AdmissionTimeout bounds how long a delivery waits for a slot; see
	// [webhook.Config].
	AdmissionTimeout time.Duration
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
	// Sweeper does the periodic job while [Server.Run] serves, each SweepEvery. Its
	// work is in /metrics, and what it complains of in /readyz; nil for none.
	Sweeper    *store.Sweeper
	SweepEvery time.Duration
	// Notify says whom to notify, and how, while [Server.Run] serves; nil for nobody.
	// Notices keep what they are notified of. It needs Reader.
	Notify  *notify.Settings
	Notices store.NoticeBox
	// Connections returns how the connections to the database are used; nil where none
	// are counted.
	Connections func() store.Connections
	// Degraded returns what else /readyz shall report, a sentence each; may be
	// nil. It is asked once a second at most, for all callers together.
	Degraded func() []string
}

// Server receives deliveries, answers the API, streams counts and shows the console.
// Make one with [New].
type Server struct {
	cfg      Config
	limits   limits
	app      *fiber.App
	monitor  *fiber.App // for a listener of its own
	registry *prometheus.Registry
	refusals *problem.Recorder
	keys     webhook.APIKeys

	receiver *webhook.Receiver
	streams  *live.Streams // nil where nothing is streamed
	api      *api.API
	console  *console.Console // nil where there are no pages
	notifier *notify.Notifier // nil where nobody is notified

	connEvents *prometheus.CounterVec
	apiSeen    *apiMetrics
	tries      *tries
	ready      cached.Answer[struct{}]
	reported   cached.Answer[[]string] // by Config.Degraded
	health     cached.Answer[store.Health]

	process string        // the first part of each request id
	request atomic.Uint64 // the number of the last request

	mu      sync.Mutex
	closing bool
	leaving bool // no more than not ready yet
	open    []*conns.Listener
}

// New returns a server whose workers run until [Server.Shutdown]. It refuses
// to make one that strangers could reach.
func New(cfg Config) (*Server, error) { return newServer(cfg, defaultLimits()) }

func newServer(cfg Config, l limits) (*Server, error) {
	keys, err := checked(&cfg)
	if err != nil {
		return nil, err
	}
	var process [4]byte
	rand.Read(process[:]) // never fails: the runtime ends the program rather
	registry := prometheus.NewRegistry()
	s := &Server{
		cfg: cfg, limits: l, keys: keys, registry: registry, process: hex.EncodeToString(process[:]),
		refusals: problem.NewRecorder(cfg.Log, cfg.Now, registry),
	}
	s.watch()
	if err := s.furnish(); err != nil {
		return nil, err
	}
	s.app, s.monitor = s.newApp(s.routes), s.newApp(s.routeMonitor)
	return s, nil
}

// checked fills in what a configuration leaves out, and refuses one that strangers
// could reach.
func checked(cfg *Config) (webhook.APIKeys, error) {
	if cfg.Store == nil {
		return webhook.APIKeys{}, errors.New("webhook: Config.Store is missing")
	}
	if cfg.Secrets.IsZero() && !cfg.Loopback {
		return webhook.APIKeys{}, errors.New("without a webhook secret every caller could change the counts, so it is allowed on loopback alone: " +
			"make a secret with `openssl rand -base64 32` and set it in RUNCOUNTER_WEBHOOK_SECRET and in the webhook's Authorization header, or listen on 127.0.0.1")
	}
	if len(cfg.APIKeys) == 0 && !cfg.Loopback {
		return webhook.APIKeys{}, errors.New("without an API key every caller could read and change runs, so it is allowed on loopback alone: " +
			"make a key with `openssl rand -base64 32` and set it in RUNCOUNTER_API_KEY, or listen on 127.0.0.1")
	}
	cfg.Workers = max(cfg.Workers, 1)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	return webhook.NewAPIKeys(cfg.APIKeys...)
}

// furnish makes the rooms. Each is handed a store that tries again what failed for a
// moment.
func (s *Server) furnish() error {
	cfg, l := s.cfg, s.limits
	t := newTries(l.call, s.registry)
	s.tries = t
	backend := retryingStore{cfg.Store, t}
	var letters webhook.Letters // a nil interface where none are listed
	if cfg.Letters != nil {
		letters = retryingLetters{cfg.Letters, t}
	}
	var grants store.Granter // a nil interface where there are none
	if cfg.Grants != nil {
		grants = retryingGrants{cfg.Grants, t}
	}
	committed := func() {}
	if cfg.Reader != nil {
		s.streams = live.New(live.Config{
			Counts: func(ctx context.Context, keys []store.Key) ([]store.Count, error) {
				return timed(t.of("counts_of"), func() ([]store.Count, error) { return cfg.Reader.CountsOf(ctx, keys) })
			},
			Count: cfg.Store.Count, Allowance: cfg.Store.Allowance, MaxStreams: l.streams, MaxWatched: l.watched, Now: cfg.Now, Log: cfg.Log, Metrics: s.registry,
		})
		committed = s.streams.Wake
	}
	s.receiver = webhook.NewReceiver(webhook.Config{
		Store: backend, Letters: letters, Secrets: cfg.Secrets, Decoder: cfg.Decoder, AdmissionTimeout: cfg.AdmissionTimeout,
		Workers: cfg.Workers, Limits: l.receiver(), Now: cfg.Now, Log: cfg.Log, Metrics: s.registry,
		Idle: cfg.Idle, Mirror: cfg.Mirror, Committed: committed,
	})
	s.api = api.New(api.Config{
		Store: backend, Letters: letters, Replay: s.receiver.Replay, Grants: grants, Keys: s.keys, Users: cfg.Users, Origins: cfg.Origins, Totals: cfg.Totals,
		Decoder: cfg.Decoder, Streams: s.streams, Limits: l.requests(), Now: cfg.Now, Log: cfg.Log,
	})
	if cfg.Notify != nil && cfg.Notices != nil && cfg.Reader != nil {
		box := struct {
			store.NoticeBox
			nearLimits
		}{cfg.Notices, cfg.Reader}
		s.notifier = notify.New(notify.Config{Settings: *cfg.Notify, Box: box, Now: cfg.Now, Log: cfg.Log, Metrics: s.registry})
	}
	if cfg.Console == nil || cfg.Reader == nil || letters == nil {
		return nil
	}
	var err error
	s.console, err = console.New(console.Config{
		Settings: *cfg.Console, Store: backend, Reader: retryingReader{cfg.Reader, t}, Letters: letters, Grants: grants, Decoder: cfg.Decoder, Replay: s.receiver.Replay, Keys: s.keys, Users: cfg.Users,
		Streams: s.streams, Refusals: s.refusals, Totals: s.receiver.Totals, TakeLag: s.receiver.TakeLag, Health: s.Health,
		Away: s.away, Degraded: s.unsound, Sweeps: cfg.Sweeper != nil, Home: home, ClientHeader: cfg.ClientHeader,
		Time: request.Limits{Stall: l.time.Stall, Whole: l.unverifiedWhole}, Now: cfg.Now, Log: cfg.Log,
	})
	if err != nil {
		return fmt.Errorf("make the console: %w", err)
	}
	go s.console.Watch(s.streams.Context())
	return nil
}

// nearLimits is the part of a [store.Reader] that a notifier needs.
type nearLimits interface {
	NearLimits(ctx context.Context, now time.Time, limit int) ([]store.NearLimit, error)
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
		ReadTimeout:                  s.limits.time.Stall,
		WriteTimeout:                 s.limits.time.Stall,
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
			problem.Write(&ctx.Response, problem.New(fiber.StatusNotImplemented, "This method does not exist here. Use GET or POST."))
			return
		}
		next(ctx)
	}
	routes(app)
	return app
}

func (s *Server) routes(app *fiber.App) {
	app.Use(s.every)
	for _, path := range webhook.Paths {
		app.Post(path, s.receiver.Receive)
	}
	app.Get("/openapi.json", openAPI)
	if s.console != nil {
		s.console.Routes(app)
	} else {
		app.Get("/", home)
	}
	app.Get("/livez", livez)
	app.Get("/readyz", s.readyz)
	app.Get("/metrics", s.serveMetrics)
	app.Use("/v1", s.apiSeen.measure)
	s.api.Routes(app)
	s.apiSeen.learn(app)
}

// refuse answers with an error.
func (s *Server) refuse(c *fiber.Ctx, err error) error {
	if s.console != nil && asksForPage(c, err) {
		return s.console.Missing(c, err)
	}
	problem.Write(c.Response(), s.refusals.Record(c, err))
	return nil
}

// asksForPage reports whether a browser was led to an address that nothing serves.
// An address of the API that is there answers everyone in JSON.
func asksForPage(c *fiber.Ctx, err error) bool {
	unrouted, ok := errors.AsType[*fiber.Error](err)
	return ok && unrouted.Code < fiber.StatusInternalServerError && c.Method() == fiber.MethodGet && strings.Contains(c.Get(fiber.HeaderAccept), fiber.MIMETextHTML)
}

// every goes before all handlers: it names the request, and turns a panic into
// an error.
func (s *Server) every(c *fiber.Ctx) (err error) {
	id := s.process + "-" + strconv.FormatUint(s.request.Add(1), 36)
	c.Set(fiber.HeaderXRequestID, id)
	c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	from := conns.Of(c)
	from.Begin()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
		from.End()
		if s.isLeaving() {
			c.Context().SetConnectionClose()
		}
	}()
	return c.Next()
}

// Serve answers requests from a listener until Shutdown, and returns nil then.
// It closes the listener. A lack of file descriptors is waited out, and how
// many connections are open is bounded by how many descriptors there are.
func (s *Server) Serve(ln net.Listener) error { return s.serve(s.app, ln, s.limits.conns) }

func (s *Server) serve(app *fiber.App, ln net.Listener, most int) error {
	a := conns.Listen(ln, most, s.accepting)
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return ln.Close()
	}
	s.open = append(s.open, a)
	s.mu.Unlock()
	return app.Listener(a)
}

// accepting counts and logs the events of a listener.
func (s *Server) accepting(event conns.Event, err error) {
	s.connEvents.WithLabelValues(string(event)).Inc()
	if event == conns.NotAccepted {
		s.refusals.Warn(string(event), "a connection could not be accepted; trying again", "error", err)
		return
	}
	s.refusals.Warn(string(event), "too many connections are open: one was closed for a new one, first of those that have shown no key and no secret", "most", s.limits.conns)
}

// connections returns how many are open.
func (s *Server) connections() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.open {
		n += a.Open()
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
	// A listener that Serve has not handed over yet is closed here.
	for _, ln := range s.open {
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			s.cfg.Log.Warn("close the listener", "error", err)
		}
	}
	s.mu.Unlock()
	if s.streams != nil {
		s.streams.Close() // or they would outlast the time
	}

	var err error
	for _, app := range [...]*fiber.App{s.app, s.monitor} {
		if ended := app.ShutdownWithContext(ctx); !errors.Is(ended, net.ErrClosed) { // closed above
			err = errors.Join(err, ended)
		}
	}
	err = errors.Join(err, s.receiver.Close(ctx))
	if s.console != nil {
		s.console.Close(ctx)
	}
	s.refusals.Flush()
	return err
}

func (s *Server) isLeaving() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leaving || s.closing
}
