package store

import "time"

// Connections says how a process uses its connections to the database.
type Connections struct {
	InUse, Idle int
	Most        int           // that it opens
	Waits       int64         // calls that found none free, since it began
	Waited      time.Duration // by all of them together
}
