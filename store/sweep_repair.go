package store

import (
	"context"
	"errors"
	"fmt"
)

const (
	// suspectsAtOnce is the number of suspects in one list. A list looks
	// through all open runs, so short ones would take a big backlog quadratic time.
	suspectsAtOnce = 20_000
	// refusalsOfUser is the number of rows of one user that a brief sweep lets the database
	// refuse before it goes past the user's others: each costs a statement, for
	// which the next user waits.
	refusalsOfUser = 100
	// failuresInRow is the number of batches in a row that may fail before a sweep gives
	// up: one that is held by a lock says nothing of the next, three mean that
	// the database is not there.
	failuresInRow = 3
)

// repair takes all suspects in the order of their ids, which costs no user
// more than another, batch by batch. The moment is that of the sweep's start
// for all of them, so runs that fall silent meanwhile don't keep it going.
func (s *Sweeper) repair(ctx context.Context, r *SweepReport, limits Limits, brief bool) error {
	round := repairs{sweeper: s, report: r, limits: limits, brief: brief, refused: map[ID]int{}, turns: map[ID]ID{}}
	if round.limits == nil {
		round.limits = DefaultLimits()
	}
	err := round.repairAll(ctx)
	if brief && err == nil {
		s.resumeAfter = round.turns
	}
	return err
}

// repairs is the part of one sweep that ends stuck runs.
type repairs struct {
	sweeper  *Sweeper
	report   *SweepReport
	limits   Limits
	brief    bool
	refused  map[ID]int // rows that the database refused, by user
	turns    map[ID]ID  // the last run of a user that was tried, where too many were refused
	failures int        // batches in a row
	errs     error
}

func (p *repairs) repairAll(ctx context.Context) error {
	f := FailStuck{Now: p.report.At, Limits: p.limits, Max: suspectsAtOnce}
	for {
		suspects, err := p.sweeper.Store.Suspects(ctx, f)
		if err != nil {
			return errors.Join(p.errs, fmt.Errorf("look for stuck runs: %w", err))
		}
		var batch []ID
		for _, one := range suspects {
			if p.postponed(one) {
				continue
			}
			if batch = append(batch, one.ID); len(batch) < p.sweeper.batch() {
				continue
			}
			if !p.repairBatch(ctx, batch) {
				return p.errs
			}
			batch = batch[:0]
		}
		if len(batch) > 0 && !p.repairBatch(ctx, batch) || len(suspects) < f.Max {
			return p.errs
		}
		f.After = suspects[len(suspects)-1].ID
	}
}

// postponed says whether a run has to wait for the next sweep, since too many
// of its user's were refused. The next one goes on behind those it tried.
func (p *repairs) postponed(one Suspect) bool {
	if !p.brief {
		return false
	}
	if behind, waits := p.sweeper.resumeAfter[one.User]; waits && one.ID.Compare(behind) <= 0 {
		p.report.Postponed++
		return true
	}
	if p.refused[one.User] >= refusalsOfUser {
		p.report.Postponed++
		return true
	}
	return false
}

// repairBatch repairs a batch, and reports whether to go on.
func (p *repairs) repairBatch(ctx context.Context, batch []ID) bool {
	done, err := p.sweeper.Store.FailStuck(ctx, FailStuck{Now: p.report.At, Limits: p.limits, Max: len(batch), Runs: batch, DryRun: p.report.DryRun})
	for _, one := range done {
		p.add(one)
	}
	if err == nil {
		p.failures = 0
		return true
	}
	p.errs = errors.Join(p.errs, fmt.Errorf("end stuck runs: %w", err))
	p.failures++
	return p.failures < failuresInRow && ctx.Err() == nil
}

func (p *repairs) add(one Repaired) {
	r := p.report
	if one.Refused == "" {
		r.Reasons[one.Reason]++
		if len(r.Repaired) < MaxReported {
			r.Repaired = append(r.Repaired, one)
		}
		return
	}
	r.Unwritable++
	if len(r.Refused) < MaxReported {
		r.Refused = append(r.Refused, one)
	}
	user := one.Before.User
	if p.refused[user]++; p.refused[user] >= refusalsOfUser {
		p.turns[user] = one.Before.ID
	}
}
