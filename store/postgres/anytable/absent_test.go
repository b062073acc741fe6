package anytable

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// lacking are tables where one of what runs are counted by is not there.
var lacking = []struct {
	absent storetest.Absent
	variant
}{
	{storetest.Absent{Workflow: true}, variant{
		name:  "case R9: there is no workflow",
		alter: `alter table workflow_runs drop draft_id cascade, drop workflow_id cascade`,
		said:  watched.Overrides{Columns: map[watched.Role]string{watched.Workflow: ""}},
	}},
	{storetest.Absent{User: true}, variant{
		name:  "case R14: there is no user",
		alter: `alter table workflow_runs drop draft_id cascade, drop user_id cascade`,
		said:  watched.Overrides{Columns: map[watched.Role]string{watched.User: ""}},
	}},
	{storetest.Absent{User: true}, variant{
		name:  "case R12: there is no user, and workflows are text",
		alter: `alter table workflow_runs drop draft_id cascade, drop user_id cascade, alter workflow_id type varchar(255)`,
		said:  watched.Overrides{Columns: map[watched.Role]string{watched.User: ""}},
	}},
}

// TestCasesOfLacking: the contract and the laws hold on each of them.
func TestCasesOfLacking(t *testing.T) {
	need.Serial(t)
	t.Parallel()
	for _, l := range lacking {
		opens := func(t testing.TB) storetest.Backend {
			b := openVariant(l.variant)(t)
			b.Absent = l.absent
			return b
		}
		t.Run(l.name, func(t *testing.T) { storetest.RunAbsent(t, l.absent, opens) })
		t.Run(l.name+", chaos", func(t *testing.T) { storetest.SourceChaos(t, opens, true, 3) })
	}
}

// TestCasesOfLacking_InSQL: an application counts, begins and completes without
// naming what its table does not have, and is told where it names it.
func TestCasesOfLacking_InSQL(t *testing.T) {
	t.Parallel()
	const run, who = "00000000-0000-4000-8000-000000000001", "'" + ada + "'"
	for _, l := range lacking {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			address := pgtest.Database(t)
			pgtest.Exec(t, address, sourcetest.BareTable, l.alter)
			sourcetest.Migrate(t, address, sourcetest.UpWith(l.said))
			key, wrong, shown := who, []string{who + ", 'x'", who + ", null, 'x'"}, ada+"||"
			if l.absent.User {
				key, wrong, shown = "null, '"+adaFlow+"'", []string{who + ", '" + adaFlow + "'"}, "|"+adaFlow+"|"
			}
			sourcetest.MustBe(t, address, `select public.begin_workflow_run(`+key+`, p_limit => 1, p_run_id => '`+run+`')`, run)
			sourcetest.MustBe(t, address, `select coalesce(public.begin_workflow_run(`+key+`, p_limit => 1)::text, 'full')`, "full")
			sourcetest.MustBe(t, address, `select concat_ws('|', new_count, coalesce(user_id_out::text, ''), coalesce(workflow_id_out::text, ''), coalesce(draft_id_out::text, ''))
  from public.complete_workflow_run_and_get_count('`+run+`', 'completed')`, "1|"+shown)
			sourcetest.MustBe(t, address, `select public.get_user_workflow_run_count(`+key+`)`, "1")
			sourcetest.MustBe(t, address, `select concat_ws('|', coalesce(user_id::text, ''), coalesce(workflow_id::text, ''), coalesce(draft_id::text, ''), total_count, (last_run_at is not null)::text)
  from public.workflow_run_counts`, shown+"|1|true")
			for _, args := range wrong {
				for _, call := range []string{"get_user_workflow_run_count(", "begin_workflow_run("} {
					if state := sqlState(t, address, `select public.`+call+args+`)`); state != "22023" {
						t.Errorf("%s%s): got SQLSTATE %q, want 22023", call, args, state)
					}
				}
			}
			s := mustOpen(t, address, postgres.Options{})
			other := store.KeyOf(sourcetest.MustParse(t, ada), sourcetest.MustParse(t, adaFlow), store.ID{})
			if _, err := s.Count(t.Context(), other.Scope(), store.AllTime); !errors.Is(err, store.ErrInvalid) {
				t.Errorf("the count of %s: got %v, want ErrInvalid and not 0", other, err)
			}
			sourcetest.ExactAt(t, address)
			sourcetest.Migrate(t, address, (*migrations.Migrator).Up) // what was said is kept
			sourcetest.Migrate(t, address, (*migrations.Migrator).Down)
			sourcetest.Migrate(t, address, sourcetest.UpWith(l.said))
			sourcetest.MustBe(t, address, `select public.get_user_workflow_run_count(`+key+`)`, "1")
		})
	}
}

// sqlState is the code of the error that a statement ends with, "" where it does not.
func sqlState(t *testing.T, address, statement string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), statement, pgx.QueryExecModeSimpleProtocol)
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	if err != nil {
		t.Fatal(err)
	}
	return ""
}

// TestCaseLaw7_NoUserSeesTheCountsOfATableWithoutUsers: they are the server's to ask
// for.
func TestCaseLaw7_NoUserSeesTheCountsOfATableWithoutUsers(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	l := lacking[1]
	pgtest.Exec(t, address, sourcetest.BareTable, l.alter)
	sourcetest.Migrate(t, address, sourcetest.UpWith(l.said))
	pgtest.Exec(t, address, `insert into workflow_runs (id, workflow_id, status) values (gen_random_uuid(), '`+adaFlow+`', 'completed')`)
	as := func(role, do string) string {
		return `begin; set local role ` + role + `; select set_config('request.jwt.claims', '{"sub":"` + ada + `","role":"` + role + `"}', true); ` + do + `; commit`
	}
	for _, do := range []string{
		`select public.get_user_workflow_run_count(null, '` + adaFlow + `')`, `select public.get_user_workflow_run_count('', '` + adaFlow + `')`,
		`select run_counter.count_own('', 'workflow', '` + adaFlow + `')`, `select run_counter.last_run_at('', 'workflow', '` + adaFlow + `')`,
	} {
		if state := sqlState(t, address, as("authenticated", do)); state != "42501" {
			t.Errorf("%s as a user: got SQLSTATE %q, want 42501", do, state)
		}
	}
	pgtest.Exec(t, address, as("authenticated", `do $$ begin assert not exists (select from public.workflow_run_counts); end $$`),
		as("service_role", `do $$ begin assert public.get_user_workflow_run_count(null, '`+adaFlow+`') = 1; assert (select total_count from public.workflow_run_counts) = 1; end $$`))
}
