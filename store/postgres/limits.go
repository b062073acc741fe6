package postgres

import (
	"context"
	"errors"

	"github.com/edgaze-ai/runcounter/store"
)

// Allowance implements [store.Store].
func (s *Store) Allowance(context.Context, store.AllowanceRequest) ([]store.Usage, error) {
	return nil, errors.New("to be written")
}
