// Package watched describes the table whose rows are runs: what it is called,
// which column plays which role, of which type, and what its statuses are
// called. Everything that reads or writes the table goes by that description.
//
// A [Catalog] holds what a database says of a table; package migrations reads
// it. [Describe] makes a [Report] of it and of the operator's [Overrides]: the
// [Table], what is not there, which statuses have no meaning yet, and what keeps
// the table from being watched.
//
// The package is pure: it asks no database and no clock, and imports the words of
// package store alone.
package watched
