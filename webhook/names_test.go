package webhook

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
)

// TestCasesR1ToR14_RowsInOtherNamesAndWords are read by what is said of them, and
// by that alone: a column of our name that plays another part is passed over.
func TestCasesR1ToR14_RowsInOtherNamesAndWords(t *testing.T) {
	theirs := Decoder{
		Schema: "public", Table: "workflow_runs",
		Columns:  map[string]string{"uid": "id", "org": "user_id", "flow": "workflow_id", "state": "status", "end": "completed_at"},
		Statuses: map[string]store.Status{"ok": store.Completed, "completed": store.Running},
	}
	row := func(state, end string) string {
		return fmt.Sprintf(`{"uid":%q,"id":7,"org":%q,"user_id":%q,"flow":%q,"state":%q,"status":"failed","end":%s,"completed_at":"never"}`, anID, aUser, aDraft, aFlow, state, end)
	}
	got, err := theirs.Decode(strings.NewReader(changeOf("UPDATE", row("ok", fmt.Sprintf("%q", aTime)), row("completed", "null"))))
	if err != nil {
		t.Fatal(err)
	}
	was := store.Row{ID: parsedID(t, anID), User: parsedID(t, aUser), Workflow: parsedID(t, aFlow), Status: store.Running}
	is := was
	is.Status, is.CompletedAt = store.Completed, at(t, aTime)
	if diff := cmp.Diff([]store.Change{{Op: store.Update, Record: is, Old: was, HasOld: true}}, got.Changes); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	theirs.AnyCase = true // as of citext: A to Z, and no letter of which locales differ
	if got, err := theirs.Decode(strings.NewReader(changeOf("UPDATE", row("OK", fmt.Sprintf("%q", aTime)), row("Ü", "null")))); err != nil || got.Changes[0].Record.Status != store.Completed || got.Changes[0].Old.Status != "Ü" {
		t.Errorf("in any case: got %+v, %v; want completed, and Ü", got, err)
	}
	got, err = theirs.Decode(strings.NewReader(changeOf("INSERT", strings.Replace(row("ok", "null"), `"end":null`, `"end":3`, 1), "null")))
	if err == nil || !strings.Contains(err.Error(), "record.end") {
		t.Errorf("got %+v, %v; want the column named as it was sent", got, err)
	}
}
