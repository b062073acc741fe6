package problem

import (
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
)

// Usage is how far a limit is used, as answers have it.
type Usage struct {
	Scope     store.LimitScope `json:"scope"`
	Max       int64            `json:"max"`
	From      answer.Instant   `json:"from"` // null for all time
	Granted   int64            `json:"granted"`
	Counted   int64            `json:"counted"`
	Active    int64            `json:"active"`
	Remaining int64            `json:"remaining"`
}

// UsagesOf returns how far limits are used as answers have it.
func UsagesOf(usages []store.Usage) []Usage {
	all := make([]Usage, 0, len(usages))
	for _, u := range usages {
		all = append(all, Usage{u.Limit.Scope, u.Limit.Max, answer.Instant(u.Limit.From), u.Granted, u.Counted, u.Active, u.Remaining()})
	}
	return all
}
