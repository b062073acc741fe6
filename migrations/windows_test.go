package migrations

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSQLiteMakesTheIndexesOfWindowsThatAreAskedForAndKeepsThem(t *testing.T) {
	db, m := mustSQLite(t, filepath.Join(t.TempDir(), "runs.db"))
	yes, no := true, false
	for _, step := range []struct {
		asked Windows
		want  []string
	}{
		{Windows{}, nil},
		{Windows{User: &yes}, []string{SQLiteUserWindows}},
		{Windows{}, []string{SQLiteUserWindows}},
		{Windows{User: &yes, Workflow: &yes}, []string{SQLiteUserWindows, SQLiteWorkflowWindows}},
		{Windows{User: &no}, []string{SQLiteWorkflowWindows}},
		{Windows{User: &no, Workflow: &no}, nil},
		{Windows{Workflow: &yes}, []string{SQLiteWorkflowWindows}},
	} {
		m.SetWindows(step.asked)
		if err := m.Up(); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, object := range schema(t, db) {
			if name, _, _ := strings.Cut(strings.TrimPrefix(object, "index "), ":"); strings.HasSuffix(name, "_windows") {
				got = append(got, name)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("after %+v (-want +got):\n%s", step.asked, diff)
		}
	}
	if err := m.Down(); err != nil {
		t.Fatal(err)
	}
	if left := schema(t, db); len(left) != 2 { // golang-migrate's table and its index
		t.Errorf("down has left %q", left)
	}
}
