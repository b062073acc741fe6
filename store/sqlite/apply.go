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
	state  store.State
	exists bool // it has a row
	dirty  bool
}

// Apply implements [store.Store]. Each run is read once and written at most
// once, however many of the changes are about it.
func (s *Store) Apply(ctx context.Context, changes []store.Change, received time.Time) ([]store.Applied, error) {
	applied := make([]store.Applied, len(changes))
	err := s.write(ctx, func(t *tx) error {
		runs := make(map[store.ID]*entry, len(changes))
		for i, c := range changes {
			e, err := t.entry(runs, c.ID())
			if err != nil {
				return err
			}
			after := e.state
			for _, seen := range t.rules.observe(c, received) {
				after = t.rules.join(after, seen)
			}
			if t.rules.equal(after, e.state) {
				continue
			}
			e.state, e.dirty = after, true
			applied[i].Changed = true
		}
		for _, e := range runs {
			if e.dirty {
				if err := t.save(e.state, e.exists); err != nil {
					return err
				}
			}
		}
		return t.countAll(changes, runs, applied)
	})
	if err != nil {
		return nil, err
	}
	return applied, nil
}

func (t *tx) entry(runs map[store.ID]*entry, id store.ID) (*entry, error) {
	if e := runs[id]; e != nil {
		return e, nil
	}
	state, exists, err := t.load(id)
	if err != nil {
		return nil, err
	}
	e := &entry{state: state, exists: exists}
	runs[id] = e
	return e, nil
}

// countAll fills in the counts that each change is answered with, each key
// read once.
func (t *tx) countAll(changes []store.Change, runs map[store.ID]*entry, applied []store.Applied) error {
	counts := make(map[store.Key]store.Count)
	named := make([][]store.Key, len(changes))
	for i, c := range changes {
		keys := c.Keys()
		if key := runs[c.ID()].state.Row().Key(); !key.IsZero() && !slices.Contains(keys, key) {
			keys = append(keys, key)
			slices.SortFunc(keys, store.Key.Compare)
		}
		named[i] = keys
		for _, key := range keys {
			counts[key] = store.Count{}
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(counts), store.Key.Compare) {
		c, err := t.count(key)
		if err != nil {
			return err
		}
		counts[key] = c
	}
	for i, keys := range named {
		for _, key := range keys {
			applied[i].Counts = append(applied[i].Counts, counts[key])
		}
	}
	return nil
}
