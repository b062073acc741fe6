package migrations

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// ours is the condition that the migrations have made a function p.
func (p *postgres) ours(conn *sql.Conn) (condition string, err error) {
	var known bool
	if err := conn.QueryRowContext(p.ctx, `select to_regprocedure('run_counter.fingerprint(text, oid)') is not null`).Scan(&known); err != nil {
		return "", fmt.Errorf("look for run_counter.fingerprint: %w", err)
	}
	if !known {
		return "false", nil
	}
	return "(run_counter.fingerprint('function', p.oid)).ours", nil
}

// beforeFunctions is the version before the file that makes what applications
// call.
const beforeFunctions = 20260101000002

// displaced reports whether a function or view of ours is missing, or the
// application has replaced it by its own.
func (p *postgres) displaced(conn *sql.Conn) (displaced bool, err error) {
	ours, err := p.ours(conn)
	if err != nil || ours == "false" {
		return false, err
	}
	err = conn.QueryRowContext(p.ctx, `
with named as (
    select `+ours+` as ours
      from pg_proc as p
     where p.pronamespace = 'public'::regnamespace
       and p.proname in ('get_user_workflow_run_count', 'get_workflow_run_count', 'get_workflow_run_allowance', 'grant_workflow_runs', 'revoke_workflow_run_grant',
                         'complete_workflow_run', 'complete_workflow_run_and_get_count', 'begin_workflow_run')
     union all
    select (run_counter.fingerprint('view', c.oid)).ours
      from pg_class as c
     where c.relnamespace = 'public'::regnamespace and c.relname = 'workflow_run_counts'
)
select coalesce(bool_or(not ours), false) or count(*) filter (where ours) < (select count(*) from run_counter.made)
  from named`).Scan(&displaced)
	if err != nil {
		return false, fmt.Errorf("look whether the functions are ours: %w", err)
	}
	return displaced, nil
}

// hear keeps the notices of a migration: which roles lose a right, and which
// objects it leaves.
func (p *postgres) hear(n *pgconn.Notice) {
	said, ours := strings.CutPrefix(n.Message, "Run Counter: ")
	if ours && !slices.Contains(p.said, said) {
		p.said = append(p.said, said)
	}
}

// Said returns what Up or Down had to say of objects that are not ours.
func (m *Migrator) Said() []string {
	if m.postgres == nil {
		return nil
	}
	return m.postgres.said
}
