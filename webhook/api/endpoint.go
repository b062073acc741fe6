package api

import (
	"reflect"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/openapi"
)

// endpoint is one method of an address below /v1: who may ask it, for what, and what it
// answers. Each is said once: [API.Routes] and [OpenAPI] are both made from it, so that
// nothing is served that is not described. A name that is in neither query nor members
// is refused, and the handler can't read it.
type endpoint struct {
	method, path string // below /v1, with parameters in braces
	id           string // of the operation, for generated clients
	tag          string
	summary      string
	about        string
	query        []param // of all but POST
	headers      []param
	members      []param // of the JSON object that a POST brings
	status       int     // of the answer; 200 where it is 0
	answer       reflect.Type
	located      bool                    // the answer has the header Location
	events       map[string]reflect.Type // of a stream, in place of the answer
	open         bool                    // some of it may be for those without a key or token, where the server is told so
	problems     map[int]string          // beside those that all have
	handle       func(*API, *fiber.Ctx, *fields) error
}

// route returns the path as Fiber writes it.
func (e endpoint) route() string {
	return strings.NewReplacer("{", ":", "}", "").Replace(e.path)
}

// param is a parameter of a query, a member of a JSON object, or a header.
type param struct {
	name     string
	about    string
	schema   openapi.Schema
	required bool
	several  bool // a parameter of a query that may be given more than once
}

// paramOf returns the parameter of a name, and whether there is one.
func paramOf(all []param, name string) (param, bool) {
	for _, p := range all {
		if p.name == name {
			return p, true
		}
	}
	return param{}, false
}

// What parameters and members are. An id is a text or a whole number, as the table has it.
var (
	anID       = openapi.Schema{"type": []string{"string", "integer"}, "minLength": 1, "maxLength": store.MaxID}
	aNumber    = openapi.Schema{"type": "integer", "format": "int64", "minimum": 0}
	aPage      = openapi.Schema{"type": "integer", "minimum": 1, "maximum": maxPage, "default": defaultPage}
	aText      = openapi.Schema{"type": "string"}
	anyValue   = openapi.Schema{}
	aBool      = openapi.Schema{"type": "boolean", "default": false}
	aMoment    = openapi.Schema{"type": "string", "format": "date-time"}
	aSequence  = openapi.Schema{"type": "integer", "format": "int64", "minimum": 1}
	aGrant     = openapi.Schema{"type": "integer", "format": "int64", "minimum": 1, "maximum": store.MaxGrant}
	anOutcome  = openapi.Schema{"type": "string", "enum": statuses[3:]}
	anyOfSeven = openapi.Schema{"type": "string", "enum": statuses[:]}
)

// statuses are those that a request may name, the outcomes behind the others.
var statuses = [...]store.Status{store.Pending, store.Running, store.Cancelling, store.Completed, store.Failed, store.Cancelled, store.Timeout}

// inPath are the parameters that a path may have.
var inPath = []param{
	{name: "user_id", about: "Whose counts: the user's id, or the organisation's where those are counted.", schema: anID},
	{name: "id", about: "The run's id.", schema: anID},
	{name: "seq", about: "The number of the dead letter, or the id of the grant.", schema: aSequence},
}

// Whose count, in a query.
var (
	ofUser     = param{name: "user_id", about: "Whose count. Left out, it is a signed-in user's own, and with an API key that of a workflow or draft over all users.", schema: anID}
	ofWorkflow = param{name: "workflow_id", about: "Of which workflow.", schema: anID}
	ofDraft    = param{name: "draft_id", about: "Of which draft; it goes before workflow_id.", schema: anID}
)

// What a decision is logged with, and the header in place of a member.
var (
	decidedBy         = param{name: "who", about: "Who decided: at most 1,000 bytes on one line.", schema: aText, required: true}
	decidedWhy        = param{name: "why", about: "Why: at most 1,000 bytes on one line.", schema: aText, required: true}
	idempotencyHeader = param{name: "Idempotency-Key", about: "In place of idempotency_key.", schema: aText}
)

// countQuery says what a count is asked for.
var countQuery = []param{
	ofUser, ofWorkflow, ofDraft,
	{name: "kind", about: "Of a user's count of all their runs: those of workflows alone, or of drafts.", schema: openapi.Schema{"type": "string", "enum": []store.Kind{store.KindWorkflow, store.KindDraft}}},
	{name: "users", about: "all asks for the runs of all users, which a signed-in user has to say, since their own are meant where it is left out.", schema: openapi.Schema{"type": "string", "enum": []string{"all"}}},
	{name: "from", about: "Runs that ended then or later.", schema: aMoment},
	{name: "to", about: "Runs that ended before then.", schema: aMoment},
}

// severalCounts says what a stream of counts tells of. A draft goes before no workflow
// there: each of them is a count.
var severalCounts = append([]param{ofUser, several(ofWorkflow), several(param{name: "draft_id", about: "Of which draft; beside workflow_id it is one more count.", schema: anID})}, countQuery[3:]...)

// allowanceQuery says which limits are asked for.
var allowanceQuery = []param{
	{name: "user_id", about: "Whose allowance. Required with an API key, unless the table has no column that says whose a run is; a signed-in user may leave it out.", schema: anID}, ofWorkflow, ofDraft,
	{name: "limit", about: "That of the user and the workflow or draft.", schema: aNumber},
	{name: "user_limit", about: "That of all runs of the user.", schema: aNumber},
	{name: "from", about: "The beginning of the period of both: runs that ended before it are left out.", schema: aMoment},
	{name: "user_from", about: "That of user_limit, where it is another.", schema: aMoment},
}

// limitMembers are those of each element of limits.
var limitMembers = []param{
	{name: "scope", about: "key: the runs of the user and the workflow or draft; user: all runs of the user.", schema: openapi.Schema{"type": "string", "enum": []store.LimitScope{store.KeyLimit, store.UserLimit}}, required: true},
	{name: "max", about: "Most runs, those that count and those that are active together.", schema: aNumber, required: true},
	{name: "from", about: "The beginning of the period: runs that ended before it are left out.", schema: aMoment},
}

// forUsers are for API keys, and for signed-in users about their own counts.
var forUsers = []endpoint{
	{
		method: fiber.MethodGet, path: "/counts", id: "getCount", tag: "counts", summary: "The count of a user and a workflow, of all runs of a user, or of a workflow over all users",
		about: "Exact as of now, for all time or by when runs ended. Nothing that was counted is a count of 0. " +
			"A count over all users is for API keys, unless the server gives it to signed-in users, or to everyone without a key.",
		query: countQuery, answer: reflect.TypeFor[Count](), open: true, handle: (*API).getCount,
	},
	{
		method: fiber.MethodGet, path: "/counts/stream", id: "streamCounts", tag: "counts", summary: "Counts as they change, by server-sent events",
		about: "Each count as of now, then each change of one: of a user and a workflow or draft within 100 ms of its commit, and of all runs of a user, over all users or in a window within 0.3 s where few are watched. A line that begins with a colon comes every 15 seconds. " +
			"The server ends the stream with the event expired when the token expires, or displaced when a user with fewer streams needs the place.",
		query: severalCounts, events: streamed,
		problems: map[int]string{404: "The server streams no counts.", 429: "The user has too many streams open."}, handle: (*API).streamCounts,
	},
	{
		method: fiber.MethodGet, path: "/users/{user_id}/counts", id: "getUserCounts", tag: "counts", summary: "All counts of a user, a page at a time",
		query: []param{
			{name: "after", about: "next of the page before; left out for the first.", schema: aText},
			{name: "max", about: "Most counts of a page.", schema: aPage},
		},
		answer: reflect.TypeFor[UserCounts](), handle: (*API).getUserCounts,
	},
	{
		method: fiber.MethodGet, path: "/allowance", id: "getAllowance", tag: "limits", summary: "How many runs may still begin under limits",
		about: "In one snapshot, with the grants that raise the limits. It reserves nothing.",
		query: allowanceQuery, answer: reflect.TypeFor[Allowance](), handle: (*API).getAllowance,
	},
	{
		method: fiber.MethodGet, path: "/allowance/stream", id: "streamAllowance", tag: "limits", summary: "The allowance as it changes, by server-sent events",
		about: "The allowance as of now, then each change of it, within 0.3 s where few are watched. The stream ends as that of counts does.",
		query: allowanceQuery, events: streamedAllowance,
		problems: map[int]string{404: "The server streams no allowances.", 429: "The user has too many streams open."}, handle: (*API).streamAllowance,
	},
}

func several(p param) param {
	p.several = true
	p.about += " Give it as often as needed; one stream tells of up to 50 counts."
	return p
}

// forKeys are for API keys alone.
var forKeys = []endpoint{
	{
		method: fiber.MethodPost, path: "/runs", id: "beginRun", tag: "runs", summary: "Reserves a slot under limits, and creates a run",
		about:   "The run is pending. Sent again with the same id or idempotency key, it gives the same run, with created false.",
		headers: []param{idempotencyHeader},
		members: []param{
			{name: "id", about: "The run's id; drawn where it is left out.", schema: anID},
			{name: "user_id", about: "Whose run. Required, unless the table has no column for it.", schema: anID},
			{name: "workflow_id", about: "What runs: this or draft_id is required, unless the table has no column for it.", schema: anID},
			{name: "draft_id", about: "Which draft runs; it goes before workflow_id.", schema: anID},
			{name: "limit", about: "The short form of limits with one of the key for all time.", schema: aNumber},
			{name: "limits", about: "All have to hold; no limit where it is left out.", schema: openapi.Schema{"type": "array", "minItems": 1, "items": objectSchema(limitMembers)}},
			{name: "idempotency_key", about: "Of this user, at most 255 bytes on one line: the same key gives the same run.", schema: aText},
		},
		status: fiber.StatusCreated, answer: reflect.TypeFor[BegunRun](), located: true,
		problems: map[int]string{409: "limit_reached: nothing was created; conflict: the id or the key belongs to a run of another user, workflow or draft; or " + notUnique},
		handle:   (*API).beginRun,
	},
	{
		method: fiber.MethodGet, path: "/runs/{id}", id: "getRun", tag: "runs", summary: "A run, and whether it counts",
		answer: reflect.TypeFor[Run](), problems: map[int]string{404: noRun}, handle: (*API).getRun,
	},
	{
		method: fiber.MethodPost, path: "/runs/{id}/start", id: "startRun", tag: "runs", summary: "Marks a pending run as running",
		about:  "A run that is not pending stays as it is.",
		answer: reflect.TypeFor[Run](), problems: map[int]string{404: noRun, 409: notUnique}, handle: (*API).startRun,
	},
	{
		method: fiber.MethodPost, path: "/runs/{id}/complete", id: "completeRun", tag: "runs", summary: "Ends a run, unless it has ended",
		about: "The first outcome wins. To lose is a result: won is false, and the answer holds the outcome that stands.",
		members: []param{
			{name: "status", about: "How it ended.", schema: anOutcome, required: true},
			{name: "duration_ms", about: "How long it took; left as it is where it is left out.", schema: aNumber},
			{name: "error_details", about: "Any JSON; left as it is where it is left out.", schema: anyValue},
			{name: "state_snapshot", about: "Any JSON; left as it is where it is left out.", schema: anyValue},
		},
		answer: reflect.TypeFor[CompletedRun](), problems: map[int]string{404: noRun, 409: notUnique}, handle: (*API).completeRun,
	},
	{
		method: fiber.MethodPost, path: "/runs/{id}/amend", id: "amendRun", tag: "runs", summary: "Overrides an outcome, or re-opens the run",
		about: "An administrator's decision, which is logged.",
		members: []param{
			{name: "status", about: "What the run shall be.", schema: anyOfSeven, required: true},
			{name: "reason", about: "Why: at most 1,000 bytes on one line.", schema: aText, required: true},
			decidedBy,
		},
		answer: reflect.TypeFor[Run](), problems: map[int]string{404: noRun, 409: notUnique}, handle: (*API).amendRun,
	},
}

// forGrants are for API keys alone, and are there where the backend keeps grants.
var forGrants = []endpoint{
	{
		method: fiber.MethodPost, path: "/grants", id: "grantRuns", tag: "limits", summary: "Gives a user runs on top of their limits",
		about:   "In place of deleting runs. It raises the limit of the workflow or draft, and that of the user, until it expires or is revoked.",
		headers: []param{idempotencyHeader},
		members: []param{
			{name: "user_id", about: "Whose limits. Required, unless the table has no column for it.", schema: anID},
			{name: "workflow_id", about: "Of which workflow; without it and draft_id the grant raises the limit of the user alone.", schema: anID},
			{name: "draft_id", about: "Of which draft; it goes before workflow_id.", schema: anID},
			{name: "runs", about: "How many.", schema: aGrant, required: true},
			decidedBy,
			decidedWhy,
			{name: "expires_at", about: "Until when; for ever where it is left out.", schema: aMoment},
			{name: "idempotency_key", about: "Of this user, at most 255 bytes on one line: the same key gives the same grant.", schema: aText},
		},
		status: fiber.StatusCreated, answer: reflect.TypeFor[MadeGrant](),
		problems: map[int]string{409: "conflict: the key belongs to a grant of other contents."}, handle: (*API).makeGrant,
	},
	{
		method: fiber.MethodGet, path: "/grants", id: "listGrants", tag: "limits", summary: "The grants, latest first, a page at a time",
		about: "Those of a user, of a user and a workflow or draft, or of all. Revoked and expired ones are among them.",
		query: []param{
			{name: "user_id", about: "Whose grants.", schema: anID}, ofWorkflow, ofDraft,
			{name: "before", about: "With an id below this: next of the page before.", schema: aNumber},
			{name: "max", about: "Most grants of a page.", schema: aPage},
		},
		answer: reflect.TypeFor[GrantPage](), handle: (*API).getGrants,
	},
	{
		method: fiber.MethodPost, path: "/grants/{seq}/revoke", id: "revokeGrant", tag: "limits", summary: "Ends a grant before its time",
		about: "What has begun under it stays begun. That it was revoked before is a result: the answer has who did so.",
		members: []param{
			decidedBy,
			decidedWhy,
		},
		answer: reflect.TypeFor[Grant](), problems: map[int]string{404: "There is no such grant."}, handle: (*API).revokeGrant,
	},
}

// What 404 and 409 mean at several addresses.
const (
	noRun     = "There is no such run, or it was deleted."
	noLetters = "The server keeps no dead letters."
	noLetter  = "There is no such dead letter: it was replayed or dropped, or newer ones took its place."
	notUnique = "not_unique: a unique constraint of the application's refuses it; detail names the constraint."
)

// What chooses among the dead letters.
var (
	ofReason = param{name: "reason", about: "A part of the reason for which they can't be read.", schema: aText}
	ofUntil  = param{name: "until", about: "Received no later than this.", schema: aMoment}
	ofBefore = param{name: "before", about: "Numbered below this: next of the page before.", schema: aNumber}
	ofMax    = param{name: "max", about: "Most dead letters of a page.", schema: aPage}
)

// forLetters are for API keys alone, and are there where the backend keeps dead letters.
var forLetters = []endpoint{
	{
		method: fiber.MethodGet, path: "/dead-letters", id: "listDeadLetters", tag: "dead letters", summary: "The dead letters, latest first, a page at a time",
		query:  []param{ofReason, ofUntil, ofBefore, ofMax},
		answer: reflect.TypeFor[LetterPage](), problems: map[int]string{404: noLetters}, handle: (*API).getLetters,
	},
	{
		method: fiber.MethodGet, path: "/dead-letters/{seq}", id: "getDeadLetter", tag: "dead letters", summary: "A dead letter with its body",
		answer: reflect.TypeFor[LetterWithBody](), problems: map[int]string{404: noLetter}, handle: (*API).getLetter,
	},
	{
		method: fiber.MethodDelete, path: "/dead-letters/{seq}", id: "dropDeadLetter", tag: "dead letters", summary: "Drops a dead letter",
		answer: reflect.TypeFor[LettersDropped](), problems: map[int]string{404: noLetter}, handle: (*API).dropLetter,
	},
	{
		method: fiber.MethodPost, path: "/dead-letters/replay", id: "replayDeadLetters", tag: "dead letters", summary: "Replays the dead letters that match, latest first",
		about:   "Each is read and applied again. Those that still can't be read stay, with the reason.",
		members: []param{ofReason, ofUntil, ofBefore, ofMax}, answer: reflect.TypeFor[LettersReplayed](),
		problems: map[int]string{404: noLetters, 409: notUnique}, handle: (*API).replayLetters,
	},
	{
		method: fiber.MethodPost, path: "/dead-letters/drop", id: "dropDeadLetters", tag: "dead letters", summary: "Drops the dead letters that match, or all",
		members: []param{ofReason, ofUntil, ofBefore, {name: "all", about: "All of them, in place of a filter.", schema: aBool}},
		answer:  reflect.TypeFor[LettersDropped](), problems: map[int]string{404: noLetters}, handle: (*API).dropLetters,
	},
	{
		method: fiber.MethodPost, path: "/dead-letters/{seq}/replay", id: "replayDeadLetter", tag: "dead letters", summary: "Replays a dead letter",
		about:  "It is read and applied again. That it still can't be read is a result: applied is false.",
		answer: reflect.TypeFor[LetterResult](), problems: map[int]string{404: noLetter, 409: "not_whole: only its beginning was kept, so it can't be replayed; or " + notUnique},
		handle: (*API).replayLetter,
	},
}
