package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
)

// gauges tells Prometheus what the sweeper did and what the database holds.
type gauges struct {
	sweeper *store.Sweeper
	health  func() (store.Health, error) // shared with the console: scrapes must not become load
}

func describeMetric(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("runcounter_"+name, help, labels, nil)
}

var (
	lastSuccess = describeMetric("sweep_last_success_timestamp_seconds", "When a sweep last went round; 0 before the first.")
	sweeps      = describeMetric("sweeps_total", "Sweeps, by how they ended: ok, incomplete where the database refused to write some runs, failed.", "result")
	unwritable  = describeMetric("unwritable_runs", "Runs that the last sweep could not end, since the database refuses to write them; more than 0 needs attention.")
	repaired    = describeMetric("repaired_runs_total", "Runs that sweeps repaired, by reason.", "reason")
	folded      = describeMetric("folded_ledger_rows_total", "Ledger rows that sweeps folded into the counts.")
	drifting    = describeMetric("drifting_keys_total", "Keys that sweeps found to differ from the runs behind them; more than 0 needs attention.")
	holds       = describeMetric("database_rows", "What the database holds that needs attention.", "what")

	// As the last sweep of a source found them; absent where it could not look.
	webhookCalls  = describeMetric("webhook_calls", "Calls of workflow_runs's webhooks that were made in the last 15 minutes or wait, by what became of them.", "fate")
	webhookQueue  = describeMetric("webhook_queue_calls", "Calls in pg_net's queue, of whichever webhook; at most 10001.")
	webhookWorker = describeMetric("webhook_worker_up", "Whether pg_net's worker runs, which sends webhooks: 1 or 0; absent where the role can't see it.")
	webhookOldest = describeMetric("webhook_oldest_waiting_seconds", "How long the oldest call of workflow_runs's webhooks has waited to be sent; 0 where none waits.")
	webhookFailed = describeMetric("webhook_failed_statements", "Statements that were committed without their webhook, and nothing has recovered.")
)

// Describe implements prometheus.Collector.
func (g *gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		lastSuccess, sweeps, unwritable, repaired, folded, drifting, holds, webhookCalls, webhookQueue, webhookWorker, webhookOldest, webhookFailed,
	} {
		to <- d
	}
	if g.sweeper.Source != nil { // a mirror's is the server's own
		to <- webhook.Unrecovered
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(to chan<- prometheus.Metric) {
	number := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	st := g.sweeper.Status()
	at := 0.0
	if !st.LastSuccess.IsZero() {
		at = float64(st.LastSuccess.UnixMilli()) / 1000
	}
	number(lastSuccess, prometheus.GaugeValue, at)
	number(sweeps, prometheus.CounterValue, float64(st.Sweeps-st.Failures-st.Incomplete), "ok")
	number(sweeps, prometheus.CounterValue, float64(st.Incomplete), "incomplete")
	number(sweeps, prometheus.CounterValue, float64(st.Failures), "failed")
	number(unwritable, prometheus.GaugeValue, float64(st.Report.Unwritable))
	for _, reason := range []store.Reason{store.Stuck, store.NoTime, store.Overwritten} {
		number(repaired, prometheus.CounterValue, float64(st.Repaired[reason]), string(reason))
	}
	number(folded, prometheus.CounterValue, float64(st.Folded))
	number(drifting, prometheus.CounterValue, float64(st.Drifting))
	collectWebhooks(st.Report.Webhooks, func(d *prometheus.Desc, v float64, labels ...string) { number(d, prometheus.GaugeValue, v, labels...) })

	h, err := g.health()
	if err != nil {
		return // the absence of the series says so, and the others stay readable
	}
	for what, n := range map[string]int64{
		"active_runs": h.Active, "runs_without_key": h.NoKey, "runs_with_unknown_status": h.UnknownStatus,
		"runs_ended_too_soon": h.EndedTooSoon, "ledger_rows": h.Ledger, "dead_letters": h.DeadLetters,
	} {
		number(holds, prometheus.GaugeValue, float64(n), what)
	}
}

func collectWebhooks(w store.Deliveries, gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	if !w.Watched {
		return
	}
	for _, fate := range store.Fates {
		gauge(webhookCalls, float64(w.Calls[fate]), string(fate))
	}
	gauge(webhookQueue, float64(w.Queued))
	gauge(webhookOldest, w.Oldest.Seconds())
	gauge(webhookFailed, float64(w.Failed))
	gauge(webhook.Unrecovered, float64(w.Unrecovered()))
	switch w.Worker {
	case store.WorkerUp:
		gauge(webhookWorker, 1)
	case store.WorkerDown:
		gauge(webhookWorker, 0)
	case store.WorkerUnseen:
	}
}
