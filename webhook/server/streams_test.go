package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/edgaze-ai/runcounter/internal/wait"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

func TestCaseD9_PlacesOfStreams(t *testing.T) {
	t.Run("case D9: a place is free when its connection is", func(t *testing.T) {
		r := withUsers(t, nil, users.Config{Secret: legacy}, nil)
		ada := signed(t, jwt.SigningMethodHS256, []byte(legacy), good("", nil), nil)
		var all []*events
		for range streamsOfAUser {
			e := r.stream(ada, "workflow_id="+workflow)
			e.next()
			all = append(all, e)
		}
		for _, e := range all {
			e.body.Close()
		}
		wait.Until(t, "all places are free", func() bool { return r.server.streams.Open() == 0 && r.server.streams.Watched() == 0 })
		if name, _ := r.stream(ada, "workflow_id="+workflow).next(); name != "count" {
			t.Errorf("the next stream: got %q, want the count", name)
		}
	})
	t.Run("case D9: who loses a place is told so, and its connection ends", func(t *testing.T) {
		r := withLimitedUsers(t, nil, users.Config{Secret: legacy}, func(_ *Config, l *limits) { l.streams = 3 })
		ada := signed(t, jwt.SigningMethodHS256, []byte(legacy), good("", nil), nil)
		var last *events
		for range 3 {
			last = r.stream(ada, "workflow_id="+workflow)
			last.next()
		}
		bob := signed(t, jwt.SigningMethodHS256, []byte(legacy), good("", map[string]any{"sub": otherUser}), nil)
		if name, _ := r.stream(bob, "workflow_id="+workflow).next(); name != "count" {
			t.Errorf("another user: got %q, want the count", name)
		}
		if name, _ := last.next(); name != "displaced" {
			t.Errorf("the newest of three: got %q, want displaced", name)
		}
		if name, _ := last.next(); name != "" {
			t.Errorf("after it: got %q, want the end", name)
		}
		if got := metricOf(t, r, "runcounter_streams_displaced_total"); got != 1 {
			t.Errorf("runcounter_streams_displaced_total: got %v, want 1", got)
		}
		got := r.as(ada, "/v1/counts/stream?workflow_id="+workflow)
		if got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "Connect again") {
			t.Errorf("one more of a user who has most: %s, want 503", fmt.Sprint(got.status, got.body))
		}
	})
}
