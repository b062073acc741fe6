package watched

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
)

func TestOverridesAreReadFromFlagsAndFromAFile(t *testing.T) {
	var o Overrides
	for _, set := range []struct {
		by   func(string) error
		text string
	}{
		{o.SetTable, "app.job_runs"},
		{o.SetColumn, "user=org_id"},
		{o.SetColumn, "draft="},
		{o.SetColumn, "workflow=a=b"},
		{o.SetStatus, "a=b=completed"},
		{o.SetStatus, "canceled=cancelled"},
		{o.SetStatus, "canceled=cancelled"}, // said twice is said once
		{o.SetTimes, "seconds"},
		{o.SetZone, "Europe/Berlin"},
		{o.SetGuard, "report"},
		{o.SetClaim, "o.id"},
	} {
		if err := set.by(set.text); err != nil {
			t.Errorf("%s: %v", set.text, err)
		}
	}
	want := Overrides{
		Table: "app.job_runs", Columns: map[Role]string{User: "org_id", Draft: "", Workflow: "a=b"},
		Statuses: map[string]store.Status{"a=b": store.Completed, "canceled": store.Cancelled}, Times: Seconds, Zone: "Europe/Berlin", Guard: GuardReports, Claim: "o.id",
	}
	if diff := cmp.Diff(want, o); diff != "" {
		t.Errorf("flags (-want +got)\n%s", diff)
	}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadOverrides(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a file (-want +got)\n%s", diff)
	}
	if schema, name := got.SchemaAndName(); schema != "app" || name != "job_runs" {
		t.Errorf("got the table %s, %s", schema, name)
	}
	if schema, name := (Overrides{}).SchemaAndName(); schema+"."+name != DefaultTable {
		t.Errorf("got the table %s.%s, want %s", schema, name, DefaultTable)
	}
}

func TestWhatCannotBeMeantIsRefused(t *testing.T) {
	given := func() *Overrides {
		return &Overrides{Columns: map[Role]string{User: "a"}, Statuses: map[string]store.Status{"done": store.Completed}}
	}
	for _, tt := range []struct {
		by         func(string) error
		text, want string
	}{
		{given().SetColumn, "user_id", "ROLE=NAME"},
		{given().SetColumn, "owner=x", "the roles are id, user, workflow"},
		{given().SetColumn, "user=b", "to a and to b"},
		{given().SetStatus, "done", "THEIRS=OURS"},
		{given().SetStatus, "x=done", "they are pending, running, cancelling, completed"},
		{given().SetStatus, "done=failed", "two meanings, completed and failed"},
		{given().SetColumn, "user=\x92", "no text in UTF-8"},
		{given().SetStatus, "a\x00=failed", "no text in UTF-8"},
		{given().SetTimes, "minutes", "milliseconds or seconds"},
		{given().SetGuard, "no", "write on, report or off"},
		{given().SetZone, "Berlin", "such as UTC or Europe/Berlin"},
		{given().SetZone, "Local", "such as UTC or Europe/Berlin"},
		{given().SetClaim, "", "no claim of a token"},
		{given().SetClaim, "o..id", "such as sub or org_id"},
		{given().SetClaim, "o'$id", "such as sub or org_id"},
		{given().SetTable, "app.", "SCHEMA.TABLE"},
		{given().SetTable, "db.app.runs", "SCHEMA.TABLE"},
	} {
		if err := tt.by(tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error that holds %q", tt.text, err, tt.want)
		}
	}
	for text, want := range map[string]string{
		`{"colums":{}}`:                     "colums",
		`{"columns":{"owner":"x"}}`:         "no role",
		`{"statuses":{"x":"done"}}`:         "no status of ours",
		`{"timezone":"Berlin"}`:             "no time zone",
		`{"claim":"a b"}`:                   "no claim of a token",
		`{"times":"minutes"}`:               "milliseconds or seconds",
		`{"table":".x"}`:                    "SCHEMA.TABLE",
		`{} {}`:                             "more than one",
		`[]`:                                "array",
		`{"columns":{"user":"x"}`:           "unexpected EOF",
		`{"statuses":{"x":"failed"},"a":1}`: `"a"`,
	} {
		if _, err := ReadOverrides(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error that holds %q", text, err, want)
		}
	}
}

// FuzzOverrides: what is read is written as flags that say the same.
func FuzzOverrides(f *testing.F) {
	f.Add("user=org_id", "canceled=cancelled")
	f.Add("draft=", "it's over=failed")
	f.Add("draft=", "\x92=failed")
	f.Fuzz(func(t *testing.T, column, status string) {
		var o Overrides
		if o.SetColumn(column) != nil || o.SetStatus(status) != nil {
			return
		}
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ReadOverrides(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%s can't be read again: %v", text, err)
		}
		back, err := json.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(text), string(back)); diff != "" {
			t.Errorf("(-was +is)\n%s", diff)
		}
	})
}

// TestWhatIsLeftAloneIsSaidOfATableThatIsNotShown: else a mirror would read the
// column, and refuse what it holds.
func TestWhatIsLeftAloneIsSaidOfATableThatIsNotShown(t *testing.T) {
	told := Describe(with("duration_ms interval"), Overrides{Columns: map[Role]string{DurationMS: ""}}).Table.Foreign()
	if name, said := told.Columns[DurationMS]; !said || name != "" {
		t.Errorf("got %q, want --column duration_ms=", told.Args())
	}
}
