package console

import (
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
	"github.com/edgaze-ai/runcounter/webhook/live"
)

// beatEvery is the time between two events of an open page: it shows that the
// connection is lost when a few of them are missing.
const beatEvery = 2 * time.Second

// events answers GET /console/events: with ?key=USER/KIND/REF that count
// whenever it changes, else what the overview shows.
func (c *Console) events(f *fiber.Ctx, who session) error {
	var topics []live.Topic
	beat := func() any { return struct{}{} }
	if text := f.Query("key"); text != "" {
		key, err := parseKeyPath(text)
		if err != nil {
			return err
		}
		topics = append(topics, live.CountOf(key))
	} else {
		s, said := spanNamed(f.Query("span")), map[string]string{}
		beat = func() any { return c.numbers(s, said) }
	}
	return c.cfg.Streams.Serve(f, store.ID{}, topics, func(out *live.Writer, sub *live.Subscription) {
		c.push(out, sub, beat, who.Expires)
	})
}

// push writes events until the reader is gone, the session has ended, or the server
// shuts down.
func (c *Console) push(out *live.Writer, sub *live.Subscription, beat func() any, expires time.Time) {
	out.Text("retry: 2000\n\n")
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for out.Err() == nil && (expires.IsZero() || c.cfg.Now().Before(expires)) {
		select {
		case <-sub.Changed():
			for _, state := range sub.Take() {
				out.Event("message", answer.Encode(map[string]any{"count": state.Count.Count}))
			}
		case <-tick.C:
			out.Event("message", answer.Encode(beat()))
		case <-out.Displaced():
			return
		case <-out.Closed():
			return
		}
		out.Flush()
	}
}

// numbers are those of the overview, by the names that its elements have, and the parts
// of the page that differ from what was said before.
func (c *Console) numbers(s span, said map[string]string) map[string]any {
	n := map[string]any{"streams": c.cfg.Streams.Open()}
	if h, err := c.cfg.Health(); err == nil {
		n["active"], n["ledger"], n["letters"] = h.Active, h.Ledger, h.DeadLetters
		n["odd"] = odd(h)
	}
	parts := map[string]string{}
	for name, data := range map[string]any{"verdict": c.verdict(), "charts": c.timeline(s), "webhooks": c.webhooks(), "business": c.business()} {
		var out strings.Builder
		if err := c.pages["overview"].ExecuteTemplate(&out, name, data); err == nil && said[name] != out.String() {
			said[name], parts[name] = out.String(), out.String()
		}
	}
	n["parts"] = parts
	return n
}

func (c *Console) timeline(s span) timeline {
	steps, since := c.activity(s)
	t := draw(s, c.cfg.Now(), steps, since)
	t.Memory = c.cfg.Activity == nil
	return t
}
