package postgres

import (
	"context"
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
	if err != nil {
		return nil, err
	}
	insiders.Store(conn.PgConn().PID(), true)
	return &observer{conn: conn}, nil
}

// queryRows collects rows, each of the columns of a T.
func queryRows[T any](o *observer, text string) ([]T, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	rows, err := o.conn.Query(context.Background(), text)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[T])
}

func (o *observer) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	_ = o.conn.Close(context.Background())
}

func (o *observer) closed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.conn.IsClosed()
}

func (o *observer) exec(text string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, err := o.conn.Exec(context.Background(), text, pgx.QueryExecModeSimpleProtocol)
	return err
}

// end ends a backend, and returns when it is gone. After the exploration it ends
// none.
func (o *observer) end(pid uint32) {
	if err := o.exec(fmt.Sprintf(`do $$ begin
perform pg_terminate_backend(%d);
while exists (select from pg_stat_activity where pid = %[1]d) loop perform pg_sleep(0.001), pg_stat_clear_snapshot(); end loop; end $$`, pid)); err != nil && !o.closed() {
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
