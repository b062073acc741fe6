package store

import "fmt"

// ConstraintError means that a constraint of the application refuses what a request
// would write. It wraps [ErrInvalid], and its text holds no values of rows. That an id
// or an idempotency key belongs to another run is an [ErrConflict] instead.
type ConstraintError struct {
	Constraint string // its name; empty for NOT NULL, and where a trigger of the application raised it
	Column     string // the one that must not be null; else empty
	Unique     bool   // another row has values that must be unique
}

// Error returns a sentence without an end.
func (e *ConstraintError) Error() string {
	switch {
	case e.Column != "":
		return fmt.Sprintf("the column %q must not be null, and nothing is written to it here: give it a default", e.Column)
	case e.Unique && e.Constraint == "":
		return "a trigger of the database refuses it, since another row has values that must be unique: change that row or this request"
	case e.Unique:
		return fmt.Sprintf("the unique constraint %q refuses it, since another row has the same values: change that row or this request", e.Constraint)
	}
	return fmt.Sprintf("the constraint %q refuses it: change what it is about, or the request", e.Constraint)
}

// Unwrap returns [ErrInvalid].
func (e *ConstraintError) Unwrap() error { return ErrInvalid }
