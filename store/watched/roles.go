package watched

import (
	"regexp"
	"slices"
)

// Role says what a column is to a run.
type Role string

// The roles. A table has a run's id, status and end, and what is counted by: a
// user or a workflow. Each other role may have no column.
const (
	ID            Role = "id"
	User          Role = "user"     // who is counted: a user, an organisation, a workspace
	Workflow      Role = "workflow" // an id, a key or a name
	Draft         Role = "draft"
	Status        Role = "status"
	CreatedAt     Role = "created_at"
	StartedAt     Role = "started_at"
	UpdatedAt     Role = "updated_at"
	Lease         Role = "lease" // a lease or a heartbeat, by which a run says that it is alive
	CompletedAt   Role = "completed_at"
	DurationMS    Role = "duration_ms"
	ErrorDetails  Role = "error_details"
	StateSnapshot Role = "state_snapshot"
)

// roleFacts holds what is known of a role before a table is looked at.
type roleFacts struct {
	role Role
	// names are those by which a column is found, the first that is there.
	names []string
	// guesses are names that may mean the role. They are proposed to the
	// operator and never taken by themselves.
	guesses []string
	// likes are names by which a column could be for it all the same.
	likes *regexp.Regexp
	fits  func(CatalogColumn, Overrides) Kind
	wants string // the types that fit, as a sentence names them
	// add is the type that a missing column is added with.
	add string
	// lost says what a table without the column can't have.
	lost string
}

var allRoles = []roleFacts{
	{role: ID, names: []string{"id"}, guesses: []string{"run_id", "uuid"}, fits: fitsID, wants: wantsID, add: "uuid not null default gen_random_uuid() primary key"},
	{role: User, names: []string{"user_id"}, guesses: []string{
		"userId", "org_id", "organization_id", "organisation_id", "organizationId", "workspace_id", "workspaceId", "tenant_id", "team_id",
		"account_id", "customer_id", "owner_id", "created_by", "creator_id", "triggered_by", "started_by",
	}, likes: regexp.MustCompile(`(?i)user|owner|author|creator|member|account|org|team|tenant|customer|client|workspace|company|(_by|_id|_uid)$|(By|Id|ID)$`),
		fits: fitsID, wants: wantsID, add: "uuid", lost: "runs are counted by workflow alone, over all users"},
	{role: Workflow, names: []string{"workflow_id"}, guesses: []string{
		"workflowId", "workflow_key", "workflow_name", "workflow_type", "workflow",
	}, likes: regexp.MustCompile(`(?i)flow|job|task|pipeline|process|action|recipe|agent|template|definition|type|kind|name|key`),
		fits: fitsID, wants: wantsID, add: "uuid", lost: "all runs of a user are one count"},
	{role: Draft, names: []string{"draft_id"}, guesses: []string{"draftId"}, fits: fitsID, wants: wantsID, add: "uuid", lost: "drafts are not counted apart"},
	{role: Status, names: []string{"status"}, guesses: []string{"state", "run_status"}, fits: fitsStatus, wants: "text or an enum", add: "text not null default 'pending'"},
	{role: CreatedAt, names: []string{"created_at", "createdAt", "inserted_at"}, fits: fitsTime, wants: wantsTime, add: "timestamptz not null default now()",
		lost: "a run that never started has no sign of life, and is never failed as stuck"},
	{role: StartedAt, names: []string{"started_at", "startedAt"}, fits: fitsTime, wants: wantsTime, add: "timestamptz",
		lost: "durations are not filled, and a start is no sign of life"},
	{role: UpdatedAt, names: []string{"updated_at", "updatedAt", "last_updated_at", "modified_at"}, fits: fitsTime, wants: wantsTime, add: "timestamptz not null default now()",
		lost: "a run's writes are no sign of life; webhooks are ordered by the run's state alone"},
	{role: Lease, fits: fitsTime, wants: wantsTime, add: "timestamptz"},
	{role: CompletedAt, names: []string{"completed_at", "finished_at", "ended_at", "completedAt", "finishedAt", "endedAt"}, fits: fitsTime, wants: wantsTime, add: "timestamptz"},
	{role: DurationMS, names: []string{"duration_ms", "durationMs"}, guesses: []string{"execution_time_ms", "elapsed_ms"}, fits: fitsNumber, wants: "an integer or numeric", add: "integer",
		lost: "durations are neither filled nor written"},
	{role: ErrorDetails, names: []string{"error_details", "errorDetails"}, fits: fitsJSON, wants: "jsonb, json or text", add: "jsonb",
		lost: "a run that is failed as stuck does not say why, and an overwritten outcome is taken for completed"},
	{role: StateSnapshot, names: []string{"state_snapshot", "stateSnapshot"}, fits: fitsJSON, wants: "jsonb, json or text", add: "jsonb",
		lost: "complete_workflow_run keeps no snapshot"},
}

// Roles returns all roles, in the order in which they are shown.
func Roles() []Role {
	roles := make([]Role, len(allRoles))
	for i, f := range allRoles {
		roles[i] = f.role
	}
	return roles
}

// factsOf returns what is known of a role, and nil for an unknown one.
func factsOf(role Role) *roleFacts {
	i := slices.IndexFunc(allRoles, func(f roleFacts) bool { return f.role == role })
	if i < 0 {
		return nil
	}
	return &allRoles[i]
}
