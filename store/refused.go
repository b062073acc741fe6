package store

import "fmt"

// RequestError refuses a request in a sentence for its sender, without an end: what is
// wrong and what to do. It holds no value of the database, whose own words are not for
// a caller. It wraps [ErrInvalid].
type RequestError struct{ sentence string }

// Refuse returns a [RequestError].
func Refuse(format string, args ...any) error { return &RequestError{fmt.Sprintf(format, args...)} }

// Error returns the sentence.
func (e *RequestError) Error() string { return e.sentence }

// Unwrap returns [ErrInvalid].
func (e *RequestError) Unwrap() error { return ErrInvalid }
