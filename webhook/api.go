package webhook

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
)

// The lengths, in bytes, of what the API keeps of a caller's words.
const (
	maxIdempotencyKey = 255
	maxReason         = 1000
)

// apiKeys are the hashes of the keys, so that comparing one takes as long
// whatever its length.
type apiKeys struct {
	sums [][sha256.Size]byte
}

func newAPIKeys(keys []string) apiKeys {
	var k apiKeys
	for _, key := range keys {
		k.sums = append(k.sums, sha256.Sum256([]byte(key)))
	}
	return k
}

func (k apiKeys) has(key string) bool {
	sum, found := sha256.Sum256([]byte(key)), 0
	for _, s := range k.sums {
		found |= subtle.ConstantTimeCompare(s[:], sum[:])
	}
	return found == 1
}

// admit lets in who brings an API key, and where there are none, who is on
// this machine.
func (s *Server) admit(c *fiber.Ctx) error {
	c.Set(fiber.HeaderCacheControl, "no-store")
	key, ok := bearerOf(c.Get(fiber.HeaderAuthorization))
	if s.cfg.Users != nil && ok && looksSigned(key) && !s.keys.has(key) {
		return s.admitUser(c, key)
	}
	if len(s.keys.sums) == 0 {
		if err := fromHere(c); err != nil {
			return err
		}
		guestOf(c).has(trusted)
		return c.Next()
	}
	switch {
	case key == "" || !ok:
		return newProblem(fiber.StatusUnauthorized, `The API needs a key: send the header "Authorization: Bearer <key>" with one of RUNCOUNTER_API_KEY.`)
	case !s.keys.has(key):
		return newProblem(fiber.StatusUnauthorized, "The key is none of those configured here: compare it with RUNCOUNTER_API_KEY.")
	}
	guestOf(c).has(trusted)
	return c.Next()
}

// fromHere refuses a request to an open server on loopback that a web page
// made: by a name of its own that it pointed to 127.0.0.1 (DNS rebinding), or
// from another site.
func fromHere(c *fiber.Ctx) error {
	if !loopback(string(c.Request().Header.Host())) {
		return newProblem(fiber.StatusForbidden, "Without a secret this server answers to loopback names alone: ask for http://127.0.0.1 or http://localhost, or configure a secret.")
	}
	if origin := c.Get(fiber.HeaderOrigin); origin != "" {
		if u, err := url.Parse(origin); err != nil || !loopback(u.Host) {
			return newProblem(fiber.StatusForbidden, "Without a secret this server refuses requests from web pages of other sites. Configure a secret.")
		}
	}
	return nil
}

// loopback reports whether host, with or without a port, names this machine.
func loopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

// run is a run as the API shows it.
type run struct {
	ID           store.ID     `json:"id"`
	User         store.ID     `json:"user_id"`
	Workflow     store.ID     `json:"workflow_id"`
	Draft        store.ID     `json:"draft_id"`
	Status       store.Status `json:"status"`
	CreatedAt    instant      `json:"created_at"`
	StartedAt    instant      `json:"started_at"`
	CompletedAt  instant      `json:"completed_at"`
	UpdatedAt    instant      `json:"updated_at"`
	DurationMS   store.Millis `json:"duration_ms"`
	ErrorDetails store.JSON   `json:"error_details"`
	Snapshot     store.JSON   `json:"state_snapshot"`
	Presumed     bool         `json:"presumed"`
	Counted      bool         `json:"counted"`
}

func runOf(r store.Run) run {
	return run{
		r.ID, r.User, r.Workflow, r.Draft, r.Status,
		instant(r.CreatedAt), instant(r.StartedAt), instant(r.CompletedAt), instant(r.UpdatedAt),
		r.DurationMS, r.ErrorDetails, r.Snapshot, r.Presumed, r.Counted,
	}
}

// getRun answers GET /v1/runs/{id}.
func (s *Server) getRun(c *fiber.Ctx) error {
	id, err := pathID(c, "id", "id of the run")
	if err != nil {
		return err
	}
	return s.withRun(c, func(ctx context.Context) (store.Run, error) { return s.cfg.Store.Run(ctx, id) })
}

// withRun answers with the run that a call of the store returns.
func (s *Server) withRun(c *fiber.Ctx, call func(context.Context) (store.Run, error)) error {
	var r store.Run
	err := s.tries(c.UserContext(), func(ctx context.Context) (err error) {
		r, err = call(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(c, fiber.StatusOK, runOf(r))
}

// beginRun answers POST /v1/runs.
func (s *Server) beginRun(c *fiber.Ctx, f *fields) error {
	b := store.Begin{
		ID: f.id("id"), User: f.id("user_id"), Workflow: f.id("workflow_id"), Draft: f.id("draft_id"),
		Limit: f.number("limit"), IdempotencyKey: f.line("idempotency_key", maxIdempotencyKey),
		Now: store.Instant(s.cfg.Now()),
	}
	// The header is only valid inside the handler, the key may outlive it.
	if header := f.short("The header Idempotency-Key", strings.Clone(c.Get("Idempotency-Key")), maxIdempotencyKey); header != "" {
		if b.IdempotencyKey != "" && b.IdempotencyKey != header {
			f.fail("The header Idempotency-Key and the field idempotency_key differ. Send one of them.")
		}
		b.IdempotencyKey = header
	}
	var no error
	if b.User, b.Workflow, no = s.cfg.Decoder.complete(b.User, b.Workflow, b.Draft); f.err == nil && no != nil {
		f.err = no
	}
	if b.User.IsZero() {
		f.lacksID("user_id")
	}
	if f.err == nil && b.Key().IsZero() {
		f.fail("Say what runs: send workflow_id or draft_id.")
	}
	if f.err != nil {
		return f.err
	}
	drawn := b.ID.IsZero()
	if drawn {
		b.ID, b.AnyID = store.NewID(), true
	}
	var begun store.BeginResult
	err := s.tries(c.UserContext(), func(ctx context.Context) (err error) {
		begun, err = s.cfg.Store.Begin(ctx, b)
		return err
	})
	if err != nil {
		return err
	}
	if begun.LimitReached {
		return limitReached(begun, *b.Limit)
	}
	// A try whose commit got lost on its way back created it, too.
	created := begun.Created || drawn && begun.Run.ID == b.ID
	c.Location("/v1/runs/" + url.PathEscape(begun.Run.ID.String()))
	return writeJSON(c, fiber.StatusCreated, struct {
		run
		Created bool `json:"created"`
	}{runOf(begun.Run), created})
}

func limitReached(b store.BeginResult, limit int64) error {
	p := newProblem(fiber.StatusConflict, fmt.Sprintf("Limit reached (%d): %d counted, %d active. "+
		"Nothing was created; try again when an active run has ended without counting, or with a higher limit.", limit, b.Counted, b.Active))
	p.Code, p.Count, p.Active, p.Limit = "limit_reached", &b.Counted, &b.Active, &limit
	return p
}

// startRun answers POST /v1/runs/{id}/start.
func (s *Server) startRun(c *fiber.Ctx, _ *fields) error {
	id, err := pathID(c, "id", "id of the run")
	if err != nil {
		return err
	}
	now := store.Instant(s.cfg.Now())
	return s.withRun(c, func(ctx context.Context) (store.Run, error) { return s.cfg.Store.Start(ctx, id, now) })
}

// completeRun answers POST /v1/runs/{id}/complete, with 200 whether the call
// won or lost.
func (s *Server) completeRun(c *fiber.Ctx, f *fields) error {
	id, err := pathID(c, "id", "id of the run")
	if err != nil {
		return err
	}
	completion := store.Completion{ID: id, Now: store.Instant(s.cfg.Now()), Outcome: store.Outcome{
		Status:       f.status("status", store.Status.Terminal, "completed, failed, cancelled, timeout"),
		ErrorDetails: f.json("error_details"),
		Snapshot:     f.json("state_snapshot"),
	}}
	if ms := f.number("duration_ms"); ms != nil {
		completion.Outcome.DurationMS = store.MillisOf(*ms)
	}
	if f.err != nil {
		return f.err
	}
	var result store.CompleteResult
	err = s.tries(c.UserContext(), func(ctx context.Context) (err error) {
		result, err = s.cfg.Store.Complete(ctx, completion)
		return err
	})
	if err != nil {
		return err
	}
	return writeJSON(c, fiber.StatusOK, struct {
		Won         bool         `json:"won"`
		Status      store.Status `json:"status"`
		CompletedAt instant      `json:"completed_at"`
		Count       int64        `json:"count"`
	}{result.Won, result.Run.Status, instant(result.Run.CompletedAt), result.Count.Count})
}

// amendRun answers POST /v1/runs/{id}/amend.
func (s *Server) amendRun(c *fiber.Ctx, f *fields) error {
	id, err := pathID(c, "id", "id of the run")
	if err != nil {
		return err
	}
	a := store.AmendRequest{
		ID: id, Now: store.Instant(s.cfg.Now()),
		Status: f.status("status", store.Status.Known, "pending, running, cancelling, completed, failed, cancelled, timeout"),
		Who:    f.line("who", maxReason),
		Why:    f.line("reason", maxReason),
	}
	switch {
	case f.err != nil:
		return f.err
	case a.Who == "" || a.Why == "":
		return newProblem(fiber.StatusBadRequest, "An amendment is logged with who decided and why: send both who and reason.")
	}
	return s.withRun(c, func(ctx context.Context) (store.Run, error) { return s.cfg.Store.Amend(ctx, a) })
}
