package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// makeAgain brings back what was dropped or changed. The migrations
// take each other's leavings as they are.
const makeAgain = "runcounter migrate print writes a script that makes it again; it can be run as often as you like"

func functionFindings(f postgres.Functions) (found []report.Finding) {
	if len(f.Missing) > 0 {
		found = append(found, fail(makeAgain, "missing: %s", few(f.Missing)))
	}
	if len(f.OpenPath) > 0 {
		found = append(found, fail("alter function "+f.OpenPath[0]+" set search_path = pg_catalog, pg_temp", "without a search_path of their own, so that a caller's objects can take the place of ours: %s", few(f.OpenPath)))
	}
	if len(f.Owners) > 1 {
		found = append(found, warn("give them one owner: alter function ... owner to the owner of workflow_runs", "they belong to several roles: %s", few(f.Owners)))
	}
	if len(f.Others) > 0 {
		found = append(found, warn("drop function "+f.Others[0], "of the same name and not ours, so that calls may go astray: %s", few(f.Others)))
	}
	return orOK(found, "%d of %d, of %s, each with its own search_path", f.Present, f.Expected, few(f.Owners))
}

func grantFindings(g postgres.Grants) (found []report.Finding) {
	for _, to := range []struct {
		role  string
		what  []string
		means string
	}{
		{g.Anon, g.ToAnon, "every visitor who has not signed in"},
		{"authenticated", g.ToUser, "every signed-in user"},
	} {
		if len(to.what) > 0 {
			found = append(found, fail(revoke(to.what[0], to.role), "%s, which is %s, has %s", to.role, to.means, few(to.what)))
		}
	}
	if len(g.OnTable) > 0 {
		found = append(found, warn("revoke trigger, truncate on "+g.Table+" from "+strings.Join(granted(g.OnTable), ", "),
			"end users hold privileges on %s that the Data API has no use for: %s; by TRIGGER, who has SQL changes an outcome after the guard, and TRUNCATE asks no policy",
			g.Table, few(g.OnTable)))
	}
	return orOK(found, "nothing for %s, and for the signed-in their own runs alone", g.Anon)
}

// granted returns the roles of "trigger to anon" and the like, each once.
func granted(privileges []string) (roles []string) {
	for _, text := range privileges {
		if _, role, _ := strings.Cut(text, " to "); !slices.Contains(roles, role) {
			roles = append(roles, role)
		}
	}
	return roles
}

func revoke(what, role string) string {
	function, ok := strings.CutPrefix(what, "execute on ")
	if ok {
		return fmt.Sprintf("revoke execute on function %s from public, %s", function, role)
	}
	return fmt.Sprintf("revoke all on %s from public, %s", strings.TrimPrefix(what, "a privilege on "), role)
}

const (
	guard       = "zzzz_run_counter_guard"
	guardInsert = "zzzz_run_counter_guard_insert"
)

func triggerFindings(all []postgres.Trigger, expected []migrations.Trigger) (found []report.Finding) {
	find := func(e migrations.Trigger) int {
		return slices.IndexFunc(all, func(t postgres.Trigger) bool { return t.Table == e.Table && t.Name == e.Name })
	}
	for _, e := range expected {
		switch at := find(e); {
		case at < 0:
			found = append(found, fail(makeAgain, "%s on %s is missing: %s", e.Name, e.Table, withoutIt(e.Name)))
		case all[at].Enabled == "A":
			found = append(found, warn("alter table "+e.Table+" enable trigger "+e.Name, "%s fires always, so a dump that is restored is counted twice", e.Name))
		case all[at].Enabled != "O":
			found = append(found, fail("alter table "+e.Table+" enable trigger "+e.Name+"; then runcounter recount --all-drifting",
				"%s on %s is disabled: %s", e.Name, e.Table, withoutIt(e.Name)))
		}
	}
	for _, t := range all {
		late := t.Update && t.Name > guard || t.Insert && t.Name > guardInsert
		ours := strings.HasPrefix(t.Function, "run_counter.") // or give_way, where the table has rules
		if slices.Contains(expected, migrations.Trigger{Table: t.Table, Name: guard}) && t.Row && t.Before && late && !ours && t.Enabled != "D" {
			found = append(found, fail("alter trigger "+t.Name+" on "+t.Table+" rename to a name that sorts before "+guard,
				"%s (%s) fires after the guard, and can change an outcome that the guard has kept", t.Name, t.Function))
		}
	}
	return orOK(found, "%d of %d, enabled; the guard is the last to fire before a write", len(expected), len(expected))
}

// withoutIt says what a trigger of ours is for.
func withoutIt(name string) string {
	switch {
	case strings.Contains(name, "guard"):
		return "an outcome can be overwritten"
	case strings.Contains(name, "hardening"):
		return "end users can take runs off their bill"
	}
	return "what it should have counted is missing in the counts"
}

const guardOn = "update run_counter.settings set guard = 'on'"

func switchFindings(s postgres.Switches) (found []report.Finding) {
	switch s.Guard {
	case watched.GuardOff:
		found = append(found, warn(guardOn, "the guard is off: a later write overwrites an outcome"))
	case watched.GuardReports:
		found = append(found, warn(guardOn,
			"the guard only reports, for applications that retry a run in the same row: a later write overwrites an outcome, and has overwritten that of %s", store.Quantity(s.WouldKeep, "run", "runs")))
	}
	if !s.Hardening && s.EndUsers {
		found = append(found, warn("update run_counter.settings set hardening = true",
			"hardening is off: end users can delete runs, hand them on or re-date them where the table's policies let them, and so lower their bill"))
	}
	if s.GaveWay > 0 {
		found = append(found, warn("select * from run_counter.repairs where kind = 'gave_way'",
			"the outcome of %s was overwritten: keeping it would have broken a check or a unique constraint of the table, which goes before", store.Quantity(s.GaveWay, "run", "runs")))
	}
	return orOK(found, "the guard keeps the first outcome, hardening keeps end users from their bill")
}

func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func extensionsFinding(all []postgres.Extension) report.Finding {
	var texts []string
	for _, e := range all {
		switch {
		case e.Installed != "" && e.Installed != e.Available && e.Available != "":
			texts = append(texts, fmt.Sprintf("%s %s (%s is available)", e.Name, e.Installed, e.Available))
		case e.Installed != "":
			texts = append(texts, e.Name+" "+e.Installed)
		case e.Available != "":
			texts = append(texts, fmt.Sprintf("%s not installed (%s is available)", e.Name, e.Available))
		default:
			texts = append(texts, e.Name+" not available")
		}
	}
	return passed("%s", strings.Join(texts, ", "))
}
