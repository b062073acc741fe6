package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/edgaze-ai/runcounter/store"
)

// naiveCounts are what is left in the two counters that people write first.
type naiveCounts struct {
	added map[store.Key]int64 // count = count + 1, with a recount now and then
	rows  map[store.Key]int64 // the rows, as they were written last
}

// countNaively takes the arrivals in as an Edge Function of ten lines does: it
// keeps the row that came last, and adds one where it completed or failed.
func countNaively(ctx context.Context, path string, w *world) (n naiveCounts, err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=synchronous(off)&_pragma=journal_mode(memory)")
	if err != nil {
		return n, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil) // one for all is for speed, and changes no count
	if err != nil {
		return n, err
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }() // nobody needs it again
	_, err = tx.ExecContext(ctx, `
create table naive_runs (id text primary key, key text, status text);
create index naive_runs_key on naive_runs (key, status);
create table naive_counts (key text primary key, count integer not null);`)
	if err != nil {
		return n, err
	}
	stale := map[int]int64{} // what each recount has read
	for i, a := range w.arrivals {
		for j, race := range w.recounts {
			if race.reads == i {
				if stale[j], err = naiveRows(ctx, tx, race.key); err != nil {
					return n, err
				}
			}
			if race.writes == i {
				if _, err = tx.ExecContext(ctx, `update naive_counts set count = ? where key = ?`, stale[j], race.key.String()); err != nil {
					return n, err
				}
			}
		}
		_, err = tx.ExecContext(ctx, `
insert into naive_runs (id, key, status) values (?, ?, ?)
    on conflict (id) do update set status = excluded.status`, a.run.String(), a.key.String(), string(a.status))
		if err == nil && (a.status == store.Completed || a.status == store.Failed) {
			_, err = tx.ExecContext(ctx, `
insert into naive_counts (key, count) values (?, 1)
    on conflict (key) do update set count = count + 1`, a.key.String())
		}
		if err != nil {
			return n, fmt.Errorf("count naively: %w", err)
		}
	}
	n = naiveCounts{map[store.Key]int64{}, map[store.Key]int64{}}
	for _, key := range w.keys {
		var added int64
		if err = tx.QueryRowContext(ctx, `select coalesce(sum(count), 0) from naive_counts where key = ?`, key.String()).Scan(&added); err != nil {
			return n, err
		}
		n.added[key] = added
		if n.rows[key], err = naiveRows(ctx, tx, key); err != nil {
			return n, err
		}
	}
	return n, nil
}

func naiveRows(ctx context.Context, tx *sql.Tx, key store.Key) (count int64, err error) {
	err = tx.QueryRowContext(ctx, `select count(*) from naive_runs where key = ? and status in ('completed', 'failed')`, key.String()).Scan(&count)
	return count, err
}
