package main

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

const lastSecond = "2026-01-31T12:00:01Z"

func TestCountByScopeAndWindow(t *testing.T) {
	t.Parallel()
	dir := filled(t)
	must(t, dir, row(6, otherWorkflow, "completed", "2026-01-31T12:00:02+00:00"), "import")
	user, workflow := []string{"count", "--user", sampleUser}, []string{"count", "--workflow", sampleWorkflow}
	for name, flag := range map[string][]string{"--user-windows": user, "--workflow-windows": workflow} {
		if r := exec1(t, command(t, dir, nil, append(flag, "--from", lastSecond)...), ""); r.code != exitUsage || !strings.Contains(r.errs, "runcounter migrate up "+name) {
			t.Errorf("a window without its index: got %+v, want the command that makes it", r)
		}
	}
	if got := must(t, dir, "", "migrate", "up", "--user-windows", "--workflow-windows"); !strings.Contains(got, "up to date") {
		t.Errorf("migrate up: got %s", got)
	}
	for name, c := range map[string]struct {
		args []string
		want countShape
	}{
		"a user since then":       {append(user, "--from", lastSecond), countShape{User: sampleUser, Count: 2, Completed: 1, Failed: 1, From: "2026-01-31T12:00:01.000000Z"}},
		"a user before":           {append(user, "--to", lastSecond), countShape{User: sampleUser, Count: 3, Completed: 3, To: "2026-01-31T12:00:01.000000Z"}},
		"a user's drafts":         {append(user, "--kind", "draft"), countShape{User: sampleUser, Kind: "draft"}},
		"a key since then":        {append(user, "--workflow", sampleWorkflow, "--from", lastSecond), countShape{User: sampleUser, Workflow: sampleWorkflow, Count: 1, Failed: 1, From: "2026-01-31T12:00:01.000000Z"}},
		"all users of a workflow": {append(workflow, "--from", lastSecond), countShape{Workflow: sampleWorkflow, Count: 1, Failed: 1, From: "2026-01-31T12:00:01.000000Z"}},
	} {
		got := mustJSON[countShape](t, dir, "", c.args...)
		got.LastRunAt = ""
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	golden(t, "count-window", must(t, dir, "", append(user, "--from", "2026-01-01T00:00:00Z", "--to", "2026-02-01T00:00:00Z")...))
	for name, c := range map[string]struct{ args, want string }{
		"a day":              {"count --user x --from 2026-01-31", "--from \"2026-01-31\" is not a time"},
		"the wrong way":      {"count --user x --from 2026-02-01T00:00:00Z --to 2026-01-01T00:00:00Z", "exchange them"},
		"a kind and its id":  {"count --user x --workflow y --kind workflow", "--kind is for a count of all runs"},
		"an unknown kind":    {"count --user x --kind all", "none of workflow, draft"},
		"no limit":           {"allowance --user x", "say which limit"},
		"no workflow":        {"allowance --user x --limit 1", "add --workflow ID or --draft ID"},
		"a limit below 0":    {"allowance --user x --user-limit -1", "--user-limit must be 0 or more"},
		"a limit of nobody":  {"allowance --workflow x --limit 1", "say whose"},
		"a limit to come":    {"allowance --user x --user-limit 1 --from 9000-01-01T00:00:00Z", "still to come"},
		"nothing to do":      {"grant", "grant give, list or revoke"},
		"how many":           {"grant give --user x --who a --why b", "--runs N"},
		"by nobody":          {"grant give --user x --runs 1 --why b", "--who NAME"},
		"to nobody":          {"grant give --workflow x --runs 1 --who a --why b", "say whose"},
		"too many":           {"grant give --user x --runs 1000000001 --who a --why b", "1 to 1000000000 runs"},
		"expired":            {"grant give --user x --runs 1 --who a --why b --expires 2020-01-01T00:00:00Z", "would have expired"},
		"which":              {"grant revoke --who a --why b", "grant revoke NUMBER"},
		"revoked by nobody":  {"grant revoke 1 --who a", "--why TEXT"},
		"a workflow's list":  {"grant list --workflow x", "add --user ID"},
		"too long a list":    {"grant list --max 1000001", "at most 1000000"},
		"a number to list":   {"grant list 7", "takes no number"},
		"totals for nobody":  {"migrate up --totals-for nobody", "none of keys, users, everyone"},
		"serve for somebody": {"serve --totals-for somebody", "none of keys, users, everyone"},
	} {
		if r := exec1(t, command(t, dir, nil, strings.Fields(c.args)...), ""); r.code != exitUsage || !strings.Contains(r.errs, c.want) {
			t.Errorf("%s: got %+v, want %q", name, r, c.want)
		}
	}
}

// grantedAt is the time of a grant, which is that of the test.
var grantedAt = regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z`)

func TestGrantAndAllowance(t *testing.T) {
	t.Parallel()
	dir := filled(t)
	said := func(name string, args ...string) {
		t.Helper()
		golden(t, name, grantedAt.ReplaceAllString(must(t, dir, "", args...), "2026-11-30T09:00:00.000000Z"))
	}
	left := []string{"allowance", "--user", sampleUser, "--workflow", sampleWorkflow, "--limit", "4", "--user-limit", "10"}
	give := []string{"grant", "give", "--user", sampleUser, "--workflow", sampleWorkflow, "--runs", "5", "--who", "ada", "--why", "refund 4711", "--idempotency-key", "4711"}
	if got := must(t, dir, "", "grant", "list"); got != "Nothing was granted.\n" {
		t.Errorf("got %q", got)
	}
	if diff := cmp.Diff(int64(0), mustJSON[api.Allowance](t, dir, "", left...).Remaining); diff != "" {
		t.Errorf("before the grant (-want +got):\n%s", diff)
	}
	said("grant-give", give...)
	said("grant-again", give...)
	said("allowance-left", left...)
	must(t, dir, "", "grant", "give", "--user", sampleUser, "--runs", "1", "--who", "ada", "--why", "a present", "--expires", "9000-01-01T00:00:00Z")
	said("grant-revoke", "grant", "revoke", "1", "--who", "bob", "--why", "the wrong user")
	said("grant-list", "grant", "list", "--user", sampleUser)
	if got := must(t, dir, "", "grant", "list", "--max", "1"); !strings.Contains(got, "--before 2 goes on") {
		t.Errorf("a page: got %s", got)
	}
	if got := must(t, dir, "", "grant", "list", "--before", "2"); !strings.Contains(got, "refund 4711") || strings.Contains(got, "a present") {
		t.Errorf("the next page: got %s", got)
	}
	for before, want := range map[string]struct{ seq, next int64 }{"0": {2, 2}, "2": {1, 0}} {
		page := mustJSON[api.GrantPage](t, dir, "", "grant", "list", "--max", "1", "--before", before)
		if len(page.Grants) != 1 || page.Grants[0].Seq != want.seq || (page.Next == nil) != (want.next == 0) || page.Next != nil && *page.Next != want.next {
			t.Errorf("the page before %s: got %+v, want grant %d and the next page before %d", before, page, want.seq, want.next)
		}
	}
	if got := must(t, dir, "", "grant", "list", "--max", "2"); strings.Contains(got, "--before") {
		t.Errorf("the last page, which is full, says that there are more: %s", got)
	}
	other := append([]string{}, give...)
	other[7] = "6"
	for name, args := range map[string][]string{
		"the key of another grant": other, "no such grant": {"grant", "revoke", "404", "--who", "a", "--why", "b"},
	} {
		if r := exec1(t, command(t, dir, nil, args...), ""); r.code != exitNo || !strings.Contains(r.errs, "grant") {
			t.Errorf("%s: got %+v, want a sentence and the answer no", name, r)
		}
	}
}

// A grant without an idempotency key must not be repeated where its commit may have got lost.
func TestAGrantWhoseCommitMayBeLostIsNotSafeToRepeat(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]bool{"": true, "4711": false} {
		got := coded(notGiven(store.GrantRequest{IdempotencyKey: key}, store.ErrUnavailable))
		var coded *exitError
		if !errors.As(got, &coded) || coded.code != exitUnreachable || strings.Contains(got.Error(), "--idempotency-key KEY") != want {
			t.Errorf("with the key %q: got %v, want the exit code %d and the hint: %t", key, got, exitUnreachable, want)
		}
	}
	var no *exitError
	if err := coded(&store.ConstraintError{Constraint: "one_pending", Unique: true}); !errors.As(err, &no) || no.code != exitNo {
		t.Errorf("a constraint of the application: got %v, want the answer no", err)
	}
	if got := notGiven(store.GrantRequest{}, store.ErrInvalid); !errors.Is(got, store.ErrInvalid) || strings.Contains(got.Error(), "not known") {
		t.Errorf("a grant that is refused: got %v, want no such hint", got)
	}
}

// What is asked for of a database is remembered by it, and what may be asked by its roles.
func TestWindowsAndTotalsOfASource(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, `create table workflow_runs (id uuid primary key default gen_random_uuid(), user_id uuid, workflow_id uuid, status text not null default 'pending', created_at timestamptz not null default now(), completed_at timestamptz)`)
	up := func(flags ...string) {
		t.Helper()
		must(t, t.TempDir(), "", append([]string{"migrate", "up", "--database-url", address}, flags...)...)
	}
	window := []string{"count", "--user", sampleUser, "--from", lastSecond, "--database-url", address}
	indexed := func(want bool) {
		t.Helper()
		r := exec1(t, command(t, t.TempDir(), nil, window...), "")
		if got := r.code == exitFine; got != want || !want && !strings.Contains(r.errs, "--user-windows") {
			t.Errorf("a user's window: got %+v, want an answer: %v", r, want)
		}
	}
	up()
	indexed(false)
	up("--user-windows", "--totals-for", "users")
	indexed(true)
	up()
	indexed(true)
	if got := textOf(t, address, `select totals_for from run_counter.settings`); got != "users" {
		t.Errorf("totals are for %s, want users", got)
	}
	up("--user-windows=false", "--totals-for", "keys")
	indexed(false)
	if got := textOf(t, address, `select totals_for from run_counter.settings`); got != "keys" {
		t.Errorf("totals are for %s, want keys", got)
	}
	for flag, want := range map[string]string{"--user-windows": "run_counter_user_windows", "--workflow-windows": "run_counter_workflow_windows"} {
		if got := must(t, t.TempDir(), "", "migrate", "print", "--database-url", "postgres:", flag); !strings.Contains(got, want) {
			t.Errorf("migrate print %s has no index %s", flag, want)
		}
	}
}
