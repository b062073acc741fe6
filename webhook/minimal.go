package webhook

import (
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
)

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
	answer
	Counts *struct{} `json:"counts,omitempty"` // hides those of the answer
}

// asFor returns what a sender gets of an answer, by what it prefers.
func asFor(c *fiber.Ctx, a answer) any {
	if !prefersMinimal(c) {
		return a
	}
	c.Set("Preference-Applied", "return=minimal")
	return minimal{answer: a}
}

// commit returns when the changes are committed. Where no counts are wanted,
// those that leave the database nothing to do never get there.
func (s *Server) commit(changes []store.Change, countless bool) ([]store.ApplyResult, error) {
	if countless && s.cfg.Idle != nil {
		changes = slices.DeleteFunc(slices.Clone(changes), s.cfg.Idle)
	}
	if len(changes) > 0 {
		return s.submit(changes)
	}
	if s.hub != nil {
		s.hub.soon() // the application has written: its watchers hear of it at once
	}
	return nil, nil
}
