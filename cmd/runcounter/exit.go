package main

import (
	"errors"
	"fmt"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/webhook"
)

// The exit codes, as --help explains them.
const (
	exitFine        = 0
	exitNo          = 1
	exitUsage       = 2
	exitUnreachable = 3
)

// exitError carries the exit code of an error. Errors of the flag parser come
// without one: they are wrong usage.
type exitError struct {
	code int
	err  error // nil where the output has said it all
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// failed returns the error of exit code 1, the answer "no", with or without a sentence
// on stderr.
func failed(err error) error { return &exitError{exitNo, err} }

// badUsage returns an error that a person can fix on the command line.
func badUsage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// coded gives an error its exit code.
func coded(err error) error {
	if _, coded := errors.AsType[*exitError](err); err == nil || coded {
		return err
	}
	_, constraint := errors.AsType[*store.ConstraintError](err)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return failed(fmt.Errorf("%w, or it was deleted: check the id", err))
	case errors.Is(err, migrations.ErrTable), errors.Is(err, migrations.ErrNoTable), errors.Is(err, migrations.ErrRotation), errors.Is(err, migrations.ErrSealed), errors.Is(err, migrations.ErrWebhook),
		errors.Is(err, webhook.ErrNoLetter):
		return failed(err)
	case errors.Is(err, store.ErrConflict), constraint:
		return failed(err)
	case errors.Is(err, postgres.ErrAddress), errors.Is(err, migrations.ErrAddress):
		return badUsage("DATABASE_URL is %w", err)
	case errors.Is(err, store.ErrInvalid):
		return &exitError{exitUsage, err}
	}
	return &exitError{exitUnreachable, err}
}
