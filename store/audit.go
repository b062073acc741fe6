package store

import (
	"context"
	"time"
)

const (
	// maxCauses bounds the wrong counts that [AuditAll] explains, and runsOfCause the
	// runs behind each: runcounter explain goes on from there.
	maxCauses   = 20
	runsOfCause = 10
	// maxOdd bounds the odd runs that it names: runcounter runs --odd lists them all.
	maxOdd = 20
)

// FullAudit is the comparison of all counts with the runs behind them.
type FullAudit struct {
	Keys   int     // compared
	Drifts []Drift // counts that are wrong
	Causes []KeyHistory
	// Totals differ from the counts of their users. They are compared only if no count
	// is wrong: before that they say nothing.
	Totals []Drift
	Health Health
	Odd    []ListedRun // the first of those that are no drift, and need an operator all the same
}

// Wrong reports whether any count or total is.
func (a FullAudit) Wrong() bool { return len(a.Drifts)+len(a.Totals) > 0 }

// AuditAll compares all counts with the runs behind them, a page in one snapshot, and
// explains the first of those that are wrong. It writes nothing.
func AuditAll(ctx context.Context, m Maintainer, r Reader) (a FullAudit, err error) {
	if a.Keys, a.Drifts, err = auditKeys(ctx, m); err != nil {
		return a, err
	}
	if a.Health, err = r.Health(ctx); err != nil {
		return a, err
	}
	if a.Health.NoKey+a.Health.UnknownStatus+a.Health.EndedTooSoon > 0 {
		if a.Odd, err = r.SearchRuns(ctx, RunQuery{State: OddRuns, Limit: maxOdd}); err != nil {
			return a, err
		}
	}
	for _, d := range a.Drifts[:min(len(a.Drifts), maxCauses)] {
		h, err := r.KeyHistory(ctx, d.Key, runsOfCause)
		if err != nil {
			return a, err
		}
		if h.Drift.Wrong() { // else a second process corrected it meanwhile
			a.Causes = append(a.Causes, h)
		}
	}
	if len(a.Drifts) == 0 {
		a.Totals, err = m.AuditTotals(ctx, false)
	}
	return a, err
}

// RecountDrifting recounts every key that an audit finds wrong, and then corrects the
// totals. It returns what it set right, a total as [TotalOf] names it.
func RecountDrifting(ctx context.Context, m Maintainer, now func() time.Time) (done []RecountResult, err error) {
	_, drifts, err := auditKeys(ctx, m)
	if err != nil {
		return nil, err
	}
	for _, d := range drifts {
		r, err := m.Recount(ctx, d.Key, now())
		if err != nil {
			return done, err
		}
		done = append(done, r)
	}
	totals, err := m.AuditTotals(ctx, true)
	for _, d := range totals {
		done = append(done, RecountResult{Key: d.Key, Before: d.Stored, After: d.Actual})
	}
	return done, err
}

func auditKeys(ctx context.Context, m Maintainer) (keys int, drifts []Drift, err error) {
	for after := (Key{}); ; {
		found, err := m.Audit(ctx, Audit{After: after, Max: 1000})
		if err != nil {
			return keys, drifts, err
		}
		keys += found.Keys
		drifts = append(drifts, found.Drifts...)
		if after = found.Next; after.IsZero() {
			return keys, drifts, nil
		}
	}
}
