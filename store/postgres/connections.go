package postgres

import "github.com/edgaze-ai/runcounter/store"

// Connections says how the pool is used. A connection that is being opened is in use.
func (s *Store) Connections() store.Connections {
	p := s.pool.Stat()
	return store.Connections{
		InUse: int(p.AcquiredConns() + p.ConstructingConns()), Idle: int(p.IdleConns()), Most: int(p.MaxConns()),
		Waits: p.EmptyAcquireCount(), Waited: p.EmptyAcquireWaitTime(),
	}
}
