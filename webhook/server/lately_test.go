package server

import (
	"strings"
	"testing"
	"time"
)

func TestMetricsTellOfOrderAndDelay(t *testing.T) {
	r := serve(t, func(cfg *Config, _ *limits, _ *gated) {
		cfg.Now = func() time.Time { return time.Date(2026, 11, 22, 20, 10, 0, 0, time.UTC) }
	})
	for _, updated := range []string{"2026-11-22T20:09:58+00:00", "2026-11-22T20:09:50+00:00", "2027-01-01T00:00:00+00:00"} {
		r.deliver(inserted(row(1, "running", map[string]any{"updated_at": updated}))).answer(t)
	}
	r.deliver("{")
	r.do("POST", path, inserted(row(1, "running", map[string]any{"updated_at": "2020-01-01T00:00:00Z"})))
	metrics := string(r.api("GET", "/metrics", "").body)
	for _, line := range []string{
		"runcounter_changes_out_of_order_total 1",
		"runcounter_delivery_lag_seconds_count 2",
		"runcounter_delivery_lag_seconds_sum 12",
	} {
		if !strings.Contains(metrics, "\n"+line+"\n") {
			t.Errorf("/metrics lacks %s", line)
		}
	}
}
