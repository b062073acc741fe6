package store

import "time"

// What lies outside of these can't be a time, and is as if it were not there: Go's
// zero time, infinity, and the last day of the year 9999 are written for never.
var (
	FirstTime = time.Date(2, 1, 1, 0, 0, 0, 0, time.UTC)
	LastTime  = time.Date(9998, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
)

// No run ended before FirstEnd, and none at EndsBefore or later: these are the bounds of
// a window that has none. They lie a day beyond the times, since a column without zone
// holds those by the clock of its zone, which are moments up to fifteen hours farther.
var (
	FirstEnd   = FirstTime.AddDate(0, 0, -1)
	EndsBefore = LastTime.AddDate(0, 0, 1).Add(time.Microsecond)
)

// WallClock returns the moment at which a clock in a zone shows what t shows in UTC. Of an
// hour that comes twice it is the second, and of one that never comes what it
// would be by the offset from before: as PostgreSQL has it.
func WallClock(t time.Time, zone *time.Location) time.Time {
	const day = 24 * time.Hour
	offset := func(at time.Time) time.Duration {
		_, seconds := at.In(zone).Zone()
		return time.Duration(seconds) * time.Second
	}
	if after := t.Add(-offset(t.Add(day))); after.Add(offset(after)).Equal(t) {
		return after.UTC()
	}
	return t.Add(-offset(t.Add(-day))).UTC()
}
