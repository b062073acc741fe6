// Package report holds what an examination of an installation found: a [Report] of
// [Finding]s, printed for a person or as JSON.
//
// Package doctor makes reports, the command prints them, and the console's page shows
// them. The package is apart from the checks, so that what shows a report needs no
// database's driver: it imports store alone.
package report
