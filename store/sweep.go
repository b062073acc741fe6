package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Sweeper does the periodic job on any store: it ends stuck runs, repairs
// inconsistent rows, folds the ledger and audits the counts. Any number of
// sweepers may work on one database: each step is a transaction of the store,
// and what one has done, another finds done.
//
// Store is required. The other fields have usable zero values and are not
// changed once the sweeper is in use.
type Sweeper struct {
	Store  Maintainer
	Limits Limits           // [DefaultLimits] where nil
	Now    func() time.Time // [time.Now] where nil
	Log    *slog.Logger     // used by Run alone; [slog.Default] where nil

	// Source is the same store where it is a source, and nil where it is a mirror.
	Source Source

	// Rehearse makes Run say once, before it sweeps, what it would presume under
	// these limits, and how to set them; nil for nothing. It is for a source
	// where no limit was set, and Limits are empty.
	Rehearse Limits

	// Batch is the number of rows that one transaction takes, so that writers get their
	// turn in between; 500 where 0.
	Batch int
	// Slice is the number of keys that a sweep audits unless it is full; 1,000 where 0.
	// The next sweep goes on behind them.
	Slice int

	sweeping       sync.Mutex // one sweep at a time, since they share what follows
	cursor         Key
	resumeAfter    map[ID]ID         // behind which run the next sweep tries those of a user, of whom too many were refused
	complaints     map[string]string // what Run has complained of webhooks, by kind
	saidAltered    string            // what Run has said of the table
	saidPartitions string            // and of its partitions

	withheld      Withheld // what the last audit of all keys left, since partitions came or went
	withheldAmong []int64  // which they were

	mu     sync.Mutex
	status SweepStatus
}

// SweepOptions say how far a sweep goes.
type SweepOptions struct {
	DryRun bool // write nothing, and report what a sweep would do
	Full   bool // audit all keys instead of a slice of them
	// Brief goes past the other runs of a user of whom many were refused, and
	// leaves them to the next sweep, so that the other users' don't wait.
	Brief bool
	// Partitions has counts corrected that partitions have changed which came or
	// went, and audits all keys.
	Partitions bool
}

// MaxReported bounds the lists in a [SweepReport]. What is beyond is counted.
const MaxReported = 1000

// SweepReport says what a sweep did and why or, after a dry run, would do.
type SweepReport struct {
	At       time.Time
	DryRun   bool
	Full     bool
	Repaired []Repaired     // the first [MaxReported]
	Reasons  map[Reason]int // how many rows were repaired, by reason
	// Unwritable rows need a repair that the database refuses. They stay as
	// they are, and a sweep is not done while there are any.
	Unwritable int
	Refused    []Repaired // the first [MaxReported] of these
	// Postponed runs were not tried, since too many of their user's were
	// refused before them. The next sweep goes on there.
	Postponed int
	Folded    int // ledger rows moved into the counts
	Audited   int // keys compared with the runs behind them
	Drifts    []Drift
	Drifting  int     // keys whose count was wrong, of which Drifts are the first [MaxReported]
	Corrected int     // of these, how many this sweep recounted
	Totals    []Drift // of workflows, that were not the sum of their users' counts; corrected unless this was a dry run
	Webhooks  Deliveries
	// Altered says how the watched table differs from the one that the store was
	// made for, and what to do; "" where it does not.
	Altered string
	// Partitions are those of the watched table, and Withheld what they changed
	// and no operator has asked to correct.
	Partitions Partitions
	Withheld   Withheld
}

// Incomplete reports whether runs stay stuck that the sweep went past.
func (r SweepReport) Incomplete() bool { return r.Unwritable > 0 || r.Postponed > 0 }

// Repairs returns how many rows were repaired.
func (r SweepReport) Repairs() int {
	n := 0
	for _, of := range r.Reasons {
		n += of
	}
	return n
}

// SweepStatus sums up a sweeper's work since it was made. Dry runs are not
// part of it.
type SweepStatus struct {
	Report      SweepReport // of the last sweep
	Err         error       // of the last sweep
	FailedAt    time.Time   // when it failed; zero where it succeeded
	LastSuccess time.Time   // zero before the first
	Sweeps      int
	Failures    int // sweeps with an error
	Incomplete  int // sweeps without one that left rows they could not write
	Repaired    map[Reason]int
	Folded      int
	Drifting    int         // keys found wrong; more than 0 is a fault of the product, or our tables were written by hand
	LastDrift   SweepReport // of the last sweep that found any
}

// Sweep does the job once. A step that fails does not keep the others from
// being tried: the report says what was done all the same, and the error joins
// what went wrong. Calling again is always safe.
func (s *Sweeper) Sweep(ctx context.Context, o SweepOptions) (SweepReport, error) {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	r := SweepReport{At: Instant(s.now()), DryRun: o.DryRun, Full: o.Full || o.Partitions, Reasons: map[Reason]int{}}
	var err error
	if !o.DryRun {
		if err = s.Store.NoteAhead(ctx, r.At); err != nil {
			err = fmt.Errorf("note whose clock is ahead: %w", err)
		}
	}
	err = errors.Join(err, s.compareTable(ctx, &r))
	err = errors.Join(err, s.repair(ctx, &r, s.Limits, o.Brief && !o.Full && !o.DryRun))
	if !o.DryRun {
		err = errors.Join(err, s.fold(ctx, &r), s.settleDeliveries(ctx, &r))
	}
	err = errors.Join(err, s.audit(ctx, &r, o.Partitions))
	if !o.DryRun {
		s.remember(r, err)
	}
	return r, err
}

func (s *Sweeper) compareTable(ctx context.Context, r *SweepReport) (err error) {
	if s.Source == nil {
		return nil
	}
	if r.Altered, err = s.Source.Altered(ctx); err != nil {
		return fmt.Errorf("look whether the table was altered: %w", err)
	}
	return nil
}

func (s *Sweeper) fold(ctx context.Context, r *SweepReport) error {
	for {
		n, err := s.Store.Fold(ctx, r.At, s.batch())
		if err != nil {
			return fmt.Errorf("fold the ledger: %w", err)
		}
		r.Folded += n
		if n < s.batch() {
			return nil
		}
	}
}

// settleDeliveries asks what became of webhooks.
func (s *Sweeper) settleDeliveries(ctx context.Context, r *SweepReport) (err error) {
	if s.Source == nil {
		return nil
	}
	if r.Webhooks, err = s.Source.Deliveries(ctx, r.At); err != nil {
		return fmt.Errorf("look what became of webhooks: %w", err)
	}
	return nil
}

func (s *Sweeper) remember(r SweepReport, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.status
	st.Report, st.Err, st.FailedAt = r, err, time.Time{}
	st.Sweeps++
	if err != nil {
		st.Failures++
		st.FailedAt = r.At
	} else {
		st.LastSuccess = r.At
		if r.Incomplete() {
			st.Incomplete++
		}
	}
	if st.Repaired == nil {
		st.Repaired = map[Reason]int{}
	}
	for reason, n := range r.Reasons {
		st.Repaired[reason] += n
	}
	st.Folded += r.Folded
	st.Drifting += r.Drifting
	if r.Drifting > 0 {
		st.LastDrift = r
	}
}

// Status returns what the sweeper has done so far.
func (s *Sweeper) Status() SweepStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	st.Repaired = maps.Clone(st.Repaired)
	return st
}

// Degraded says in sentences what an operator should know: that the last sweep
// failed, for a day that drift was found, and what is wrong with webhooks. It
// names no key and repeats no error, since strangers may read it. It returns
// nothing when all is well.
func (s *Sweeper) Degraded() []string {
	st := s.Status()
	var all []string
	if st.Err != nil {
		all = append(all, fmt.Sprintf("The last sweep failed at %s; the log says why. The next one tries again.", st.FailedAt.Format(time.RFC3339)))
	}
	if n := st.Report.Unwritable; n > 0 {
		all = append(all, fmt.Sprintf("The last sweep could not write all runs that are stuck: the database refused %d. The log names some with the reason, and runcounter sweep all.", n))
	}
	if d := st.LastDrift; d.Drifting > 0 && s.now().Sub(d.At) < 24*time.Hour {
		all = append(all, fmt.Sprintf("Drift was found at %s in %d of %d audited keys, and corrected in %d. It should never happen: the log says which.",
			d.At.Format(time.RFC3339), d.Drifting, d.Audited, d.Corrected))
	}
	if st.Report.Altered != "" {
		all = append(all, "The watched table was altered, and what counts its runs was made for the table as it was: the log and runcounter doctor say how, and what to do.")
	}
	if st.Report.Partitions.Moved() {
		all = append(all, fmt.Sprintf("Partitions of the watched table came or went, and %d counts differ from the runs that are there. They stay as they are until an operator asks: the log and runcounter sweep say how.", st.Report.Withheld.Keys))
	}
	if n := len(st.Report.Partitions.Untold); n > 0 {
		all = append(all, fmt.Sprintf("A TRUNCATE of one of %d partitions alone is not counted until an audit finds it: the log and runcounter doctor say why.", n))
	}
	for _, c := range st.Report.Webhooks.Complaints() {
		all = append(all, c.ToStrangers())
	}
	return all
}

// Run sweeps at once, and then about every so often until ctx is done. Each
// pause differs by up to a tenth, so that instances which were started
// together don't stay together. It logs what was done.
func (s *Sweeper) Run(ctx context.Context, every time.Duration) {
	if s.Rehearse != nil {
		s.rehearse(ctx)
	}
	for {
		r, err := s.Sweep(ctx, SweepOptions{Brief: true})
		if ctx.Err() != nil {
			return // what failed then failed because it was told to stop
		}
		s.report(ctx, r, err)
		pause := time.NewTimer(time.Duration(float64(every) * (0.9 + 0.2*rand.Float64())))
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}

func (s *Sweeper) report(ctx context.Context, r SweepReport, err error) {
	log := s.log()
	s.complain(ctx, log, r.Webhooks)
	if r.Altered != s.saidAltered {
		if s.saidAltered = r.Altered; r.Altered != "" {
			log.ErrorContext(ctx, "the watched table was altered", "how", r.Altered)
		} else {
			log.InfoContext(ctx, "the watched table is again as the migrations know it")
		}
	}
	if moved := strings.Join(r.PartitionSentences(), "; "); moved != s.saidPartitions {
		if s.saidPartitions = moved; moved != "" {
			log.ErrorContext(ctx, "partitions", "what", moved)
		} else {
			log.InfoContext(ctx, "the counts hold the runs of the table's partitions again")
		}
	}
	for _, d := range r.Drifts {
		log.ErrorContext(ctx, "drift: a count differed from the runs behind it",
			"user_id", d.Key.User.String(), string(d.Key.Kind)+"_id", d.Key.Ref.String(), "stored", d.Stored, "actual", d.Actual)
	}
	for _, d := range r.Totals[:min(len(r.Totals), MaxReported)] {
		log.ErrorContext(ctx, "drift: a total differed from the counts of its users",
			string(d.Key.Kind)+"_id", d.Key.Ref.String(), "stored", d.Stored, "actual", d.Actual)
	}
	for _, one := range r.Repaired {
		log.DebugContext(ctx, "run repaired", "run_id", one.Before.ID.String(), "reason", string(one.Reason),
			"was", string(one.Before.Status), "becomes", string(one.After.Status), "completed_at", one.After.CompletedAt)
	}
	for _, one := range r.Refused[:min(len(r.Refused), 5)] {
		log.WarnContext(ctx, "a run stays stuck, since the database refuses the repair", "run_id", one.Before.ID.String(),
			"user_id", one.Before.User.String(), "was", string(one.Before.Status), "refused", one.Refused)
	}
	level := slog.LevelDebug
	switch {
	case err != nil:
		level = slog.LevelError
	case r.Incomplete():
		level = slog.LevelWarn
	case r.Repairs() > 0 || r.Drifting > 0:
		level = slog.LevelInfo
	}
	attrs := []any{"repaired", r.Reasons, "folded", r.Folded, "audited", r.Audited, "drifting", r.Drifting, "corrected", r.Corrected}
	if r.Incomplete() {
		attrs = append(attrs, "unwritable", r.Unwritable, "postponed", r.Postponed)
	}
	if r.Webhooks.Watched {
		attrs = append(attrs, "webhooks", r.Webhooks.Calls)
	}
	if err != nil {
		attrs = append(attrs, "error", err)
	}
	log.Log(ctx, level, "sweep", attrs...)
}

// complain logs what is wrong with webhooks when it begins, and when it is over:
// the same in each sweep would bury the rest.
func (s *Sweeper) complain(ctx context.Context, log *slog.Logger, d Deliveries) {
	if !d.Watched {
		return // nothing is known, which changes nothing
	}
	told := map[string]string{}
	for _, c := range d.Complaints() {
		told[c.Kind] = c.What
		if _, before := s.complaints[c.Kind]; !before {
			log.WarnContext(ctx, "webhooks: "+c.What, "example", c.Why, "fix", c.Fix)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(s.complaints)) {
		if _, still := told[kind]; !still {
			log.InfoContext(ctx, "webhooks: this is over", "was", s.complaints[kind])
		}
	}
	s.complaints = told
}

// rehearse logs what would be presumed, and writes nothing.
func (s *Sweeper) rehearse(ctx context.Context) {
	log := s.log()
	would := SweepReport{At: Instant(s.now()), DryRun: true, Reasons: map[Reason]int{}}
	if err := s.repair(ctx, &would, s.Rehearse, false); err != nil {
		return // the first sweep meets the same, and says so
	}
	log.WarnContext(ctx, "no limit is set for silent runs, so none is ever presumed failed: say how long a run may be silent with "+
		"RUNCOUNTER_STUCK_AFTER, such as pending=5m,running=30m,cancelling=10m; 0 is never, and ends this warning",
		"silent_for_5m_now", would.Reasons[Stuck])
	for _, one := range would.Repaired[:min(len(would.Repaired), 20)] {
		if one.Reason == Stuck {
			log.WarnContext(ctx, "with a limit of 5m this run would end", "run_id", one.Before.ID.String(),
				"was", string(one.Before.Status), "becomes", string(one.After.Status), "completed_at", one.After.CompletedAt)
		}
	}
}

func (s *Sweeper) now() time.Time {
	if s.Now == nil {
		return time.Now()
	}
	return s.Now()
}

func (s *Sweeper) log() *slog.Logger {
	if s.Log == nil {
		return slog.Default()
	}
	return s.Log
}

func (s *Sweeper) batch() int {
	if s.Batch <= 0 {
		return 500
	}
	return s.Batch
}

func (s *Sweeper) slice() int {
	if s.Slice <= 0 {
		return 1000
	}
	return s.Slice
}
