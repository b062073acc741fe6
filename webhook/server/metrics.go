package server

import (
	"bytes"

	"github.com/edgaze-ai/runcounter/internal/version"
	"github.com/edgaze-ai/runcounter/webhook/internal/conns"
	"github.com/edgaze-ai/runcounter/webhook/internal/metric"
	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// watch registers what the server itself shows in /metrics: connections, and the process. No
// label holds anything that a sender chooses, so that no sender can make them grow.
func (s *Server) watch() {
	s.connEvents = metric.CounterBy("connection_events_total",
		"Connections that were closed for another one's sake (turned_out), and tries to accept one that failed (not_accepted).",
		"event", string(conns.TurnedOut), string(conns.NotAccepted))
	build := version.This()
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "runcounter", Name: "build_info", Help: "1, with the build of the server in its labels.",
	}, []string{"version", "revision", "goversion"})
	info.WithLabelValues(build.Version, build.Revision, build.Go).Set(1)
	s.registry.MustRegister(s.connEvents,
		info,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "runcounter", Name: "connections", Help: "Connections that are open.",
		}, func() float64 { return float64(s.connections()) }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.apiSeen = newAPIMetrics(s.registry)
	if s.cfg.Connections != nil {
		s.registry.MustRegister(pool(s.cfg.Connections))
	}
	if s.cfg.Sweeper != nil {
		s.registry.MustRegister(&gauges{sweeper: s.cfg.Sweeper, health: s.Health})
	}
}

// serveMetrics answers GET /metrics in the text format.
func (s *Server) serveMetrics(c *fiber.Ctx) error {
	if !s.mayWatch(c) {
		return problem.New(fiber.StatusUnauthorized, `The metrics need a key of the API: send the header "Authorization: Bearer <key>", or have them at an address that strangers can't reach, with RUNCOUNTER_METRICS_LISTEN.`)
	}
	families, err := s.registry.Gather()
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
