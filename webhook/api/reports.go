package api

import (
	"github.com/edgaze-ai/runcounter/store"
)

// What the command's reports are with --json. The server answers none of them.

// each converts the elements of a list; the result is never null in JSON.
func each[A, B any](list []A, of func(A) B) []B {
	all := make([]B, 0, len(list))
	for _, one := range list {
		all = append(all, of(one))
	}
	return all
}

// Key is a key with one field for each id.
type Key struct {
	User     store.ID `json:"user_id"`
	Workflow store.ID `json:"workflow_id"`
	Draft    store.ID `json:"draft_id"`
}

func keyOf(k store.Key) Key { return Key{k.User, k.Workflow(), k.Draft()} }

// Drift is a key whose count is, or was, wrong.
type Drift struct {
	Key
	Stored store.Tallies `json:"stored"`
	Actual store.Tallies `json:"actual"`
}

func driftOf(d store.Drift) Drift { return Drift{keyOf(d.Key), d.Stored, d.Actual} }

// ExplainedRun is a run with the reason why it is, or is not, counted.
type ExplainedRun struct {
	ID store.ID `json:"run_id"`
	Key
	Status      store.Status `json:"status"`
	CreatedAt   Instant      `json:"created_at"`
	StartedAt   Instant      `json:"started_at"`
	UpdatedAt   Instant      `json:"updated_at"`
	CompletedAt Instant      `json:"completed_at"`
	Duration    store.Millis `json:"duration_ms"`
	Presumed    bool         `json:"presumed"`
	Counted     bool         `json:"counted"`
	Verdict     string       `json:"verdict"`
}

func explainedBy(p store.Policy) func(store.Run) ExplainedRun {
	return func(r store.Run) ExplainedRun {
		return ExplainedRun{
			r.ID, Key{r.User, r.Workflow, r.Draft}, r.Status, Instant(r.CreatedAt), Instant(r.StartedAt), Instant(r.UpdatedAt),
			Instant(r.CompletedAt), r.DurationMS, r.Presumed, r.Counted, r.Verdict(p),
		}
	}
}

// RepairLog is one reason for which a run was repaired.
type RepairLog struct {
	Reason      store.Reason `json:"reason"`
	Times       int          `json:"times"`
	First       Instant      `json:"first_at"`
	Last        Instant      `json:"last_at"`
	Was         store.Status `json:"was"`
	Status      store.Status `json:"status"`
	CompletedAt Instant      `json:"completed_at"`
}

// AmendmentLog is one amendment of a run.
type AmendmentLog struct {
	At             Instant      `json:"at"`
	Who            string       `json:"who"`
	Why            string       `json:"why"`
	Was            store.Status `json:"was"`
	WasCompletedAt Instant      `json:"was_completed_at"`
	Status         store.Status `json:"status"`
}

// History explains a run.
type History struct {
	Found      bool           `json:"found"`
	DeletedAt  Instant        `json:"deleted_at"`
	Policy     string         `json:"policy"`
	Run        *ExplainedRun  `json:"run"`
	Count      *Count         `json:"count"`
	Repairs    []RepairLog    `json:"repairs"`
	Amendments []AmendmentLog `json:"amendments"`
}

// HistoryOf returns the history of a run as explain --json prints it.
func HistoryOf(h store.History) History {
	out := History{
		Found: h.Found, DeletedAt: Instant(h.DeletedAt), Policy: h.Policy.String(),
		Repairs: each(h.Repairs, func(l store.RepairLog) RepairLog {
			return RepairLog{l.Reason, l.Times, Instant(l.First), Instant(l.Last), l.Was, l.Status, Instant(l.CompletedAt)}
		}),
		Amendments: each(h.Amendments, func(l store.AmendmentLog) AmendmentLog {
			return AmendmentLog{Instant(l.At), l.Who, l.Why, l.Was, Instant(l.WasCompletedAt), l.Status}
		}),
	}
	if h.Found {
		run, count := explainedBy(h.Policy)(h.Run), CountOf(h.Count)
		out.Run = &run
		if !h.Count.Key.IsZero() {
			out.Count = &count
		}
	}
	return out
}

// RecountLog is one repair of a count.
type RecountLog struct {
	At     Instant       `json:"at"`
	Before store.Tallies `json:"before"`
	After  store.Tallies `json:"after"`
}

// KeyHistory explains a count.
type KeyHistory struct {
	Count    Count          `json:"count"`
	Policy   string         `json:"policy"`
	Drift    Drift          `json:"compared"`
	Cause    string         `json:"likely_cause"`
	Ledger   int64          `json:"ledger_rows"`
	Active   int64          `json:"active"`
	Runs     []ExplainedRun `json:"runs"`
	Recounts []RecountLog   `json:"recounts"`
}

// KeyHistoryOf returns the history of a key as explain --json prints it.
func KeyHistoryOf(h store.KeyHistory) KeyHistory {
	return KeyHistory{
		CountOf(h.Count), h.Policy.String(), driftOf(h.Drift), h.Cause, h.Ledger, h.Active, each(h.Runs, explainedBy(h.Policy)),
		each(h.Recounts, func(l store.RecountLog) RecountLog { return RecountLog{Instant(l.At), l.Before, l.After} }),
	}
}

// Cause is the likely cause of one wrong count, with runs behind it.
type Cause struct {
	Key
	Cause string         `json:"likely_cause"`
	Runs  []ExplainedRun `json:"runs"`
}

// Audit compares all counts with the runs behind them.
type Audit struct {
	Keys     int          `json:"keys"`
	Drifting int          `json:"drifting"`
	Drifts   []Drift      `json:"drifts"`
	Causes   []Cause      `json:"causes"`
	Totals   []Drift      `json:"totals"`
	Health   store.Health `json:"health"`
	Odd      []ListedRun  `json:"odd"`
}

// AuditOf returns an audit as audit --json prints it, of a source or a mirror.
func AuditOf(a store.FullAudit, source bool) Audit {
	return Audit{
		a.Keys, len(a.Drifts), each(a.Drifts, driftOf),
		each(a.Causes, func(h store.KeyHistory) Cause {
			return Cause{keyOf(h.Drift.Key), h.Cause, each(h.Runs, explainedBy(h.Policy))}
		}),
		each(a.Totals, driftOf), a.Health, ListedRunsOf(store.OddRuns, a.Odd, source),
	}
}

// Recount is a key that was recounted.
type Recount struct {
	Key
	Before  store.Tallies `json:"before"`
	After   store.Tallies `json:"after"`
	Changed bool          `json:"changed"`
}

// Recounted lists the keys that were recounted.
type Recounted struct {
	Recounted []Recount `json:"recounted"`
}

// RecountedOf returns recounts as recount --json prints them.
func RecountedOf(done []store.RecountResult) Recounted {
	return Recounted{each(done, func(r store.RecountResult) Recount { return Recount{keyOf(r.Key), r.Before, r.After, r.Changed()} })}
}

// Repair is a run that a sweep repaired, or would.
type Repair struct {
	ID          store.ID     `json:"run_id"`
	Was         store.Status `json:"was"`
	Becomes     store.Status `json:"becomes"`
	CompletedAt Instant      `json:"completed_at"`
	Reason      store.Reason `json:"reason"`
}

// Refused is a run that stays as it is, since the database refuses the repair.
type Refused struct {
	ID      store.ID     `json:"run_id"`
	User    store.ID     `json:"user_id"`
	Was     store.Status `json:"was"`
	Refused string       `json:"reason"`
}

// Sweep reports a sweep.
type Sweep struct {
	DryRun     bool        `json:"dry_run"`
	Full       bool        `json:"full"`
	Repaired   int         `json:"repaired"`
	Repairs    []Repair    `json:"repairs"`
	Unwritable int         `json:"unwritable"`
	Refused    []Refused   `json:"refused"`
	Folded     int         `json:"folded"`
	Audited    int         `json:"audited"`
	Drifting   int         `json:"drifting"`
	Corrected  int         `json:"corrected"`
	Drifts     []Drift     `json:"drifts"`
	Totals     []Drift     `json:"totals"`   // of workflows, that were not the sum of their users' counts
	Webhooks   *Deliveries `json:"webhooks"` // null where it could not be read
	// Partitions came or went, and changed the counts of so many keys that stay as they are.
	NewPartitions  []string `json:"new_partitions"`
	GonePartitions []string `json:"gone_partitions"`
	Withheld       int      `json:"withheld"`
}

// SweepOf returns a sweep as sweep --json prints it.
func SweepOf(r store.SweepReport) Sweep {
	return Sweep{
		r.DryRun, r.Full, r.Repairs(),
		each(r.Repaired, func(one store.Repaired) Repair {
			return Repair{one.Before.ID, one.Before.Status, one.After.Status, Instant(one.After.CompletedAt), one.Reason}
		}),
		r.Unwritable,
		each(r.Refused, func(one store.Repaired) Refused {
			return Refused{one.Before.ID, one.Before.User, one.Before.Status, one.Refused}
		}),
		r.Folded, r.Audited, r.Drifting, r.Corrected, each(r.Drifts, driftOf), each(r.Totals, driftOf), deliveriesOf(r.Webhooks),
		append([]string{}, r.Partitions.New...), append([]string{}, r.Partitions.Gone...), r.Withheld.Keys,
	}
}

// Deliveries sums up the webhooks of the last minutes.
type Deliveries struct {
	Minutes    int                  `json:"minutes"`
	Calls      map[store.Fate]int64 `json:"calls"`
	Queued     int64                `json:"queued"`
	Oldest     float64              `json:"oldest_waiting_seconds"`
	Worker     *bool                `json:"worker_up"` // null where it can't be seen
	Failed     int64                `json:"failed_statements"`
	Complaints []store.Complaint    `json:"complaints"`
}

func deliveriesOf(d store.Deliveries) *Deliveries {
	if !d.Watched {
		return nil
	}
	j := Deliveries{int(d.Window.Minutes()), map[store.Fate]int64{}, d.Queued, d.Oldest.Seconds(), nil, d.Failed, append([]store.Complaint{}, d.Complaints()...)}
	for _, fate := range store.Fates {
		j.Calls[fate] = d.Calls[fate]
	}
	if up := d.Worker == store.WorkerUp; d.Worker != store.WorkerUnseen {
		j.Worker = &up
	}
	return &j
}
