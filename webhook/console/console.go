package console

import (
	"context"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
	"github.com/edgaze-ai/runcounter/webhook/internal/cached"
	"github.com/edgaze-ai/runcounter/webhook/internal/conns"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/live"
	"github.com/edgaze-ai/runcounter/webhook/problem"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

// Settings are the part of a [Config] that the program sets.
type Settings struct {
	// Where names the database for people; it holds no password.
	Where string
	// Source says that the database is the watched one.
	Source bool
	// Limits bound the silence of a run; [store.DefaultLimits] where nil.
	Limits store.Limits
	// Role is the role of the Supabase users who may sign in; no
	// token signs in where it is empty.
	Role string
	// Doctor looks at the installation.
	Doctor func(ctx context.Context) []report.Finding
	// Sweep does the periodic job now.
	Sweep func(ctx context.Context, full bool) (store.SweepReport, error)
	// Swept returns what the sweeper has done.
	Swept func() store.SweepStatus
	// Webhooks looks at the calls of the watched table's webhooks; nil for a mirror.
	Webhooks func(ctx context.Context) (store.Deliveries, error)
	// Names finds users and workflows by what the application's tables call them; nil
	// for a mirror, which knows ids alone.
	Names store.Namer
	// Activity keeps what arrives for the charts; nil where the database has no
	// place for it, and then they show what this process has seen.
	Activity store.ActivityLog
	// Statistics sum up the runs of all users; nil where they are not shown.
	Statistics store.Statistics
}

// Store is the part of a backend that operators change.
type Store interface {
	Suspects(ctx context.Context, f store.FailStuck) ([]store.Suspect, error)
	Count(ctx context.Context, of store.Scope, in store.Window) (store.Count, error)
	Complete(ctx context.Context, c store.Completion) (store.CompleteResult, error)
	Amend(ctx context.Context, a store.AmendRequest) (store.Run, error)
	FailStuck(ctx context.Context, f store.FailStuck) ([]store.Repaired, error)
	Recount(ctx context.Context, key store.Key, now time.Time) (store.RecountResult, error)
}

// Config configures a [Console].
type Config struct {
	Settings
	// Store and Reader are handed over as ones that try again what failed for a
	// moment: the console calls each method once.
	Store   Store
	Reader  store.Reader
	Letters webhook.Letters
	// Grants give runs on top of limits; nil where there are no pages of them.
	Grants store.Granter
	// Decoder knows which ids the table has no column for.
	Decoder webhook.Decoder
	// Replay takes a dead letter in again.
	Replay func(ctx context.Context, seq int64) (webhook.Replayed, error)
	// Keys sign operators in. Without any, everyone on this machine may do everything.
	Keys webhook.APIKeys
	// Users verifies signed-in users; nil where none may sign in.
	Users   *users.Verifier
	Streams *live.Streams
	// Refusals logs and counts what is refused.
	Refusals *problem.Recorder
	// Totals returns the numbers of deliveries that the charts show, and TakeLag the
	// greatest delay of one since it was taken last.
	Totals  func() webhook.Totals
	TakeLag func() time.Duration
	// Health counts what in the database deserves a look, Away says why it can't be
	// used, nothing where it can, and Degraded what in the settings and in what was
	// sent is not as it should be, a sentence each.
	Health   func() (store.Health, error)
	Away     func() string
	Degraded func() []string
	// Sweeps says that the server sweeps.
	Sweeps bool
	// Home answers at / those who do not ask for a page.
	Home fiber.Handler
	// ClientHeader is the header in which the proxy before the server names the
	// client; none where empty.
	ClientHeader string
	// Time bounds the time for a form.
	Time request.Limits
	// Now is the clock.
	Now func() time.Time
	Log *slog.Logger
}

// The console's files. Nothing is loaded from anywhere else.
//
//go:embed pages
var consoleFiles embed.FS

// consoleCSP lets a page use what this server sends, and nothing else: no
// inline script or style, no other host, no frame around it.
const consoleCSP = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// Console is the pages for people. Make one with [New].
type Console struct {
	cfg      Config
	sessions sessions
	attempts attempts
	pages    map[string]*template.Template
	started  time.Time

	arrivals   arrivals
	log        store.ActivityLog
	past       [len(spans)]cached.Answer[[]store.Activity] // of each span
	unrecorded error                                       // why the last minutes were not taken
	watched    chan struct{}                               // closed when Watch has ended
	look       look
	asked      asked
	policy     cached.Answer[store.Policy]
}

// page is the data of each template.
type page struct {
	Title    string
	Path     string // of the page, to mark it in the navigation
	Who      string // empty: no operator is signed in
	Open     bool   // no key is configured: everyone on this machine may do everything
	CSRF     string
	Where    string
	Source   bool
	Granting bool   // there are pages of grants
	Done     string // what an action came to
	Naming   bool   // names are searched, too
	Data     any
}

// New returns a console. The error is a template that can't be read.
func New(cfg Config) (*Console, error) {
	c := &Console{cfg: cfg, sessions: newSessions(cfg.Keys, cfg.Now), pages: map[string]*template.Template{}, started: cfg.Now(), log: cfg.Activity, watched: make(chan struct{})}
	if c.log == nil {
		c.log = &memory{}
	}
	if c.cfg.Limits == nil {
		c.cfg.Limits = store.DefaultLimits()
	}
	names, err := consoleFiles.ReadDir("pages")
	if err != nil {
		return nil, err
	}
	for _, file := range names {
		name, isPage := strings.CutSuffix(file.Name(), ".html")
		if !isPage || name == "layout" {
			continue
		}
		t, err := template.New("layout.html").Funcs(functions(c.cfg.Now)).ParseFS(consoleFiles, "pages/layout.html", "pages/"+file.Name())
		if err != nil {
			return nil, err
		}
		c.pages[name] = t
	}
	return c, nil
}

// Routes adds its addresses to an app.
func (c *Console) Routes(app *fiber.App) {
	app.Get("/console/style.css", asset("text/css; charset=utf-8", "pages/style.css"))
	app.Get("/console/console.js", asset("text/javascript; charset=utf-8", "pages/console.js"))
	app.Get("/console/icon.svg", asset("image/svg+xml", "pages/icon.svg"))
	app.Get("/console/events", c.page(c.events))
	app.Get("/", func(f *fiber.Ctx) error {
		f.Vary(fiber.HeaderAccept)
		if !strings.Contains(f.Get(fiber.HeaderAccept), fiber.MIMETextHTML) {
			return c.cfg.Home(f)
		}
		return c.page(c.overview)(f)
	})
	app.Get("/sign-in", c.public(c.signInPage))
	app.Post("/sign-in", c.public(c.signIn))
	app.Post("/sign-out", c.action(c.signOut))
	app.Get("/counts", c.page(c.counts))
	app.Get("/counts/:user/:kind/:ref", c.page(c.key))
	app.Get("/counts/:user/:kind/:ref/recount", c.page(c.confirmRecount))
	app.Post("/counts/:user/:kind/:ref/recount", c.action(c.recount))
	if c.cfg.Grants != nil {
		c.routeGrants(app)
	}
	app.Get("/runs", c.page(c.runs))
	app.Get("/runs/:id", c.page(c.run))
	app.Get("/runs/:id/complete", c.page(c.confirmComplete))
	app.Post("/runs/:id/complete", c.action(c.complete))
	app.Get("/runs/:id/amend", c.page(c.confirmAmend))
	app.Post("/runs/:id/amend", c.action(c.amend))
	app.Get("/dead-letters", c.page(c.deadLetters))
	for do, action := range map[string]func(*fiber.Ctx, session, form) error{"replay": c.replayLetters, "drop": c.dropLetters} {
		app.Get("/dead-letters/"+do, c.page(c.confirmLetters(do)))
		app.Post("/dead-letters/"+do, c.action(action))
	}
	app.Get("/dead-letters/:seq", c.page(c.deadLetter))
	app.Get("/dead-letters/:seq/replay", c.page(c.confirmLetter("replay")))
	app.Post("/dead-letters/:seq/replay", c.action(c.replayOne))
	app.Get("/dead-letters/:seq/drop", c.page(c.confirmLetter("drop")))
	app.Post("/dead-letters/:seq/drop", c.action(c.dropOne))
	app.Get("/search", c.page(c.search))
	app.Get("/repairs", c.page(c.repairs))
	app.Get("/doctor", c.page(c.doctor))
	app.Get("/sweep", c.page(c.confirmSweep))
	app.Post("/sweep", c.action(c.sweep))
}

func asset(kind, name string) fiber.Handler {
	body, err := consoleFiles.ReadFile(name)
	return func(f *fiber.Ctx) error {
		f.Set(fiber.HeaderContentType, kind)
		f.Set(fiber.HeaderCacheControl, "no-cache")
		if err != nil {
			return err
		}
		return f.Send(body)
	}
}

// handler shows a page.
type handler func(f *fiber.Ctx, who session) error

// public needs no session, and makes pages of errors.
func (c *Console) public(do handler) fiber.Handler {
	return func(f *fiber.Ctx) error {
		f.Set(fiber.HeaderContentSecurityPolicy, consoleCSP)
		f.Set(fiber.HeaderReferrerPolicy, "same-origin")
		f.Set("Cross-Origin-Opener-Policy", "same-origin")
		f.Set(fiber.HeaderCacheControl, "no-store")
		who, err := c.whoIs(f)
		if err == nil {
			err = do(f, who)
		}
		if err != nil {
			return c.failed(f, who, err)
		}
		return nil
	}
}

// page shows a page to operators who are signed in, and asks others to sign in.
func (c *Console) page(do handler) fiber.Handler {
	return c.public(func(f *fiber.Ctx, who session) error {
		if !who.in() {
			return f.Redirect("/sign-in", fiber.StatusSeeOther)
		}
		return do(f, who)
	})
}

// action does something for an operator who is signed in, and was asked by a page of
// this server.
func (c *Console) action(do func(f *fiber.Ctx, who session, form form) error) fiber.Handler {
	return c.public(func(f *fiber.Ctx, who session) error {
		if !who.in() {
			return f.Redirect("/sign-in", fiber.StatusSeeOther)
		}
		form, err := c.form(f)
		if err != nil {
			return err
		}
		if !sameSite(f) || !c.sessions.knows(who, form.Get("csrf")) {
			return problem.New(fiber.StatusForbidden, "This was not asked by a page of this console, or that page is old. Go back, load it again, and try once more.")
		}
		return do(f, who, form)
	})
}

// whoIs returns who is signed in.
func (c *Console) whoIs(f *fiber.Ctx) (session, error) {
	if c.cfg.Keys.IsZero() {
		if err := request.RequireLoopback(f); err != nil {
			return session{}, err // whose page shows nothing of the database
		}
		conns.Of(f).Show(conns.Trusted)
		return localOperator, nil
	}
	who := c.sessions.read(f)
	if who.in() {
		conns.Of(f).Show(conns.Trusted)
	}
	return who, nil
}

// show renders a page.
func (c *Console) show(f *fiber.Ctx, who session, name, title string, data any) error {
	p := page{
		Title: title, Path: "/" + strings.SplitN(strings.TrimPrefix(f.Path(), "/"), "/", 2)[0],
		Who: who.Name, Open: who == localOperator, CSRF: c.sessions.token(who), Where: c.cfg.Where, Source: c.cfg.Source, Granting: c.cfg.Grants != nil, Naming: c.cfg.Names != nil,
		Done: doneIn(f), Data: data,
	}
	var out strings.Builder
	if err := c.pages[name].Execute(&out, p); err != nil {
		return err
	}
	f.Set(fiber.HeaderContentType, fiber.MIMETextHTMLCharsetUTF8)
	return f.SendString(out.String())
}

// Missing shows a browser that there is no such page. The error is the router's.
func (c *Console) Missing(f *fiber.Ctx, err error) error {
	if p := problem.Of(err); p.Status == fiber.StatusNotFound {
		err = problem.New(p.Status, "There is no page at this address. Check it, or begin at the overview.").Because(err)
	}
	return c.public(func(*fiber.Ctx, session) error { return err })(f)
}

// failed shows what went wrong, and logs it as the API does.
func (c *Console) failed(f *fiber.Ctx, who session, err error) error {
	p := c.cfg.Refusals.Record(f, err)
	if wants := f.Get(fiber.HeaderAccept); wants != "" && !strings.Contains(wants, "html") && !strings.Contains(wants, "*/*") {
		problem.Write(f.Response(), p)
		return nil
	}
	problem.Write(f.Response(), p) // its status and headers; the body is replaced
	id := answer.RequestID(f)
	if err := c.show(f, who, "problem", p.Title, struct {
		*problem.Problem
		Request string
	}{p, id}); err != nil {
		return err
	}
	return nil
}

// doneText says the result of an action, by its code in the address: a text there
// could be any sender's.
var doneText = map[string]string{
	"recounted":  "The count was wrong, and is set right.",
	"right":      "The count was right already. Nothing was written.",
	"completed":  "The run has ended so.",
	"lost":       "The run had ended already, and keeps its first outcome.",
	"amended":    "The outcome is changed, and who decided it and why is kept.",
	"replayed":   "It was taken in, and is no dead letter any more.",
	"unreadable": "It still can't be read, and stays.",
	"undropped":  "It was taken in, but could not be dropped and is still listed. Drop it, or replay it again, which changes nothing.",
	"granted":    "The runs are granted, and raise the limit from now on.",
	"revoked":    "The grant is revoked. What was begun stays begun.",
	"dropped":    "The dead letter is gone.",

	"replayed-many": "Replayed: %d taken in, %d that still can't be read and stay.",
	"dropped-many":  "Dropped: %d.",
	"swept":         "The sweep is done.",
	"signed-out":    "You are signed out.",
}

// doneIn is the result that the address names. Its numbers are read as numbers.
func doneIn(f *fiber.Ctx) string {
	text := doneText[f.Query("done")]
	for _, name := range []string{"n", "m"} {
		text = strings.Replace(text, "%d", strconv.Itoa(f.QueryInt(name)), 1)
	}
	return text
}

// errNoConsole is for what is not configured.
var errNoConsole = errors.New("the server was configured without this")
