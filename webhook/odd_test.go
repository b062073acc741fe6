package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/webhooktest"
)

// levelsOf returns the text of an array that nests so deep.
func levelsOf(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

func TestCaseD3_DeepColumnsCostNoChange(t *testing.T) {
	for _, c := range []struct {
		name, column, want string // error_details
	}{
		{"a column that nobody reads, 600 levels deep", `,"metadata":` + levelsOf(600), ""},
		{"a column that nobody reads, a million levels deep", `,"run_input":` + levelsOf(1_000_000), ""},
		{"error_details of 512 levels", `,"error_details":` + levelsOf(512), levelsOf(512)},
		{"error_details of 513 levels", `,"error_details":` + levelsOf(513), `{"code":"too_deep","message":"error_details of 513 levels is not kept here."}`},
		{"error_details that are deep and long", `,"error_details":` + levelsOf(5000), `{"code":"too_large","message":"error_details of 10000 bytes is not kept here."}`},
		{"brackets within a string of error_details", `,"error_details":"` + strings.Repeat(`\"[`, 600) + `"`, `"` + strings.Repeat(`\"[`, 600) + `"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := runs.Decode(strings.NewReader(changeOf("INSERT", columns(c.column), "null")))
			if err != nil || len(got.Changes) != 1 {
				t.Fatalf("got %+v, %v; want the change", got, err)
			}
			if details := got.Changes[0].Record.ErrorDetails; string(details) != c.want {
				t.Errorf("error_details: got %.100s, want %.100s", details, c.want)
			}
			row, err := runs.Row(strings.NewReader(columns(c.column))) // as an import reads it
			if diff := cmp.Diff(got.Changes[0].Record, row); err != nil || diff != "" {
				t.Errorf("the bare row: %v\n%s", err, diff)
			}
		})
	}
}

func TestCaseD8_AnUpdateWhoseOldRowIsNotWholeIsTakenWithoutIt(t *testing.T) {
	record := columns(`,"updated_at":"` + aTime + `"`)
	for _, c := range []struct {
		name, old string
		hasOld    bool
	}{
		{"the primary key alone", `{"id":"` + anID + `"}`, false},
		{"an empty object", `{}`, false},
		{"a primary key of two columns", `{"id":"` + anID + `","created_at":"` + aTime + `"}`, false},
		{"a replica identity of id and user", `{"id":"` + anID + `","user_id":"` + aUser + `"}`, false},
		{"without a user", `{"id":"` + anID + `","status":"running"}`, false},
		{"without a status, which this change gave it", strings.Replace(columns(""), `"running"`, "null", 1), false},
		{"with an empty status, which this change repaired", strings.Replace(columns(""), "running", "", 1), false},
		{"with a time that is none, which this change repaired", columns(`,"created_at":"soon"`), false},
		{"whole", columns(""), true},
		{"of a guest", strings.Replace(columns(""), `"`+aUser+`"`, "null", 1), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := runs.Decode(strings.NewReader(changeOf("UPDATE", record, c.old)))
			if err != nil || len(got.Changes) != 1 {
				t.Fatalf("got %+v, %v; want the change", got, err)
			}
			change := got.Changes[0]
			if change.HasOld != c.hasOld || !c.hasOld && change.Old != (store.Row{}) {
				t.Errorf("got the old row %+v (%v), want %v", change.Old, change.HasOld, c.hasOld)
			}
			if change.ID() != parsedID(t, anID) || change.Record.UpdatedAt.IsZero() {
				t.Errorf("got the record %+v", change.Record)
			}
		})
	}
}

// A DELETE needs to say which run it was: nothing else in the old row, however
// odd, may keep a mirror counting a run that is gone.
func TestCaseD4_ADeleteNeedsNothingButTheID(t *testing.T) {
	for name, old := range map[string]string{
		"a time before Christ": columns(`,"created_at":"4713-01-01T00:00:00+00:00 BC"`),
		"an empty status":      strings.Replace(columns(""), "running", "", 1),
		"no user":              strings.Replace(columns(""), `"`+aUser+`"`, "null", 1),
	} {
		got, err := runs.Decode(strings.NewReader(changeOf("DELETE", "null", old)))
		if err != nil || len(got.Changes) != 1 || got.Changes[0].ID() != parsedID(t, anID) {
			t.Errorf("%s: got %+v, %v; want the change", name, got, err)
		}
	}
	twice := `{"id":"` + anID + `","id":"` + aUser + `"}`
	if got, err := runs.Decode(strings.NewReader(changeOf("DELETE", "null", twice))); err == nil {
		t.Errorf("two ids: got %+v, want it refused", got)
	}
}

func TestCaseT1_ARowWithoutAUserIsTakenAndHasNoKey(t *testing.T) {
	for _, none := range []string{"null", `""`} {
		record := strings.Replace(columns(`,"workflow_id":"`+aFlow+`"`), `"`+aUser+`"`, none, 1)
		got, err := runs.Decode(strings.NewReader(changeOf("INSERT", record, "null")))
		if err != nil || len(got.Changes) != 1 || !got.Changes[0].Record.Key().IsZero() {
			t.Errorf("user %s: got %+v, %v; want a change without a key", none, got, err)
		}
		if row, err := runs.Row(strings.NewReader(record)); err != nil || !row.Key().IsZero() {
			t.Errorf("user %s, as an import reads it: got %+v, %v; want a row without a key", none, row, err)
		}
	}
}

// FuzzDecodeIsThatOfEachChange holds that a change of an array is read as if it
// had come alone: k bad ones among n leave n-k, and what is kept of a bad one is
// refused for the same reason when it is sent by itself.
func FuzzDecodeIsThatOfEachChange(f *testing.F) {
	good := changeOf("UPDATE", columns(""), columns(""))
	bad, _ := webhooktest.Unreadable()
	for i, change := range append(bad, "7", "null", "[[]]", "["+good+"]", `{"type":[[1]]}`, "{}", changeOf("DELETE", "null", `{"id":"`+anID+`"}`),
		changeOf("TRUNCATE", "null", "null"), strings.Replace(good, "{", `{"record":null,`, 1), good+","+good) {
		f.Add([]byte("["+good+" , "+change+","+good+"]"), i+1)
		f.Add([]byte("["+change+"]"), 100)
	}
	f.Add([]byte("["+strings.Repeat(strings.Replace(good, "running", strings.Repeat("x", 300), 1)+",", 90)+good+"]"), 8<<10)
	f.Fuzz(func(t *testing.T, body []byte, chunk int) {
		var elements []json.RawMessage
		if json.Unmarshal(body, &elements) != nil || len(elements) == 0 || len(elements) > MaxChanges || len(body) > 1<<20 {
			return
		}
		got, err := runs.Decode(&webhooktest.Chunked{Text: string(body), N: max(chunk, 1)})
		want := Delivery{Received: len(elements)}
		for i, element := range elements {
			one, oneErr := runs.Decode(strings.NewReader("[" + string(element) + "]"))
			want.Changes, want.Ignored = append(want.Changes, one.Changes...), want.Ignored+one.Ignored
			if want.Other == "" {
				want.Other = one.Other
			}
			for _, r := range one.Refused {
				if again, err := runs.Decode(bytes.NewReader(r.Body)); err == nil || len(again.Refused) != 1 || again.Refused[0].Reason != r.Reason {
					t.Errorf("refused for %q; what is kept of it: %+v, %v", r.Reason, again, err)
				}
				r.Index = i
				want.Refused = append(want.Refused, r)
			}
			if (oneErr != nil) != (len(one.Refused) == 1) || one.Received != 1 {
				t.Errorf("change %d alone: %+v, %v", i, one, oneErr)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("together (+), one by one (-):\n%s", diff)
		}
		if none := len(want.Refused) == len(elements); (err != nil) != none {
			t.Errorf("%d of %d refused: %v", len(want.Refused), len(elements), err)
		} else if first, ok := errors.AsType[*BadDelivery](err); none && (!ok || first.Index != 0 || first.Error() != "change 0: "+want.Refused[0].Reason) {
			t.Errorf("none could be read: %v, want the first one's reason", err)
		}
	})
}

// The whole costs what its changes cost, and each bad one nothing beside.
func TestCaseD2_KBadOfNChangesLeaveTheOthers(t *testing.T) {
	bad, _ := webhooktest.Unreadable()
	for _, k := range []int{0, 1, 7, 63, 64, 511, 512, 999} {
		changes := make([]string, 1000)
		for i := range changes {
			changes[i] = changeOf("INSERT", columns(fmt.Sprintf(`,"duration_ms":%d`, i)), "null")
		}
		var at []int
		for i := range k {
			n := i * 997 % 1000
			changes[n], at = bad[i%len(bad)], append(at, n)
		}
		slices.Sort(at)
		got, err := runs.Decode(strings.NewReader("[" + strings.Join(changes, ",") + "]"))
		if err != nil || len(got.Changes) != 1000-k || len(got.Refused) != k || got.Received != 1000 {
			t.Fatalf("%d bad: got %d changes and %d refused, %v", k, len(got.Changes), len(got.Refused), err)
		}
		for i, r := range got.Refused {
			if r.Index != at[i] || string(r.Body) != changes[at[i]] {
				t.Errorf("%d bad: refused %d with %.100q, want %d", k, r.Index, r.Body, at[i])
			}
		}
	}
}
