package problem

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestCaseD16_WhatWasLeftOutIsTold with the next line, and at the end.
func TestCaseD16_WhatWasLeftOutIsTold(t *testing.T) {
	now := time.Unix(1000, 0)
	out := &bytes.Buffer{}
	s := NewRecorder(slog.New(slog.NewTextHandler(out, nil)), func() time.Time { return now }, prometheus.NewRegistry())
	for range 5 {
		s.Warn("a", "first")
		s.Warn("b", "second")
	}
	now = now.Add(sampleLines)
	s.Warn("a", "first")
	s.Warn("a", "first")
	s.Flush()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 5 || !strings.Contains(lines[2], "left_out=4") || strings.Count(out.String(), "left_out=1") != 1 || strings.Count(out.String(), "left_out=4") != 2 {
		t.Errorf("got\n%s\nwant a line for each, one with left_out=4, and at the end 1 and 4", out)
	}

}
