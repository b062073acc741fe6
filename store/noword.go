package store

import "fmt"

// NoWord is the error for a status that the watched table has no word for. It
// wraps [ErrInvalid].
type NoWord struct{ Status Status }

// Error returns a sentence without an end.
func (n *NoWord) Error() string {
	return fmt.Sprintf("the table has no status that means %s: use another; or add one to it, and run runcounter migrate up, with --status THEIRS=OURS where it has a name of its own", n.Status)
}

// Unwrap returns [ErrInvalid].
func (n *NoWord) Unwrap() error { return ErrInvalid }
