// Package metric makes counters whose series are there from the start. It imports the
// client of Prometheus alone.
package metric

import "github.com/prometheus/client_golang/prometheus"

// CounterBy returns a counter by one label. Each series is there from the start:
// Prometheus sees no increase in one that begins with its first event, and the first
// is what an alert is for.
func CounterBy(name, help, label string, values ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "runcounter", Name: name, Help: help}, []string{label})
	for _, value := range values {
		v.WithLabelValues(value)
	}
	return v
}
