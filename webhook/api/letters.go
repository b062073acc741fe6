package api

import (
	"bytes"
	"context"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// letters reads a filter of dead letters.
func (f *fields) letters() (q store.DeadLetterQuery) {
	q.Reason, q.Until = f.line("reason", request.MaxReason), f.time("until")
	if before := f.number("before"); before != nil {
		q.Before = *before
	}
	return q
}

// letterPage reads a filter of dead letters, and how many of them a page has.
func (f *fields) letterPage() store.DeadLetterQuery {
	q := f.letters()
	q.Limit = f.pageSize()
	return q
}

// pageOfLetters returns a page, and the number with which the next one begins.
func (a *API) pageOfLetters(ctx context.Context, q store.DeadLetterQuery) (page []store.DeadLetter, next *int64, err error) {
	limit := q.Limit
	q.Limit++ // one more than asked says whether there is a next page
	page, err = a.cfg.Letters.DeadLetters(ctx, q)
	page, next = PageOf(page, limit, func(d store.DeadLetter) int64 { return d.Seq })
	return page, next, err
}

// getLetters answers GET /v1/dead-letters, a page at a time, latest first.
func (a *API) getLetters(c *fiber.Ctx, f *fields) error {
	if raw := f.in["reason"]; len(raw) > 0 && raw[0] != '"' {
		f.in["reason"] = answer.Encode(string(bytes.Clone(raw))) // a number is a part of a sentence, too
	}
	q := f.letterPage()
	if f.err != nil {
		return f.err
	}
	page, next, err := a.pageOfLetters(c.UserContext(), q)
	if err != nil {
		return err
	}
	return answer.JSON(c, fiber.StatusOK, LetterPage{LettersOf(page), next})
}

// getLetter answers GET /v1/dead-letters/{seq}, with the body.
func (a *API) getLetter(c *fiber.Ctx, f *fields) error {
	seq, err := request.PathSeq(c, "dead letter", "/v1/dead-letters")
	if err == nil {
		err = f.err
	}
	if err != nil {
		return err
	}
	page, _, err := a.pageOfLetters(c.UserContext(), store.DeadLetterQuery{Seq: seq, Limit: 1})
	if err != nil {
		return err
	}
	if len(page) == 0 {
		return webhook.ErrNoLetter
	}
	return answer.JSON(c, fiber.StatusOK, LetterWithBodyOf(page[0], utf8.Valid))
}

// replayLetter answers POST /v1/dead-letters/{seq}/replay. That it still can't
// be read is a result.
func (a *API) replayLetter(c *fiber.Ctx, _ *fields) error {
	seq, err := request.PathSeq(c, "dead letter", "/v1/dead-letters")
	if err != nil {
		return err
	}
	r, err := a.cfg.Replay(c.UserContext(), seq)
	if err != nil {
		return err
	}
	a.cfg.Log.Info("a dead letter was replayed", "request", answer.RequestID(c), "seq", seq, "applied", r.Applied)
	return answer.JSON(c, fiber.StatusOK, LetterResultOf(r))
}

// replayLetters answers POST /v1/dead-letters/replay: those of a filter, at
// most max of them, latest first. Their order makes no difference (law 4).
func (a *API) replayLetters(c *fiber.Ctx, f *fields) error {
	q := f.letterPage()
	if f.err != nil {
		return f.err
	}
	page, next, err := a.pageOfLetters(c.UserContext(), q)
	if err != nil {
		return err
	}
	results, err := webhook.ReplayEach(page, func(seq int64) (webhook.Replayed, error) { return a.cfg.Replay(c.UserContext(), seq) })
	if err != nil {
		return err
	}
	all := LettersReplayed{ReplaysOf(results), next}
	a.cfg.Log.Info("dead letters were replayed", "request", answer.RequestID(c), "replayed", all.Replayed, "left", all.Left)
	return answer.JSON(c, fiber.StatusOK, all)
}

// dropLetter answers DELETE /v1/dead-letters/{seq}.
func (a *API) dropLetter(c *fiber.Ctx, f *fields) error {
	seq, err := request.PathSeq(c, "dead letter", "/v1/dead-letters")
	if err == nil {
		err = f.err
	}
	if err != nil {
		return err
	}
	n, err := a.drop(c, store.DeadLetterQuery{Seq: seq})
	if err == nil && n == 0 {
		err = webhook.ErrNoLetter
	}
	if err != nil {
		return err
	}
	return answer.JSON(c, fiber.StatusOK, LettersDropped{n})
}

// dropLetters answers POST /v1/dead-letters/drop.
func (a *API) dropLetters(c *fiber.Ctx, f *fields) error {
	q, all := f.letters(), f.bool("all")
	switch filtered := q != (store.DeadLetterQuery{}); {
	case f.err != nil:
		return f.err
	case !filtered && !all:
		return problem.New(fiber.StatusBadRequest, `Say which dead letters to drop: send reason, until or before, or {"all": true} for all of them.`)
	case filtered && all:
		return problem.New(fiber.StatusBadRequest, "all is for all of them: leave it out, or leave out reason, until and before.")
	}
	n, err := a.drop(c, q)
	if err != nil {
		return err
	}
	return answer.JSON(c, fiber.StatusOK, LettersDropped{n})
}

func (a *API) drop(c *fiber.Ctx, q store.DeadLetterQuery) (n int, err error) {
	n, err = a.cfg.Letters.DropDeadLetters(c.UserContext(), q)
	if err == nil {
		a.cfg.Log.Info("dead letters were dropped", "request", answer.RequestID(c), "dropped", n)
	}
	return n, err
}
