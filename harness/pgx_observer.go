package harness

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// sayWhenLooked has connections look for deadlocks soon, and say so to us, in
// English. It returns the settings for that, which are a superuser's.
func sayWhenLooked(config *pgx.ConnConfig) []string {
	if config.RuntimeParams["deadlock_timeout"] == "" {
		config.RuntimeParams["deadlock_timeout"] = "1ms"
	}
	config.RuntimeParams["log_lock_waits"] = "on"
	config.RuntimeParams["client_min_messages"] = "log"
	config.RuntimeParams["lc_messages"] = "C"
	return []string{"deadlock_timeout", "log_lock_waits", "lc_messages"}
}

// lockWord reads what PostgreSQL says, after deadlock_timeout, of a statement
// that waits for a lock: that it waits still, or that it has the lock. It says
// the first when it has looked for a deadlock, which it does once: a circle that
// is closed afterwards is found by the one who closes it, so that it is always
// that one who is ended. Without its word, on a busy machine, it is either of
// them.
func lockWord(n *pgconn.Notice) (waits, said bool) {
	said = n.SeverityUnlocalized == "LOG" && n.Routine == "ProcSleep"
	return said && strings.Contains(n.Message, "still waiting"), said
}

// lookPatience is how long it is waited for; a statement may have switched such
// messages off, and only a superuser can switch them on.
const lookPatience = time.Second

// observer is a connection that looks at the others.
type observer struct {
	mu   sync.Mutex
	conn *pgx.Conn
}

func observe(address string) (*observer, error) {
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = "harness"
	conn, err := pgx.ConnectConfig(context.Background(), config)
	return &observer{conn: conn}, err
}

func (o *observer) close() { _ = o.conn.Close(context.Background()) }

func (o *observer) exec(text string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, err := o.conn.Exec(context.Background(), text, pgx.QueryExecModeSimpleProtocol)
	return err
}

// end ends a backend, and returns when it is gone.
func (o *observer) end(pid uint32) {
	if err := o.exec(fmt.Sprintf(`do $$ begin
perform pg_terminate_backend(%d);
while exists (select from pg_stat_activity where pid = %[1]d) loop perform pg_sleep(0.001), pg_stat_clear_snapshot(); end loop; end $$`, pid)); err != nil {
		panic(fmt.Sprintf("harness: end a backend: %v", err))
	}
}

// standing says who waits for whom, and whether all of them wait, in the end,
// for one of ours that isn't waiting: a circle is about to be broken, and what
// others hold, such as autovacuum, they give back by themselves.
func (o *observer) standing(pids []int32, ours func(pid int32) string) (text string, behind map[int32][]int32, stable bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	rows, err := o.conn.Query(context.Background(), "select pid, pg_blocking_pids(pid) from unnest($1::int[]) as pid order by pid",
		pgx.QueryExecModeCacheStatement, pids)
	if err != nil {
		panic(fmt.Sprintf("harness: ask who waits: %v", err))
	}
	behind = map[int32][]int32{}
	var parts []string
	for rows.Next() {
		var pid int32
		var blockers []int32
		if err := rows.Scan(&pid, &blockers); err != nil {
			panic(fmt.Sprintf("harness: ask who waits: %v", err))
		}
		behind[pid] = blockers
		parts = append(parts, fmt.Sprintf("%d behind %v", pid, blockers))
	}
	if err := rows.Err(); err != nil {
		panic(fmt.Sprintf("harness: ask who waits: %v", err))
	}
	free := map[int32]bool{}
	for range pids {
		for pid, blockers := range behind {
			for _, b := range blockers {
				if _, waits := behind[b]; !waits && ours(b) != "" || free[b] {
					free[pid] = true
				}
			}
		}
	}
	return strings.Join(parts, ", "), behind, len(free) == len(pids)
}

// keep remembers the contents of all tables and the state of all sequences,
// and returns the statements that put them back.
func (o *observer) keep() (refill string, err error) {
	ctx := context.Background()
	if err := o.exec("drop schema if exists harness_kept cascade; create schema harness_kept"); err != nil {
		return "", err
	}
	rows, err := o.conn.Query(ctx, `
select format('%I.%I', n.nspname, c.relname),
       (select string_agg(quote_ident(a.attname), ', ' order by a.attnum) from pg_attribute a
         where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '')
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema', 'harness_kept') and n.nspname !~ '^pg_' order by 1`)
	if err != nil {
		return "", err
	}
	type table struct{ Name, Columns string }
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[table])
	if err != nil {
		return "", err
	}
	var parts []string
	for i, t := range tables {
		kept := fmt.Sprintf("harness_kept.t%d", i)
		if err := o.exec(fmt.Sprintf("create table %s as select %s from %s", kept, t.Columns, t.Name)); err != nil {
			return "", err
		}
		parts = append(parts, fmt.Sprintf("delete from %s; insert into %s (%s) overriding system value select * from %s", t.Name, t.Name, t.Columns, kept))
	}
	rows, err = o.conn.Query(ctx, `select format('%I.%I', schemaname, sequencename) from pg_sequences order by 1`)
	if err != nil {
		return "", err
	}
	sequences, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return "", err
	}
	for _, name := range sequences {
		var last int64
		var called bool
		if err := o.conn.QueryRow(ctx, "select last_value, is_called from "+name).Scan(&last, &called); err != nil {
			return "", err
		}
		parts = append(parts, fmt.Sprintf("select setval('%s', %d, %t)", strings.ReplaceAll(name, "'", "''"), last, called))
	}
	if len(parts) == 0 {
		return "", errors.New("the database has no tables: give Setup what makes them")
	}
	return "set session_replication_role = replica; " + strings.Join(parts, "; ") + "; set session_replication_role = origin", nil
}
