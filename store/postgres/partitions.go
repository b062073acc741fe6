package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// partitionsSQL names the partitions that there are, and how they differ from
// those whose runs are in the counts.
func (h features) partitionsSQL() string {
	return `
with leaves as materialized (
    select c.oid, format('%I.%I', n.nspname, c.relname) as name, p.leaf is not null as counted,
           c.relkind = 'f' or exists (select from pg_trigger as g
                    where g.tgrelid = c.oid and g.tgname = 'zzzz_run_counter_ledger_truncate' and g.tgenabled in ('O', 'A')) as told
      from ` + watched.PartitionsOf(regclass(h.table)) + ` as t
      join pg_class as c on c.oid = t.relid
      join pg_namespace as n on n.oid = c.relnamespace
      left join run_counter.partitions as p on p.leaf = c.oid
     where t.isleaf
)
select array(select oid::bigint from leaves order by 1),
       array(select name from leaves where not counted order by 1),
       array(select p.name from run_counter.partitions as p where p.leaf not in (select oid from leaves) order by 1),
       array(select name from leaves where counted and not told order by 1)`
}

// Partitions names those of the watched table; none where it is plain. The
// sweep's audit asks for it.
func (s *Store) Partitions(ctx context.Context) (p store.Partitions, err error) {
	err = s.attempt(ctx, func(db features) (err error) {
		p, err = db.partitions(ctx, s.pool)
		return err
	})
	return p, err
}

func (h features) partitions(ctx context.Context, to sender) (p store.Partitions, err error) {
	if h.installed && h.table.Partitioned {
		err = send(ctx, to, query{text: h.partitionsSQL(), read: func(rows pgx.Rows) error { return rows.Scan(&p.IDs, &p.New, &p.Gone, &p.Untold) }})
	}
	return p, err
}

// Partitions is that of the store.
func (i *Inspector) Partitions(ctx context.Context) (p store.Partitions, err error) {
	err = i.inspectInstalled(ctx, func(tx pgx.Tx, db features) (err error) {
		p, err = db.partitions(ctx, tx)
		return err
	})
	return p, err
}

// SettlePartitions notes that the runs of these partitions are in the counts.
func (s *Store) SettlePartitions(ctx context.Context, p store.Partitions) error {
	return s.attempt(ctx, func(db features) error {
		if !db.installed || !db.table.Partitioned {
			return nil
		}
		return s.commit(ctx, query{text: `select run_counter.settle_partitions($1::bigint[]::oid[])`, args: []any{p.IDs}, read: func(pgx.Rows) error { return nil }})
	})
}

// errOtherPartitions takes a recount back.
var errOtherPartitions = errors.New("partitions came or went")

// RecountAmong is Recount while the partitions are these. It looks when it has
// counted: what was counted was there before.
func (s *Store) RecountAmong(ctx context.Context, key store.Key, now time.Time, p store.Partitions) (r store.RecountResult, same bool, err error) {
	same = true
	r, err = s.recountIf(ctx, key, now, func(db features, tx pgx.Tx) error {
		is, err := db.partitions(ctx, tx)
		if err != nil {
			return fmt.Errorf("look at the table's partitions: %w", err)
		}
		if same = slices.Equal(is.IDs, p.IDs); !same {
			return errOtherPartitions
		}
		return nil
	})
	if !same {
		return store.RecountResult{Key: key}, false, nil
	}
	return r, true, err
}
