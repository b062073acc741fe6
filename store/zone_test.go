package store

import (
	"testing"
	"time"
)

// TestCaseT9_WhatAClockShows has the answers of PostgreSQL's at time zone.
func TestCaseT9_WhatAClockShows(t *testing.T) {
	for _, tt := range []struct{ zone, shows, want string }{
		{"UTC", "2026-07-01T12:00:00Z", "2026-07-01T12:00:00Z"},
		{"Europe/Berlin", "2026-07-01T12:00:00Z", "2026-07-01T10:00:00Z"},
		{"Europe/Berlin", "2026-01-01T12:00:00Z", "2026-01-01T11:00:00Z"},
		{"Europe/Berlin", "2026-03-29T01:59:59Z", "2026-03-29T00:59:59Z"},
		{"Europe/Berlin", "2026-03-29T02:30:00Z", "2026-03-29T01:30:00Z"}, // never
		{"Europe/Berlin", "2026-03-29T03:00:00Z", "2026-03-29T01:00:00Z"},
		{"Europe/Berlin", "2026-10-25T01:59:59Z", "2026-10-24T23:59:59Z"},
		{"Europe/Berlin", "2026-10-25T02:30:00Z", "2026-10-25T01:30:00Z"}, // twice
		{"Europe/Berlin", "2026-10-25T03:00:00Z", "2026-10-25T02:00:00Z"},
		{"America/New_York", "2026-11-01T01:30:00Z", "2026-11-01T06:30:00Z"}, // twice
		{"America/New_York", "2026-03-08T02:30:00Z", "2026-03-08T07:30:00Z"}, // never
		{"Asia/Kolkata", "2026-01-01T00:00:00Z", "2025-12-31T18:30:00Z"},
	} {
		zone, err := time.LoadLocation(tt.zone)
		if err != nil {
			t.Fatal(err)
		}
		shows, _ := time.Parse(time.RFC3339, tt.shows)
		if got := WallClock(shows, zone).Format(time.RFC3339); got != tt.want {
			t.Errorf("%s in %s: got %s, want %s", tt.shows, tt.zone, got, tt.want)
		}
	}
}
