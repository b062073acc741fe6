package postgres

import (
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
)

// named is an application on Supabase: e-mails in auth.users, titles of workflows, and
// drafts with a name that is a keyword.
const named = `
insert into auth.users (id, email) values ('` + ada + `', 'ada@example.com'), ('` + bob + `', 'bob@example.com');
create table public."Flows" (id uuid primary key, title text, slug text unique, secret text);
insert into public."Flows" values ('` + adaFlow + `', 'Resize 100%_of images', 'resize', 'ada'), ('` + bobFlow + `', null, 'ada-sketch', 'x');
create table public.drafts (id uuid primary key, name text);
insert into public.drafts values ('` + bobFlow + `', 'Ad hoc');
create table public.workflow_runs (
    id uuid primary key, user_id uuid not null references auth.users, workflow_id uuid references public."Flows", draft_id uuid references public.drafts,
    status text, created_at timestamptz, started_at timestamptz, completed_at timestamptz, updated_at timestamptz)`

func TestUsersAndWorkflowsAreFoundByName(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.Exec(t, pgtest.Admin(t, address), `alter table auth.users add column if not exists email varchar(255); grant all on auth.users to owner`)
	pgtest.Exec(t, address, named)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	s := mustOpen(t, address, Options{})
	const flows, users, drafts = "public.Flows", "auth.users", "public.drafts"
	for begins, want := range map[string][]string{
		"ada@":            {"user " + ada + " ada@example.com " + users},
		"ADA@EXAMPLE.COM": {"user " + ada + " ada@example.com " + users},
		"ada":             {"user " + ada + " ada@example.com " + users, "workflow " + bobFlow + " ada-sketch " + flows}, // and nothing by its secret
		"ad":              {"user " + ada + " ada@example.com " + users, "workflow " + bobFlow + " ada-sketch " + flows, "draft " + bobFlow + " Ad hoc " + drafts},
		"resize 100%_":    {"workflow " + adaFlow + " Resize 100%_of images " + flows},
		"resize":          {"workflow " + adaFlow + " Resize 100%_of images " + flows},
		"re%":             nil,
		"example":         nil,
		"'; drop":         nil,
		"":                nil,
	} {
		got, err := s.FindNamed(t.Context(), begins, 20)
		if err != nil || got.Partly {
			t.Errorf("%q: got %+v, %v", begins, got, err)
		}
		var texts []string
		for _, one := range got.Found {
			texts = append(texts, fmt.Sprintf("%s %s %s %s", one.What, one.ID, one.Name, one.In))
		}
		slices.Sort(texts)
		slices.Sort(want)
		if !slices.Equal(texts, want) {
			t.Errorf("%q: got %q, want %q", begins, texts, want)
		}
	}
	got, err := s.FindNamed(t.Context(), "ad", 1)
	if err != nil || len(got.Found) != 1 || !got.Partly {
		t.Errorf("one of several: got %+v, %v", got, err)
	}

	// What the role may not read is left out, and keeps nothing else from being found.
	role := newRole(t, address, "bypassrls")
	pgtest.Exec(t, pgtest.Admin(t, address), `grant usage on schema public, auth, run_counter to `+role, `grant select on all tables in schema run_counter to `+role,
		`grant select on public.workflow_runs to `+role, `grant select (id, slug) on public."Flows" to `+role)
	limited := mustOpen(t, pgtest.As(t, address, role), Options{})
	if got, err := limited.FindNamed(t.Context(), "ada", 20); err != nil || len(got.Found) != 1 || got.Found[0].Name != "ada-sketch" {
		t.Errorf("as a role that may read slugs alone: got %+v, %v", got, err)
	}

	// So is a table whose policy the role can't evaluate, and the answer says so.
	bound := newRole(t, address, "")
	pgtest.Exec(t, pgtest.Admin(t, address), `grant usage on schema public, auth, run_counter to `+bound, `grant select on all tables in schema run_counter to `+bound,
		`grant select on public.workflow_runs, public."Flows", public.drafts to `+bound,
		`create function public.may() returns boolean language sql as 'select true'; revoke execute on function public.may() from public;
alter table public.drafts enable row level security; create policy members on public.drafts using (public.may())`)
	if got, err := mustOpen(t, pgtest.As(t, address, bound), Options{}).FindNamed(t.Context(), "ad", 20); err != nil || !got.Partly || len(got.Found) != 1 || got.Found[0].Name != "ada-sketch" {
		t.Errorf("as a role that may not call a table's policy: got %+v, %v", got, err)
	}

	// A table that is locked is left out, and the answer says so.
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `begin; lock table auth.users in access exclusive mode`); err != nil {
		t.Fatal(err)
	}
	if got, err := s.FindNamed(t.Context(), "ada", 20); err != nil || !got.Partly || len(got.Found) != 1 || got.Found[0].What != "workflow" {
		t.Errorf("while auth.users is locked: got %+v, %v", got, err)
	}
}

var _ store.Namer = (*Store)(nil)
