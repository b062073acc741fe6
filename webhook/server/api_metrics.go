package server

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// elsewhere is the route of a request below /v1 that was answered before it reached one:
// it has no key, or its address does not exist.
const elsewhere = "other"

// apiMetrics counts and measures the requests below /v1. A route is a pattern, and a
// method one that it is served by, so that no sender can make the series grow.
type apiMetrics struct {
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
	known    map[[2]string]string // by method and path as Fiber has it, the path as it is described
}

func newAPIMetrics(registry prometheus.Registerer) *apiMetrics {
	m := &apiMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "runcounter", Name: "api_requests_total", Help: "Requests below /v1, by route and class of the status; the route other is of those that were refused before they reached one.",
		}, []string{"method", "route", "code"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "runcounter", Name: "api_request_duration_seconds", Help: "Time from the headers of a request below /v1 to its answer, of a stream to its beginning.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}, []string{"method", "route"}),
		known: map[[2]string]string{},
	}
	registry.MustRegister(m.requests, m.took)
	m.expect(elsewhere, elsewhere)
	return m
}

// expect makes the series of a route: an alert would miss the first event of one that
// begins with it.
func (m *apiMetrics) expect(method, route string) {
	m.took.WithLabelValues(method, route)
	for _, code := range [...]string{"2xx", "3xx", "4xx", "5xx"} {
		m.requests.WithLabelValues(method, route, code)
	}
}

var parameter = regexp.MustCompile(`:(\w+)`)

// learn expects all routes of an app below /v1.
func (m *apiMetrics) learn(app *fiber.App) {
	for _, r := range app.GetRoutes(true) {
		if strings.HasPrefix(r.Path, "/v1/") && r.Method != fiber.MethodHead {
			described := parameter.ReplaceAllString(r.Path, "{$1}")
			m.known[[2]string{r.Method, r.Path}] = described
			m.expect(r.Method, described)
		}
	}
}

// measure goes before the handlers of /v1.
func (m *apiMetrics) measure(c *fiber.Ctx) (err error) {
	began, status := time.Now(), fiber.StatusInternalServerError // of a panic
	defer func() {
		method := c.Method()
		if method == fiber.MethodHead {
			method = fiber.MethodGet
		}
		route := m.known[[2]string{method, c.Route().Path}]
		if route == "" {
			method, route = elsewhere, elsewhere
		}
		m.requests.WithLabelValues(method, route, strconv.Itoa(status/100)+"xx").Inc()
		m.took.WithLabelValues(method, route).Observe(time.Since(began).Seconds())
	}()
	err = c.Next()
	if status = c.Response().StatusCode(); err != nil {
		status = problem.Of(err).Status
	}
	return err
}
