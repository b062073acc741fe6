package sqlite

import (
	"database/sql"

	"github.com/edgaze-ai/runcounter/store"
)

// Connections says how the connections of readers and of the writer are used. Writers
// queue for one.
func (s *Store) Connections() (c store.Connections) {
	for _, db := range [...]*sql.DB{s.reader, s.writer} {
		p := db.Stats()
		c.InUse += p.InUse
		c.Idle += p.Idle
		c.Most += p.MaxOpenConnections
		c.Waits += p.WaitCount
		c.Waited += p.WaitDuration
	}
	return c
}
