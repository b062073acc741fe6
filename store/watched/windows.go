package watched

import (
	"strings"

	"github.com/edgaze-ai/runcounter/store"
)

func asked(flag *bool) bool { return flag != nil && *flag }

// UserWindows reports whether an index finds the runs of a user that ended in a window.
// A table without workflows has it in any case: a user is one key there.
func (t Table) UserWindows() bool { return t.Absent(Workflow) || asked(t.Said.UserWindows) }

// WorkflowWindows reports the same of a workflow or draft over all its users.
func (t Table) WorkflowWindows() bool { return t.Absent(User) || asked(t.Said.WorkflowWindows) }

// Within is the condition that a run of [Table.Runs], known by a name, ended from one
// moment on and before another: two expressions of timestamptz, of which null and what
// lies beyond all times are no bound. It reads end_order and completed_at.
//
// An index of completed_at finds these runs, since the moments are turned into what the
// column is. In a zone other than UTC an hour may come twice, and an hour never: there
// the index finds the runs of a day more on each side, and the moments decide.
func (t Table) Within(run, from, to string) string {
	first, behind := "timestamptz '"+utc(store.FirstEnd)+"'", "timestamptz '"+utc(store.EndsBefore)+"'"
	// Each ignores a null. Between them no conversion raises.
	from = "greatest(least(coalesce(" + from + ", " + first + "), " + behind + "), " + first + ")"
	to = "greatest(least(" + to + ", " + behind + "), " + first + ")"
	between := func(column, from, to string) string {
		return run + "." + column + " >= " + from + " and " + run + "." + column + " < " + to
	}
	c, _ := t.Column(CompletedAt)
	switch c.Kind {
	case Timestamp:
		clock := func(moment string) string { return "(" + moment + " at time zone 'UTC')" }
		if t.Zone == "UTC" {
			return between("end_order", clock(from), clock(to))
		}
		const day = " interval '1 day'"
		return between("end_order", "("+clock(from)+" -"+day+")", "("+clock(to)+" +"+day+")") + " and " + between("completed_at", from, to)
	case Milliseconds, Seconds: // the first whole one that is not before
		number := func(moment string) string {
			n := "ceil(extract(epoch from " + moment + ") * 1000)::bigint"
			if c.Kind == Seconds {
				n = strings.Replace(n, " * 1000", "", 1)
			}
			return n
		}
		return between("end_order", number(from), number(to))
	}
	return between("end_order", from, to)
}
