package problem

import (
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
)

// sampleLines is the time in which a reason has one line in the log.
const sampleLines = 10 * time.Second

// Recorder logs and counts the requests that are refused. A stranger can cause any
// number of them, and must not fill a disk: of each reason it writes at most one
// line in ten seconds, and the number of those that it left out since into the
// next. A reason is ours, never the sender's, so that their number is bounded.
type Recorder struct {
	log     *slog.Logger
	now     func() time.Time
	refused *prometheus.CounterVec

	mu   sync.Mutex
	seen map[string]sampled
}

type sampled struct {
	at      time.Time // of the last line
	left    int       // out since
	message string
}

// The doors of requests, which label what was refused.
const (
	doorWebhook     = "webhook"
	doorStream      = "stream"
	doorDeadLetters = "dead_letters"
	doorAPI         = "api"
	doorHealth      = "health"
	doorConsole     = "console"
)

// NewRecorder returns a recorder whose count is registered.
func NewRecorder(log *slog.Logger, now func() time.Time, metrics prometheus.Registerer) *Recorder {
	r := &Recorder{log: log, now: now, seen: map[string]sampled{}, refused: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "runcounter", Name: "refused_requests_total",
		Help: "Requests that were refused for who sent them or for want of a place, by where they went and the status of the answer.",
	}, []string{"door", "status"})}
	// Each series is there from the start: Prometheus sees no increase in one that
	// begins with its first event.
	for _, door := range [...]string{doorWebhook, doorStream, doorDeadLetters, doorAPI, doorHealth, doorConsole} {
		for _, status := range [...]string{"401", "403", "429", "503"} {
			r.refused.WithLabelValues(door, status)
		}
	}
	metrics.MustRegister(r.refused)
	return r
}

// Record returns the problem of an error and logs it once: as an error where the
// fault is ours, as a warning where an operator may have to do something about it.
func (r *Recorder) Record(c *fiber.Ctx, err error) *Problem {
	p := Of(err)
	door, status := doorOf(c.Path()), strconv.Itoa(p.Status)
	switch p.Status {
	case fiber.StatusInternalServerError:
		r.log.Error("a request failed", "request", answer.RequestID(c), "method", c.Method(), "route", c.Route().Path, "error", err)
	case fiber.StatusServiceUnavailable, fiber.StatusUnauthorized:
		r.refused.WithLabelValues(door, status).Inc()
		r.Warn(door+" "+status, "a request was refused", "request", answer.RequestID(c), "method", c.Method(), "route", c.Route().Path, "status", p.Status, "error", err)
	case fiber.StatusForbidden, fiber.StatusTooManyRequests:
		r.refused.WithLabelValues(door, status).Inc()
	}
	return p
}

// SignInRefused records that a key was wrong with which a client tried to sign in to
// the console.
func (r *Recorder) SignInRefused(c *fiber.Ctx, client string) {
	r.refused.WithLabelValues(doorConsole, strconv.Itoa(fiber.StatusUnauthorized)).Inc()
	r.Warn("sign-in", "a sign-in to the console was refused", "request", answer.RequestID(c), "client", client)
}

// doorOf names where a path leads: one of a few, whatever a sender chooses.
func doorOf(path string) string {
	switch {
	case strings.HasPrefix(path, "/webhooks/"), strings.HasPrefix(path, "/functions/"):
		return doorWebhook
	case strings.HasPrefix(path, "/v1/counts/stream"):
		return doorStream
	case strings.HasPrefix(path, "/v1/dead-letters"):
		return doorDeadLetters
	case strings.HasPrefix(path, "/v1"):
		return doorAPI
	case strings.HasPrefix(path, "/metrics"), strings.HasPrefix(path, "/readyz"):
		return doorHealth
	}
	return doorConsole
}

// Warn writes a warning, or counts it where its reason has had a line lately.
func (r *Recorder) Warn(reason, message string, args ...any) {
	now := r.now()
	r.mu.Lock()
	last, known := r.seen[reason]
	if age := now.Sub(last.at); known && age >= 0 && age < sampleLines {
		last.left++
		r.seen[reason] = last
		r.mu.Unlock()
		return
	}
	r.seen[reason] = sampled{at: now, message: message}
	r.mu.Unlock()
	if last.left > 0 {
		args = append(args, "left_out", last.left)
	}
	r.log.Warn(message, args...)
}

// Flush writes how many lines were left out and have not been told yet.
func (r *Recorder) Flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for reason, last := range r.seen {
		if last.left > 0 {
			r.log.Warn(last.message, "reason", reason, "left_out", last.left)
		}
		delete(r.seen, reason)
	}
}
