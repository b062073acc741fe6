package webhook

import (
	"net/http"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// absent reports whether the table has no column for one of ours, user_id or
// workflow_id: each run is then that of [store.Absent].
func (d Decoder) absent(column string) bool {
	if d.Columns == nil {
		return false
	}
	for _, ours := range d.Columns {
		if ours == column {
			return false
		}
	}
	return true
}

// Complete puts [store.Absent] in the place of an id for which the table has no
// column. A request that names one is refused: the error says what to leave out.
func (d Decoder) Complete(user, workflow, draft store.ID) (u, w store.ID, no error) {
	if d.absent("user_id") {
		if !user.IsZero() {
			no = problem.New(http.StatusBadRequest, "The table has no column that says whose a run is, and its runs are counted by workflow alone. Leave out user_id.")
		}
		user = store.Absent
	}
	if d.absent("workflow_id") {
		if !workflow.IsZero() || !draft.IsZero() {
			no = problem.New(http.StatusBadRequest, "The table has no column that says what ran, and all runs of a user are one count. Leave out workflow_id and draft_id.")
		}
		workflow = store.Absent
	}
	return user, workflow, no
}
