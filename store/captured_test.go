package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// The captured requests lead to the right counts by the rules alone, without a
// database: what fails in a backend but not here is the backend's.
func TestCapturedByTheRulesAlone(t *testing.T) {
	t.Parallel()
	storetest.Captured(t, func(testing.TB) store.Store { return newRules() }, decode)
}

// rules is as much of a mirror as Captured asks for: states in a map, and what
// they amount to in another.
type rules struct {
	store.Store // nil: nothing else is called
	states      map[store.ID]store.State
	held        map[store.ID]storetest.Mirrored
	seen        map[store.ID]map[store.ID]bool // the runs that were ever a user's
}

func newRules() *rules {
	return &rules{
		states: map[store.ID]store.State{},
		held:   map[store.ID]storetest.Mirrored{},
		seen:   map[store.ID]map[store.ID]bool{},
	}
}

func (m *rules) Apply(_ context.Context, changes []store.Change, received time.Time) ([]store.ApplyResult, error) {
	applied := make([]store.ApplyResult, len(changes))
	for i, c := range changes {
		before, known := m.states[c.ID()]
		before.ID = c.ID()
		after := before.Learn(c, received)
		m.states[c.ID()] = after
		m.held[c.ID()] = storetest.Mirrored{Row: after.Row(), Deleted: !after.DeletedAt.IsZero(), Presumed: after.Presumed()}
		for _, key := range c.Keys() {
			if m.seen[key.User] == nil {
				m.seen[key.User] = map[store.ID]bool{}
			}
			m.seen[key.User][c.ID()] = true
		}
		applied[i].Changed = !known || !after.Equal(before)
	}
	return applied, nil
}

func (m *rules) Run(_ context.Context, id store.ID) (store.Run, error) {
	run, known := m.held[id]
	if !known || run.Deleted {
		return store.Run{}, store.ErrNotFound
	}
	return store.Run{Row: run.Row, Presumed: run.Presumed, Counted: store.Policy{}.Counts(run.Row.Status, run.Presumed)}, nil
}

func (m *rules) Count(_ context.Context, of store.Scope, _ store.Window) (store.Count, error) {
	key := store.Key(of)
	mine := map[store.ID]storetest.Mirrored{}
	for id := range m.seen[key.User] {
		mine[id] = m.held[id]
	}
	tallies := storetest.Tally(mine)[key]
	return store.Count{Key: key, Count: store.Policy{}.Count(tallies), Tallies: tallies}, nil
}

// decode reads a captured request with encoding/json, apart from the
// receiver's own decoder.
func decode(body []byte) ([]store.Change, error) {
	type record struct {
		ID           store.ID     `json:"id"`
		User         store.ID     `json:"user_id"`
		Workflow     store.ID     `json:"workflow_id"`
		Draft        store.ID     `json:"draft_id"`
		Status       store.Status `json:"status"`
		CreatedAt    time.Time    `json:"created_at"`
		StartedAt    time.Time    `json:"started_at"`
		CompletedAt  time.Time    `json:"completed_at"`
		UpdatedAt    time.Time    `json:"updated_at"`
		DurationMS   *int64       `json:"duration_ms"`
		ErrorDetails store.JSON   `json:"error_details"`
	}
	var request struct {
		Type   store.Op        `json:"type"`
		Schema string          `json:"schema"`
		Table  string          `json:"table"`
		Record json.RawMessage `json:"record"`
		Old    json.RawMessage `json:"old_record"`
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, fmt.Errorf("read a captured request: %w", err)
	}
	if request.Schema != "public" || request.Table != "workflow_runs" {
		return nil, nil
	}
	rows := make([]store.Row, 2)
	for i, raw := range []json.RawMessage{request.Record, request.Old} {
		var r record
		if err := json.Unmarshal(raw, &r); err != nil {
			return nil, fmt.Errorf("read a captured row: %w", err)
		}
		rows[i] = store.Row{
			ID: r.ID, User: r.User, Workflow: r.Workflow, Draft: r.Draft, Status: r.Status,
			CreatedAt: store.Instant(r.CreatedAt), StartedAt: store.Instant(r.StartedAt),
			CompletedAt: store.Instant(r.CompletedAt), UpdatedAt: store.Instant(r.UpdatedAt),
			ErrorDetails: r.ErrorDetails,
		}
		if r.DurationMS != nil {
			rows[i].DurationMS = store.MillisOf(*r.DurationMS)
		}
	}
	return []store.Change{{Op: request.Type, Record: rows[0], Old: rows[1], HasOld: !slices.Equal(request.Old, []byte("null"))}}, nil
}
