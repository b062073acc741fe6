// Package watchedtest has the tables that are tried wherever tables differ: those
// with one difference from the table that the migrations make, those of public
// repositories, and combinations that are drawn. cases/tables.md and
// cases/real-tables.md have them by number.
package watchedtest

import (
	"cmp"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// All are all of them, the same at each call.
func All() []Found { return append(append(eachAlone(), tablesOfOthers()...), drawn(20)...) }

// Found is a table of an application.
type Found struct {
	Name string
	// Columns are its columns by role, each a name and a type, such as
	// "org_id text"; ways that differ from role to role follow the type.
	Columns map[watched.Role]string
	Words   map[store.Status]string // what its statuses are called; ours where nil
	Before  string                  // statements before it is made
	Suffix  string                  // behind its columns, such as partition by
	After   string                  // statements after
	Zone    string
	Times   watched.Kind // of integers
	Moves   bool         // a run moves to another partition, which Supabase's webhook tells of as a deletion
	Refused string       // of what cannot be counted, what migrate up says
}

// plainColumns are those of the table that the migrations make.
var plainColumns = map[watched.Role]string{
	watched.ID: "id uuid primary key", watched.User: "user_id uuid", watched.Workflow: "workflow_id uuid", watched.Draft: "draft_id uuid",
	watched.Status: "status text", watched.CompletedAt: "completed_at timestamptz", watched.CreatedAt: "created_at timestamptz default now()",
	watched.StartedAt: "started_at timestamptz", watched.UpdatedAt: "updated_at timestamptz default now()", watched.DurationMS: "duration_ms integer",
	watched.ErrorDetails: "error_details jsonb", watched.StateSnapshot: "state_snapshot jsonb",
}

// like is the plain table with other columns; "" is none.
func like(name string, columns map[watched.Role]string) Found {
	m := Found{Name: name, Columns: maps.Clone(plainColumns)}
	for role, column := range columns {
		if m.Columns[role] = column; column == "" {
			delete(m.Columns, role)
		}
	}
	return m
}

// only is a table of such columns and no others.
func only(name string, columns map[watched.Role]string) Found {
	return Found{Name: name, Columns: columns}
}

func (m Found) with(change func(*Found)) Found {
	change(&m)
	return m
}

// Has reports whether a column plays the role, and returns its name, as SQL
// writes it, and its type.
func (m Found) Has(role watched.Role) (name, typ string, there bool) {
	column, there := m.Columns[role]
	if !there {
		return "", "", false
	}
	if strings.HasPrefix(column, `"`) {
		end := strings.Index(column[1:], `"`) + 2
		return column[:end], strings.TrimSpace(column[end:]), true
	}
	name, typ, _ = strings.Cut(column, " ")
	return name, typ, true
}

// Plays reports whether a column plays the role.
func (m Found) Plays(role watched.Role) bool {
	_, _, there := m.Has(role)
	return there
}

// AnyCase reports a table whose statuses are of citext, an extension.
func (m Found) AnyCase() bool { return strings.Contains(m.Before, "extension citext") }

// Said is all that an operator could say of it.
func (m Found) Said() watched.Overrides {
	o := watched.Overrides{Zone: m.Zone, Times: m.Times, Guard: watched.GuardOn, Columns: map[watched.Role]string{}, Statuses: map[string]store.Status{}}
	for _, role := range watched.Roles() {
		name, _, there := m.Has(role)
		if there || role == watched.User || role == watched.Workflow {
			o.Columns[role] = strings.Trim(name, `"`)
		}
	}
	for ours, theirs := range m.Words {
		if !strings.EqualFold(theirs, string(ours)) {
			o.Statuses[theirs] = ours
		}
	}
	return o
}

// Word returns the table's word for a status.
func (m Found) Word(s store.Status) (string, bool) {
	if m.Words == nil {
		return string(s), true
	}
	word, there := m.Words[s]
	return word, there
}

// DDL makes the table.
func (m Found) DDL() string {
	var columns []string
	for _, role := range watched.Roles() {
		if name, typ, there := m.Has(role); there {
			columns = append(columns, name+" "+typ)
		}
	}
	return m.Before + "; create table workflow_runs (" + strings.Join(columns, ", ") + ") " + m.Suffix + "; " + m.After
}

// Base is the type of a column, or that which its domain is over.
func Base(typ string) string {
	word, rest, _ := strings.Cut(typ, " ")
	for domain, base := range map[string]string{"run_uuid": "uuid", "person": "text", "flow": "text", "moment": "timestamptz", "millis": "integer", "details": "jsonb"} {
		if word == domain {
			return strings.TrimSpace(base + " " + rest)
		}
	}
	return typ
}

// ID is the nth id of such a type.
func ID(typ string, n int) string {
	switch word, _, _ := strings.Cut(typ, " "); {
	case Base(word) == "uuid":
		return fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
	case strings.Contains(word, "int") || strings.Contains(word, "serial"):
		return fmt.Sprint(n)
	}
	return fmt.Sprintf(`auth0|"ü" %d`, n)
}

// Moment is the time at so many seconds, as SQL writes it for such a type.
func (m Found) Moment(typ string, seconds int) string {
	at := time.Date(2026, 1, 31, 12, 0, seconds, 0, time.UTC)
	switch {
	case strings.HasPrefix(typ, "timestamp") && !strings.HasPrefix(typ, "timestamptz"):
		zone, err := time.LoadLocation(cmp.Or(m.Zone, "UTC"))
		if err != nil {
			panic(err)
		}
		return at.In(zone).Format("'2006-01-02 15:04:05'")
	case strings.HasPrefix(typ, "bigint") && m.Times == watched.Seconds:
		return fmt.Sprint(at.Unix())
	case strings.HasPrefix(typ, "bigint"):
		return fmt.Sprint(at.UnixMilli())
	}
	return at.Format("'2006-01-02 15:04:05Z'")
}

// Rows reads the table without a word from package watched: who is counted, what for,
// when a run has ended, as a timestamptz that is null where it is no time, and as what.
func (m Found) Rows() string {
	column := func(role watched.Role, else_ string) string {
		if name, _, there := m.Has(role); there {
			return name
		}
		return else_
	}
	user, flow, draft := column(watched.User, "''"), column(watched.Workflow, "''"), column(watched.Draft, "null")
	kind, ref := "case when "+draft+" is null then 'workflow' else 'draft' end", "coalesce("+draft+", "+flow+")"
	if flow == "''" {
		kind, ref = "'all'", "''"
	}
	end, typ, _ := m.Has(watched.CompletedAt)
	year := "extract(year from " + end + ")"
	switch {
	case strings.HasPrefix(typ, "bigint"):
		each := map[watched.Kind]string{watched.Milliseconds: "1000.0", watched.Seconds: "1.0"}[m.Times]
		year, end = "extract(year from to_timestamp("+end+" / "+each+"))", "to_timestamp("+end+" / "+each+")"
	case !strings.HasPrefix(Base(typ), "timestamptz"):
		end += " at time zone '" + cmp.Or(m.Zone, "UTC") + "'"
	}
	status, fold := "case "+column(watched.Status, "")+"::text", func(word string) string { return word }
	if m.AnyCase() {
		status, fold = "case lower("+column(watched.Status, "")+"::text)", strings.ToLower
	}
	for _, s := range store.Terminals {
		word, there := m.Word(s)
		if !there {
			word = string(s) // which no description says to be another
		}
		status += " when " + watched.Literal(fold(word)) + " then '" + string(s) + "'"
	}
	return fmt.Sprintf("select %s as id, %s as user_id, %s as kind, %s as ref_id, case when %s between 2 and 9998 then %s end as completed_at, %s end as status from workflow_runs",
		column(watched.ID, ""), user, kind, ref, year, end, status)
}
