package console

import (
	"net/url"
	"slices"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// replayMost bounds the letters that one request replays, latest first: what is left is
// said, and is replayed by the next.
const replayMost = 100

// letterGroup is the dead letters of one reason.
type letterGroup struct {
	Reason        string
	N             int
	Latest, First store.DeadLetter
}

// Href is the address at which something is done with the group: replay, drop, or "" to
// list it.
func (g letterGroup) Href(do string) string { return lettersPath(do, "", g.Reason) }

func lettersPath(do, reason, is string) string {
	path, filter := "/dead-letters", url.Values{}
	if do != "" {
		path += "/" + do
	}
	for name, value := range map[string]string{"reason": reason, "is": is} {
		if value != "" {
			filter.Set(name, value)
		}
	}
	if len(filter) > 0 {
		path += "?" + filter.Encode()
	}
	return path
}

type lettersData struct {
	Reason  string // a part of those that are listed
	Is      string // the reason of those that are listed
	All     int
	Groups  []letterGroup
	Letters []store.DeadLetter
	Next    string
}

// Href is the address at which something is done with what is listed.
func (d lettersData) Href(do string) string { return lettersPath(do, d.Reason, d.Is) }

// letterFilter reads which dead letters are meant.
func letterFilter(get func(string) string) store.DeadLetterQuery {
	return store.DeadLetterQuery{Reason: get("reason"), Is: get("is"), Limit: store.MaxDeadLetters}
}

// deadLetters is the list of the deliveries that could not be read, by reason and one by
// one.
func (c *Console) deadLetters(f *fiber.Ctx, who session) error {
	q := letterFilter(func(name string) string { return f.Query(name) })
	d := lettersData{Reason: q.Reason, Is: q.Is}
	all, err := c.cfg.Letters.DeadLetters(f.UserContext(), q) // without their bodies, and bounded
	if err != nil {
		return err
	}
	d.All, d.Groups = len(all), groupLetters(all)
	if text := f.Query("before"); text != "" {
		before, err := strconv.ParseInt(text, 10, 64)
		if err != nil || before < 1 {
			return problem.New(fiber.StatusBadRequest, "This address names no place in the list. Begin at its first page.")
		}
		all = slices.DeleteFunc(all, func(l store.DeadLetter) bool { return l.Seq >= before })
	}
	var has bool
	if d.Letters, has = more(all); has {
		d.Next = next(f, "before", strconv.FormatInt(d.Letters[pageRows-1].Seq, 10))
	}
	return c.show(f, who, "dead-letters", "Dead letters", d)
}

// groupLetters groups letters, latest first, by their reason: the largest group first, and
// of two the one with the later letter.
func groupLetters(letters []store.DeadLetter) (groups []letterGroup) {
	place := map[string]int{}
	for _, l := range letters {
		i, there := place[l.Reason]
		if !there {
			i = len(groups)
			place[l.Reason] = i
			groups = append(groups, letterGroup{Reason: l.Reason, Latest: l})
		}
		groups[i].N++
		groups[i].First = l
	}
	slices.SortStableFunc(groups, func(a, b letterGroup) int { return b.N - a.N })
	return groups
}

type lettersQuestion struct {
	lettersData
	Do   string // what is asked: replay or drop
	Upto int64  // number of the latest: what arrives until the answer is not meant
	Most int    // that one request replays
}

// confirmLetters asks about the letters of a filter.
func (c *Console) confirmLetters(do string) handler {
	return func(f *fiber.Ctx, who session) error {
		q := letterFilter(func(name string) string { return f.Query(name) })
		all, err := c.cfg.Letters.DeadLetters(f.UserContext(), q)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return webhook.ErrNoLetter
		}
		d := lettersQuestion{lettersData{Reason: q.Reason, Is: q.Is, All: len(all), Groups: groupLetters(all)}, do, all[0].Seq, replayMost}
		return c.show(f, who, "ask-letters", "Dead letters", d)
	}
}

// letters reads which letters a form is about.
func (f form) letters() (q store.DeadLetterQuery, err error) {
	q = letterFilter(f.Get)
	upto, err := strconv.ParseInt(f.Get("upto"), 10, 64)
	if err != nil || upto < 1 {
		return q, problem.New(fiber.StatusBadRequest, "This form does not say which dead letters it is about. Begin at their list.")
	}
	q.Before = upto + 1
	return q, nil
}

func (c *Console) replayLetters(f *fiber.Ctx, who session, form form) error {
	q, err := form.letters()
	if err != nil {
		return err
	}
	q.Limit = replayMost
	letters, err := c.cfg.Letters.DeadLetters(f.UserContext(), q)
	if err != nil {
		return err
	}
	results, err := webhook.ReplayEach(letters, func(seq int64) (webhook.Replayed, error) { return c.cfg.Replay(f.UserContext(), seq) })
	applied, stay := 0, 0
	for _, r := range results {
		if r.Applied && r.Undropped == nil {
			applied++
		} else {
			stay++
		}
	}
	c.did(f, who, "dead letters were replayed", "reason", request.Clip(q.Reason+q.Is), "applied", applied, "stay", stay)
	if err != nil {
		return err
	}
	return done(f, "/dead-letters", "replayed-many&n="+strconv.Itoa(applied)+"&m="+strconv.Itoa(stay))
}

func (c *Console) dropLetters(f *fiber.Ctx, who session, form form) error {
	q, err := form.letters()
	if err != nil {
		return err
	}
	n, err := c.cfg.Letters.DropDeadLetters(f.UserContext(), q)
	if err != nil {
		return err
	}
	c.did(f, who, "dead letters were dropped", "reason", request.Clip(q.Reason+q.Is), "dropped", n)
	return done(f, "/dead-letters", "dropped-many&n="+strconv.Itoa(n))
}
