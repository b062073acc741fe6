package store

import "fmt"

// StorageFault is an [ErrUnavailable] that lasts until an operator does something:
// a full disk, a file that can't be written.
type StorageFault struct {
	// What says in a sentence what is wrong and what to do. It names no path
	// and no host: senders are answered with it.
	What string
	// Err is the driver's error.
	Err error
}

// Error returns the sentence and the driver's words.
func (t *StorageFault) Error() string { return fmt.Sprintf("%s (%v)", t.What, t.Err) }

// Unwrap makes it an [ErrUnavailable].
func (t *StorageFault) Unwrap() []error { return []error{ErrUnavailable, t.Err} }
