package postgres

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
)

// TestRemovedItLeavesTheDatabaseAsItWas compares dumps from before the
// migrations and from after they were taken back.
func TestRemovedItLeavesTheDatabaseAsItWas(t *testing.T) {
	t.Parallel()
	address := mustFixture(t)
	before := dump(t, address)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	if installed := dump(t, address); strings.Contains(installed, "counts runs, more or less") || !strings.Contains(installed, "zzzz_run_counter_guard") {
		t.Fatal("the dump shows nothing of the migrations")
	}
	sourcetest.Migrate(t, address, (*migrations.Migrator).Down)
	after := dump(t, address)

	// What anon could do by EXECUTE on the earlier functions doesn't come back,
	// neither by name nor through PUBLIC, and the signed-in keep it by name.
	expected := func(line string) bool {
		return strings.Contains(line, "FUNCTION public.get_user_workflow_run_count") &&
			(strings.HasPrefix(line, "GRANT ALL ON FUNCTION") || strings.HasPrefix(line, "REVOKE ALL ON FUNCTION") && strings.HasSuffix(line, "FROM PUBLIC;"))
	}
	strip := func(text string) []string {
		lines := strings.Split(text, "\n")
		return slices.DeleteFunc(lines, func(line string) bool {
			return line == "" || strings.HasPrefix(line, "--") || strings.HasPrefix(line, `\`) || expected(line)
		})
	}
	sortedBefore, sortedAfter := strip(before), strip(after)
	slices.Sort(sortedBefore) // a dump is in the order of creation
	slices.Sort(sortedAfter)
	if diff := cmp.Diff(sortedBefore, sortedAfter); diff != "" {
		t.Errorf("the dumps before and after (-before +after):\n%s", diff)
	}
	for _, line := range strings.Split(after, "\n") {
		if strings.Contains(line, "get_user_workflow_run_count") && strings.HasSuffix(line, "TO anon;") {
			t.Errorf("anon has it back: %s", line)
		}
	}
	c := newCaller(t, address)
	if left := c.strings(`select oid::regclass::text from pg_class where relnamespace = 'run_counter'::regnamespace and relkind = 'r'`); !slices.Equal(left, []string{"run_counter.schema_migrations"}) {
		t.Errorf("what is left of ours: %v, want the version table", left)
	}
	if left := c.strings(`select oid::regprocedure::text from pg_proc where pronamespace = 'run_counter'::regnamespace`); len(left) > 0 {
		t.Errorf("functions that are left of ours: %v", left)
	}
}

// dump returns what pg_dump says of the application's schemas. It has to be of
// the server's version.
func dump(t *testing.T, address string) string {
	t.Helper()
	version := pgtest.Version(t, address)
	for _, name := range []string{filepath.Join(os.Getenv("RUNCOUNTER_TEST_POSTGRES"), "pg_dump"), "/usr/lib/postgresql/" + strconv.Itoa(version) + "/bin/pg_dump", "pg_dump"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		var failed *exec.ExitError
		out, err := exec.Command(path, "--schema-only", "--schema=public", "--schema=auth", pgtest.Admin(t, address)).Output()
		if errors.As(err, &failed) && strings.Contains(string(failed.Stderr), "server version mismatch") {
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return string(out)
	}
	need.Skip(t, fmt.Sprintf("there is no pg_dump of PostgreSQL %d; TestDown in package migrations compares the catalogs", version))
	return ""
}

// TestADependentObjectStopsUpByItsName, and nothing is half done.
func TestADependentObjectStopsUpByItsName(t *testing.T) {
	t.Parallel()
	address := mustFixture(t)
	pgtest.Exec(t, address, `create view public.billing as select user_id, public.get_user_workflow_run_count(user_id, workflow_id) from public.workflow_runs`)
	m, err := migrations.Postgres(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	err = m.Up()
	if err == nil || !strings.Contains(err.Error(), "billing") {
		t.Errorf("Up: got %v, want an error that names the view billing", err)
	}
	c := newCaller(t, address)
	if got := c.strings(`select obj_description('public.get_user_workflow_run_count(uuid, uuid)'::regprocedure, 'pg_proc')`); len(got) != 1 || got[0] != "counts runs, more or less" {
		t.Errorf("the earlier function: %v, want it as it was", got)
	}
	pgtest.Exec(t, address, `drop view public.billing`)
	if err := errors.Join(m.Up(), m.Close()); err != nil {
		t.Errorf("Up without the view: %v", err)
	}
}

// TestAWriterWithoutPrivilegesIsNeverStopped writes as a role that has nothing
// in our schema: its triggers work all the same.
func TestAWriterWithoutPrivilegesIsNeverStopped(t *testing.T) {
	t.Parallel()
	address := sourcetest.Installed(t)
	name := "runcounter_writer_" + strconv.Itoa(os.Getpid())
	pgtest.Exec(t, address, `create role `+name, `grant select, insert, update, delete, truncate on workflow_runs to `+name,
		`create policy w on workflow_runs to `+name+` using (true) with check (true)`)
	t.Cleanup(func() { pgtest.Exec(t, address, `drop owned by `+name, `drop role `+name) })
	pgtest.Exec(t, address, `begin; set local role `+name+`;
insert into workflow_runs (id, user_id, workflow_id, status) select ('00000000-0000-4000-8000-00000000000' || n)::uuid, '`+ada+`', '`+adaFlow+`', 'running' from generate_series(1, 5) as n;
update workflow_runs set status = 'completed';
update workflow_runs set status = 'running', completed_at = null;
update workflow_runs set user_id = '`+bob+`' where id = '00000000-0000-4000-8000-000000000001';
delete from workflow_runs where id = '00000000-0000-4000-8000-000000000002';
commit`)
	s := mustOpen(t, address, Options{})
	exact(t, s)
	c, err := store.UserCounts(t.Context(), s, sourcetest.MustParse(t, ada), zeroKey, 10)
	if err != nil || len(c) != 1 || c[0].Count != 3 {
		t.Errorf("got %+v, %v; want a count of 3", c, err)
	}
	pgtest.Exec(t, address, `begin; set local role `+name+`; truncate workflow_runs; commit`)
	exact(t, s)
}

var zeroKey store.Key
