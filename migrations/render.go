package migrations

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"text/template"
	"unicode"

	"github.com/golang-migrate/migrate/v4/source"
	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store/watched"
)

// rendering is golang-migrate's source of the PostgreSQL migrations: what goes
// up is rendered for one watched table.
type rendering struct {
	source.Driver
	table watched.Table
}

func (r *rendering) ReadUp(version uint) (io.ReadCloser, string, error) {
	file, name, err := r.Driver.ReadUp(version)
	if err != nil {
		return nil, "", err
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, "", err
	}
	if err := file.Close(); err != nil {
		return nil, "", err
	}
	sql, err := render(name, string(text), r.table)
	if err != nil {
		return nil, "", err
	}
	return io.NopCloser(strings.NewReader(sql)), name, nil
}

// script is one migration up, rendered.
type script struct {
	name    string // as golang-migrate knows it: 20250128000001_workflow_runs.up.sql
	version string
	sql     string
}

// rendered returns all migrations up for a table, in their order.
func rendered(t watched.Table) ([]script, error) {
	names, err := fs.Glob(files, "postgres/*.up.sql.tmpl")
	if err != nil {
		return nil, err
	}
	all := make([]script, len(names))
	for i, file := range names {
		text, err := files.ReadFile(file)
		if err != nil {
			return nil, err
		}
		s := &all[i]
		s.name = strings.TrimSuffix(path.Base(file), ".tmpl")
		var found bool
		if s.version, _, found = strings.Cut(s.name, "_"); !found {
			return nil, fmt.Errorf("migration %s has no version", s.name)
		}
		if s.sql, err = render(s.name, string(text), t); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// render fills a template of SQL in for a table. A template knows, beside the
// methods of [watched.Table]:
//
//	col "new" "draft"    the role's column of a row, or a null of its type
//	name "updated_at"    the role's column
//	cast "error_details" the cast from jsonb to what the role's column is
//	ident "Name"         an identifier, quoted where it has to be
//	literal "it's"       a string constant
//	description          the table as JSON, as a string constant
//	times                when it was created, started, and written, as far as there are columns
//	begins               those of them that are set when a run begins
//	stuck "v.details"    whether that says what a sweep has written
//	lastSign "new"       the last sign of life of a row, given v_now
//	indexes              those on the watched table
//
// What is rendered stands between dollar quotes: a name that holds a dollar, or a
// character that is not printed, is an error.
func render(name, text string, t watched.Table) (string, error) {
	if odd := unwritable(t); odd != "" {
		return "", fmt.Errorf("%s: %q holds a character that can't stand in a function", t, odd)
	}
	parsed, err := template.New(name).Option("missingkey=error").Funcs(template.FuncMap{
		"col": func(row string, role watched.Role) (string, error) { return column(t, row, role) },
		"name": func(role watched.Role) (string, error) {
			c, there := t.Column(role)
			if !there {
				return "", fmt.Errorf("%s has no column for %s", t, role)
			}
			return ident(c.Name), nil
		},
		"cast":    func(role watched.Role) string { return cast(t, role) },
		"ident":   ident,
		"literal": literal,
		"description": func() (string, error) {
			text, err := json.Marshal(t)
			return literal(string(text)), err
		},
		"times":    func() []string { return columns(t, watched.CreatedAt, watched.StartedAt, watched.UpdatedAt) },
		"begins":   func() []string { return columns(t, watched.CreatedAt, watched.UpdatedAt) },
		"stuck":    func(expression string) string { return stuck(t, expression) },
		"lastSign": func(row string) string { return lastSign(t, row) },
		"indexes":  func() []index { return indexes(t) },
	}).Parse(text)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := parsed.Execute(&b, t); err != nil {
		return "", err
	}
	return b.String(), nil
}

// unwritable returns a name or a type of the table that can't be written into a
// function, "" where there is none.
func unwritable(t watched.Table) string {
	words := slices.Clone(t.Heartbeats)
	for _, c := range t.Columns {
		words = append(words, c.Name, c.Type)
	}
	for _, w := range t.Statuses {
		words = append(words, w.Theirs)
	}
	for _, word := range words {
		if strings.ContainsFunc(word, func(r rune) bool { return r == '$' || !unicode.IsPrint(r) }) {
			return word
		}
	}
	return ""
}

// stuck is the condition that an expression of error_details says what a sweep
// has written. A json may hold escapes that raise when it is looked into.
func stuck(t watched.Table, expression string) string {
	condition := expression + " ->> 'code' = 'stuck'"
	if c, _ := t.Column(watched.ErrorDetails); c.Kind == watched.JSON {
		return "(case when " + expression + `::text !~* E'\\\\u(0000|d[89a-f])' then ` + condition + " else false end)"
	}
	return condition
}

// nulls are what stands in place of a column that the table does not have.
var nulls = map[watched.Role]string{
	watched.Draft: "null::uuid", watched.CreatedAt: "null::timestamptz", watched.StartedAt: "null::timestamptz",
	watched.DurationMS: "null::integer", watched.ErrorDetails: "null::jsonb", watched.StateSnapshot: "null::jsonb",
}

// cast makes a jsonb what the role's column is.
func cast(t watched.Table, role watched.Role) string {
	if c, _ := t.Column(role); c.Kind == watched.JSON {
		return "::json"
	}
	return ""
}

func column(t watched.Table, row string, role watched.Role) (string, error) {
	if c, there := t.Column(role); there {
		return row + "." + ident(c.Name), nil
	}
	if null, known := nulls[role]; known {
		return null, nil
	}
	return "", fmt.Errorf("%s has no column for %s", t, role)
}

// columns are those of the table that play the roles.
func columns(t watched.Table, roles ...watched.Role) (names []string) {
	for _, role := range roles {
		if c, there := t.Column(role); there {
			names = append(names, ident(c.Name))
		}
	}
	return names
}

// lastSign is the greatest of the times by which a run says that it is alive,
// those to come left out, and the time when it was created where there is none.
func lastSign(t watched.Table, row string) string {
	var signs []string
	sign := func(name string) {
		signs = append(signs, fmt.Sprintf("case when %[1]s.%[2]s <= v_now then %[1]s.%[2]s end", row, ident(name)))
	}
	for _, role := range []watched.Role{watched.StartedAt, watched.UpdatedAt} {
		if c, there := t.Column(role); there {
			sign(c.Name)
		}
	}
	for _, name := range t.Heartbeats {
		sign(name)
	}
	created := "null::timestamptz"
	if c, there := t.Column(watched.CreatedAt); there {
		created = row + "." + ident(c.Name)
	}
	return fmt.Sprintf("coalesce(greatest(%s), %s)", strings.Join(append(signs, "null::timestamptz"), ", "), created)
}

// ident writes an identifier as SQL does: in quotes, since it may be a keyword,
// but for the names that the migrations use themselves.
func ident(name string) string {
	if slices.ContainsFunc(watched.Default().Columns, func(c watched.Column) bool { return c.Name == name }) {
		return name
	}
	return pgx.Identifier{name}.Sanitize()
}
