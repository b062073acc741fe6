package server

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/edgaze-ai/runcounter/internal/wait"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/api"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

// failing is a store each call of which fails.
type failing struct {
	Store
	err error
}

func (f failing) Begin(context.Context, store.Begin) (store.BeginResult, error) {
	return store.BeginResult{}, f.err
}

func (f failing) Start(context.Context, store.ID, time.Time) (store.Run, error) {
	return store.Run{}, f.err
}

func (f failing) Complete(context.Context, store.Completion) (store.CompleteResult, error) {
	return store.CompleteResult{}, f.err
}

func (f failing) Amend(context.Context, store.AmendRequest) (store.Run, error) {
	return store.Run{}, f.err
}

func (f failing) Apply(context.Context, []store.Change, time.Time) ([]store.ApplyResult, error) {
	return nil, f.err
}

func (f failing) Count(context.Context, store.Scope, store.Window) (store.Count, error) {
	return store.Count{}, f.err
}

func (f failing) Allowance(context.Context, store.AllowanceRequest) ([]store.Usage, error) {
	return nil, f.err
}
func (f failing) Run(context.Context, store.ID) (store.Run, error) { return store.Run{}, f.err }

func (f failing) SearchCounts(context.Context, store.CountQuery) ([]store.Count, error) {
	return nil, f.err
}

// failingLetters can't be listed or dropped.
type failingLetters struct{ err error }

func (f failingLetters) DeadLetters(context.Context, store.DeadLetterQuery) ([]store.DeadLetter, error) {
	return nil, f.err
}

func (f failingLetters) DropDeadLetters(context.Context, store.DeadLetterQuery) (int, error) {
	return 0, f.err
}

// failingGrants can't be given, revoked or listed.
type failingGrants struct{ err error }

func (f failingGrants) Grant(context.Context, store.GrantRequest) (store.GrantResult, error) {
	return store.GrantResult{}, f.err
}

func (f failingGrants) RevokeGrant(context.Context, store.RevokeRequest) (store.Grant, error) {
	return store.Grant{}, f.err
}

func (f failingGrants) Grants(context.Context, store.GrantQuery) ([]store.Grant, error) {
	return nil, f.err
}

// circumstances are servers that answer each in another way.
type circumstances struct {
	t           *testing.T
	works       *rig
	small       *rig // takes short bodies alone, and those at once
	unavailable *rig
	conflicting *rig
	bare        *rig // without streams and dead letters
	closed      *rig // without secrets and keys
	user        string
}

func newCircumstances(t *testing.T) *circumstances {
	t.Helper()
	refusing := func(err error, letters bool) *rig {
		return serve(t, func(cfg *Config, _ *limits, g *gated) {
			g.Store, cfg.Grants = failing{g.Store, err}, failingGrants{err}
			if letters {
				cfg.Letters = failingLetters{err}
			}
		})
	}
	c := &circumstances{
		t: t, works: withUsers(t, nil, users.Config{Secret: legacy}, nil),
		small: serve(t, func(_ *Config, l *limits, _ *gated) {
			l.body, l.api, l.time.Stall = 100, 100, 50*time.Millisecond
		}),
		unavailable: refusing(store.ErrUnavailable, true), conflicting: refusing(&store.ConstraintError{Constraint: "one", Unique: true}, false),
		bare: serve(t, func(cfg *Config, _ *limits, _ *gated) { cfg.Reader, cfg.Letters = nil, nil }),
		closed: serve(t, func(cfg *Config, _ *limits, _ *gated) {
			cfg.Secrets, cfg.APIKeys, cfg.Loopback = webhook.Secrets{}, nil, true
		}),
		user: signed(t, jwt.SigningMethodHS256, []byte(legacy), good("", nil), nil),
	}
	c.unavailable.server.streams.Close() // as while it shuts down
	return c
}

// asked is what an operation is sent. Each is an ordinary one, which is answered with 200
// or 201 where all is well.
type asked struct{ query, body string }

var ordinarily = map[string]asked{
	"getCount":          {"?user_id=" + user + "&workflow_id=" + workflow, ""},
	"streamCounts":      {"?user_id=" + user + "&workflow_id=" + workflow, ""},
	"getUserCounts":     {"?max=10", ""},
	"getAllowance":      {"?user_id=" + user + "&workflow_id=" + workflow + "&limit=9", ""},
	"streamAllowance":   {"?user_id=" + user + "&workflow_id=" + workflow + "&limit=9", ""},
	"grantRuns":         {"", `{"user_id":"` + user + `","workflow_id":"` + workflow + `","runs":5,"who":"ada","why":"refill","expires_at":"2099-01-01T00:00:00Z"}`},
	"listGrants":        {"?user_id=" + user + "&max=10&before=1000", ""},
	"revokeGrant":       {"", `{"who":"ada","why":"a mistake"}`},
	"beginRun":          {"", `{"user_id":"` + user + `","workflow_id":"` + workflow + `","limit":1000}`},
	"getRun":            {},
	"startRun":          {},
	"completeRun":       {"", `{"status":"completed"}`},
	"amendRun":          {"", `{"status":"failed","who":"ada","reason":"refund"}`},
	"listDeadLetters":   {"?reason=nothing&until=2026-11-22T12:00:00Z&before=9&max=10", ""},
	"getDeadLetter":     {},
	"dropDeadLetter":    {},
	"replayDeadLetters": {"", `{"reason":"status","until":"2026-11-23T12:00:00Z"}`},
	"dropDeadLetters":   {"", `{"reason":"nothing"}`},
	"replayDeadLetter":  {},
	"deliver":           {"", completed(1)},
	"deliverToFunction": {"", "[" + completed(2) + "," + completed(3) + "]"},
}

// target is the address of an operation on a server: of a run and a dead letter that
// there are.
func (c *circumstances) target(r *rig, op operation) string {
	target := op.template
	if strings.Contains(target, "{id}") {
		run := c.works.mustBegin("").ID
		target = strings.Replace(target, "{id}", run, 1)
	}
	if op.id == "revokeGrant" && r == c.works {
		made := c.ordinary(r, operation{id: "grantRuns", method: "POST", template: "/v1/grants"})
		target = strings.Replace(target, "{seq}", strconv.FormatInt(decodeJSON[api.MadeGrant](c.t, made.body).Seq, 10), 1)
	}
	if strings.Contains(target, "{seq}") {
		seq := int64(1)
		if r == c.works || r == c.conflicting {
			seq = r.keep(completed(4))
		}
		target = strings.Replace(target, "{seq}", strconv.FormatInt(seq, 10), 1)
	} else if op.id == "replayDeadLetters" && r == c.conflicting {
		r.keep(completed(4))
	}
	return strings.Replace(target, "{user_id}", user, 1)
}

// key is the header by which an operation is let in.
func (op operation) key() string {
	if strings.HasPrefix(op.id, "deliver") {
		return "Authorization: Bearer " + token
	}
	return "Authorization: Bearer " + apiKey
}

// ordinary sends what is usual to a server.
func (c *circumstances) ordinary(r *rig, op operation, headers ...string) reply {
	c.t.Helper()
	a, known := ordinarily[op.id]
	if !known {
		c.t.Fatalf("say in ordinarily what %s is sent", op.id)
	}
	return r.do(op.method, c.target(r, op)+a.query, a.body, append([]string{op.key()}, headers...)...)
}

// meet has an operation answer with a status.
func (c *circumstances) meet(op operation, status int) reply {
	c.t.Helper()
	delivery := strings.HasPrefix(op.id, "deliver")
	bare := strings.NewReplacer("{id}", runID(404), "{seq}", "999", "{user_id}", user).Replace(op.template)
	switch {
	case status < 300 && strings.HasSuffix(op.template, "/stream"):
		e := c.works.streamOf(apiKey, op.template+ordinarily[op.id].query)
		e.next()
		e.body.Close()
		return reply{status: http.StatusOK}
	case status < 300:
		return c.ordinary(c.works, op)
	case status == 400 && op.method == "POST":
		return c.works.do(op.method, c.target(c.works, op), `{"nonsense":1}`, op.key())
	case status == 400 && strings.Contains(op.template, "{"):
		return c.works.do(op.method, strings.NewReplacer("{id}", "%00", "{seq}", "0", "{user_id}", "%00").Replace(op.template), "", op.key())
	case status == 400:
		return c.works.do(op.method, bare+"?nonsense=1", "", op.key())
	case status == 401:
		return c.works.do(op.method, bare, ordinarily[op.id].body)
	case status == 403 && delivery:
		return c.closed.do(op.method, bare, ordinarily[op.id].body, "Host: counter.example.com")
	case status == 403 && len(op.item["security"].([]any)) > 1:
		return c.works.do(op.method, strings.Replace(bare, user, otherUser, 1)+strings.Replace(ordinarily[op.id].query, user, otherUser, 1), "", "Authorization: Bearer "+c.user)
	case status == 403:
		return c.works.do(op.method, bare, "", "Authorization: Bearer "+c.user)
	case status == 404 && strings.Contains(op.template, "{"):
		return c.works.do(op.method, bare, ordinarily[op.id].body, op.key())
	case status == 404:
		return c.ordinary(c.bare, op)
	case status == 408:
		return c.raw(op, bare, "50", "{")
	case status == 409:
		return c.ordinary(c.conflicting, op)
	case status == 413:
		return c.raw(op, bare, "101", "{")
	case status == 415:
		return c.works.do(op.method, bare, `{}`, op.key(), "Content-Type: text/plain")
	case status == 429:
		own := strings.Replace(ordinarily[op.id].query, "user_id="+user+"&", "", 1)
		var all []*events
		for range streamsOfAUser {
			all = append(all, c.works.streamOf(c.user, op.template+own))
			all[len(all)-1].next()
		}
		refused := c.works.do(op.method, bare+own, "", "Authorization: Bearer "+c.user)
		for _, e := range all {
			e.body.Close()
		}
		wait.Until(c.t, "all streams have ended", func() bool { return c.works.server.streams.Open() == 0 })
		return refused
	case status == 503:
		return c.ordinary(c.unavailable, op)
	}
	c.t.Errorf("%s is described with %d: say in meet how it comes to that", op.id, status)
	return reply{status: status}
}

// raw sends a body of which a part is announced alone.
func (c *circumstances) raw(op operation, target, length, body string) reply {
	c.t.Helper()
	got, err := c.small.raw(rawRequest{method: op.method, path: target, auth: strings.TrimPrefix(op.key(), "Authorization: "), length: length, body: body}.String())
	if err != nil {
		c.t.Errorf("%s: %v", op.id, err)
	}
	return got
}

// Each status by which an operation is described is one that it answers: a description
// that promises more misleads as much as one that leaves out something.
func TestEachDescribedStatusIsMet(t *testing.T) {
	c := newCircumstances(t)
	for _, op := range operationsOf(readDescription()) {
		for status := range inside(op.item, "responses") {
			want, err := strconv.Atoi(status)
			if err != nil {
				continue // the default is for faults of ours, and for what is not HTTP
			}
			if got := c.meet(op, want); got.status != want {
				t.Errorf("%s %s: got %d %s, want %d", op.method, op.template, got.status, fmt.Sprintf("%.300s", got.body), want)
			}
		}
	}
}
