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
	LastRunAt Instant `json:"last_run_at" doc:"When the newest of the key's ended runs ended; null where none has."`
}

// CountOf returns a count as the API shows it.
func CountOf(c store.Count) Count {
	return Count{webhook.KeyCountOf(c.Key, c.Count), c.Tallies.Ended, Instant(c.LastRunAt)}
}

// CountsOf returns counts as the API shows them.
func CountsOf(counts []store.Count) []Count { return each(counts, CountOf) }

// UserCounts is a page of a user's counts.
type UserCounts struct {
	User   store.ID `json:"user_id" openapi:"notnull"`
	Counts []Count  `json:"counts"`
	Next   *string  `json:"next" doc:"Pass it as after for the next page; null on the last one."`
}

// Total is the count of a workflow or draft over all its users.
type Total struct {
	Workflow store.ID `json:"workflow_id"`
	Draft    store.ID `json:"draft_id"`
	Count    int64    `json:"count" doc:"Runs that count by the policy in force, over all users."`
	store.Tally
}

// Run is a run as the API shows it.
type Run struct {
	ID           store.ID     `json:"id" openapi:"notnull"`
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
	Presumed     bool         `json:"presumed" doc:"A sweep gave the outcome to a run that was stuck; a real one supersedes it."`
	Counted      bool         `json:"counted" doc:"The run counts by the policy in force."`
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
	Created bool `json:"created" doc:"This request created the run; false where an earlier one had."`
}

// CompletedRun answers POST /v1/runs/{id}/complete: the outcome that stands, and
// whether it is that of this call.
type CompletedRun struct {
	Won         bool         `json:"won" doc:"This call ended the run; false where it had ended."`
	Status      store.Status `json:"status" doc:"Status of the outcome that stands."`
	CompletedAt Instant      `json:"completed_at" doc:"End of the outcome that stands."`
	Count       int64        `json:"count" doc:"Count of the run's key, with this run where it counts; 0 for a run without a key."`
}

// CompletedRunOf returns the result of completing a run as the API shows it.
func CompletedRunOf(r store.CompleteResult) CompletedRun {
	return CompletedRun{r.Won, r.Run.Status, Instant(r.Run.CompletedAt), r.Count.Count}
}

// Letter is a dead letter as the API shows it.
type Letter struct {
	Seq        int64   `json:"seq" doc:"Number of the dead letter."`
	ReceivedAt Instant `json:"received_at" openapi:"notnull"`
	Reason     string  `json:"reason" doc:"Why the change can't be read, with the value."`
	Bytes      int64   `json:"bytes" doc:"Size of the body."`
	Kept       int64   `json:"kept" doc:"Bytes of it that were kept, from its beginning."`
	Whole      bool    `json:"whole" doc:"All of the body was kept, so that it can be replayed."`
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
	Next    *int64   `json:"next" doc:"Pass it as before for the next page; null on the last one."`
}

// LetterWithBody is a dead letter with what was kept of its body.
type LetterWithBody struct {
	Letter
	Encoding string `json:"encoding" doc:"How body holds the body: text or base64."`
	Body     string `json:"body" doc:"What was kept of the body."`
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
	Seq      int64  `json:"seq" doc:"Number of the dead letter."`
	Applied  bool   `json:"applied" doc:"Its changes are committed, and it is no longer listed."`
	Reason   string `json:"reason,omitempty" doc:"Why it is still listed; left out where it is not."`
	Received int    `json:"received" doc:"Changes in it."`
	Changed  int    `json:"changed" doc:"Changes that wrote something."`
	Ignored  int    `json:"ignored" doc:"Changes of other tables, and of types that change no row."`
}

// LetterResultOf returns the result of a replay as the API shows it.
func LetterResultOf(r webhook.Replayed) LetterResult {
	a := webhook.AnswerTo(r.Delivery, r.Results)
	return LetterResult{r.Seq, r.Applied, r.Reason, a.Received, a.Changed, a.Ignored}
}

// Replays are the results of replaying several dead letters.
type Replays struct {
	Replayed int            `json:"replayed" doc:"Dead letters whose changes are committed."`
	Left     int            `json:"left" doc:"Dead letters that are still listed."`
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
	Next *int64 `json:"next" doc:"Pass it as before for those that follow; null where none do."`
}

// LettersDropped says how many dead letters were dropped.
type LettersDropped struct {
	Dropped int `json:"dropped" doc:"Number of dead letters that were dropped."`
}
