package watched

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
)

// TestTheSelectIsInOurNamesAndWords: what reads runs need not know the table's.
func TestTheSelectIsInOurNamesAndWords(t *testing.T) {
	theirs := Describe(table("uid int8 not null", "org text", "user_id uuid", "order timestamptz", "state st labels(new|old|it's)"), Overrides{
		Columns: map[Role]string{ID: "uid", User: "org", Workflow: "user_id", CompletedAt: "order", Status: "state"},
		Statuses: map[string]store.Status{
			"new": store.Pending, "it's": store.Completed,
		},
	}).Table
	for _, tt := range []struct {
		t          Table
		name, want string
	}{
		{Default(), "id", "r.id"},
		{Default(), "status", "r.status"},
		{Default(), "ended", "r.completed_at between '0002-01-01 00:00:00+00' and '9998-12-31 23:59:59.999999+00' and r.status in ('completed', 'failed', 'cancelled', 'timeout')"},
		{Default(), "ref_id", "case when r.user_id is not null then coalesce(r.draft_id, r.workflow_id) end"},
		{Default(), "lease_at", "null::timestamptz::timestamptz"},
		{theirs, "id", `r."uid"`},
		{theirs, "workflow_id", "r.user_id"},
		{theirs, "user_id", `r."org"::text collate "C"`},
		{theirs, "draft_id", "null::uuid"},
		{theirs, "no_draft", "true"},
		{theirs, "kind", "'workflow'::text"},
		{theirs, "status", `(case r."state"::text when 'new' then 'pending' when 'it''s' then 'completed' else r."state"::text end)`},
		{theirs, "ended", `r."order" between '0002-01-01 00:00:00+00' and '9998-12-31 23:59:59.999999+00' and r."state" in ('it''s')`},
		{theirs, "open", `((r."order" is null or r."order" not between '0002-01-01 00:00:00+00' and '9998-12-31 23:59:59.999999+00') or r."state" is null or r."state" not in ('it''s'))`},
		{theirs, "active", `r."state" in ('new')`},
		{theirs, "has_user", `nullif(octet_length(r."org") between 1 and 255, false) is not null`},
		{theirs, "slot_user", `(case when octet_length(r."org") between 1 and 255 then r."org"::text collate "C" end)`},
		{theirs, "ref_id", `case when octet_length(r."org") between 1 and 255 then r.user_id end`},
		{theirs, "no such column", ""},
	} {
		if diff := cmp.Diff(tt.want, tt.t.Run("r", tt.name)); diff != "" {
			t.Errorf("%s of %s (-want +got):\n%s", tt.name, tt.t.SQL(), diff)
		}
	}
	if got := theirs.Runs("id", "nothing"); got != `(select t."uid" as id from public.workflow_runs as t)` {
		t.Errorf("got %s, want the columns that there are", got)
	}
}

// TestWhatIsWrittenIsAWordOfTheTable: ours where the table allows it, else what
// the operator has named. A check that lists the words allows no other.
func TestWhatIsWrittenIsAWordOfTheTable(t *testing.T) {
	allows := with("status text")
	allows.Checks = []Check{{[]string{"status"}, `CHECK ((status = ANY (ARRAY['queued'::text, 'running'::text, 'waiting'::text, 'canceled'::text])))`}}
	said := Overrides{Statuses: map[string]store.Status{"waiting": store.Running, "queued": store.Pending, "canceled": store.Cancelled}}
	checked := Describe(allows, said).Table
	for one, want := range map[store.Status]string{store.Running: "running", store.Pending: "queued", store.Cancelled: "canceled", store.Failed: ""} {
		if got, _ := checked.Says(one); got != want {
			t.Errorf("%s is written as %q, want %q", one, got, want)
		}
	}
	for check, want := range map[string]string{
		`CHECK ((status = ANY (ARRAY['running'::text, 'completed'::text])))`:                                         "running",
		`CHECK (((status)::text = ANY ((ARRAY['running'::character varying, 'it''s'::character varying])::text[])))`: "running",
		`CHECK ((status = ANY (ARRAY['running'::text, 'completed'::text]))) NOT VALID`:                               "pending",
		`CHECK (((status = ANY (ARRAY['running'::text, 'completed'::text])) OR (status ~~ 'x%'::text)))`:             "pending",
		`CHECK ((status <> ALL (ARRAY['running'::text, 'completed'::text])))`:                                        "pending",
		`CHECK ((length(status) < 10))`: "pending",
	} {
		c := with("status text")
		c.Checks = []Check{{[]string{"status"}, check}}
		if got := Describe(c, Overrides{}).Table.First(); got != want {
			t.Errorf("%s: a run begins as %s, want %s", check, got, want)
		}
	}
	enum := Describe(with("status st labels(started|completed)"), Overrides{Statuses: map[string]store.Status{"started": store.Running}}).Table
	want := []store.Status{store.Pending, store.Cancelling, store.Failed, store.Cancelled, store.Timeout}
	if diff := cmp.Diff(want, enum.Unsayable()); diff != "" {
		t.Errorf("what an enum has no word for (-want +got):\n%s", diff)
	}
	if got := enum.First(); got != "started" {
		t.Errorf("a run begins as %s, want the first active word that there is", got)
	}
}

// TestWhoSignsInIsKnownByAClaim, and no organisation by a user's.
func TestWhoSignsInIsKnownByAClaim(t *testing.T) {
	references := table("id uuid not null", "owner uuid", "workflow_id uuid", "status text", "completed_at timestamptz")
	references.Columns[1].References = "auth.users"
	organisation := with("org_id uuid")
	for name, tt := range map[string]struct {
		c    Catalog
		o    Overrides
		want string
	}{
		"user_id":              {with(), Overrides{}, "sub"},
		"a key to auth.users":  {references, Overrides{Columns: map[Role]string{User: "owner"}}, "sub"},
		"an organisation":      {organisation, Overrides{Columns: map[Role]string{User: "org_id"}}, ""},
		"no user":              {with(), Overrides{Columns: map[Role]string{User: ""}}, ""},
		"a claim that is said": {organisation, Overrides{Columns: map[Role]string{User: "org_id"}, Claim: "o.id"}, "o.id"},
	} {
		if got := Describe(tt.c, tt.o).Table.Claim; got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
