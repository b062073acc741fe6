package webhook

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/edgaze-ai/runcounter/store"
)

var (
	// errBusy: there was no room within the time that a request may wait.
	errBusy = errors.New("too many requests at once")
	// errClosing: the server shuts down, and what was asked is not committed.
	errClosing = errors.New("the server shuts down")
)

// problem is an error as the sender meets it (RFC 9457).
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	// Code names what a program may want to tell apart.
	Code string `json:"code,omitempty"`
	// Why a limit was reached.
	Count  *int64 `json:"count,omitempty"`
	Active *int64 `json:"active,omitempty"`
	Limit  *int64 `json:"limit,omitempty"`
	// Which changes of an array can't be read, where none can.
	Refused []refusedChange `json:"refused,omitempty"`

	cause error
}

func newProblem(status int, detail string) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail}
}

func (p *problem) because(err error) *problem { p.cause = err; return p }

func (p *problem) Error() string { return p.Detail }

func (p *problem) Unwrap() error { return p.cause }

// problemOf is the one place where errors become HTTP.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if bad, ok := errors.AsType[*BadDelivery](err); ok {
		return newProblem(fiber.StatusBadRequest, bad.told())
	}
	if stranger, ok := errors.AsType[*Unauthenticated](err); ok {
		return newProblem(fiber.StatusUnauthorized, stranger.Error())
	}
	if part, ok := errors.AsType[*NotWhole](err); ok {
		p := newProblem(fiber.StatusConflict, "Of this dead letter "+part.Error()+".")
		p.Code = "not_whole"
		return p
	}
	if own, ok := errors.AsType[*fiber.Error](err); ok {
		return newProblem(own.Code, detailOf(own.Code))
	}
	if trouble, ok := errors.AsType[*store.StorageFault](err); ok {
		return newProblem(fiber.StatusServiceUnavailable, trouble.What+" Send the request again after the time in Retry-After; repeating it is safe.")
	}
	if missing, ok := errors.AsType[*store.NoWord](err); ok {
		return newProblem(fiber.StatusBadRequest, strings.ToUpper(missing.Error()[:1])+missing.Error()[1:]+".")
	}
	switch {
	case errors.Is(err, ErrNoLetter):
		return newProblem(fiber.StatusNotFound, "There is no such dead letter: it was replayed or dropped, or newer ones took its place. GET /v1/dead-letters lists those that are there.")
	case errors.Is(err, ErrTooManyChanges):
		return newProblem(fiber.StatusRequestEntityTooLarge, ErrTooManyChanges.Error())
	case errors.Is(err, ErrTooMuch):
		return newProblem(fiber.StatusRequestEntityTooLarge, ErrTooMuch.Error())
	case errors.Is(err, errBusy):
		return newProblem(fiber.StatusServiceUnavailable, "Too many requests are under way. Nothing of this one was used; send it again after the time in Retry-After.")
	case errors.Is(err, errClosing):
		return newProblem(fiber.StatusServiceUnavailable, "The server is shutting down. Send the request again after the time in Retry-After.")
	case errors.Is(err, store.ErrUnavailable):
		return newProblem(fiber.StatusServiceUnavailable, "The database is not available. Send the request again after the time in Retry-After; repeating it is safe.")
	case errors.Is(err, store.ErrNotFound):
		return newProblem(fiber.StatusNotFound, "There is no such run, or it was deleted. Check the id.")
	case errors.Is(err, store.ErrConflict):
		p := newProblem(fiber.StatusConflict, "The id or the idempotency key belongs to a run of another user, workflow or draft, or to a deleted one. Use a new one.")
		p.Code = "conflict"
		return p
	case errors.Is(err, store.ErrInvalid):
		return newProblem(fiber.StatusBadRequest, "The request can't be carried out as it stands. Check its ids, its status, and that nothing is missing.")
	}
	return newProblem(fiber.StatusInternalServerError, "Something failed here that should not have. Send the request again; "+
		"if that doesn't help, look for the X-Request-Id of this answer in the server's log.")
}

// detailOf is what to do about the errors that the HTTP server itself finds.
func detailOf(status int) string {
	switch status {
	case fiber.StatusNotFound:
		return "There is nothing at this address. Webhooks go to POST /webhooks/workflow-runs, and the API is below /v1."
	case fiber.StatusMethodNotAllowed:
		return "This address does not take this method; the header Allow of this answer names those that it takes."
	case fiber.StatusRequestHeaderFieldsTooLarge:
		return "The head of the request is larger than 16 KiB. Send fewer or shorter headers."
	case fiber.StatusRequestTimeout:
		return "The request arrived too slowly and was cut off. Send it again."
	}
	return "The request is not well-formed HTTP. Check its first line, its headers and its framing."
}

// refuse answers with an error, and logs it once: as an error where the fault
// is ours, as a warning where an operator may have to do something about it. A
// stranger can cause any number of these, so they are counted, and sampled.
func (s *Server) refuse(c *fiber.Ctx, err error) error {
	p := problemOf(err)
	s.logRefused(c, p, err)
	writeProblem(c.Response(), p)
	return nil
}

func (s *Server) logRefused(c *fiber.Ctx, p *problem, err error) {
	switch p.Status {
	case fiber.StatusInternalServerError:
		s.cfg.Log.Error("a request failed", "request", requestID(c), "method", c.Method(), "route", c.Route().Path, "error", err)
	case fiber.StatusServiceUnavailable, fiber.StatusUnauthorized:
		door, status := doorOf(c.Path()), strconv.Itoa(p.Status)
		s.metrics.refused.WithLabelValues(door, status).Inc()
		s.sample.warn(door+" "+status, "a request was refused", "request", requestID(c), "method", c.Method(), "route", c.Route().Path, "status", p.Status, "error", err)
	case fiber.StatusForbidden, fiber.StatusTooManyRequests:
		s.metrics.refused.WithLabelValues(doorOf(c.Path()), strconv.Itoa(p.Status)).Inc()
	}
}

// doorOf names where a path leads: one of a few, whatever a sender chooses.
func doorOf(path string) string {
	switch {
	case strings.HasPrefix(path, "/webhooks/"), strings.HasPrefix(path, "/functions/"):
		return "webhook"
	case strings.HasPrefix(path, "/v1/counts/stream"):
		return "stream"
	case strings.HasPrefix(path, "/v1/dead-letters"):
		return "dead_letters"
	case strings.HasPrefix(path, "/v1"):
		return "api"
	case strings.HasPrefix(path, "/metrics"), strings.HasPrefix(path, "/readyz"):
		return "health"
	}
	return "console"
}

func writeProblem(r *fasthttp.Response, p *problem) {
	r.SetStatusCode(p.Status)
	r.Header.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	r.Header.SetContentType("application/problem+json")
	switch p.Status {
	case fiber.StatusUnauthorized:
		r.Header.Set(fiber.HeaderWWWAuthenticate, "Bearer")
	case fiber.StatusServiceUnavailable:
		// Spread, or all that were refused at once come back at once.
		r.Header.Set(fiber.HeaderRetryAfter, strconv.Itoa(1+rand.IntN(5)))
	case fiber.StatusRequestTimeout:
		r.SetConnectionClose() // the rest of the body may still come
	}
	r.SetBodyRaw(encode(p))
}
