package sqlite

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// entry is one run in a transaction that merges changes.
type entry struct {
	was    store.State // as it was read
	state  store.State
	exists bool // it has a row
	dirty  bool
}

// Apply implements [store.Store]. All runs are read in one statement, and each
// is written at most once, however many of the changes are about it.
func (s *Store) Apply(ctx context.Context, changes []store.Change, received time.Time) ([]store.ApplyResult, error) {
	applied := make([]store.ApplyResult, len(changes))
	err := s.write(ctx, func(t *tx) error {
		runs, err := t.entries(changes)
		if err != nil {
			return err
		}
		for i, c := range changes {
			e := runs[c.ID()]
			after := e.state
			for _, seen := range t.rules.observe(c, received) {
				after = t.rules.join(after, seen)
			}
			if !t.rules.equal(after, e.state) {
				e.state, e.dirty = after, true
				applied[i].Changed = true
			}
		}
		dirty := make([]*entry, 0, len(runs))
		for _, e := range runs {
			if e.dirty {
				dirty = append(dirty, e)
			}
		}
		if err := t.saveAll(dirty); err != nil {
			return err
		}
		return t.answer(changes, runs, applied)
	})
	if err != nil {
		return nil, err
	}
	return applied, nil
}

// entries loads the runs that changes are about.
func (t *tx) entries(changes []store.Change) (map[store.ID]*entry, error) {
	runs := make(map[store.ID]*entry, len(changes))
	ids := make([]store.ID, 0, len(changes))
	for _, c := range changes {
		if id := c.ID(); runs[id] == nil {
			runs[id] = new(entry)
			ids = append(ids, id)
		}
	}
	loaded, err := t.loadAll(ids)
	for i := range loaded {
		runs[ids[i]] = &loaded[i]
	}
	return runs, err
}

// answer fills in the counts that each change is answered with, each key read
// once.
func (t *tx) answer(changes []store.Change, runs map[store.ID]*entry, applied []store.ApplyResult) error {
	byKey := make(map[store.Key]store.Count)
	named := make([][]store.Key, len(changes))
	for i, c := range changes {
		keys := c.Keys()
		if key := runs[c.ID()].state.Row().Key(); !key.IsZero() && !slices.Contains(keys, key) {
			keys = append(keys, key)
			slices.SortFunc(keys, store.Key.Compare)
		}
		named[i] = keys
		for _, key := range keys {
			byKey[key] = store.Count{}
		}
	}
	counts, err := t.countAll(slices.SortedFunc(maps.Keys(byKey), store.Key.Compare))
	if err != nil {
		return err
	}
	for _, c := range counts {
		byKey[c.Key] = c
	}
	for i, keys := range named {
		for _, key := range keys {
			applied[i].Counts = append(applied[i].Counts, byKey[key])
		}
	}
	return nil
}
