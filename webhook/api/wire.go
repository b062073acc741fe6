package api

import (
	"encoding/base64"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// Instant is a time as the API writes it: RFC 3339 with microseconds in UTC, and
// null for the zero time. The command prints times so, too.
type Instant = answer.Instant

// Count is a count with the ended runs of each status behind it, presumed ones
// included, whatever the policy counts. The ids that it was not asked by are null.
type Count struct {
	webhook.KeyCount
	store.Tally
	Presumed  store.Tally `json:"presumed" doc:"The part of each status that is presumed, and may still change."`
	LastRunAt Instant     `json:"last_run_at" doc:"When the newest of the key's ended runs ended; null where none has, and for other counts than a key's for all time."`
	Kind      store.Kind  `json:"kind,omitempty" doc:"Of a user's count of one kind: which."`
	From      Instant     `json:"from,omitzero" openapi:"notnull" doc:"Where the window begins."`
	To        Instant     `json:"to,omitzero" openapi:"notnull" doc:"Where the window ends; it is not in it."`
}

// CountOf returns a key's count for all time as the API shows it.
func CountOf(c store.Count) Count { return ScopedCountOf(c, c.Key.Scope(), store.AllTime) }

// ScopedCountOf returns the count of a scope in a window as the API shows it.
func ScopedCountOf(c store.Count, of store.Scope, in store.Window) Count {
	shown := Count{
		KeyCount: webhook.KeyCountOf(store.Key(of), c.Count), Tally: c.Tallies.Ended, Presumed: c.Tallies.Presumed,
		LastRunAt: Instant(c.LastRunAt), From: Instant(in.From), To: Instant(in.To),
	}
	if of.OfUser() {
		shown.Kind = of.Kind
	}
	return shown
}

// CountsOf returns counts as the API shows them.
func CountsOf(counts []store.Count) []Count { return each(counts, CountOf) }

// UserCounts is a page of a user's counts.
type UserCounts struct {
	User   store.ID `json:"user_id" openapi:"notnull"`
	Counts []Count  `json:"counts"`
	Next   *string  `json:"next" doc:"Pass it as after for the next page; null on the last one."`
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
	Created bool            `json:"created" doc:"This request created the run; false where an earlier one had."`
	Limits  []problem.Usage `json:"limits,omitempty" doc:"The limits of the request, with the run in them."`
}

// Allowance is how many runs may begin under some limits.
type Allowance struct {
	Limits    []problem.Usage `json:"limits"`
	Remaining int64           `json:"remaining" doc:"How many runs may begin now: the least of the limits."`
}

// AllowanceOf returns how far limits are used as the API shows it. There is one at
// least.
func AllowanceOf(usages []store.Usage) Allowance {
	a := Allowance{Limits: problem.UsagesOf(usages), Remaining: usages[0].Remaining()}
	for _, u := range usages[1:] {
		a.Remaining = min(a.Remaining, u.Remaining())
	}
	return a
}

// Grant is a number of runs that a user was given on top of a limit.
type Grant struct {
	Seq            int64    `json:"id"`
	User           store.ID `json:"user_id"`
	Workflow       store.ID `json:"workflow_id"`
	Draft          store.ID `json:"draft_id"`
	Runs           int64    `json:"runs"`
	Stands         bool     `json:"stands" doc:"It is neither revoked nor expired."`
	Who            string   `json:"who"`
	Why            string   `json:"why"`
	GrantedAt      Instant  `json:"granted_at"`
	ExpiresAt      Instant  `json:"expires_at"`
	IdempotencyKey *string  `json:"idempotency_key"`
	RevokedAt      Instant  `json:"revoked_at"`
	RevokedBy      *string  `json:"revoked_by"`
	RevokedWhy     *string  `json:"revoked_why"`
}

// GrantOf returns a grant as the API shows it at a moment.
func GrantOf(g store.Grant, now time.Time) Grant {
	of := store.Key(g.Of)
	return Grant{
		g.Seq, of.User, of.Workflow(), of.Draft(), g.Runs, g.Stands(now), g.Who, g.Why, Instant(g.GrantedAt), Instant(g.ExpiresAt),
		orNull(g.IdempotencyKey), Instant(g.RevokedAt), orNull(g.RevokedBy), orNull(g.RevokedWhy),
	}
}

// GrantsOf returns grants as the API shows them at a moment.
func GrantsOf(grants []store.Grant, now time.Time) []Grant {
	return each(grants, func(g store.Grant) Grant { return GrantOf(g, now) })
}

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// MadeGrant answers POST /v1/grants.
type MadeGrant struct {
	Grant
	Created bool `json:"created" doc:"This request made the grant; false where an earlier one with the idempotency key had."`
}

// PageOf returns the first rows of a list, at most that many, and where the next page
// begins: nil on the last one. The list is asked for one row more than a page has.
func PageOf[T any](list []T, most int, seq func(T) int64) (page []T, next *int64) {
	if len(list) <= most {
		return list, nil
	}
	page = list[:most]
	last := seq(page[most-1])
	return page, &last
}

// GrantPage is a page of grants, latest first.
type GrantPage struct {
	Grants []Grant `json:"grants"`
	Next   *int64  `json:"next" doc:"Pass it as before for the next page; null on the last one."`
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
