package webhook

import (
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// Answer answers a delivery, after the commit.
type Answer struct {
	Received int                     `json:"received" doc:"Changes in the request."`
	Changed  int                     `json:"changed" doc:"Changes that wrote something; the same again writes nothing."`
	Ignored  int                     `json:"ignored" doc:"Changes of other tables, and of types that change no row."`
	Refused  []problem.RefusedChange `json:"refused,omitempty" doc:"Changes that can't be read; left out where there are none."`
	Counts   []KeyCount              `json:"counts" openapi:"optional" doc:"Count of each key that the changes name; left out with the header Prefer: return=minimal."`
}

// KeyCount is the count of a key.
type KeyCount struct {
	User     store.ID `json:"user_id"`
	Workflow store.ID `json:"workflow_id"`
	Draft    store.ID `json:"draft_id"`
	Count    int64    `json:"count" doc:"Runs that count by the policy in force."`
}

// KeyCountOf returns the count of a key as answers have it.
func KeyCountOf(key store.Key, count int64) KeyCount {
	return KeyCount{key.User, key.Workflow(), key.Draft(), count}
}

// AnswerTo adds up the results of a delivery's changes. Where several changes name a
// key, the last says its count.
func AnswerTo(d Delivery, applied []store.ApplyResult) Answer {
	a := Answer{Received: d.Received, Ignored: d.Ignored, Refused: refusedOf(d), Counts: []KeyCount{}}
	last := make(map[store.Key]int64, 1)
	for _, one := range applied {
		if one.Changed {
			a.Changed++
		}
		for _, count := range one.Counts {
			last[count.Key] = count.Count
		}
	}
	keys := make([]store.Key, 0, len(last))
	for key := range last {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, store.Key.Compare)
	for _, key := range keys {
		a.Counts = append(a.Counts, KeyCountOf(key, last[key]))
	}
	return a
}

func refusedOf(d Delivery) []problem.RefusedChange {
	all := make([]problem.RefusedChange, 0, len(d.Refused))
	for _, r := range d.Refused {
		all = append(all, problem.RefusedChange{Change: r.Index, Reason: r.Public})
	}
	return all
}

// prefersMinimal reports whether a sender asks for an answer without counts, as
// RFC 7240 has it. Our own webhook does: every SQL role of its database reads
// the answers.
func prefersMinimal(c *fiber.Ctx) bool {
	for _, header := range c.Request().Header.PeekAll("Prefer") {
		for preference := range strings.SplitSeq(string(header), ",") {
			name, value, _ := strings.Cut(preference, "=")
			value, _, _ = strings.Cut(value, ";")
			if strings.EqualFold(strings.TrimSpace(name), "return") && strings.EqualFold(strings.Trim(value, `" `), "minimal") {
				return true
			}
		}
	}
	return false
}

// minimal is an answer without its counts.
type minimal struct {
	Answer
	Counts *struct{} `json:"counts,omitempty"` // hides those of the answer
}

// preferred returns an answer as its sender prefers it.
func preferred(c *fiber.Ctx, a Answer) any {
	if !prefersMinimal(c) {
		return a
	}
	c.Set("Preference-Applied", "return=minimal")
	return minimal{Answer: a}
}
