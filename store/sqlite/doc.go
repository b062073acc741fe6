// Package sqlite keeps runs and counts in one SQLite file: the embedded
// default.
//
// It is a mirror: it merges the changes that it receives, and the merge is its
// truth. It is complete by itself through [Store.Begin] and [Store.Complete].
// The merge, in Go, is the guard of the laws; SQL holds the checks. Any number
// of processes may open the same file: writers take turns by SQLite's own lock,
// readers see the last commit.
//
// Here live the statements and the translation of SQLite's errors
// (fault.go). The package imports store, migrations and the driver; the rules
// stand in store. A reader begins at [Open] in sqlite.go, then follows
// [Store.Apply] in apply.go to the tables in state.go and the counts in
// differences.go.
package sqlite
