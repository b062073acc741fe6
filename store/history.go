package store

import (
	"fmt"
	"time"
)

// History holds all that is known of one run, to explain why it is, or is not,
// counted.
type History struct {
	Run        Run       // unset where the run is not there
	Found      bool      // the run is there
	DeletedAt  time.Time // when a mirror heard of its end; a source keeps no trace of a deleted run
	Policy     Policy    // in force
	Count      Count     // of its key
	Repairs    []RepairLog
	Amendments []AmendmentLog
}

// RepairLog says how often a run was repaired for one reason, and last how.
type RepairLog struct {
	Reason      Reason
	Times       int
	First, Last time.Time
	Was         Status
	Status      Status
	CompletedAt time.Time
}

// AmendmentLog is one decision of an administrator.
type AmendmentLog struct {
	At             time.Time
	Who, Why       string
	Was            Status
	WasCompletedAt time.Time
	Status         Status
}

// KeyHistory explains the count of a key.
type KeyHistory struct {
	Count    Count
	Policy   Policy // in force
	Drift    Drift  // both sides of law 1, in one snapshot; they are equal
	Cause    string // the likely cause, where they are not
	Ledger   int64  // rows that wait to be folded
	Active   int64  // runs that hold a slot without having ended
	Runs     []Run  // the latest, ended or not, at most as many as asked for
	Recounts []RecountLog
}

// RecountLog is one repair of a count.
type RecountLog struct {
	At            time.Time
	Before, After Tallies
}

// Verdict says in a sentence why a run is, or is not, counted.
func (r Run) Verdict(p Policy) string {
	switch {
	case r.User.IsZero():
		return "Not counted: it has no user, so it counts for none."
	case r.Key().IsZero():
		return "Not counted: it has neither a workflow nor a draft, so there is nothing to count it for."
	case !r.Status.Known():
		return fmt.Sprintf("Not counted: %q is a status that Run Counter does not know. It holds a slot of a limit all the same.", string(r.Status))
	case r.Status.Active() && !r.CompletedAt.IsZero():
		return fmt.Sprintf("Not counted yet: it says %s, but has a completed_at, so it ended and was overwritten. The next sweep restores it; where the guard only reports, the first after it was silent for its limit.", r.Status)
	case r.Status.Active():
		return fmt.Sprintf("Not counted yet: it is %s. It holds a slot of a limit.", r.Status)
	case !r.Ended():
		return fmt.Sprintf("Not counted yet: it is %s, but has no completed_at. The next sweep sets it.", r.Status)
	case r.Presumed && p.ExceptPresumed:
		return fmt.Sprintf("Not counted: its outcome is only presumed, and the policy %s leaves such runs out. A real outcome supersedes it.", p)
	case !p.Counts(r.Status, r.Presumed):
		return fmt.Sprintf("Not counted: it ended %s, and the policy %s counts completed and failed runs alone.", r.Status, p)
	case r.Presumed:
		return fmt.Sprintf("Counted as %s: its outcome is presumed, since it was silent or overwritten. A real outcome that comes later supersedes it.", r.Status)
	}
	return fmt.Sprintf("Counted: it ended %s, and the policy %s counts that.", r.Status, p)
}
