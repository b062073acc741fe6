package main

import (
	"context"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/backfill"
	"github.com/edgaze-ai/runcounter/store/watched"
	"github.com/edgaze-ai/runcounter/webhook/server"
)

// database is the part of a backend that the commands need.
type database interface {
	server.Store
	store.Reader
	store.LetterBox
	store.Granter
	store.NoticeBox
	store.ActivityLog
	store.Statistics
	// Absent reports whether runs have no user at all, and no workflow.
	Absent(ctx context.Context) (user, workflow bool, err error)
	Connections() store.Connections
	Close() error
}

// backend describes a database beyond its contract.
type backend struct {
	database
	where  string                  // for people: a path, or host and name; never a password
	source bool                    // its table is the watched one: changes are hints
	direct bool                    // a source without our migrations
	mirror backfill.Mirror         // a mirror's alone
	asked  store.Source            // a source's alone
	names  store.Namer             // a source's alone
	idle   func(store.Change) bool // a source's alone
	// table is a source's watched table, as it is described.
	table func(ctx context.Context) (watched.Table, error)
}

// sweeper returns a sweeper of the backend with these limits. The caller sets
// what else it wants.
func (b backend) sweeper(limits store.Limits) *store.Sweeper {
	return &store.Sweeper{Store: b.database, Source: b.asked, Limits: limits}
}

// partitions are those of a source's table, none for others.
func (b backend) partitions(ctx context.Context) (store.Partitions, error) {
	if b.asked == nil {
		return store.Partitions{}, nil
	}
	return b.asked.Partitions(ctx)
}
