// Package sourcetest holds what the tests of a source have in common: databases that
// have our migrations, the check of law 1 as SQL of its own, and a source as the suite
// in [storetest] asks for one.
//
// It knows the contract, the description of the table and the schema, and not
// store/postgres, whose tests import it. A reader begins at [Backend].
package sourcetest

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// Users, workflows and runs of the tests. Ada and bob are those of
// testdata/postgres/app.sql.
const (
	Ada     = "a1000000-0000-4000-8000-000000000001"
	Bob     = "b1000000-0000-4000-8000-000000000002"
	AdaFlow = "c1000000-0000-4000-8000-000000000001"
	BobFlow = "c1000000-0000-4000-8000-000000000002"
	RunOne  = "00000000-0000-4000-8000-000000000001"
	RunTwo  = "00000000-0000-4000-8000-000000000002"
)

// BareTable is the watched table without anything of ours.
const BareTable = `create table workflow_runs (
    id uuid primary key, user_id uuid not null, workflow_id uuid, draft_id uuid, status text,
    created_at timestamptz, started_at timestamptz, completed_at timestamptz, updated_at timestamptz,
    duration_ms integer, error_details jsonb, state_snapshot jsonb)`

// Partitioned makes a bare table one of a single partition.
const Partitioned = `alter table workflow_runs alter created_at set default now(); create table parted (like workflow_runs including defaults, primary key (id, created_at)) partition by range (created_at);
drop table workflow_runs; alter table parted rename to workflow_runs; create table all_runs partition of workflow_runs default`

// Begun inserts a run of ada's that is running.
func Begun(id string) string {
	return `insert into workflow_runs (id, user_id, workflow_id, status) values ('` + id + `', '` + Ada + `', '` + AdaFlow + `', 'running')`
}

// AsBob is a transaction that is committed, in which bob runs a statement as the Data
// API has end users run theirs.
func AsBob(sql string) string {
	return `begin; set local role authenticated; set local request.jwt.claims = '{"sub": "` + Bob + `"}'; ` + sql + `; commit`
}

// Installed returns the address of a database with our migrations.
func Installed(t testing.TB) string {
	t.Helper()
	return pgtest.Copy(t, "installed", func(address string) { Migrate(t, address, (*migrations.Migrator).Up) })
}

// Migrate does what it is given with a migrator of the database, such as
// [migrations.Migrator.Up], and fails the test with its error.
func Migrate(t testing.TB, address string, do func(*migrations.Migrator) error) {
	t.Helper()
	m, err := migrations.Postgres(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(do(m), m.Close()); err != nil {
		t.Fatal(err)
	}
}

// UpWith applies the migrations with what an operator says of the table.
func UpWith(said watched.Overrides) func(*migrations.Migrator) error {
	return func(m *migrations.Migrator) error {
		m.Override(said)
		return m.Up()
	}
}

// MustOpen returns what was opened, and closes it when the test ends.
func MustOpen[S io.Closer](t testing.TB, s S, err error) S {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// SweeperOf returns a sweeper of a source as serve makes it, without limits of
// its own.
func SweeperOf(s Source) *store.Sweeper {
	return &store.Sweeper{Store: s, Source: s}
}

// Audited fails the test where a full audit finds a drift, or nothing to look at. It
// looks with the audit's eyes, since [ExactSQL] knows our names and words alone.
func Audited(t testing.TB, s *store.Sweeper) {
	t.Helper()
	if r, err := s.Sweep(t.Context(), store.SweepOptions{Full: true, DryRun: true}); err != nil || r.Drifting > 0 || r.Audited == 0 {
		t.Errorf("law 1: got %+v, %v; want keys that are audited, and no drift", r, err)
	}
}

// MustParse reads an id.
func MustParse(t testing.TB, text string) store.ID {
	t.Helper()
	id, err := store.ParseID(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// MustConnect returns a session, which ends with the test.
func MustConnect(t testing.TB, address string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// MustScan reads one row.
func MustScan(t testing.TB, address, sql string, to ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if err := conn.QueryRow(t.Context(), sql).Scan(to...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// MustBe fails the test where a query's one value, as text, is another.
func MustBe(t testing.TB, address, query, want string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	rows, err := conn.Query(t.Context(), query, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		if got := string(rows.RawValues()[0]); got != want {
			t.Errorf("%s: got %s, want %s", query, got, want)
		}
	}
	if rows.Err() != nil || rows.CommandTag().RowsAffected() != 1 {
		t.Errorf("%s: got %d rows, %v; want one", query, rows.CommandTag().RowsAffected(), rows.Err())
	}
}
