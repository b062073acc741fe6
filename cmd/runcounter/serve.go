package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/server"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

const (
	defaultListen = "127.0.0.1:8080"
	// finishIn is how long a stop may take. A delivery that is not committed
	// by then was not answered either.
	finishIn = 30 * time.Second
	// defaultDrain is how much of it goes by before the listener closes, where
	// others than this machine are served: a proxy that asks /readyz each few
	// seconds sends nothing more here by then. longestDrain leaves a third of it
	// for what was accepted.
	defaultDrain = 5 * time.Second
	longestDrain = 20 * time.Second
	// admissionTimeout bounds how long a delivery waits for a slot of a mirror, whose
	// sender doesn't retry. Supabase gives up after 5 s unless told otherwise.
	admissionTimeout = 4 * time.Second
	// sourceWorkers are how many batches of hints are looked at side by side.
	sourceWorkers = 2
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name:      "serve",
		Category:  groupRun,
		Usage:     "receives webhooks, answers the API, and sweeps",
		UsageText: "runcounter serve [flags]",
		Description: `Point the database webhook of workflow_runs at POST /webhooks/workflow-runs, or at
POST /functions/v1/run-counter in place of an Edge Function. The counts are at
GET /v1/counts, the console at /, health at /livez and /readyz, and metrics at
/metrics. With SUPABASE_URL a signed-in user of that project may read their own
counts, with the access token that their browser has, and watch them at
/v1/counts/stream.

On SQLite it is a mirror: it knows only the changes that it receives, and
runcounter import brings the earlier runs. On PostgreSQL the table is the truth,
webhooks are hints to look, and no silent run is ended until --stuck-after is set.

SIGINT or SIGTERM finishes accepted requests and ends with exit code 0; a second
one ends at once. For the time of --drain, /readyz answers 503 while requests are
still served, so that a proxy sends new ones elsewhere. With an API key set,
/metrics and the sentences of /readyz need it too.

Examples:
  runcounter serve
  export RUNCOUNTER_WEBHOOK_SECRET=$(openssl rand -base64 32)
  export RUNCOUNTER_API_KEY=$(openssl rand -base64 32)
  runcounter serve --listen :8080 --database-url sqlite:/data/runcounter.db`,
		Flags: append(userFlags(),
			listenFlag(), portFlag(), metricsFlag(), drainFlag(), databaseFlag(), secretFlag(), keyFlag(), clientFlag(), policyFlag(),
			tableFlag(), partitionsFlag(), columnFlag(), statusFlag(), anyCaseFlag(), zoneFlag(), timesFlag(), claimFlag(), descriptionFlag(), leaseFlag(), stuckFlag(),
			&cli.DurationFlag{Name: "sweep-every", Category: flagsRules, Value: 30 * time.Second, Usage: "the `DURATION` between two sweeps", Sources: cli.EnvVars("RUNCOUNTER_SWEEP_EVERY")},
			&cli.StringFlag{Name: "log-level", Category: flagsLog, Value: "info", Usage: "the `LEVEL` from which on to log: debug, info, warn or error", Sources: cli.EnvVars("RUNCOUNTER_LOG_LEVEL")},
			&cli.StringFlag{Name: "log-format", Category: flagsLog, DefaultText: "text on a terminal or on loopback, else json", Usage: "the `FORMAT` of the log: text or json", Sources: cli.EnvVars("RUNCOUNTER_LOG_FORMAT")},
		),
		Action: action(serve),
	}
}

// settings are the flags of serve, read.
type settings struct {
	listen  string
	address *net.TCPAddr
	metrics *net.TCPAddr  // nil: none apart
	drain   time.Duration // before the listener closes
	client  string        // the header that names the client
	secrets webhook.Secrets
	secret  string // the first, to show how it is sent
	keys    []string
	users   *users.Verifier // nil: only keys are accepted
	origins []string
	decoder webhook.Decoder
	limits  store.Limits
	every   time.Duration
	policy  *store.Policy // nil: leave it as it is
	log     *slog.Logger
	text    bool // the log is for a person
}

func serve(ctx context.Context, cmd *cli.Command) (err error) {
	if err := atMost(0, cmd); err != nil {
		return err
	}
	s, err := settingsOf(cmd)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	db, err := s.open(ctx, cmd)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil // told to stop before it had begun
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if s.decoder, err = decoderFor(ctx, cmd, db); err != nil {
		return err
	}
	if s.users != nil {
		claim, err := claimFor(ctx, cmd, db)
		if err != nil {
			return err
		}
		s.users.CountBy(claim)
	}
	if s.policy != nil {
		if err := db.SetPolicy(ctx, *s.policy); err != nil {
			return fmt.Errorf("set the count policy: %w", err)
		}
	}
	sweeper := db.sweeper(s.limits)
	sweeper.Log = s.log
	if !presumes(cmd, db.source) {
		sweeper.Limits, sweeper.Rehearse = store.Limits{}, s.limits
	}
	config := server.Config{
		Store: db, Reader: db, Letters: db, Secrets: s.secrets, APIKeys: s.keys, ClientHeader: s.client, Users: s.users, Origins: s.origins, Decoder: s.decoder, AdmissionTimeout: admissionTimeout,
		Loopback: s.address.IP.IsLoopback(), Log: s.log, Degraded: sweeper.Degraded, Mirror: !db.source,
	}
	config.Console = s.console(cmd, db, sweeper)
	if db.source {
		config.AdmissionTimeout = 0 // the sweep finds what a refused delivery would have told
		config.Workers = sourceWorkers
		config.Idle = db.idle
		direct := everySecond(func() []string { return directText(ctx, db.database) })
		config.Degraded = func() []string { return append(sweeper.Degraded(), direct()...) }
	}
	srv, err := server.New(config)
	if err != nil {
		return badUsage("%w", err)
	}
	srv.Registry().MustRegister(&gauges{sweeper: sweeper, health: srv.Health})
	listener, err := net.ListenTCP("tcp", s.address) // what was checked, not the name that led to it
	if err != nil {
		return errors.Join(fmt.Errorf("%w: choose another address with --listen or PORT", err), srv.Shutdown(ctx))
	}
	if s.metrics != nil {
		apart, err := net.ListenTCP("tcp", s.metrics)
		if err != nil {
			return errors.Join(fmt.Errorf("%w: choose another address with --metrics-listen", err), listener.Close(), srv.Shutdown(ctx))
		}
		s.log.Info("metrics and readiness without a key", "address", apart.Addr().String(), "url", baseOf(apart.Addr()))
		go func() {
			if err := srv.Monitor(apart); err != nil {
				s.log.Error("the listener of the metrics has ended", "error", err)
			}
		}()
	}
	s.announce(cmd.Root().ErrWriter, listener.Addr(), db)
	return s.work(ctx, stop, srv, listener, sweeper)
}

// open waits for a PostgreSQL server that is not there yet: the machines of a
// deployment start in any order, and a platform gives up on a process that
// ends again and again.
func (s settings) open(ctx context.Context, cmd *cli.Command) (backend, error) {
	for pause := time.Second; ; pause = min(2*pause, 15*time.Second) {
		db, err := openStore(ctx, cmd)
		if err == nil || !errors.Is(err, store.ErrUnavailable) || !isPostgres(cmd.String("database-url")) {
			return db, err
		}
		s.log.Warn("the database can't be reached, trying again", "in", pause.String(), "error", err)
		select {
		case <-ctx.Done():
			return backend{}, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// work serves until a signal comes or the listener fails, then finishes what
// was accepted and ends the sweep that is under way.
func (s settings) work(ctx context.Context, stop func(), srv *server.Server, listener net.Listener, sweeper *store.Sweeper) error {
	var sweeping sync.WaitGroup
	sweepCtx, stopSweeping := context.WithCancel(ctx)
	defer sweeping.Wait()
	defer stopSweeping()
	sweeping.Go(func() { sweeper.Run(sweepCtx, s.every) })
	served := make(chan error, 1)
	go func() { served <- srv.Serve(listener) }()
	var failed error
	select {
	case <-ctx.Done():
		stop() // from here on a signal ends the process at once
		s.log.Info("stopping: finishing what was accepted; a second signal ends it at once", "drain", s.drain.String())
		srv.Leave()
	case failed = <-served:
	}
	finish, cancel := context.WithTimeout(context.Background(), finishIn)
	defer cancel()
	if failed == nil {
		select {
		case <-time.After(s.drain):
		case failed = <-served:
		}
	}
	err := errors.Join(failed, srv.Shutdown(finish))
	if failed == nil {
		err = errors.Join(err, <-served)
	}
	if err == nil {
		s.log.Info("stopped")
	}
	return err
}

func settingsOf(cmd *cli.Command) (s settings, err error) {
	s.listen = listenOf(cmd)
	if s.address, err = net.ResolveTCPAddr("tcp", s.listen); err != nil {
		return s, badUsage("the address to listen on: %w; write HOST:PORT, such as 127.0.0.1:8080 or :8080", err)
	}
	if s.log, s.text, err = logOf(cmd, s.address.IP.IsLoopback()); err != nil {
		return s, err
	}
	list := cmd.String("webhook-secret")
	if s.secrets, err = webhook.ParseSecrets(list); err != nil {
		return s, badUsage("RUNCOUNTER_WEBHOOK_SECRET: %w", err)
	}
	s.secret = firstSecret(list)
	if s.keys, err = keysOf(cmd); err != nil {
		return s, err
	}
	if err := s.around(cmd); err != nil {
		return s, err
	}
	if err := s.refuseStrangers(); err != nil {
		return s, err
	}
	if s.users, err = verifierOf(cmd); err != nil {
		return s, err
	}
	if s.origins, err = originsOf(cmd); err != nil {
		return s, err
	}
	if s.decoder, err = decoderOf(cmd); err != nil {
		return s, err
	}
	if s.limits, err = limitsOf(cmd); err != nil {
		return s, err
	}
	if s.every = cmd.Duration("sweep-every"); s.every <= 0 {
		return s, badUsage("--sweep-every must be longer than 0, such as 30s: without sweeps stuck runs stay stuck")
	}
	if name := cmd.String("count-policy"); name != "" {
		policy, err := store.ParsePolicy(name)
		if err != nil {
			return s, badUsage("--count-policy: %w", err)
		}
		s.policy = &policy
	}
	return s, nil
}

// around reads the flags of what surrounds the listener: the proxy before it,
// the second listener for monitoring, and the drain before a stop.
func (s *settings) around(cmd *cli.Command) (err error) {
	if name := cmd.String("metrics-listen"); name != "" {
		if s.metrics, err = net.ResolveTCPAddr("tcp", name); err != nil {
			return badUsage("--metrics-listen: %w; write HOST:PORT, such as :9091", err)
		}
	}
	s.drain = cmd.Duration("drain")
	switch {
	case s.drain < 0 || s.drain > longestDrain:
		return badUsage("--drain must be between 0s and %s: a stop takes %s at most, and what was accepted needs the rest", longestDrain, finishIn)
	case s.address.IP.IsLoopback() && !cmd.IsSet("drain"):
		s.drain = 0 // a person waits for the prompt, and no proxy asks
	}
	s.client = strings.TrimSpace(cmd.String("client-header"))
	return nil
}

// refuseStrangers decides before anything is opened (law 7).
func (s settings) refuseStrangers() error {
	if s.address.IP.IsLoopback() {
		return nil
	}
	var missing []string
	if s.secrets.IsZero() {
		missing = append(missing, "  export RUNCOUNTER_WEBHOOK_SECRET=$(openssl rand -base64 32)")
	}
	if len(s.keys) == 0 {
		missing = append(missing, "  export RUNCOUNTER_API_KEY=$(openssl rand -base64 32)")
	}
	if len(missing) == 0 {
		return nil
	}
	return badUsage("%s can be reached from other machines, and without a secret any of them could change or read the counts. "+
		"Create what is missing, and give it to your senders and programs:\n%s\n"+
		"or listen on this machine alone, with --listen %s", s.listen, strings.Join(missing, "\n"), defaultListen)
}

// logOf returns the log. A server on loopback belongs to a person trying it
// out, even where the output goes through go run or into a file.
func logOf(cmd *cli.Command, loopback bool) (log *slog.Logger, text bool, err error) {
	out := cmd.Root().ErrWriter
	var level slog.Level
	if err := level.UnmarshalText([]byte(cmd.String("log-level"))); err != nil {
		return nil, false, badUsage("--log-level %q is none of debug, info, warn, error", cmd.String("log-level"))
	}
	options := &slog.HandlerOptions{Level: level}
	switch cmd.String("log-format") {
	case "text":
		text = true
	case "":
		file, ok := out.(*os.File)
		text = loopback || ok && isatty.IsTerminal(file.Fd())
	case "json":
	default:
		return nil, false, badUsage("--log-format %q is none of text, json", cmd.String("log-format"))
	}
	if text {
		return slog.New(slog.NewTextHandler(out, options)), true, nil
	}
	return slog.New(slog.NewJSONHandler(out, options)), false, nil
}

// baseOf returns an address as a person asks for it.
func baseOf(at net.Addr) string {
	if addr, ok := at.(*net.TCPAddr); ok && addr.IP.IsUnspecified() {
		return fmt.Sprintf("http://localhost:%d", addr.Port)
	}
	return "http://" + at.String()
}

// announce says where the server is. A person is told what to do next as well;
// a machine gets one line of its log.
func (s settings) announce(w io.Writer, at net.Addr, db backend) {
	base := baseOf(at)
	if !s.text {
		mode := "mirror: what it does not receive it does not know; runcounter import tells it"
		if db.source {
			mode = "source: the runs are the table's, webhooks are hints to look"
		}
		s.log.Info("listening", "address", at.String(), "url", base, "database", db.where, "mode", mode)
	} else if _, err := io.WriteString(w, s.welcome(base, db)); err != nil {
		return // the log goes to the same place, which has no reader either
	}
	if db.direct {
		s.log.Warn(noMigrations)
	}
	if s.secrets.IsZero() {
		s.log.Warn("no webhook secret is set: any process on this machine can change the counts; set RUNCOUNTER_WEBHOOK_SECRET")
	}
	if len(s.keys) == 0 {
		s.log.Warn("no API key is set: any process on this machine can read and change runs; set RUNCOUNTER_API_KEY")
	}
}

// noMigrations is what a source without our migrations lacks.
const noMigrations = "the database has no migrations of Run Counter, so it works by direct queries: counts are counted each time, " +
	"and nothing keeps the first outcome but our own calls; run runcounter migrate up"

// everySecond returns a function that asks at most once a second, and answers
// with the last answer in between.
func everySecond(ask func() []string) func() []string {
	var mu sync.Mutex
	var asked time.Time
	var told []string
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		if asked.IsZero() || time.Since(asked) >= time.Second {
			told, asked = ask(), time.Now()
		}
		return told
	}
}

// directText says so for as long as it is true. A database that says nothing says
// nothing of it, and keeps no one waiting who asks whether the server is ready.
func directText(ctx context.Context, db database) []string {
	installer, ok := db.(interface {
		Installed(ctx context.Context) (bool, error)
	})
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if installed, err := installer.Installed(ctx); err != nil || installed {
		return nil
	}
	return []string{strings.ToUpper(noMigrations[:1]) + noMigrations[1:] + "."}
}
