// Package problem says errors over HTTP, as documents of RFC 9457, and logs and
// counts the requests that are refused. It is the ground floor of webhook: all rooms
// answer their errors through it, and it imports store and webhook/internal/answer.
// Begin reading at [Of].
package problem

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
)

var (
	// ErrBusy means that no slot was free within the time that a request may wait.
	ErrBusy = errors.New("too many requests at once")
	// ErrClosing means that the server shuts down, and what was asked is not
	// committed.
	ErrClosing = errors.New("the server shuts down")
)

// NoGrant returns the problem of a grant that is not there.
func NoGrant() *Problem {
	return New(fiber.StatusNotFound, "There is no such grant. GET /v1/grants lists them.")
}

// OtherGrant returns the problem of an idempotency key that another grant has.
func OtherGrant() *Problem {
	return conflict("The idempotency key belongs to a grant of this user that differs in its runs, its workflow, its end, who or why. Use a new one.")
}

// UnknownGrant returns the problem of a grant without an idempotency key of which the
// database did not say whether it was made: to repeat it may grant the runs twice.
func UnknownGrant() *Problem {
	return New(fiber.StatusServiceUnavailable, "It is not known whether the runs were granted: look at GET /v1/grants, and send an idempotency_key, with which a request may be repeated.")
}

func conflict(detail string) *Problem {
	p := New(fiber.StatusConflict, detail)
	p.Code = "conflict"
	return p
}

// Problem is an error as the sender meets it (RFC 9457).
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title" doc:"The status in words."`
	Status int    `json:"status" doc:"The status of the answer."`
	Detail string `json:"detail" doc:"A sentence that says what is wrong and what to do."`
	Code   string `json:"code,omitempty" doc:"What a program may want to tell apart: limit_reached, conflict, not_unique, not_whole or no_index."`
	// Why a limit was reached: of the first that leaves no slot, and of all that were
	// asked for.
	Count  *int64  `json:"count,omitempty" doc:"Of limit_reached: runs that count towards the first limit that leaves no slot."`
	Active *int64  `json:"active,omitempty" doc:"Of limit_reached: runs under that limit that have not ended; each takes a slot."`
	Limit  *int64  `json:"limit,omitempty" doc:"Of limit_reached: that limit as it was sent."`
	Limits []Usage `json:"limits,omitempty" doc:"Of limit_reached: how far each limit is used."`

	Refused []RefusedChange `json:"refused,omitempty" doc:"Of a delivery none of whose changes can be read: each of them."`

	cause error
}

// New returns the problem of a status and a sentence that says what to do.
func New(status int, detail string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail}
}

// Refused returns the problem of a request that a rule of package store refuses, in
// the words of its error. The error must not be a database's, whose words are not for
// a caller.
func Refused(err error) *Problem {
	text := strings.TrimPrefix(err.Error(), store.ErrInvalid.Error()+": ")
	return New(fiber.StatusBadRequest, strings.ToUpper(text[:1])+text[1:]+".")
}

// Because sets the error behind a problem, for the log.
func (p *Problem) Because(err error) *Problem { p.cause = err; return p }

// Error returns the sentence.
func (p *Problem) Error() string { return p.Detail }

// Unwrap returns the error behind it.
func (p *Problem) Unwrap() error { return p.cause }

// Problem implements the interface of errors that say what they are over HTTP.
func (p *Problem) Problem() *Problem { return p }

// RefusedChange is a change of a delivery that can't be read.
type RefusedChange struct {
	Change int    `json:"change" doc:"Which of the request's changes, from 0."`
	Reason string `json:"reason" doc:"What is wrong with it and what to send, without the value."`
}

// Of is the one place where errors become HTTP. An error of a room above says by a
// method Problem what it is; those of the store and of Fiber are told here, and
// all others are faults of ours.
func Of(err error) *Problem {
	var own interface{ Problem() *Problem }
	if errors.As(err, &own) {
		return own.Problem()
	}
	if http, ok := errors.AsType[*fiber.Error](err); ok {
		return New(http.Code, detailOf(http.Code))
	}
	if trouble, ok := errors.AsType[*store.StorageFault](err); ok {
		return New(fiber.StatusServiceUnavailable, trouble.What+" Send the request again after the time in Retry-After; repeating it is safe.")
	}
	if missing, ok := errors.AsType[*store.UnmappedStatusError](err); ok {
		return Refused(missing)
	}
	if missing, ok := errors.AsType[*store.NoIndexError](err); ok {
		p := Refused(missing)
		p.Code = "no_index"
		return p
	}
	if refused, ok := errors.AsType[*store.RequestError](err); ok {
		return Refused(refused)
	}
	if constraint, ok := errors.AsType[*store.ConstraintError](err); ok {
		p := Refused(constraint)
		if constraint.Unique {
			p.Title, p.Status, p.Code = http.StatusText(fiber.StatusConflict), fiber.StatusConflict, "not_unique"
		}
		return p
	}
	switch {
	case errors.Is(err, ErrBusy):
		return New(fiber.StatusServiceUnavailable, "Too many requests are under way. Nothing of this one was used; send it again after the time in Retry-After.")
	case errors.Is(err, ErrClosing):
		return New(fiber.StatusServiceUnavailable, "The server is shutting down. Send the request again after the time in Retry-After.")
	case errors.Is(err, store.ErrUnavailable):
		return New(fiber.StatusServiceUnavailable, "The database is not available. Send the request again after the time in Retry-After; repeating it is safe.")
	case errors.Is(err, store.ErrNotFound):
		return New(fiber.StatusNotFound, "There is no such run, or it was deleted. Check the id.")
	case errors.Is(err, store.ErrConflict):
		return conflict("The id or the idempotency key belongs to a run of another user, workflow or draft, or to a deleted one. Use a new one.")
	case errors.Is(err, store.ErrInvalid):
		return New(fiber.StatusBadRequest, "The request can't be carried out as it stands. Check its ids, its status, and that nothing is missing.")
	}
	return New(fiber.StatusInternalServerError, "Something failed here that should not have. Send the request again; "+
		"if that doesn't help, look for the X-Request-Id of this answer in the server's log.")
}

// detailOf says what to do about the errors that the HTTP server itself finds.
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

// Write answers with a problem.
func Write(r *fasthttp.Response, p *Problem) {
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
	r.SetBodyRaw(answer.Encode(p))
}
