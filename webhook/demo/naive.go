package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	_ "modernc.org/sqlite" // the driver of the naive counter

	"github.com/edgaze-ai/runcounter/store"
)

// NaiveCounts are the two counters that people write first.
type NaiveCounts struct {
	Added map[store.Key]int64 // count = count + 1, with a recount now and then
	Rows  map[store.Key]int64 // the rows, as they were written last
}

// CountNaively takes the arrivals in as an Edge Function of ten lines does: it
// keeps the row that came last, and adds one where it completed or failed.
func CountNaively(ctx context.Context, path string, w *World) (n NaiveCounts, err error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=synchronous(off)&_pragma=journal_mode(memory)")
	if err != nil {
		return n, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil) // one for all is for speed, and changes no count
	if err != nil {
		return n, err
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }() // it is of no more use
	_, err = tx.ExecContext(ctx, `
create table naive_runs (id text primary key, key text, status text);
create index naive_runs_key on naive_runs (key, status);
create table naive_counts (key text primary key, count integer not null);`)
	if err != nil {
		return n, err
	}
	stale := map[int]int64{} // what each recount has read
	for i, a := range w.Arrivals {
		for j, race := range w.Recounts {
			if race.reads == i {
				if stale[j], err = naiveRows(ctx, tx, race.Key); err != nil {
					return n, err
				}
			}
			if race.writes == i {
				if _, err = tx.ExecContext(ctx, `update naive_counts set count = ? where key = ?`, stale[j], race.Key.String()); err != nil {
					return n, err
				}
			}
		}
		_, err = tx.ExecContext(ctx, `
insert into naive_runs (id, key, status) values (?, ?, ?)
    on conflict (id) do update set status = excluded.status`, a.Run.String(), a.Key.String(), string(a.Status))
		if err == nil && (a.Status == store.Completed || a.Status == store.Failed) {
			_, err = tx.ExecContext(ctx, `
insert into naive_counts (key, count) values (?, 1)
    on conflict (key) do update set count = count + 1`, a.Key.String())
		}
		if err != nil {
			return n, fmt.Errorf("count naively: %w", err)
		}
	}
	n = NaiveCounts{map[store.Key]int64{}, map[store.Key]int64{}}
	for _, key := range w.Keys {
		var added int64
		if err = tx.QueryRowContext(ctx, `select coalesce(sum(count), 0) from naive_counts where key = ?`, key.String()).Scan(&added); err != nil {
			return n, err
		}
		n.Added[key] = added
		if n.Rows[key], err = naiveRows(ctx, tx, key); err != nil {
			return n, err
		}
	}
	return n, nil
}

func naiveRows(ctx context.Context, tx *sql.Tx, key store.Key) (count int64, err error) {
	err = tx.QueryRowContext(ctx, `select count(*) from naive_runs where key = ? and status in ('completed', 'failed')`, key.String()).Scan(&count)
	return count, err
}
