package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-migrate/migrate/v4/database"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/store/watched"
)

// serverError returns what the server said, or nil where it said nothing.
// golang-migrate's errors don't unwrap.
func serverError(err error) *pgconn.PgError {
	var pg *pgconn.PgError
	if errors.As(cause(err), &pg) {
		return pg
	}
	return nil
}

func cause(err error) error {
	var value database.Error
	if errors.As(err, &value) && value.OrigErr != nil {
		return value.OrigErr
	}
	var pointer *database.Error
	if errors.As(err, &pointer) && pointer.OrigErr != nil {
		return pointer.OrigErr
	}
	return err
}

// plain leaves out the statement that failed, which is a whole file.
func plain(err error) error {
	if err == nil {
		return nil
	}
	pg := serverError(err)
	if pg == nil {
		return cause(err)
	}
	text := pg.Message
	for _, more := range []string{pg.Detail, pg.Hint} {
		if more != "" {
			text += "; " + strings.ReplaceAll(more, "\n", "; ")
		}
	}
	return &said{text: fmt.Sprintf("%s (SQLSTATE %s)", text, pg.Code), err: pg}
}

// said is an error with the server's message in full.
type said struct {
	text string
	err  error
}

func (s *said) Error() string { return s.text }
func (s *said) Unwrap() error { return s.err }

// sessionless explains the errors of a pooler in transaction mode, which gives
// each statement another server's session: what was prepared is not there, or
// was prepared by a stranger.
func sessionless(err error) error {
	pg := serverError(err)
	if pg == nil || pg.Code != "42P05" && pg.Code != "26000" {
		return err
	}
	return fmt.Errorf("%w: this is a pooler in transaction mode, as its answer %q shows, and %s", ErrAddress, pg.Message, needSession)
}

// needSession is why such a pooler won't do, and what will.
const needSession = "migrations need a session of their own; use the direct connection (at Supabase db.PROJECT.supabase.co, port 5432), " +
	"or the pooler in session mode (there port 5432 of the same host)"

// isBusy reports whether the same may succeed a moment later.
func isBusy(err error) bool {
	pg := serverError(err)
	if pg == nil {
		return false
	}
	switch pg.Code {
	case "55P03", "40P01", "40001": // a lock not had in time, a deadlock, a lost race
		return true
	}
	return false
}

// explain names the migration that failed, and the sessions that held its locks.
func (p *postgres) explain(conn *sql.Conn, at version, err error) error {
	err = plain(err)
	if at.dirty {
		err = fmt.Errorf("migration %d: %w", at.number, err)
	}
	if !isBusy(err) {
		return err
	}
	return fmt.Errorf("%w: it had no lock within %v of tries%s; end what holds it or try at a quieter time: runcounter migrate goes on from where it stands",
		err, p.busyTimeout, p.holders(conn))
}

// holders names those who hold locks on what a migration has to change: the
// longest first.
func (p *postgres) holders(conn *sql.Conn) string {
	table := watched.Default()
	if p.rendering != nil {
		table = p.rendering.table
	}
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	rows, err := conn.QueryContext(ctx, `
select a.pid, coalesce(nullif(a.application_name, ''), a.backend_type), coalesce(a.state, 'at work'),
       coalesce(extract(epoch from clock_timestamp() - min(a.xact_start)), 0)::bigint,
       string_agg(distinct l.relation::regclass::text, ', ')
  from pg_locks as l
  join pg_stat_activity as a on a.pid = l.pid
 where l.granted and l.locktype = 'relation' and a.pid <> pg_backend_pid()
   and l.database = (select oid from pg_database where datname = current_database())
   and l.relation in (select oid from pg_class
                       where oid = to_regclass($1) or relnamespace = to_regnamespace('run_counter')
                          or oid in (select t.tgrelid from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid
                                      where p.pronamespace in (to_regnamespace('run_counter'), to_regnamespace('run_counter_webhook'))))
 group by 1, 2, 3
 order by min(a.xact_start)
 limit 3`, table.SQL())
	if err != nil {
		return "" // it would only have helped
	}
	defer func() { _ = rows.Close() }()
	var all []string
	for rows.Next() {
		var pid, seconds int64
		var name, state, tables string
		if rows.Scan(&pid, &name, &state, &seconds, &tables) != nil {
			return ""
		}
		all = append(all, fmt.Sprintf("%s is held by process %d (%s, %s, in a transaction for %v)",
			tables, pid, name, state, time.Duration(seconds)*time.Second))
	}
	if rows.Err() != nil || len(all) == 0 {
		return ""
	}
	return ": " + strings.Join(all, ", ")
}
