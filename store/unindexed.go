package store

import "fmt"

// NoIndexError means that the window of a scope has to be counted by an index that is
// made on demand, and is not there. It wraps [ErrInvalid], and its text names the
// command that makes the index.
type NoIndexError struct{ Of Scope }

// Flag returns the flag of runcounter migrate up that makes the index.
func (e *NoIndexError) Flag() string {
	if e.Of.OfAllUsers() {
		return "--workflow-windows"
	}
	return "--user-windows"
}

func (e *NoIndexError) Error() string {
	whose := "a user's runs"
	if e.Of.OfAllUsers() {
		whose = "a workflow's runs over all its users"
	}
	return fmt.Sprintf("a window of %s needs an index that this database lacks: runcounter migrate up %s makes it", whose, e.Flag())
}

// Unwrap returns [ErrInvalid].
func (e *NoIndexError) Unwrap() error { return ErrInvalid }
