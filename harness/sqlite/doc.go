// Package sqlite runs scenarios of package harness on SQLite, offline and
// without cgo. [Open] makes a database in memory by a few statements; [New] makes
// one in which your own migrations run, in memory or with a write-ahead log.
//
// A statement that finds the database locked waits, as it would with a
// busy_timeout that is long enough, until another actor has made progress.
//
// SQLite's own clock is the virtual one of [harness.Sim.Now]: current_timestamp,
// unixepoch(), datetime('now') and their like, in statements, defaults and
// triggers.
//
// # What two steps have to do with each other
//
// Two steps depend on each other by the tables that the compiled statement opens,
// as SQLite's own EXPLAIN tells, triggers and foreign keys included; by the one
// lock for writing; and by what a reader sees, which is decided where its
// transaction first reads. What a transaction writes counts at its COMMIT. In
// memory a reader and an open writer stand in each other's way; with [Config].WAL
// they don't. Two writes outside of transactions touch nothing of each other's
// where their tables are apart, unless an oracle of [harness.Sim.Always] reads
// both, or reads no table at all: every state between steps that it can see is
// tried. A virtual table is one with its shadow tables. A statement of which
// nothing is known, such as a change of the schema, depends on everything. What
// SQLite then did, as its hooks tell, is held to that: rows of another table, or
// a transaction that ends by itself, are a failure of the kind "unscheduled".
//
// # What it cannot find
//
// SQLite is serializable: what goes wrong here goes wrong between transactions.
// For PostgreSQL's READ COMMITTED there is package postgres beside this one.
package sqlite
