package store

import (
	"context"
	"errors"
	"fmt"
)

// audit compares a slice of the keys with the runs behind them, or all of them
// where that is asked for or due, and recounts those that drift. A key that
// can't be recounted doesn't hold up the others: the audit comes round to it
// again.
//
// Where partitions came or went, all keys are looked at once, to know what that
// changed, and nothing is corrected before it is asked for.
func (s *Sweeper) audit(ctx context.Context, r *SweepReport, partitions bool) error {
	var event int64
	if s.Source != nil {
		var err error
		if event, err = s.Source.AuditDue(ctx); err != nil {
			return fmt.Errorf("ask whether a full audit is due: %w", err)
		}
	}
	if err := s.readPartitions(ctx, r); err != nil {
		return err
	}
	r.Full = r.Full || event > 0 || r.Partitions.Moved() && !s.alreadyAudited(r)
	err := s.compare(ctx, r, r.Partitions.Moved() && !partitions)
	if err == nil && event > 0 && !r.DryRun && r.Withheld.Keys == 0 {
		if err = s.Source.AuditDone(ctx, event); err != nil {
			err = fmt.Errorf("note that the full audit is done: %w", err)
		}
	}
	if err == nil {
		err = s.settlePartitions(ctx, r)
	}
	return err
}

func (s *Sweeper) compare(ctx context.Context, r *SweepReport, withhold bool) error {
	after := s.cursor
	if r.Full {
		after = Key{}
	}
	var errs error
	for {
		found, err := s.Store.Audit(ctx, Audit{After: after, Max: s.slice()})
		if err != nil {
			return errors.Join(errs, fmt.Errorf("audit after %s: %w", after, err))
		}
		r.Audited += found.Keys
		for _, drift := range found.Drifts {
			var correctErr error
			withhold, correctErr = s.correctDrift(ctx, r, drift, withhold)
			errs = errors.Join(errs, correctErr)
		}
		after = found.Next
		if !r.Full || after.IsZero() {
			break
		}
	}
	if !r.DryRun {
		s.cursor = after
	}
	if after.IsZero() { // all keys have been compared, now or lately
		wrong, err := s.Store.AuditTotals(ctx, !r.DryRun)
		r.Totals = wrong
		errs = errors.Join(errs, err)
	}
	return errs
}

// correctDrift recounts a key that drifts, unless it is to be withheld, and reports
// whether the next ones are.
func (s *Sweeper) correctDrift(ctx context.Context, r *SweepReport, drift Drift, withhold bool) (bool, error) {
	if !withhold && !r.DryRun {
		done, err := s.recount(ctx, r, drift.Key)
		withhold = !done
		if err != nil {
			r.addDrift(drift)
			return withhold, err
		}
	}
	if withhold {
		r.Withheld.Keys++
		r.Withheld.Runs += drift.Actual.Ended.Total() - drift.Stored.Ended.Total()
	}
	if !withhold || r.DryRun {
		r.addDrift(drift)
	}
	return withhold, nil
}

// addDrift notes a key whose count was wrong.
func (r *SweepReport) addDrift(drift Drift) {
	r.Drifting++
	if len(r.Drifts) < MaxReported {
		r.Drifts = append(r.Drifts, drift)
	}
}
