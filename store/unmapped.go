package store

import "fmt"

// UnmappedStatusError is the error for a status that the watched table has no word
// for. It wraps [ErrInvalid].
type UnmappedStatusError struct{ Status Status }

// Error returns a sentence without an end.
func (e *UnmappedStatusError) Error() string {
	return fmt.Sprintf("the table has no status that means %s: use another; or add one to it, and run runcounter migrate up, with --status THEIRS=OURS where it has a name of its own", e.Status)
}

// Unwrap returns [ErrInvalid].
func (e *UnmappedStatusError) Unwrap() error { return ErrInvalid }
