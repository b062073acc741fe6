package webhook

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
)

// letterPage is how many dead letters a page holds, and how many one request
// replays, unless it says so.
const letterPage = 100

// routeLetters serves what the backend keeps of deliveries that can't be read.
func (s *Server) routeLetters(v1 fiber.Router) {
	v1.Get("/dead-letters", s.getLetters)
	v1.Get("/dead-letters/:seq", s.getLetter)
	v1.Delete("/dead-letters/:seq", s.dropLetter)
	v1.Post("/dead-letters/replay", s.object(s.replayLetters, "reason", "until", "before", "max"))
	v1.Post("/dead-letters/drop", s.object(s.dropLetters, "reason", "until", "before", "all"))
	v1.Post("/dead-letters/:seq/replay", s.object(s.replayLetter))
}

// letter is a dead letter as the API shows it.
type letter struct {
	Seq        int64   `json:"seq"`
	ReceivedAt instant `json:"received_at"`
	Reason     string  `json:"reason"`
	Bytes      int64   `json:"bytes"`
	Kept       int64   `json:"kept"`
	Whole      bool    `json:"whole"`
}

func letterOf(d store.DeadLetter) letter {
	return letter{d.Seq, instant(d.ReceivedAt), d.Reason, d.Bytes, d.Kept, d.Whole()}
}

// letterResult is what became of one that was replayed.
type letterResult struct {
	Seq      int64  `json:"seq"`
	Applied  bool   `json:"applied"`
	Reason   string `json:"reason,omitempty"` // why it is still listed
	Received int    `json:"received"`
	Changed  int    `json:"changed"`
	Ignored  int    `json:"ignored"`
}

func letterResultOf(r Replayed) letterResult {
	a := answerTo(r.Delivery, r.Results)
	return letterResult{r.Seq, r.Applied, r.Reason, a.Received, a.Changed, a.Ignored}
}

// pathSeq reads the number of a letter from the path.
func pathSeq(c *fiber.Ctx) (int64, error) {
	seq, err := strconv.ParseInt(c.Params("seq"), 10, 64)
	if err != nil || seq < 1 {
		return 0, newProblem(fiber.StatusBadRequest, "The number of the dead letter in the path must be a whole number from 1; GET /v1/dead-letters lists them.")
	}
	return seq, nil
}

// time reads a moment in RFC 3339; the zero time where it is absent.
func (f *fields) time(name string) time.Time {
	if !f.has(name) {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, f.text(name))
	if err != nil || t.IsZero() {
		f.fail("%s must be a time such as 2026-01-31T12:00:00Z.", name)
	}
	return t
}

// bool reads true or false; false where it is absent.
func (f *fields) bool(name string) (b bool) {
	if f.has(name) && json.Unmarshal(f.in[name], &b) != nil {
		f.fail("%s must be true or false.", name)
	}
	return b
}

// letters reads a filter of dead letters.
func (f *fields) letters() (q store.DeadLetterQuery) {
	q.Reason, q.Until, q.Limit = f.line("reason", maxReason), f.time("until"), letterPage
	if before := f.number("before"); before != nil {
		q.Before = *before
	}
	if most := f.number("max"); most != nil {
		if q.Limit = int(min(*most, maxPage+1)); q.Limit < 1 || q.Limit > maxPage {
			f.fail("max must be between 1 and %d.", maxPage)
		}
	}
	return q
}

// pageOfLetters returns a page, and the number with which the next one begins.
func (s *Server) pageOfLetters(ctx context.Context, q store.DeadLetterQuery) (page []store.DeadLetter, next *int64, err error) {
	limit := q.Limit
	q.Limit++ // one more than asked says whether there is a next page
	page, err = triedLetters{s}.DeadLetters(ctx, q)
	if len(page) > limit {
		page = page[:limit]
		next = &page[limit-1].Seq
	}
	return page, next, err
}

// getLetters answers GET /v1/dead-letters, a page at a time, latest first.
func (s *Server) getLetters(c *fiber.Ctx) error {
	f := queryOf(c, "reason", "until", "before", "max")
	if raw := f.in["reason"]; len(raw) > 0 && raw[0] != '"' {
		f.in["reason"] = encode(string(bytes.Clone(raw))) // a number is a part of a sentence, too
	}
	q := f.letters()
	if f.err != nil {
		return f.err
	}
	page, next, err := s.pageOfLetters(c.UserContext(), q)
	if err != nil {
		return err
	}
	answer := struct {
		Letters []letter `json:"dead_letters"`
		Next    *int64   `json:"next"` // pass it as before
	}{[]letter{}, next}
	for _, d := range page {
		answer.Letters = append(answer.Letters, letterOf(d))
	}
	return writeJSON(c, fiber.StatusOK, answer)
}

// getLetter answers GET /v1/dead-letters/{seq}, with the body.
func (s *Server) getLetter(c *fiber.Ctx) error {
	seq, err := pathSeq(c)
	if err == nil {
		err = queryOf(c).err
	}
	if err != nil {
		return err
	}
	page, _, err := s.pageOfLetters(c.UserContext(), store.DeadLetterQuery{Seq: seq, Limit: 1})
	if err != nil {
		return err
	}
	if len(page) == 0 {
		return ErrNoLetter
	}
	answer := struct {
		letter
		Encoding string `json:"encoding"` // of the body: text or base64
		Body     string `json:"body"`
	}{letterOf(page[0]), "text", string(page[0].Body)}
	if !utf8.ValidString(answer.Body) {
		answer.Encoding, answer.Body = "base64", base64.StdEncoding.EncodeToString(page[0].Body)
	}
	return writeJSON(c, fiber.StatusOK, answer)
}

// replayLetter answers POST /v1/dead-letters/{seq}/replay. That it still can't
// be read is a result.
func (s *Server) replayLetter(c *fiber.Ctx, _ *fields) error {
	seq, err := pathSeq(c)
	if err != nil {
		return err
	}
	r, err := s.replay(c.UserContext(), seq)
	if err != nil {
		return err
	}
	s.cfg.Log.Info("a dead letter was replayed", "request", requestID(c), "seq", seq, "applied", r.Applied)
	return writeJSON(c, fiber.StatusOK, letterResultOf(r))
}

// replayLetters answers POST /v1/dead-letters/replay: those of a filter, at
// most max of them, latest first. Their order makes no difference (law 4).
func (s *Server) replayLetters(c *fiber.Ctx, f *fields) error {
	q := f.letters()
	if f.err != nil {
		return f.err
	}
	page, next, err := s.pageOfLetters(c.UserContext(), q)
	if err != nil {
		return err
	}
	answer := struct {
		Replayed int            `json:"replayed"`
		Left     int            `json:"left"`
		Letters  []letterResult `json:"dead_letters"`
		Next     *int64         `json:"next"` // pass it as before
	}{Letters: []letterResult{}, Next: next}
	for _, d := range page {
		r, err := s.replay(c.UserContext(), d.Seq)
		switch part, cut := errors.AsType[*NotWhole](err); {
		case errors.Is(err, ErrNoLetter):
			continue // a second process was faster
		case cut:
			r.Reason = part.Error()
		case err != nil:
			return err
		}
		if r.Applied {
			answer.Replayed++
		} else {
			answer.Left++
		}
		answer.Letters = append(answer.Letters, letterResultOf(r))
	}
	s.cfg.Log.Info("dead letters were replayed", "request", requestID(c), "replayed", answer.Replayed, "left", answer.Left)
	return writeJSON(c, fiber.StatusOK, answer)
}

// dropLetter answers DELETE /v1/dead-letters/{seq}.
func (s *Server) dropLetter(c *fiber.Ctx) error {
	seq, err := pathSeq(c)
	if err == nil {
		err = queryOf(c).err
	}
	if err != nil {
		return err
	}
	n, err := s.drop(c, store.DeadLetterQuery{Seq: seq})
	if err == nil && n == 0 {
		err = ErrNoLetter
	}
	if err != nil {
		return err
	}
	return writeJSON(c, fiber.StatusOK, droppedLetters{n})
}

type droppedLetters struct {
	Dropped int `json:"dropped"`
}

// dropLetters answers POST /v1/dead-letters/drop.
func (s *Server) dropLetters(c *fiber.Ctx, f *fields) error {
	q, all := f.letters(), f.bool("all")
	q.Limit = 0
	switch filtered := q != (store.DeadLetterQuery{}); {
	case f.err != nil:
		return f.err
	case !filtered && !all:
		return newProblem(fiber.StatusBadRequest, `Say which dead letters to drop: send reason, until or before, or {"all": true} for all of them.`)
	case filtered && all:
		return newProblem(fiber.StatusBadRequest, "all is for all of them: leave it out, or leave out reason, until and before.")
	}
	n, err := s.drop(c, q)
	if err != nil {
		return err
	}
	return writeJSON(c, fiber.StatusOK, droppedLetters{n})
}

func (s *Server) drop(c *fiber.Ctx, q store.DeadLetterQuery) (n int, err error) {
	n, err = triedLetters{s}.DropDeadLetters(c.UserContext(), q)
	if err == nil {
		s.cfg.Log.Info("dead letters were dropped", "request", requestID(c), "dropped", n)
	}
	return n, err
}
