package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgaze-ai/runcounter/store"
)

var (
	connections     = describeMetric("database_connections", "Connections to the database, by what they do.", "state")
	connectionsMax  = describeMetric("database_connections_max", "Most connections to the database that this process opens.")
	connectionWaits = describeMetric("database_connection_waits_total", "Times that a call had to wait for a connection, since none was free.")
	connectionWait  = describeMetric("database_connection_wait_seconds_total", "Time that calls waited for a connection, since none was free.")
)

// pool tells Prometheus of the connections to the database.
type pool func() store.Connections

// Describe implements prometheus.Collector.
func (pool) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{connections, connectionsMax, connectionWaits, connectionWait} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (p pool) Collect(to chan<- prometheus.Metric) {
	c := p()
	to <- prometheus.MustNewConstMetric(connections, prometheus.GaugeValue, float64(c.InUse), "in_use")
	to <- prometheus.MustNewConstMetric(connections, prometheus.GaugeValue, float64(c.Idle), "idle")
	to <- prometheus.MustNewConstMetric(connectionsMax, prometheus.GaugeValue, float64(c.Most))
	to <- prometheus.MustNewConstMetric(connectionWaits, prometheus.CounterValue, float64(c.Waits))
	to <- prometheus.MustNewConstMetric(connectionWait, prometheus.CounterValue, c.Waited.Seconds())
}
