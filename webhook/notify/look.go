package notify

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
)

// The states of doctor's subject.
const (
	healthy = "healthy"
	failing = "failing"
)

// Subjects beside [store.DoctorSubject]: that of the look of a minute, which one instance
// has, and of limits.
const (
	lookSubject  = "look"
	limitSubject = "limit "
)

// first is an id that no notice has: a subject turns from it where it has none.
const first = "none"

// silentAfter is the number of looks in which the database must not have answered.
const silentAfter = 3

// look keeps what has turned since the last one. A database that does not answer can't
// say what was told: each instance tells of it by itself, under one id.
func (n *Notifier) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	defer n.rouse()
	standing, err := n.cfg.Box.Notice(ctx, store.DoctorSubject)
	if err == nil {
		standing, err = n.catchUp(ctx, standing)
	}
	if err != nil {
		n.complain(err)
		if errors.Is(err, store.ErrUnavailable) {
			n.silence()
		}
		return
	}
	n.known, n.missed = standing, 0
	mine, err := n.takeLook(ctx)
	if err == nil && mine {
		err = errors.Join(n.verdict(ctx, standing), n.limits(ctx))
	}
	n.complain(err)
}

// complain logs an error once, until it is another.
func (n *Notifier) complain(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != n.wrong {
		n.cfg.Log.Warn("could not look for what to notify operators of", "error", err)
	}
	n.wrong = text
}

// takeLook reports whether this instance looks in this minute.
func (n *Notifier) takeLook(ctx context.Context) (bool, error) {
	now := n.cfg.Now()
	last, err := n.cfg.Box.Notice(ctx, lookSubject)
	// The clocks of instances, and their tickers, differ by a little.
	if since := now.Sub(last.MadeAt); err != nil || since >= 0 && since < lookEvery*3/4 {
		return false, err
	}
	was := last.ID
	if was == "" {
		was = first
	}
	return n.cfg.Box.TurnNotice(ctx, was, store.Notice{Subject: lookSubject, State: "taken", ID: newID(), MadeAt: now}, time.Time{})
}

// verdict asks doctor.
func (n *Notifier) verdict(ctx context.Context, standing store.Notice) error {
	r, err := n.cfg.Examine(ctx)
	if err != nil {
		return err
	}
	state := failing
	if r.Healthy {
		state = healthy
	}
	now := n.cfg.Now()
	switch {
	case standing.State == state:
		return nil
	case standing.ID == "" && state == healthy: // there was nothing to recover from
		_, err = n.cfg.Box.TurnNotice(ctx, first, store.Notice{Subject: store.DoctorSubject, State: state, ID: newID(), MadeAt: now}, time.Time{})
	case standing.ID == "":
		_, err = n.cfg.Box.TurnNotice(ctx, first, n.ofDoctor(newID(), state, r), now)
	default:
		_, err = n.cfg.Box.TurnNotice(ctx, standing.ID, n.ofDoctor(idOf(standing.ID, state), state, r), now)
	}
	return err
}

// silence tells that the database does not answer, once, where doctor last found it
// healthy. The id follows from the last notice, so that a receiver knows those of other
// instances for the same.
func (n *Notifier) silence() {
	n.missed++
	if n.missed < silentAfter || n.told || n.known.State != healthy {
		return
	}
	n.told = true
	found := report.Finding{
		Check: "connection", Status: report.Failure, Text: "the database has not answered for " + strconv.Itoa(silentAfter) + " minutes",
		Fix: "runcounter doctor says why",
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.own = n.ofDoctor(idOf(n.known.ID, failing), failing, report.New(n.cfg.Where, "", []report.Finding{found}))
	n.next = n.cfg.Now()
}

// catchUp keeps what was told while the database was silent. The next verdict turns from
// there.
func (n *Notifier) catchUp(ctx context.Context, standing store.Notice) (store.Notice, error) {
	if !n.told {
		return standing, nil
	}
	n.mu.Lock()
	own, due := n.own, n.next
	n.mu.Unlock()
	if _, err := n.cfg.Box.TurnNotice(ctx, n.known.ID, own, due); err != nil {
		return standing, err
	}
	n.told = false
	n.mu.Lock()
	n.next = time.Time{} // from here on the database has it
	n.mu.Unlock()
	return n.cfg.Box.Notice(ctx, store.DoctorSubject)
}

// limits keeps which limits are used up to the share. One is told once for each number
// and each day on which its period begins: the period of a window that moves with the
// time begins anew with each run.
func (n *Notifier) limits(ctx context.Context) error {
	now := n.cfg.Now()
	near, err := n.cfg.Box.NearLimits(ctx, now, maxNear)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, l := range near {
		u := l.Usage
		if float64(u.Used())*100 < float64(u.Ceiling())*float64(n.cfg.Share) {
			continue
		}
		subject := limitSubject + string(u.Limit.Scope) + " " + l.Of.User.String() + " " + string(l.Of.Kind) + " " + l.Of.Ref.String()
		state := strconv.FormatInt(u.Limit.Max, 10)
		if !u.Limit.From.IsZero() {
			state += " since " + u.Limit.From.UTC().Format(time.DateOnly)
		}
		id := idOf(n.cfg.Where, subject, state)
		if !n.seen[id] {
			if _, err := n.cfg.Box.TurnNotice(ctx, "", store.Notice{Subject: subject, State: state, ID: id, MadeAt: now, Body: n.bodyOfLimit(l, now)}, now); err != nil {
				return err // a later look has the others, and this one again
			}
		}
		seen[id] = true
	}
	n.seen = seen
	return nil
}

// newID returns an id that no other notice has.
func newID() string {
	var random [16]byte
	rand.Read(random[:]) // never fails: the runtime ends the program rather
	return "msg_" + hex.EncodeToString(random[:])
}

// idOf returns the id that follows from these.
func idOf(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		h.Write([]byte(part + "\x00"))
	}
	return "msg_" + hex.EncodeToString(h.Sum(nil)[:16])
}

// message is the body of a notice.
type message struct {
	Type      string         `json:"type"`
	Timestamp answer.Instant `json:"timestamp"`
	Data      any            `json:"data"`
}

func bodyOf(kind string, at time.Time, data any) string {
	return string(answer.Encode(message{kind, answer.Instant(at), data}))
}

// The types of notices.
const (
	doctorFailing   = "doctor.failing"
	doctorRecovered = "doctor.recovered"
	limitNear       = "limit.near"
)

// ofDoctor returns the notice of a verdict, with what fails.
func (n *Notifier) ofDoctor(id, state string, r report.Report) store.Notice {
	kind, failures := doctorRecovered, []report.Finding{}
	if state == failing {
		kind = doctorFailing
	}
	for _, f := range r.Checks {
		if f.Status == report.Failure {
			failures = append(failures, f)
		}
	}
	now := n.cfg.Now()
	return store.Notice{Subject: store.DoctorSubject, State: state, ID: id, MadeAt: now, Body: bodyOf(kind, now, struct {
		Database string           `json:"database"`
		Failures []report.Finding `json:"failures"`
	}{n.cfg.Where, failures})}
}

func (n *Notifier) bodyOfLimit(l store.NearLimit, now time.Time) string {
	key, u := store.Key(l.Of), l.Usage
	text := func(id store.ID) *string {
		if id.IsZero() || id == store.Absent {
			return nil
		}
		s := id.String()
		return &s
	}
	return bodyOf(limitNear, now, struct {
		Database  string           `json:"database"`
		User      *string          `json:"user_id"`
		Workflow  *string          `json:"workflow_id"`
		Draft     *string          `json:"draft_id"`
		Scope     store.LimitScope `json:"scope"`
		Max       int64            `json:"max"`
		From      answer.Instant   `json:"from"` // null for all time
		Granted   int64            `json:"granted"`
		Counted   int64            `json:"counted"`
		Active    int64            `json:"active"`
		Remaining int64            `json:"remaining"`
	}{n.cfg.Where, text(key.User), text(key.Workflow()), text(key.Draft()), u.Limit.Scope, u.Limit.Max, answer.Instant(u.Limit.From), u.Granted, u.Counted, u.Active, u.Remaining()})
}
