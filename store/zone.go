package store

import "time"

// At is the moment at which a clock in a zone shows what t shows in UTC. Of an
// hour that comes twice it is the second, and of one that never comes what it
// would be by the offset from before: as PostgreSQL has it.
func At(t time.Time, zone *time.Location) time.Time {
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
