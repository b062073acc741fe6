// Package notify tells operators, by a webhook of Standard Webhooks form, when what
// doctor finds turns, and when a user has used a share of a limit.
//
// What is to be told stands in the database until it is sent, so any number of instances
// tell it once, and a restart loses nothing. Nothing waits for it: it has goroutines and
// connections of its own.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/internal/metric"
)

// Box is the part of a backend that a [Notifier] needs.
type Box interface {
	store.NoticeBox

	// NearLimits is that of [store.Reader].
	NearLimits(ctx context.Context, now time.Time, limit int) ([]store.NearLimit, error)
}

// Settings are the part of a [Config] that the program sets.
type Settings struct {
	URL     string   // that is told
	Secrets []string // whsec_…; each signs, so that a receiver can change from one to the next
	Share   int      // of a limit, in percent, from [store.NearShare] to 100
	Where   string   // names the database; no password
	// Examine is doctor.
	Examine func(ctx context.Context) (report.Report, error)
}

// Validate refuses settings by which nothing could be told. The error holds neither the
// URL, whose path may be a secret, nor the secrets.
func (s Settings) Validate() error {
	u, err := url.Parse(s.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return errors.New("the URL to notify can't be read: write it whole, such as https://hooks.example.com/runcounter")
	}
	if len(s.Secrets) == 0 {
		return errors.New("a notification is signed, and there is no secret for it: set RUNCOUNTER_NOTIFY_SECRET to whsec_ and base64, as echo whsec_$(openssl rand -base64 32) makes it")
	}
	for _, secret := range s.Secrets {
		if _, err := webhook.Sign(secret, "", time.Time{}, nil); err != nil {
			return fmt.Errorf("RUNCOUNTER_NOTIFY_SECRET: %w", err)
		}
	}
	if s.Share < store.NearShare || s.Share > 100 {
		return fmt.Errorf("the share of a limit that is told is %d to 100 percent, and not %d: limits are marked from %d on", store.NearShare, s.Share, store.NearShare)
	}
	return nil
}

// SplitSecrets reads a comma-separated list.
func SplitSecrets(list string) (secrets []string) {
	for secret := range strings.SplitSeq(list, ",") {
		if secret = strings.TrimSpace(secret); secret != "" {
			secrets = append(secrets, secret)
		}
	}
	return secrets
}

// Config configures a [Notifier].
type Config struct {
	Settings
	Box     Box
	Now     func() time.Time
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// The paces of a notifier.
const (
	lookEvery = time.Minute
	sendEvery = 5 * time.Second
	// lookFor bounds one look, and sendFor one try to send.
	lookFor = 45 * time.Second
	sendFor = 10 * time.Second
	// lease is the time after which another instance sends what one has taken.
	lease = time.Minute
	// maxNear is the number of limits that a look tells of, the latest ones.
	maxNear = 250
)

// backoff are the pauses behind the tries. A notice that fails once more is given up,
// most of a day after the first.
var backoff = [...]time.Duration{
	5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour,
}

// Notifier tells operators. Make one with [New].
type Notifier struct {
	cfg    Config
	client *http.Client
	ended  *prometheus.CounterVec
	wake   chan struct{} // something may be due

	// Of looks, which are one at a time.
	known  store.Notice    // of doctor, when the database was read last
	missed int             // looks since then
	told   bool            // this time, the database's silence
	seen   map[string]bool // ids of near limits that are kept
	wrong  string          // what looks have complained of

	mu   sync.Mutex
	own  store.Notice // that can't be kept in the database
	next time.Time    // when it is tried; zero where it was sent or given up
}

// New returns a notifier that does nothing before Run. Its settings are valid.
func New(cfg Config) *Notifier {
	n := &Notifier{
		cfg: cfg, wake: make(chan struct{}, 1), seen: map[string]bool{},
		client: &http.Client{
			Timeout: sendFor,
			// A receiver that moved is told to the operator: the signature is for the one that was named.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		ended: metric.CounterBy("notices_total", "Notices to operators, by how a try to send one ended.", "result", "sent", "retried", "given_up"),
	}
	cfg.Metrics.MustRegister(n.ended)
	return n
}

// Run looks and sends until the context ends. What it is sending then is sent again by
// another instance, or after the next start.
func (n *Notifier) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { every(ctx, lookEvery, nil, n.look) })
	running.Go(func() { every(ctx, sendEvery, n.wake, n.send) })
	running.Wait()
}

// every does something now, and again after each pause or where it is woken.
func every(ctx context.Context, pause time.Duration, wake <-chan struct{}, do func(ctx context.Context)) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for ctx.Err() == nil {
		do(ctx)
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-wake:
		}
	}
}

func (n *Notifier) rouse() {
	select {
	case n.wake <- struct{}{}:
	default: // it is awake
	}
}
