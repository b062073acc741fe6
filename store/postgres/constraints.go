package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/store"
)

// ours is the schema that our functions name where they raise a unique_violation: the
// code alone may be that of any constraint of the application.
const ours = "run_counter"

// constrained is the error of what a constraint refuses. That an id or a key belongs to
// another run or grant is said by our functions, which name no constraint; a unique
// constraint of our own tables is never met, so that one which is has no sentence.
func constrained(e *pgconn.PgError, err error) error {
	unique := e.Code == "23505"
	switch {
	case unique && e.SchemaName == ours && e.ConstraintName == "":
		return refused(store.ErrConflict, e, err)
	case unique && e.SchemaName == ours:
		return err
	case e.SchemaName == ours:
		return refused(store.ErrInvalid, e, err)
	case unique, e.ConstraintName != "":
		return refused(store.ErrInvalid, e, errors.Join(&store.ConstraintError{Constraint: e.ConstraintName, Unique: unique}, err))
	case e.ColumnName != "":
		return refused(store.ErrInvalid, e, errors.Join(&store.ConstraintError{Column: e.ColumnName}, err))
	}
	return refused(store.ErrInvalid, e, err)
}
