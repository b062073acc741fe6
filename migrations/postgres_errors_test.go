package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/golang-migrate/migrate/v4/database"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

func TestAPoolerInTransactionModeIsRefused(t *testing.T) {
	_, err := Postgres(t.Context(), "postgres://postgres.abc:s3cret@aws-0-eu-central-1.pooler.supabase.com:6543/postgres")
	for _, word := range []string{"6543", "5432", "direct connection"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("got %v, want it to name %q", err, word)
		}
	}
}

func TestErrorsDoNotRepeatThePassword(t *testing.T) {
	live := pgtest.Database(t)
	for name, address := range map[string]string{
		"a port that is none":        "postgres://owner:s3cret@127.0.0.1:port/db",
		"a password with a percent":  "postgres://owner:s3cret%zz@127.0.0.1/db",
		"a password with a slash":    "postgres://owner:s3cret/#?@127.0.0.1/db",
		"nobody listens":             "postgres://owner:s3cret@127.0.0.1:1/db",
		"no such database":           strings.Replace(live, pgtest.Password, "s3cret", 1) + "&dbname=nowhere",
		"a file that is not there":   "postgres://owner:s3cret@127.0.0.1/db?sslmode=verify-full&sslrootcert=/nowhere",
		"the pooler":                 "postgres://owner:s3cret@127.0.0.1:6543/db",
		"no certificate to be shown": strings.Replace(strings.Replace(live, "sslmode=disable", "sslmode=require", 1), pgtest.Password, "s3cret", 1),
	} {
		t.Run(name, func(t *testing.T) {
			m, err := Postgres(t.Context(), address)
			if err == nil {
				m.Close()
				t.Fatal("got no error")
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("got %v, which has the password", err)
			}
		})
	}
}

func TestADependentObjectIsNamedAndKept(t *testing.T) {
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, tableWithDrafts, aliceHasThree,
		`create view public.workflow_run_counts as select user_id, count(*) as n from public.workflow_runs group by user_id`,
		`create view public.billing as select * from public.workflow_run_counts`)
	m := mustPostgres(t, address)
	err := m.Up()
	if err == nil || !strings.Contains(err.Error(), "billing") {
		t.Errorf("Up: got %v, want the view in its way, by name", err)
	}
	if err != nil && strings.Contains(err.Error(), "create or replace") {
		t.Errorf("Up: got the text of a migration in its error: %v", err)
	}
	if got := ask(t, address, `select n from public.billing`); got[0] != "5" {
		t.Errorf("got %v, want the application's view untouched", got)
	}
	pgtest.Exec(t, address, `drop view public.billing`)
	if err := m.Up(); err != nil {
		t.Errorf("Up without it: %v", err)
	}
}

func TestAnEndedContextEndsTheWait(t *testing.T) {
	address := pgtest.Database(t)
	pgtest.Exec(t, address, tableWithDrafts)
	first := mustPostgres(t, address)
	ctx, cancel := context.WithCancel(t.Context())
	second, err := Postgres(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	err = first.alone(nil, func(*sql.Conn) error {
		done := make(chan error, 1)
		go func() { done <- second.Up() }()
		waitFor(t, address, `select count(*) = 1 from pg_stat_activity where datname = current_database() and query like 'select pg_try_advisory_lock%' and state = 'idle' and pid <> all (select pid from pg_locks where locktype = 'advisory' and granted)`)
		cancel()
		return need.Await(t, "the end of Up", done)
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
	mustUp(t, address)
}

func TestErrorsOfGolangMigrateAreReadWhicheverWayTheyCome(t *testing.T) {
	inner := errors.New("the cause")
	for name, err := range map[string]error{
		"bare":      inner,
		"a value":   database.Error{OrigErr: inner, Query: []byte("a whole file")},
		"a pointer": &database.Error{OrigErr: inner, Query: []byte("a whole file")},
		"wrapped":   fmt.Errorf("migrate up: %w", database.Error{OrigErr: inner, Query: []byte("a whole file")}),
	} {
		if got := plain(err); !errors.Is(got, inner) || strings.Contains(got.Error(), "whole file") {
			t.Errorf("%s: got %v, want the cause alone", name, got)
		}
	}
}
