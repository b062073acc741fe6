package anytable

import (
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/edgaze-ai/runcounter/store/watched"
)

// shape is a table as it is drawn.
type shape struct {
	ddl     string
	columns []string          // those that the application writes
	json    string            // the type of error_details; "" where there is none
	id      string            // the type of id
	texts   bool              // users are known by text
	flows   string            // the type of workflow_id and draft_id
	later   []string          // what the application alters of the table after migrate up
	times   map[string]string // the types of its times
	word    bool              // status is of a domain over an enum
	lacks   watched.Role
}

// compares writes a condition: no operator takes a domain over an enum.
func (s shape) compares(condition string) string {
	if !s.word {
		return condition
	}
	return strings.NewReplacer("status = '", "status::labels = '", "status <> '", "status::labels <> '", "status in (", "status::labels in (").Replace(condition)
}

func drawShape(r *rand.Rand) shape {
	s := shape{columns: []string{"id", "user_id", "workflow_id", "status", "completed_at", "note"}, times: map[string]string{}}
	for _, name := range []string{"completed_at", "created_at", "started_at", "updated_at"} {
		s.times[name] = []string{"timestamptz", "timestamptz", "timestamptz(3)", "timestamp", "timestamp(0)", "bigint", "moments"}[r.IntN(7)]
	}
	if r.IntN(6) == 0 {
		s.times["completed_at"] = "early" // whose rule the guard's own ends break
	}
	status := []string{"text", "text not null default 'pending'", "varchar(20)", "words", "labels", "word"}[r.IntN(6)]
	s.word = status == "word"
	s.id, s.texts = []string{"uuid", "run_key", "text", "varchar(300)"}[r.IntN(4)], r.IntN(3) == 0
	user := "uuid"
	if s.texts {
		user = "text"
	}
	flow := "workflow_id uuid references flows on delete cascade"
	if s.flows = []string{"uuid", "uuid", "text"}[r.IntN(3)]; s.flows == "text" { // of any length
		flow = "workflow_id text"
	}
	lines := []string{"id " + s.id + " primary key", "user_id " + user, flow, "draft_id " + s.flows, "status " + status, "completed_at " + s.times["completed_at"], "note text"}
	if r.IntN(3) == 0 {
		lines = slices.Delete(lines, 3, 4)
	} else {
		s.columns = append(s.columns, "draft_id")
	}
	for _, name := range []string{"created_at", "started_at", "updated_at"} {
		if r.IntN(4) > 0 {
			lines, s.columns = append(lines, name+" "+s.times[name]), append(s.columns, name)
		}
	}
	switch r.IntN(4) {
	case 0:
	case 1:
		lines = append(lines, "duration_ms bigint generated always as (length(note)) stored")
	default:
		lines, s.columns = append(lines, "duration_ms "+[]string{"integer", "bigint"}[r.IntN(2)]), append(s.columns, "duration_ms")
	}
	if s.json = []string{"", "jsonb", "json"}[r.IntN(3)]; s.json != "" {
		lines, s.columns = append(lines, "error_details "+s.json), append(s.columns, "error_details")
	}
	if r.IntN(2) == 0 {
		lines = append(lines, "state_snapshot jsonb default '{}'")
	}
	if r.IntN(2) == 0 {
		lines = append(lines, "constraint one_note unique (user_id, note)")
	}
	if r.IntN(2) == 0 {
		lines = append(lines, "constraint a_note check (note <> 'forbidden')")
	}
	if r.IntN(3) == 0 {
		lines = append(lines, "extra text not null default 'x'", "cost numeric(6, 2) default 1.5")
	}
	lines = append(lines, s.drawRules(r)...)
	if s.lacks = []watched.Role{"", "", "", watched.User, watched.Workflow}[r.IntN(5)]; s.lacks != "" { // and what is said is that there is none
		gone := map[watched.Role][]string{watched.User: {"user_id"}, watched.Workflow: {"workflow_id", "draft_id"}}[s.lacks]
		about := func(line string) bool {
			return slices.ContainsFunc(gone, func(name string) bool { return strings.Contains(line, name) })
		}
		lines, s.columns, s.later = slices.DeleteFunc(lines, about), slices.DeleteFunc(s.columns, about), slices.DeleteFunc(s.later, about)
	}
	s.ddl = "create table workflow_runs (\n  " + strings.Join(lines, ",\n  ") + ")"
	if slices.Contains(s.columns, "updated_at") && r.IntN(2) == 0 {
		s.ddl += ";\ncreate function touch() returns trigger language plpgsql as $$ begin new.updated_at := " + map[bool]string{true: "extract(epoch from now()) * 1000", false: "now()"}[s.times["updated_at"] == "bigint"] + "; return new; end $$;\n" +
			"create trigger a_touch before update on workflow_runs for each row execute function touch()"
	}
	if r.IntN(2) == 0 { // which writes another table
		s.ddl += ";\ncreate table log (id text, was text, is_now text);\n" +
			"create function log_it() returns trigger language plpgsql as $$ begin execute format('insert into %I.log values ($1, $2, $3)', tg_table_schema) using new.id, case when tg_op = 'UPDATE' then old.note end, new.note; return null; end $$;\n" +
			"create trigger z_log after insert or update on workflow_runs for each row execute function log_it()"
	}
	return s
}

// drawRules draws rules of the table over what the guard writes: most are there
// when it is installed, some come later.
func (s *shape) drawRules(r *rand.Rand) (lines []string) {
	has := func(name string) bool { return slices.Contains(s.columns, name) }
	rules := []string{
		"constraint an_end check ((status = 'completed') = (completed_at is not null))",
		"constraint no_end check (status <> 'running' or completed_at is null)",
		"constraint one_end unique (user_id, completed_at)",
		"constraint one_status exclude (user_id with =) where (status = 'completed')",
	}
	moments := strings.HasPrefix(s.times["completed_at"], "timestamptz")
	if moments {
		rules = append(rules, "constraint in_time check (completed_at is null or fine(completed_at))")
	}
	if has("started_at") && moments && strings.HasPrefix(s.times["started_at"], "timestamptz") {
		rules = append(rules, "constraint in_order check (completed_at >= started_at)", "span tstzrange generated always as (tstzrange(started_at, completed_at)) stored",
			"constraint no_overlap exclude using gist (tstzrange(started_at, completed_at) with &&)")
	}
	if has("duration_ms") {
		rules = append(rules, "constraint short check (duration_ms < 1000)", "constraint lasted check (status <> 'failed' or duration_ms is null)")
	}
	if has("error_details") {
		rules = append(rules, "constraint why check (status = 'failed' or error_details is null)")
	}
	for _, rule := range rules {
		rule = s.compares(rule)
		switch r.IntN(8) {
		case 0:
			lines = append(lines, rule)
		case 1:
			s.later = append(s.later, "alter table workflow_runs add "+rule)
		}
	}
	if r.IntN(3) == 0 {
		s.later = append(s.later, s.compares("create unique index one_running on workflow_runs (workflow_id) where status in ('pending', 'running')"))
	}
	for _, name := range []string{"error_details", "duration_ms"} {
		if has(name) && r.IntN(8) == 0 {
			s.later = append(s.later, "alter table workflow_runs alter "+name+" set not null")
		}
	}
	return lines
}
