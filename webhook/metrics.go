package webhook

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/metric"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// metrics are the metrics of a receiver. No label holds anything that a
// sender chooses, so that no sender can make them grow.
type metrics struct {
	deliveries  *prometheus.CounterVec
	changes     *prometheus.CounterVec
	deadLetters *prometheus.CounterVec
	bytes       prometheus.Counter
	duration    prometheus.Histogram
	batches     prometheus.Histogram
	outOfOrder  prometheus.Counter
	lag         prometheus.Histogram
	mostLag     atomic.Int64 // since it was taken last, in nanoseconds
}

// The results of a delivery.
const (
	resultApplied     = "applied"
	resultBad         = "bad"
	resultStranger    = "unauthenticated"
	resultUnavailable = "unavailable"
	resultError       = "error"
)

// results are all of them.
var results = [...]string{resultApplied, resultBad, resultStranger, "too_large", "unsupported", "cut_off", resultUnavailable, resultError}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		deliveries: metric.CounterBy("deliveries_total", "Deliveries by what became of them.", "result",
			results[:]...),
		changes: metric.CounterBy("changes_total", "Row changes by what became of them: committed, of another table, or not readable.", "result",
			"changed", "unchanged", "ignored", "refused"),
		deadLetters: metric.CounterBy("dead_letters_total", "Authentic changes, and bodies that are no JSON, that could not be read, by whether they could be kept.", "result",
			"kept", "lost"),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "runcounter", Name: "delivery_body_bytes_total", Help: "Bytes of bodies read.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "runcounter", Name: "delivery_duration_seconds", Help: "Time from a delivery's headers to its answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "runcounter", Name: "batch_changes", Help: "Changes committed in one transaction.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 15),
		}),
		outOfOrder: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "runcounter", Name: "changes_out_of_order_total",
			Help: "Changes older than one of the same run that this instance saw shortly before. They do no harm.",
		}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "runcounter", Name: "delivery_lag_seconds", Help: "Time from the newest updated_at in a delivery to its arrival, by the clocks of both.",
			Buckets: prometheus.ExponentialBuckets(0.01, 3, 13),
		}),
	}
	registry.MustRegister(m.deliveries, m.changes, m.deadLetters, m.bytes, m.duration, m.batches, m.outOfOrder, m.lag)
	return m
}

// watchQueue adds the length of the queue.
func (m *metrics) watchQueue(registry prometheus.Registerer, waiting func() int) {
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "runcounter", Name: "queue_deliveries", Help: "Deliveries that wait for a transaction.",
	}, func() float64 { return float64(waiting()) }))
}

func (m *metrics) delivered(result string, a Answer, took time.Duration) {
	m.deliveries.WithLabelValues(result).Inc()
	m.duration.Observe(took.Seconds())
	m.changes.WithLabelValues("refused").Add(float64(len(a.Refused)))
	if result != resultApplied {
		return
	}
	m.changes.WithLabelValues("changed").Add(float64(a.Changed))
	m.changes.WithLabelValues("unchanged").Add(float64(a.Received - a.Ignored - len(a.Refused) - a.Changed))
	m.changes.WithLabelValues("ignored").Add(float64(a.Ignored))
}

// arrived notes when the changes of a delivery were made, and in which order.
func (m *metrics) arrived(changes []store.Change, now time.Time, seen *orderTracker) {
	m.outOfOrder.Add(float64(seen.late(changes)))
	if took, known := lag(changes, now); known {
		m.lag.Observe(took.Seconds())
		for most := m.mostLag.Load(); int64(took) > most && !m.mostLag.CompareAndSwap(most, int64(took)); {
			most = m.mostLag.Load()
		}
	}
}

func (m *metrics) kept(kept, lost int) {
	m.deadLetters.WithLabelValues("kept").Add(float64(kept))
	m.deadLetters.WithLabelValues("lost").Add(float64(lost))
}

// Totals add up the deliveries of a receiver since it was made. They only grow.
type Totals struct {
	Deliveries, Refused  float64 // all, and those that were not applied
	Failed               float64 // of those, the ones that the database or the program could not take
	Strangers            float64 // of those, the ones without a secret that fits
	Changed              float64 // changes that said something new
	Unchanged            float64 // changes that were known already
	OutOfOrder           float64 // changes
	LagSeconds, LagCount float64 // the sum of the delays that are known, and their number
	// Lost are the calls and statements that a mirror was told it misses, and nothing has
	// recovered; Told is false where no call has told.
	Lost int64
	Told bool
}

// Totals returns them as they are now.
func (r *Receiver) Totals() (t Totals) {
	read := func(m prometheus.Metric) *dto.Metric {
		var v dto.Metric
		_ = m.Write(&v) // of our own metrics, which are consistent
		return &v
	}
	for _, result := range results {
		n := read(r.metrics.deliveries.WithLabelValues(result)).GetCounter().GetValue()
		t.Deliveries += n
		if result != resultApplied {
			t.Refused += n
		}
		switch result {
		case resultUnavailable, resultError:
			t.Failed += n
		case resultStranger:
			t.Strangers += n
		}
	}
	t.Changed = read(r.metrics.changes.WithLabelValues("changed")).GetCounter().GetValue()
	t.Unchanged = read(r.metrics.changes.WithLabelValues("unchanged")).GetCounter().GetValue()
	t.OutOfOrder = read(r.metrics.outOfOrder).GetCounter().GetValue()
	lag := read(r.metrics.lag).GetHistogram()
	t.LagSeconds, t.LagCount = lag.GetSampleSum(), float64(lag.GetSampleCount())
	t.Lost, t.Told = r.losses.reported()
	return t
}

// TakeLag returns the greatest delay between a change and its arrival since it was taken
// last, 0 where none is known.
func (r *Receiver) TakeLag() time.Duration { return time.Duration(r.metrics.mostLag.Swap(0)) }

// resultOf names what became of a delivery.
func resultOf(err error) string {
	if err == nil {
		return resultApplied
	}
	if _, bad := errors.AsType[*BadDelivery](err); bad {
		return resultBad
	}
	switch problem.Of(err).Status {
	case fiber.StatusUnauthorized, fiber.StatusForbidden:
		return resultStranger
	case fiber.StatusRequestEntityTooLarge:
		return "too_large"
	case fiber.StatusUnsupportedMediaType:
		return "unsupported"
	case fiber.StatusBadRequest, fiber.StatusRequestTimeout:
		return "cut_off"
	case fiber.StatusServiceUnavailable:
		return resultUnavailable
	}
	return resultError
}
