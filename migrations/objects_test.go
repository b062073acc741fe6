package migrations

import (
	"io/fs"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// What is read from the files is what they make.
func TestPostgresObjectsAreWhatTheMigrationsMake(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	m, err := Postgres(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Up(); err != nil {
		t.Fatal(err)
	}
	status, err := m.Status()
	if err != nil {
		t.Fatal(err)
	}
	if latest := LatestPostgres(); latest != status.Version {
		t.Errorf("LatestPostgres: got %d; want %d", latest, status.Version)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	o, err := PostgresObjects(watched.Default())
	if err != nil {
		t.Fatal(err)
	}
	var triggers []string
	for _, made := range o.Triggers {
		triggers = append(triggers, made.Table+" "+made.Name)
	}
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, kind := range []struct {
		name string
		got  []string
		want string
	}{
		{"tables", o.Tables, `select relname::text from pg_class where relkind = 'r' and relnamespace = 'run_counter'::regnamespace and relname <> 'schema_migrations'`},
		{"functions", o.Functions, `select pronamespace::regnamespace || '.' || proname from pg_proc where pronamespace::regnamespace::text in ('run_counter', 'public')`},
		{"triggers", triggers, `select n.nspname || '.' || c.relname || ' ' || t.tgname
  from pg_trigger as t join pg_class as c on c.oid = t.tgrelid join pg_namespace as n on n.oid = c.relnamespace where not t.tgisinternal`},
		{"indexes", o.Indexes, `select indexrelid::regclass::text from pg_index where indrelid = 'public.workflow_runs'::regclass and not indisprimary`},
	} {
		rows, err := conn.Query(t.Context(), kind.want)
		if err != nil {
			t.Fatal(err)
		}
		want, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(want)
		slices.Sort(kind.got)
		if diff := cmp.Diff(want, kind.got); diff != "" {
			t.Errorf("%s (-made +read):\n%s", kind.name, diff)
		}
	}
}

func TestLatestSQLite(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(files, "sqlite/*.up.sql")
	if err != nil {
		t.Fatal(err)
	}
	if latest := LatestSQLite(); latest == 0 || int(latest) != len(files) {
		t.Errorf("got %d, %v; want %d", latest, err, len(files))
	}
}
