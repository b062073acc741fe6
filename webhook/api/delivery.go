package api

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// Row is a row in a delivery, with the columns on which anything depends.
type Row struct {
	ID          store.ID     `json:"id"`
	User        store.ID     `json:"user_id"`
	Workflow    store.ID     `json:"workflow_id"`
	Draft       store.ID     `json:"draft_id"`
	Status      store.Status `json:"status"`
	CreatedAt   Instant      `json:"created_at"`
	StartedAt   Instant      `json:"started_at"`
	CompletedAt Instant      `json:"completed_at"`
	UpdatedAt   Instant      `json:"updated_at"`

	// Columns are the table's names, each with ours; nil where they are the same.
	Columns map[string]string `json:"-"`
}

// MarshalJSON implements json.Marshaler.
func (r Row) MarshalJSON() ([]byte, error) {
	type plain Row
	text, err := json.Marshal(plain(r))
	if err != nil || r.Columns == nil {
		return text, err
	}
	var ours map[string]json.RawMessage
	if err := json.Unmarshal(text, &ours); err != nil {
		return nil, err
	}
	theirs := map[string]json.RawMessage{}
	for name, our := range r.Columns {
		if value, there := ours[our]; there {
			theirs[name] = value
		}
	}
	return json.Marshal(theirs)
}

// Change is a delivery of one change, as a Supabase database webhook sends it.
type Change struct {
	Type   string `json:"type"`
	Schema string `json:"schema"`
	Table  string `json:"table"`
	Record *Row   `json:"record"`
	Old    *Row   `json:"old_record"`
}

// ChangeOf returns a change of a run that took a second and has a row afterwards. Before
// an UPDATE it had another status.
func ChangeOf(kind string, row Row, was store.Status) Change {
	end := cmp.Or(row.CompletedAt, row.UpdatedAt)
	row.CreatedAt = Instant(time.Time(end).Add(-time.Second))
	row.StartedAt = row.CreatedAt
	change := Change{Type: kind}
	if kind != "DELETE" {
		change.Record = &row
	}
	if kind == "INSERT" {
		return change
	}
	old := row
	if kind == "UPDATE" {
		old.Status, old.CompletedAt, old.UpdatedAt = was, Instant{}, row.StartedAt
		if was.Terminal() {
			old.CompletedAt = row.StartedAt
		}
	}
	change.Old = &old
	return change
}
