package webhook

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"github.com/edgaze-ai/runcounter/store"
)

// metrics are what /metrics shows. No label holds anything that a sender
// chooses, so that no sender can make them grow.
type metrics struct {
	registry    *prometheus.Registry
	deliveries  *prometheus.CounterVec
	changes     *prometheus.CounterVec
	tries       *prometheus.CounterVec
	deadLetters *prometheus.CounterVec
	streamed    prometheus.Counter
	bytes       prometheus.Counter
	duration    prometheus.Histogram
	batches     prometheus.Histogram
	outOfOrder  prometheus.Counter
	lag         prometheus.Histogram
	connEvents  *prometheus.CounterVec
	refused     *prometheus.CounterVec
}

func newMetrics() *metrics {
	// Each series is there from the start: Prometheus sees no increase in one
	// that begins with its first event, and the first is what an alert is for.
	byResult := func(name, help string, results ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "runcounter", Name: name, Help: help}, []string{"result"})
		for _, result := range results {
			v.WithLabelValues(result)
		}
		return v
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		deliveries: byResult("deliveries_total", "Deliveries by what became of them.",
			"applied", "bad", "unauthenticated", "too_large", "unsupported", "cut_off", "unavailable", "error"),
		changes: byResult("changes_total", "Row changes by what became of them: committed, of another table, or not readable.",
			"changed", "unchanged", "ignored", "refused"),
		tries: byResult("store_tries_total", "Transactions tried, by how they ended.",
			"ok", "unavailable", "refused", "cancelled", "error"),
		deadLetters: byResult("dead_letters_total", "Authentic changes, and bodies that are no JSON, that could not be read, by whether they could be kept.",
			"kept", "lost"),
		connEvents: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "runcounter", Name: "connection_events_total",
			Help: "Connections that were closed for another one's sake (turned_out), and tries to accept one that failed (not_accepted).",
		}, []string{"event"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "runcounter", Name: "refused_requests_total",
			Help: "Requests that were refused for who sent them or for want of a place, by where they went and the status of the answer.",
		}, []string{"door", "status"}),
		streamed: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "runcounter", Name: "stream_events_total", Help: "Counts told to streams.",
		}),
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
	for _, door := range [...]string{"webhook", "stream", "dead_letters", "api", "health", "console"} { // those of doorOf
		for _, status := range [...]string{"401", "403", "429", "503"} {
			m.refused.WithLabelValues(door, status)
		}
	}
	for _, event := range [...]connEvent{turnedOut, notLetIn} {
		m.connEvents.WithLabelValues(string(event))
	}
	m.registry.MustRegister(m.streamed, m.deliveries, m.changes, m.tries, m.deadLetters, m.bytes, m.duration, m.batches, m.outOfOrder, m.lag, m.connEvents, m.refused,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// watch adds the length of the queue, and the numbers of open streams and
// connections.
func (m *metrics) watch(waiting func() int, open *streams, connections func() int) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Namespace: "runcounter", Name: "streams_displaced_total", Help: "Streams that were ended for those of users who had fewer.",
	}, func() float64 { return float64(open.taken()) }))
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "runcounter", Name: "connections", Help: "Connections that are open.",
	}, func() float64 { return float64(connections()) }))
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "runcounter", Name: "streams", Help: "Streams of counts that are open.",
	}, func() float64 { return float64(open.open()) }))
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "runcounter", Name: "queue_deliveries", Help: "Deliveries that wait for a transaction.",
	}, func() float64 { return float64(waiting()) }))
}

func (m *metrics) delivered(result string, a answer, took time.Duration) {
	m.deliveries.WithLabelValues(result).Inc()
	m.duration.Observe(took.Seconds())
	m.changes.WithLabelValues("refused").Add(float64(len(a.Refused)))
	if result != "applied" {
		return
	}
	m.changes.WithLabelValues("changed").Add(float64(a.Changed))
	m.changes.WithLabelValues("unchanged").Add(float64(a.Received - a.Ignored - len(a.Refused) - a.Changed))
	m.changes.WithLabelValues("ignored").Add(float64(a.Ignored))
}

// arrived notes when the changes of a delivery were made, and in which order.
func (m *metrics) arrived(changes []store.Change, now time.Time, seen *lately) {
	m.outOfOrder.Add(float64(seen.late(changes)))
	if took, known := lag(changes, now); known {
		m.lag.Observe(took.Seconds())
	}
}

func (m *metrics) tried(err error) {
	result := "ok"
	switch {
	case errors.Is(err, store.ErrUnavailable):
		result = "unavailable"
	case errors.Is(err, store.ErrNotFound), errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrInvalid):
		result = "refused"
	case errors.Is(err, context.Canceled):
		result = "cancelled"
	case err != nil:
		result = "error"
	}
	m.tries.WithLabelValues(result).Inc()
}

func (m *metrics) kept(kept, lost int) {
	m.deadLetters.WithLabelValues("kept").Add(float64(kept))
	m.deadLetters.WithLabelValues("lost").Add(float64(lost))
}

// resultOf names what became of a delivery.
func resultOf(err error) string {
	if err == nil {
		return "applied"
	}
	if _, bad := errors.AsType[*BadDelivery](err); bad {
		return "bad"
	}
	switch problemOf(err).Status {
	case fiber.StatusUnauthorized, fiber.StatusForbidden:
		return "unauthenticated"
	case fiber.StatusRequestEntityTooLarge:
		return "too_large"
	case fiber.StatusUnsupportedMediaType:
		return "unsupported"
	case fiber.StatusBadRequest, fiber.StatusRequestTimeout:
		return "cut_off"
	case fiber.StatusServiceUnavailable:
		return "unavailable"
	}
	return "error"
}

// serveMetrics answers GET /metrics in the text format.
func (s *Server) serveMetrics(c *fiber.Ctx) error {
	if !s.mayWatch(c) {
		return newProblem(fiber.StatusUnauthorized, `The metrics need a key of the API: send the header "Authorization: Bearer <key>", or have them at an address that strangers can't reach, with RUNCOUNTER_METRICS_LISTEN.`)
	}
	families, err := s.metrics.registry.Gather()
	if err != nil {
		return err
	}
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	var out bytes.Buffer
	enc := expfmt.NewEncoder(&out, format)
	for _, family := range families {
		if err := enc.Encode(family); err != nil {
			return err
		}
	}
	c.Set(fiber.HeaderContentType, string(format))
	return c.Send(out.Bytes())
}
