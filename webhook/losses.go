package webhook

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// losses counts the calls and statements that were lost on their way to a mirror, as
// our own webhook says with each call that arrives. A mirror can't know by
// itself what it was not told.
type losses struct {
	mu    sync.Mutex
	known bool // a call has said it
	at    int64
	n     int64
}

// Unrecovered describes the metric of what was lost, which a mirror has by what it
// is told and a source by its sweeps.
var Unrecovered = prometheus.NewDesc("runcounter_webhook_unrecovered",
	"Calls and statements that were lost, and nothing has recovered: neither an import into the mirror nor runcounter webhook acknowledge.", nil, nil)

// hear takes what a call that was taken says of those before it. It is signed
// like a proof, since every SQL role can read a call and send it again. Then it is
// older than what was told since, or lacks the number: so the newest counts, and
// of the same second the one that says most. Calls overtake one another, too.
func (l *losses) hear(c *fiber.Ctx, secrets Secrets) {
	id, at := c.Get("webhook-id"), c.Get("webhook-timestamp")
	number, signatures, lost := strings.Cut(c.Get("webhook-lost"), " ")
	message := "lost." + id + "." + at + "." + number
	if !lost {
		number, signatures, message = "0", c.Get(proofHeader), proofMessage(id, at)
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || !secrets.signs(message, signatures) {
		return
	}
	made, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.known || made > l.at || made == l.at && n > l.n {
		l.known, l.at, l.n = true, made, n
	}
}

// reported returns the number of losses, and whether any call has said one.
func (l *losses) reported() (n int64, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n, l.known
}

// degraded reports losses as a sentence for /readyz.
func (l *losses) degraded() []string {
	n, _ := l.reported()
	if n == 0 {
		return nil
	}
	what := "1 call or statement was lost"
	if n > 1 {
		what = fmt.Sprintf("%d calls and statements were lost", n)
	}
	return []string{what + " on the way here or not read in full, and nothing has recovered it. Fix: runcounter import --from reads what they told; runcounter webhook status says which they are."}
}

// Describe implements prometheus.Collector.
func (l *losses) Describe(to chan<- *prometheus.Desc) { to <- Unrecovered }

// Collect implements prometheus.Collector. There is nothing to tell before a
// webhook of our own has told anything.
func (l *losses) Collect(to chan<- prometheus.Metric) {
	if n, known := l.reported(); known {
		to <- prometheus.MustNewConstMetric(Unrecovered, prometheus.GaugeValue, float64(n))
	}
}
