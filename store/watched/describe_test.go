package watched

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
)

// table makes a catalog of columns written as "name type", with what else there
// is behind it: not null, generated, labels(a|b), references auth.users.
func table(columns ...string) Catalog {
	c := Catalog{Schema: "public", Name: "workflow_runs", Kind: "r", Unique: [][]string{{"id"}}, Zone: "UTC"}
	for _, text := range columns {
		name, rest, _ := strings.Cut(text, " ")
		kind, rest, _ := strings.Cut(rest, " ")
		column := CatalogColumn{Name: name, Type: kind, Declared: declared(kind), Generated: strings.Contains(rest, "generated"), NotNull: name == "id" || strings.Contains(rest, "not null")}
		if _, labels, ok := strings.Cut(rest, "labels("); ok {
			labels, _, _ = strings.Cut(labels, ")")
			column.Labels = strings.Split(labels, "|")
		}
		c.Columns = append(c.Columns, column)
	}
	return c
}

func declared(kind string) string {
	if name, ok := map[string]string{"int4": "integer", "int8": "bigint", "varchar": "character varying(191)", "timestamptz": "timestamp with time zone", "timestamp": "timestamp without time zone"}[kind]; ok {
		return name
	}
	return kind
}

// plain is the table that the migrations make where there is none.
var plain = []string{
	"id uuid", "user_id uuid", "workflow_id uuid", "draft_id uuid", "status text", "started_at timestamptz", "completed_at timestamptz", "duration_ms int4",
	"error_details jsonb", "state_snapshot jsonb", "created_at timestamptz", "updated_at timestamptz",
}

// with returns plain with columns in place of those of the same name.
func with(columns ...string) Catalog {
	all := slices.Clone(plain)
	for _, column := range columns {
		name, _, _ := strings.Cut(column, " ")
		if i := slices.IndexFunc(all, func(c string) bool { return strings.HasPrefix(c, name+" ") }); i >= 0 {
			all[i] = column
		} else {
			all = append(all, column)
		}
	}
	return table(all...)
}

// columnOf is the column of plain that plays the role.
func columnOf(role Role) string {
	if slices.Contains([]Role{User, Workflow, Draft}, role) {
		return string(role) + "_id"
	}
	return string(role)
}

func without(names ...string) Catalog {
	return table(slices.DeleteFunc(slices.Clone(plain), func(c string) bool {
		name, _, _ := strings.Cut(c, " ")
		return slices.Contains(names, name)
	})...)
}

func TestThePlainTableNeedsNoWord(t *testing.T) {
	r := Describe(table(plain...), Overrides{})
	if len(r.Problems)+len(r.Missing)+len(r.Unmapped)+len(r.Notes) > 0 {
		t.Errorf("got %+v, want a table with nothing to say about it", r)
	}
	if args := r.Guessed.Args(); len(args) > 0 {
		t.Errorf("got the flags %v, want none", args)
	}
	for _, role := range Roles() {
		c, there := r.Table.Column(role)
		if role == Lease {
			if there {
				t.Errorf("the lease is %s, want none: it is never guessed", c.Name)
			}
			continue
		}
		if c.Name != columnOf(role) || !c.Writable {
			t.Errorf("%s is %+v, want the column of that name, writable", role, c)
		}
	}
}

// TestCaseT4ToT9_EachVariantOfATypeHasItsKind: what each type is read as.
func TestCaseT4ToT9_EachVariantOfATypeHasItsKind(t *testing.T) {
	for _, tt := range []struct {
		column string
		o      Overrides
		role   Role
		want   Column
	}{
		{"id int8", Overrides{}, ID, Column{ID, "id", Integer, "bigint", true, ""}},
		{"id int8 generated", Overrides{}, ID, Column{ID, "id", Integer, "bigint", false, ""}},
		{"id text", Overrides{}, ID, Column{ID, "id", Text, "text", true, ""}},
		{"user_id citext", Overrides{}, User, Column{User, "user_id", Text, "citext", true, ""}},
		{"workflow_id varchar", Overrides{}, Workflow, Column{Workflow, "workflow_id", Text, "character varying(191)", true, ""}},
		{"status run_status labels(pending|running|completed)", Overrides{}, Status, Column{Status, "status", Enum, "run_status", true, ""}},
		{"status bpchar", Overrides{}, Status, Column{Status, "status", Text, "bpchar", true, ""}},
		{"status citext", Overrides{}, Status, Column{Status, "status", AnyCase, "citext", true, ""}},
		{"status text", Overrides{AnyCase: true}, Status, Column{Status, "status", AnyCase, "text", true, ""}},
		{"error_details json", Overrides{}, ErrorDetails, Column{ErrorDetails, "error_details", JSON, "json", true, ""}},
		{"state_snapshot text", Overrides{}, StateSnapshot, Column{StateSnapshot, "state_snapshot", Text, "text", true, ""}},
		{"duration_ms int4 generated", Overrides{}, DurationMS, Column{DurationMS, "duration_ms", Integer, "integer", false, ""}},
		{"duration_ms numeric", Overrides{}, DurationMS, Column{DurationMS, "duration_ms", Numeric, "numeric", true, ""}},
		{"completed_at timestamp", Overrides{}, CompletedAt, Column{CompletedAt, "completed_at", Timestamp, "timestamp without time zone", true, ""}},
		{"completed_at int8", Overrides{Times: Seconds}, CompletedAt, Column{CompletedAt, "completed_at", Seconds, "bigint", true, ""}},
		{"beat timestamptz", Overrides{Columns: map[Role]string{Lease: "beat"}}, Lease, Column{Lease, "beat", TimestampTZ, "timestamp with time zone", true, ""}},
	} {
		t.Run(tt.column, func(t *testing.T) {
			r := Describe(with(tt.column), tt.o)
			if len(r.Problems) > 0 {
				t.Errorf("got the problems %q, want none", r.Problems)
			}
			got, _ := r.Table.Column(tt.role)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestCaseT4_NoClaim is for organisations in a column of a user's name: no token
// opens their counts, on the source and where a mirror is told of it.
func TestCaseT4_NoClaim(t *testing.T) {
	var said Overrides
	if err := said.SetClaim("none"); err != nil {
		t.Fatal(err)
	}
	r := Describe(table(plain...), said)
	if r.Table.Claim != "" || len(r.Problems)+len(r.Notes) > 0 {
		t.Errorf("got the claim %q, %q and %q; want none, and nothing to say", r.Table.Claim, r.Problems, r.Notes)
	}
	told := r.Table.Foreign()
	if args := strings.Join(told.Args(), " "); args != "--claim none" || Assumed(told).Claim != "" {
		t.Errorf("a mirror is told %q and takes the claim %q, want --claim none and no claim", args, Assumed(told).Claim)
	}
	if r := Describe(table(plain...), Overrides{Columns: map[Role]string{User: ""}, Claim: NoClaim}); len(r.Problems) > 0 {
		t.Errorf("got the problems %q, want none where no column says whose a run is", r.Problems)
	}
}

// TestCaseT26_WordsInAnyCase are ours in the table's spelling, and mean one thing.
func TestCaseT26_WordsInAnyCase(t *testing.T) {
	c := with("status citext")
	c.Checks = []Check{{Columns: []string{"status"}, Definition: "CHECK ((status = ANY (ARRAY['Pending'::citext, 'DONE'::citext, 'Other'::citext])))"}}
	r := Describe(c, Overrides{Statuses: map[string]store.Status{"done": store.Completed}})
	if word, _ := r.Table.Says(store.Pending); word != "Pending" || len(r.Problems) > 0 {
		t.Errorf("got %q for pending and the problems %q, want the table's Pending and none", word, r.Problems)
	}
	if diff := cmp.Diff([]string{"Other"}, r.Unmapped); diff != "" {
		t.Errorf("the words without a meaning (-want +got)\n%s", diff)
	}
	if told := r.Table.Foreign(); !told.AnyCase || len(told.Statuses) != 1 || told.Statuses["done"] != store.Completed {
		t.Errorf("a mirror is told %+v, want any case, and done", told)
	}
	r = Describe(c, Overrides{Statuses: map[string]store.Status{"Done": store.Completed, "DONE": store.Failed}})
	if want := []string{"--status DONE=failed and --status Done=completed give one word of status two meanings: give it one"}; !cmp.Equal(want, r.Problems) {
		t.Errorf("got the problems %q, want %q", r.Problems, want)
	}
	r = Describe(with("status run_status labels(pending|completed)"), Overrides{AnyCase: true})
	if len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "--any-case is for texts") {
		t.Errorf("got the problems %q, want one: an enum's labels are known", r.Problems)
	}
}

// TestCaseT7_WhatIsMissingIsSaidWithWhatIsLost.
func TestCaseT7_WhatIsMissingIsSaidWithWhatIsLost(t *testing.T) {
	for _, role := range []Role{User, Workflow, Draft, CreatedAt, StartedAt, UpdatedAt, DurationMS, ErrorDetails, StateSnapshot} {
		r := Describe(without(columnOf(role)), Overrides{})
		if len(r.Problems) > 0 || len(r.Missing) != 1 || r.Missing[0].Role != role || r.Missing[0].Lost == "" {
			t.Errorf("without %s: got %+v, %q; want that alone as missing, with what is lost", role, r.Missing, r.Problems)
		}
	}
	// The same, where the operator says that a column plays no role.
	r := Describe(table(plain...), Overrides{Columns: map[Role]string{Draft: ""}})
	if _, there := r.Table.Column(Draft); there || len(r.Problems) > 0 || len(r.Missing) != 1 {
		t.Errorf("--column draft=: got %+v, %q; want a table without drafts", r.Missing, r.Problems)
	}
}

func TestWhatCannotBeWatchedIsRefusedWithWhatHelps(t *testing.T) {
	notUnique, nullable, forced := with(), with(), with()
	notUnique.Unique = [][]string{{"id", "user_id"}}
	nullable.Columns[0].NotNull = false
	forced.ForcedRowSecurity = true
	partitioned := with()
	partitioned.Kind, partitioned.Unique, partitioned.PartitionKey = "p", [][]string{{"created_at", "id"}}, []string{"created_at"}
	view := with()
	view.Kind = "v"
	nondeterministic := with()
	nondeterministic.Columns[1].Type, nondeterministic.Columns[1].Nondeterministic = "text", true
	column := func(role Role, name string) Overrides { return Overrides{Columns: map[Role]string{role: name}} }
	for _, tt := range []struct {
		name string
		c    Catalog
		o    Overrides
		want string // of the one problem; "" for none
	}{
		{"a view", view, Overrides{}, "public.workflow_runs is no table but a view"},
		{"forced row security", forced, Overrides{}, `alter table "public"."workflow_runs" no force row level security`},
		{"an id that two rows may have", notUnique, Overrides{}, `alter table "public"."workflow_runs" add primary key ("id")`},
		{"an id that may be null", nullable, Overrides{}, "id is not unique"},
		{"partitions, with the key in the index", partitioned, Overrides{}, ""},
		{"case R13: no end", without("completed_at"), Overrides{}, `alter table "public"."workflow_runs" add column completed_at timestamptz`},
		{"no status", without("status"), Overrides{}, "--column status=NAME"},
		{"no id, but what may be one", table(append([]string{"run_id uuid not null"}, plain[1:]...)...), Overrides{}, "--column id=NAME (run_id?)"},
		{"case R6: no user and no workflow to count by", without("user_id", "workflow_id"), Overrides{}, "--column user=NAME"},
		{"case R11: times that are integers", with("completed_at int8"), Overrides{}, "--times milliseconds or --times seconds"},
		{"a snapshot that is an integer", with("state_snapshot int8"), Overrides{}, "state_snapshot is bigint, and as state_snapshot it has to be jsonb, json or text"},
		{"an end that is a text", with("completed_at text"), Overrides{}, "completed_at is text, and as completed_at it has to be"},
		{"a numeric id", with("user_id numeric"), Overrides{}, "user_id is numeric, and as user it has to be uuid, an integer type or text"},
		{"ids that are equal under their collation", nondeterministic, Overrides{}, "non-deterministic collation"},
		{"a column that is not there", with(), column(User, "owner"), "there is no column owner; its columns are id, user_id"},
		{"a column with two roles", with(), column(Draft, "workflow_id"), "can't be workflow and draft at once"},
		{"a label that the enum lacks", with("status run_status labels(pending|completed)"), Overrides{Statuses: map[string]store.Status{"complete": store.Completed}}, `has no label "complete"; they are pending, completed`},
		{"an enum by which nothing ends", with("status run_status labels(running|succeeded)"), Overrides{}, "none of running, succeeded means that a run has ended: say which does with --status THEIRS=OURS, such as succeeded=completed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Describe(tt.c, tt.o)
			switch {
			case tt.want == "" && len(r.Problems) > 0:
				t.Errorf("got %q, want no problem", r.Problems)
			case tt.want != "" && (len(r.Problems) != 1 || !strings.Contains(r.Problems[0], tt.want)):
				t.Errorf("got %q, want one problem that holds %q", r.Problems, tt.want)
			}
		})
	}
}

// TestCaseT26_WordsThatMeanNothingAreNamed, from an enum, a check, a default.
func TestCaseT26_WordsThatMeanNothingAreNamed(t *testing.T) {
	enum := with("status run_status labels(queued|running|succeeded|it's over)")
	check := with("status text")
	check.Checks = []Check{
		{[]string{"status"}, `CHECK ((status = ANY (ARRAY['canceled'::text, 'running'::text, 'it''s over'::text])))`},
		{[]string{"status", "user_id"}, `CHECK ((status <> 'other'::text OR user_id IS NOT NULL))`},
	}
	byDefault := with("status text")
	byDefault.Columns[4].Default = `'waiting'::text`
	for name, tt := range map[string]struct {
		c       Catalog
		o       Overrides
		want    []string
		guessed map[string]store.Status
	}{
		"an enum":   {enum, Overrides{}, []string{"it's over", "queued", "succeeded"}, map[string]store.Status{"queued": store.Pending, "succeeded": store.Completed}},
		"a check":   {check, Overrides{}, []string{"canceled", "it's over"}, map[string]store.Status{"canceled": store.Cancelled}},
		"a default": {byDefault, Overrides{}, []string{"waiting"}, map[string]store.Status{"waiting": store.Running}},
		"mapped": {
			byDefault, Overrides{Statuses: map[string]store.Status{"waiting": store.Pending}}, nil,
			map[string]store.Status{"waiting": store.Pending},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := Describe(tt.c, tt.o)
			if diff := cmp.Diff(tt.want, r.Unmapped); diff != "" {
				t.Errorf("unmapped (-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(tt.guessed, r.Guessed.Statuses); diff != "" {
				t.Errorf("guessed (-want +got)\n%s", diff)
			}
		})
	}
	r := Describe(enum, Overrides{Statuses: map[string]store.Status{"succeeded": store.Completed}})
	want := []Word{{"running", store.Running}, {"succeeded", store.Completed}}
	if diff := cmp.Diff(want, r.Table.Statuses); diff != "" {
		t.Errorf("an enum's words (-want +got)\n%s", diff)
	}
}

// TestEachGuessIsAStatusThatCanBeSaid: what is proposed is accepted.
func TestEachGuessIsAStatusThatCanBeSaid(t *testing.T) {
	for word, status := range synonyms {
		if store.Status(word).Known() || !status.Known() {
			t.Errorf("%s means %s: want a word of others for one of ours", word, status)
		}
		if got := guessStatus(strings.ToUpper(strings.ReplaceAll(word, "_", "-"))); got != status {
			t.Errorf("in capitals %s is guessed as %q, want %s", word, got, status)
		}
	}
}

func TestTheFingerprintChangesWithWhatMatters(t *testing.T) {
	was := Describe(with(), Overrides{}).Table.Fingerprint
	same := map[string]Catalog{"another order": with(), "a column more": with("note text"), "another default": with()}
	slices.Reverse(same["another order"].Columns)
	same["another default"].Columns[4].Default = "'pending'::text"
	for name, c := range same {
		if got := Describe(c, Overrides{}).Table.Fingerprint; got != was {
			t.Errorf("%s: got another fingerprint, want the same", name)
		}
	}
	checked, keyed, forced, null := with(), with(), with(), with()
	checked.Checks = []Check{{[]string{"status"}, "CHECK (status <> '')"}}
	keyed.Unique = nil
	forced.ForcedRowSecurity = true
	null.Columns[1].NotNull = true
	for name, c := range map[string]Catalog{
		"a type": with("user_id text"), "a column less": without("duration_ms"), "a generated column": with("duration_ms int4 generated"),
		"a check": checked, "a key": keyed, "forced row security": forced, "not null": null, "a required column": with("tenant text not null"),
	} {
		if got := Describe(c, Overrides{}).Table.Fingerprint; got == was {
			t.Errorf("%s: got the same fingerprint, want another", name)
		}
	}
}

// TestCasesR7R9R14_WhatIsAbsentIsProposedWhereNothingCouldBeIt, and never taken by
// itself where the operator has not said so.
func TestCasesR7R9R14_WhatIsAbsentIsProposedWhereNothingCouldBeIt(t *testing.T) {
	run := []string{"id uuid notnull", "status text", "completed_at timestamptz"}
	for _, tt := range []struct {
		name    string
		columns []string
		role    Role
		want    string // "-" for no proposal
	}{
		{"case R9: no workflow", []string{"user_id text", "tenant_id text", "parent_run_id text"}, Workflow, ""},
		{"case R14: no user", []string{"workflow_id uuid"}, User, ""},
		{"case R12: no user, and other columns", []string{"workflow_id varchar", "failure_reason text", "progress_metadata json"}, User, ""},
		{"case R1: an organisation", []string{"workflow_id uuid", "org_id uuid"}, User, "org_id"},
		{"case R7: a counselor, the one column that could be the user", []string{"workflow_id uuid", "counselor_id uuid", "execution_time_ms int4"}, User, "counselor_id"},
		{"case R7: of two that could be the user", []string{"workflow_id uuid", "counselor_id uuid", "patient_id uuid"}, User, "-"},
		{"an id of something that runs is no user", []string{"workflow_id uuid", "trace_id uuid"}, User, "-"},
		{"an id of something that runs, beside one of a person", []string{"workflow_id uuid", "parent_run_id uuid", "patientId uuid"}, User, "patientId"},
		{"a recipe could be the workflow", []string{"user_id uuid", "recipe text"}, Workflow, "-"},
		{"case R6: neither", nil, User, "-"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, proposed := Describe(table(append(run, tt.columns...)...), Overrides{}).Guessed.Columns[tt.role]
			if !proposed {
				got = "-"
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	r := Describe(table(append(run, "user_id text", "draft_id text")...), Overrides{Columns: map[Role]string{Workflow: "", Draft: "draft_id"}})
	if len(r.Problems) != 1 {
		t.Errorf("drafts without workflows: got %q, want one problem", r.Problems)
	}
	if got := Describe(table(append(run, "user_id text", "draft_id text")...), Overrides{Columns: map[Role]string{Workflow: ""}}).Table; got.Has(Draft) || got.Counted() != store.KindAll {
		t.Errorf("without workflows: got drafts %v and the kind %s, want all runs in one count", got.Has(Draft), got.Counted())
	}
}
