package api

import (
	"encoding/base64"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
)

// Instant is a time as the API writes it: RFC 3339 with microseconds in UTC, and
// null for the zero time.
type Instant time.Time

// MarshalJSON implements json.Marshaler.
func (t Instant) MarshalJSON() ([]byte, error) {
	if time.Time(t).IsZero() {
		return []byte("null"), nil
	}
	return []byte(`"` + t.String() + `"`), nil
}

// String returns the time as the API writes it, and - for the zero time.
func (t Instant) String() string {
	if time.Time(t).IsZero() {
		return "-"
	}
	return time.Time(t).UTC().Format("2006-01-02T15:04:05.000000Z")
}

// Count is a key's count with the ended runs of each status behind it, presumed
// ones included, whatever the policy counts.
type Count struct {
	webhook.KeyCount
	store.Tally
	LastRunAt Instant `json:"last_run_at"`
}

// CountOf returns a count as the API shows it.
func CountOf(c store.Count) Count {
	return Count{webhook.KeyCountOf(c.Key, c.Count), c.Tallies.Ended, Instant(c.LastRunAt)}
}

// CountsOf returns counts as the API shows them.
func CountsOf(counts []store.Count) []Count { return each(counts, CountOf) }

// UserCounts is a page of a user's counts.
type UserCounts struct {
	User   store.ID `json:"user_id"`
	Counts []Count  `json:"counts"`
	Next   *string  `json:"next"` // pass it as after; nil on the last page
}

// Total is the count of a workflow or draft over all its users.
type Total struct {
	Workflow store.ID `json:"workflow_id"`
	Draft    store.ID `json:"draft_id"`
	Count    int64    `json:"count"`
	store.Tally
}

// Run is a run as the API shows it.
type Run struct {
	ID           store.ID     `json:"id"`
	User         store.ID     `json:"user_id"`
	Workflow     store.ID     `json:"workflow_id"`
	Draft        store.ID     `json:"draft_id"`
	Status       store.Status `json:"status"`
	CreatedAt    Instant      `json:"created_at"`
	StartedAt    Instant      `json:"started_at"`
	CompletedAt  Instant      `json:"completed_at"`
	UpdatedAt    Instant      `json:"updated_at"`
	DurationMS   store.Millis `json:"duration_ms"`
	ErrorDetails store.JSON   `json:"error_details"`
	Snapshot     store.JSON   `json:"state_snapshot"`
	Presumed     bool         `json:"presumed"`
	Counted      bool         `json:"counted"`
}

// RunOf returns a run as the API shows it.
func RunOf(r store.Run) Run {
	return Run{
		r.ID, r.User, r.Workflow, r.Draft, r.Status,
		Instant(r.CreatedAt), Instant(r.StartedAt), Instant(r.CompletedAt), Instant(r.UpdatedAt),
		r.DurationMS, r.ErrorDetails, r.Snapshot, r.Presumed, r.Counted,
	}
}

// BegunRun answers POST /v1/runs.
type BegunRun struct {
	Run
	Created bool `json:"created"`
}

// CompletedRun answers POST /v1/runs/{id}/complete: the outcome that stands, and
// whether it is that of this call.
type CompletedRun struct {
	Won         bool         `json:"won"`
	Status      store.Status `json:"status"`
	CompletedAt Instant      `json:"completed_at"`
	Count       int64        `json:"count"`
}

// CompletedRunOf returns the result of completing a run as the API shows it.
func CompletedRunOf(r store.CompleteResult) CompletedRun {
	return CompletedRun{r.Won, r.Run.Status, Instant(r.Run.CompletedAt), r.Count.Count}
}

// Letter is a dead letter as the API shows it.
type Letter struct {
	Seq        int64   `json:"seq"`
	ReceivedAt Instant `json:"received_at"`
	Reason     string  `json:"reason"`
	Bytes      int64   `json:"bytes"`
	Kept       int64   `json:"kept"`
	Whole      bool    `json:"whole"`
}

// LetterOf returns a dead letter as the API shows it.
func LetterOf(d store.DeadLetter) Letter {
	return Letter{d.Seq, Instant(d.ReceivedAt), d.Reason, d.Bytes, d.Kept, d.Whole()}
}

// LettersOf returns dead letters as the API shows them.
func LettersOf(letters []store.DeadLetter) []Letter { return each(letters, LetterOf) }

// LetterPage is a page of dead letters, latest first.
type LetterPage struct {
	Letters []Letter `json:"dead_letters"`
	Next    *int64   `json:"next"` // pass it as before; nil on the last page
}

// LetterWithBody is a dead letter with what was kept of its body.
type LetterWithBody struct {
	Letter
	Encoding string `json:"encoding"` // of the body: text or base64
	Body     string `json:"body"`
}

// LetterWithBodyOf returns a dead letter with its body: as text where that is plain, and
// else in base64.
func LetterWithBodyOf(d store.DeadLetter, plain func(body []byte) bool) LetterWithBody {
	if plain(d.Body) {
		return LetterWithBody{LetterOf(d), "text", string(d.Body)}
	}
	return LetterWithBody{LetterOf(d), "base64", base64.StdEncoding.EncodeToString(d.Body)}
}

// LetterResult is the result of replaying a dead letter.
type LetterResult struct {
	Seq      int64  `json:"seq"`
	Applied  bool   `json:"applied"`
	Reason   string `json:"reason,omitempty"` // why it is still listed
	Received int    `json:"received"`
	Changed  int    `json:"changed"`
	Ignored  int    `json:"ignored"`
}

// LetterResultOf returns the result of a replay as the API shows it.
func LetterResultOf(r webhook.Replayed) LetterResult {
	a := webhook.AnswerTo(r.Delivery, r.Results)
	return LetterResult{r.Seq, r.Applied, r.Reason, a.Received, a.Changed, a.Ignored}
}

// Replays are the results of replaying several dead letters.
type Replays struct {
	Replayed int            `json:"replayed"`
	Left     int            `json:"left"`
	Letters  []LetterResult `json:"dead_letters"`
}

// ReplaysOf returns the results of replays as the API shows them.
func ReplaysOf(results []webhook.Replayed) Replays {
	all := Replays{Letters: each(results, LetterResultOf)}
	for _, r := range results {
		if r.Applied {
			all.Replayed++
		} else {
			all.Left++
		}
	}
	return all
}

// LettersReplayed answers POST /v1/dead-letters/replay.
type LettersReplayed struct {
	Replays
	Next *int64 `json:"next"` // pass it as before; nil where none is left
}

// LettersDropped says how many dead letters were dropped.
type LettersDropped struct {
	Dropped int `json:"dropped"`
}
