package sqlite

import (
	"context"
	"errors"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// usages returns how far limits are used.
func (t *tx) usages(key store.Key, limits []store.Limit, _ time.Time) ([]store.Usage, error) {
	var usages []store.Usage
	for _, l := range limits {
		c, err := t.count(key)
		if err != nil {
			return nil, err
		}
		active, err := t.active(key)
		if err != nil {
			return nil, err
		}
		usages = append(usages, store.Usage{Limit: l, Counted: c.Count, Active: active})
	}
	return usages, nil
}

// Allowance implements [store.Store].
func (s *Store) Allowance(context.Context, store.AllowanceRequest) ([]store.Usage, error) {
	return nil, errors.New("to be written")
}
