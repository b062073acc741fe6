package store

import (
	"fmt"
	"time"
)

// Oddity is a reason for which an operator should look at a run.
type Oddity string

// The oddities.
const (
	OddNoUser     Oddity = "no_user"
	OddNoWorkflow Oddity = "no_workflow" // nor a draft
	OddStatus     Oddity = "unknown_status"
	OddEnd        Oddity = "ended_before_start"
	// OddTime is a time in the table that is none, such as infinity. A Run does not show
	// it: a list of odd runs has it for those that look right.
	OddTime Oddity = "unreadable_time"
)

// Oddities returns what is odd about the run; nothing where nothing is.
func (r Run) Oddities() (all []Oddity) {
	switch {
	case r.User.IsZero():
		all = append(all, OddNoUser)
	case r.Key().IsZero():
		all = append(all, OddNoWorkflow)
	}
	if !r.Status.Known() {
		all = append(all, OddStatus)
	}
	if !r.StartedAt.IsZero() && !r.CompletedAt.IsZero() && r.CompletedAt.Before(r.StartedAt) {
		all = append(all, OddEnd)
	}
	return all
}

// Oddities are those of a run in the list of odd runs: one that looks right has a time
// that can't be read.
func (r ListedRun) Oddities() []Oddity {
	if all := r.Run.Oddities(); len(all) > 0 {
		return all
	}
	return []Oddity{OddTime}
}

// Odd reports whether the run is in no count, or its times contradict each
// other: an operator should look at it.
func (r Run) Odd() bool { return len(r.Oddities()) > 0 }

// Needs says for each what to do about it. In a source a status is given a meaning by
// migrate up, in a mirror by serve.
func (r ListedRun) Needs(source bool) (needs []string) {
	for _, odd := range r.Oddities() {
		needs = append(needs, r.need(odd, source))
	}
	return needs
}

func (r Run) need(odd Oddity, source bool) string {
	switch odd {
	case OddNoUser:
		return "It has no user, so no count has it: set its user. A guest's run may stay so."
	case OddNoWorkflow:
		return "It has neither a workflow nor a draft, so no count has it: set one of them."
	case OddStatus:
		if r.Status == "" {
			return "It has no status, so it is never counted or ended, and takes a slot of a limit: write one."
		}
		give := "runcounter serve --status THEIRS=OURS"
		if source {
			give = "runcounter migrate up --status THEIRS=OURS"
		}
		return fmt.Sprintf("Its status %q has no meaning here, so it is never counted or ended, and takes a slot of a limit: give it one with %s, or write another.", string(r.Status), give)
	case OddEnd:
		return fmt.Sprintf("It ended %s before it started, so its times are wrong, while it is counted: check which clock writes them.", r.StartedAt.Sub(r.CompletedAt).Round(time.Millisecond))
	}
	return "One of its times is none, such as infinity, or lies beyond the years 1 to 9998: write a time, or null."
}
