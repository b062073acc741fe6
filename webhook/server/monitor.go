package server

import (
	"net"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/webhook/internal/conns"
	"github.com/edgaze-ai/runcounter/webhook/internal/request"
)

// monitorConns bounds the connections of a listener for monitoring: a
// Prometheus, a platform's checks, a person.
const monitorConns = 32

// watcher marks a request that may see everything of how the server fares.
type watcher struct{}

// mayWatch reports whether a request may see figures and sentences about the
// server: where keys are set it brings one, or comes through [Server.Monitor].
func (s *Server) mayWatch(c *fiber.Ctx) bool {
	if s.keys.IsZero() || c.Locals(watcher{}) != nil {
		return true
	}
	key, ok := request.Bearer(c.Get(fiber.HeaderAuthorization))
	if !ok || !s.keys.Has(key) {
		return false
	}
	conns.Of(c).Show(conns.Trusted)
	return true
}

// Monitor answers /metrics, /readyz and /livez, and nothing else, from a
// listener that asks for no key: it is for a network that strangers can't
// reach. It returns after Shutdown, as Serve does.
func (s *Server) Monitor(ln net.Listener) error { return s.serve(s.monitor, ln, monitorConns) }

func (s *Server) routeMonitor(app *fiber.App) {
	app.Use(s.every, func(c *fiber.Ctx) error {
		c.Locals(watcher{}, true)
		return c.Next()
	})
	app.Get("/livez", livez)
	app.Get("/readyz", s.readyz)
	app.Get("/metrics", s.serveMetrics)
}
