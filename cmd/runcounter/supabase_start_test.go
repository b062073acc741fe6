package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// TestSupabaseStartPage follows docs/supabase-start.md on a database like that of supabase
// start, and leaves the migration's file behind.
func TestSupabaseStartPage(t *testing.T) {
	t.Parallel()
	need.NoRaceDetector(t)
	dir := t.TempDir()
	page := filepath.Join(top, "docs/supabase-start.md")
	r := newReader(t, dir, "DATABASE_URL="+pgtest.Supabase(t))
	r.follow(page)
	files, err := filepath.Glob(dir + "/supabase/migrations/*_run_counter.sql")
	if err != nil || len(files) != 1 || !regexp.MustCompile(`/\d{14}_run_counter\.sql$`).MatchString(files[0]) {
		t.Fatalf("got the files %v, %v: the CLI takes names of digits and an underscore alone", files, err)
	}
}

// TestCaseO6_TheSupabaseCLIAppliesThePrintedFile sends the statements of the file, and the
// CLI's own row behind them, in one pipeline, as supabase db reset and db push do: begin
// and commit in the file must get along with its implicit transaction.
func TestCaseO6_TheSupabaseCLIAppliesThePrintedFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	address := pgtest.Supabase(t)
	const history = `create schema supabase_migrations; create table supabase_migrations.schema_migrations (version text primary key, statements text[])`
	pgtest.Exec(t, address, history)
	printed := must(t, dir, "", "migrate", "print", "--database-url", "postgres:")
	for _, version := range []string{"20260101000000", "20260201000000"} { // a second file does no harm
		applyAsCLI(t, address, printed, version)
	}
	if got := textOf(t, address, `select count(*)::text from supabase_migrations.schema_migrations`); got != "2" {
		t.Errorf("the CLI's history has %s rows, want 2: its row went with a rolled-back transaction", got)
	}
	env := []string{"DATABASE_URL=" + address}
	for _, args := range [][]string{{"migrate", "status"}, {"migrate", "up"}} {
		if r := exec1(t, command(t, dir, env, args...), ""); r.code != exitFine || !strings.Contains(r.out, "up to date") {
			t.Errorf("%v: got %+v, want it to know what the file has applied", args, r)
		}
	}
	pgtest.Exec(t, address, `insert into workflow_runs (user_id, workflow_id, status) values ('`+sampleUser+`', '`+sampleWorkflow+`', 'completed'), ('`+sampleUser+`', '`+sampleWorkflow+`', 'cancelled')`,
		`update run_counter.settings set policy = 'terminal'`)
	if got := textOf(t, address, `select get_user_workflow_run_count('`+sampleUser+`', '`+sampleWorkflow+`')::text`); got != "2" {
		t.Errorf("got the count %s, want 2", got)
	}
}

func applyAsCLI(t *testing.T, address, file, version string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	statements := statementsOf(file)
	if len(statements) < 100 {
		t.Fatalf("got %d statements: the file is not what this test reads", len(statements))
	}
	batch := &pgconn.Batch{}
	for _, one := range statements {
		batch.ExecParams(one, nil, nil, nil, nil)
	}
	batch.ExecParams(`insert into supabase_migrations.schema_migrations (version) values ($1)`, [][]byte{[]byte(version)}, nil, nil, nil)
	if done, err := conn.PgConn().ExecBatch(t.Context(), batch).ReadAll(); err != nil {
		at := "the CLI's row"
		if len(done) < len(statements) {
			at = statements[len(done)]
		}
		t.Fatalf("statement %d: %v\n%.400s", len(done), err, at)
	}
}

// notSplit are what a semicolon may stand in: comments, strings, quoted names and dollar
// quotes.
var notSplit = regexp.MustCompile(`(?s)^(--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"[^"]*"|\$\$.*?\$\$)`)

var dollar = regexp.MustCompile(`^\$[A-Za-z_]\w*\$`)

// statementsOf splits a script at its semicolons, as the CLI does.
func statementsOf(script string) (statements []string) {
	from := 0
	for at := 0; at < len(script); {
		rest := script[at:]
		switch tag := dollar.FindString(rest); {
		case tag != "":
			at += len(tag) + strings.Index(rest[len(tag):], tag) + len(tag)
		case notSplit.MatchString(rest):
			at += len(notSplit.FindString(rest))
		case rest[0] == ';':
			if one := strings.TrimSpace(script[from:at]); one != "" {
				statements = append(statements, one)
			}
			at++
			from = at
		default:
			at++
		}
	}
	if last := strings.TrimSpace(script[from:]); last != "" {
		statements = append(statements, last)
	}
	return statements
}
