package console

import (
	"errors"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// did logs an operator's action.
func (c *Console) did(f *fiber.Ctx, who session, what string, about ...any) {
	c.cfg.Log.Info("console: "+what, append([]any{"request", answer.RequestID(f), "who", who.Name}, about...)...)
}

// done leads to a page that says what an action came to.
func done(f *fiber.Ctx, path, code string) error {
	mark := "?"
	if strings.Contains(path, "?") {
		mark = "&"
	}
	return f.Redirect(path+mark+"done="+code, fiber.StatusSeeOther)
}

func (c *Console) confirmRecount(f *fiber.Ctx, who session) error {
	key, err := keyOf(f)
	if err != nil {
		return err
	}
	return c.show(f, who, "ask-recount", "Recount", key)
}

func (c *Console) recount(f *fiber.Ctx, who session, _ form) error {
	key, err := keyOf(f)
	if err != nil {
		return err
	}
	r, err := c.cfg.Store.Recount(f.UserContext(), key, store.Instant(c.cfg.Now()))
	if err != nil {
		return err
	}
	c.did(f, who, "a count was recounted", "key", key.String(), "changed", r.Changed())
	code := "right"
	if r.Changed() {
		code = "recounted"
	}
	return done(f, "/counts/"+keyPath(key), code)
}

func (c *Console) confirmComplete(f *fiber.Ctx, who session) error {
	return c.confirmRun(f, who, "ask-complete", "Complete a run")
}

func (c *Console) confirmAmend(f *fiber.Ctx, who session) error {
	return c.confirmRun(f, who, "ask-amend", "Amend a run")
}

func (c *Console) confirmRun(f *fiber.Ctx, who session, name, title string) error {
	d, err := c.history(f)
	if err != nil {
		return err
	}
	if !d.Found {
		return store.ErrNotFound
	}
	return c.show(f, who, name, title, d)
}

func (c *Console) complete(f *fiber.Ctx, who session, form form) error {
	id, err := request.PathID(f, "id", "id of the run")
	if err != nil {
		return err
	}
	status := store.Status(form.Get("status"))
	if !status.Terminal() {
		return problem.New(fiber.StatusBadRequest, "Choose how the run ended: completed, failed, cancelled or timeout.")
	}
	r, err := c.cfg.Store.Complete(f.UserContext(), store.Completion{ID: id, Outcome: store.Outcome{Status: status}, Now: store.Instant(c.cfg.Now())})
	if err != nil {
		return err
	}
	c.did(f, who, "a run was completed", "run_id", id.String(), "status", string(status), "won", r.Won)
	code := "lost"
	if r.Won {
		code = "completed"
	}
	return done(f, runPath(id), code)
}

func (c *Console) amend(f *fiber.Ctx, who session, form form) error {
	id, err := request.PathID(f, "id", "id of the run")
	if err != nil {
		return err
	}
	a := store.AmendRequest{ID: id, Status: store.Status(form.Get("status")), Who: who.Name, Why: form.line("reason", request.MaxReason), Now: store.Instant(c.cfg.Now())}
	switch {
	case !a.Status.Known():
		return problem.New(fiber.StatusBadRequest, "Choose what the run shall be.")
	case a.Why == "":
		return problem.New(fiber.StatusBadRequest, "Say why: it is kept with your name.")
	}
	_, err = c.cfg.Store.Amend(f.UserContext(), a)
	if err != nil {
		return err
	}
	c.did(f, who, "a run was amended", "run_id", id.String(), "status", string(a.Status), "reason", a.Why)
	return done(f, runPath(id), "amended")
}

func (c *Console) confirmLetter(do string) handler {
	return func(f *fiber.Ctx, who session) error {
		d, err := c.letter(f)
		if err != nil {
			return err
		}
		d.Do = do
		return c.show(f, who, "ask-letter", "Dead letter", d)
	}
}

func (c *Console) replayOne(f *fiber.Ctx, who session, _ form) error {
	seq, err := request.PathSeq(f, "dead letter", "/v1/dead-letters")
	if err != nil {
		return err
	}
	r, err := c.cfg.Replay(f.UserContext(), seq)
	if err != nil {
		return err
	}
	c.did(f, who, "a dead letter was replayed", "seq", seq, "applied", r.Applied)
	if !r.Applied {
		return done(f, "/dead-letters/"+strconv.FormatInt(seq, 10), "unreadable")
	}
	if r.Undropped != nil {
		return done(f, "/dead-letters/"+strconv.FormatInt(seq, 10), "undropped")
	}
	return done(f, "/dead-letters", "replayed")
}

func (c *Console) dropOne(f *fiber.Ctx, who session, _ form) error {
	seq, err := request.PathSeq(f, "dead letter", "/v1/dead-letters")
	if err != nil {
		return err
	}
	n, err := c.cfg.Letters.DropDeadLetters(f.UserContext(), store.DeadLetterQuery{Seq: seq})
	if err == nil && n == 0 {
		err = webhook.ErrNoLetter
	}
	if err != nil {
		return err
	}
	c.did(f, who, "a dead letter was dropped", "seq", seq)
	return done(f, "/dead-letters", "dropped")
}

func (c *Console) confirmSweep(f *fiber.Ctx, who session) error {
	return c.show(f, who, "sweep", "Sweep", c.swept())
}

func (c *Console) sweep(f *fiber.Ctx, who session, form form) error {
	if c.cfg.Sweep == nil {
		return problem.New(fiber.StatusNotFound, "This server doesn't sweep.").Because(errNoConsole)
	}
	full := form.Get("full") != ""
	r, err := c.cfg.Sweep(f.UserContext(), full)
	if err != nil {
		return errors.Join(store.ErrUnavailable, err)
	}
	c.did(f, who, "a sweep was asked for", "full", full, "repaired", r.Repairs(), "drifting", r.Drifting)
	return done(f, "/sweep", "swept")
}
