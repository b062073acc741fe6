package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/edgaze-ai/runcounter/store"
)

// keyed is the count of one key.
type keyed struct {
	key     store.Key
	tallies store.Tallies
}

// Audit implements [store.Store].
func (s *Store) Audit(ctx context.Context, a store.Audit) (store.Audited, error) {
	var counts, ledger, runs []keyed
	err := s.read(ctx, func(q querier) error {
		for _, part := range []struct {
			into *[]keyed
			text string
		}{{&counts, auditCountsSQL}, {&ledger, auditLedgerSQL}, {&runs, auditRunsSQL}} {
			var err error
			if *part.into, err = tallies(ctx, q, part.text, a); err != nil {
				return fmt.Errorf("audit: %w", err)
			}
		}
		return nil
	})
	if err != nil {
		return store.Audited{}, err
	}
	return compare(counts, ledger, runs, a.Max), nil
}

// The three lists that an audit compares. Each follows an index and stops at
// the limit, so a page costs the same wherever it begins.
const (
	auditCountsSQL = `
select user_id, kind, ref_id, completed, failed, cancelled, timeout,
       presumed_completed, presumed_failed, presumed_cancelled, presumed_timeout
  from counts
 where (user_id, kind, ref_id) > (?, ?, ?)
 order by user_id, kind, ref_id
 limit ?`

	auditLedgerSQL = `
select user_id, kind, ref_id, completed, failed, cancelled, timeout,
       presumed_completed, presumed_failed, presumed_cancelled, presumed_timeout
  from ledger
 where (user_id, kind, ref_id) > (?, ?, ?)
 order by user_id, kind, ref_id
 limit ?`

	auditRunsSQL = `
select user_id, kind, ref_id,` + tallySQL + `
 where completed_at is not null and kind is not null and (user_id, kind, ref_id) > (?, ?, ?)
 group by user_id, kind, ref_id
 order by user_id, kind, ref_id
 limit ?`
)

func tallies(ctx context.Context, q querier, text string, a store.Audit) (all []keyed, err error) {
	rows, err := q.QueryContext(ctx, text, append(keyArgs(a.After), a.Max)...)
	err = eachRow(rows, err, func(rows *sql.Rows) (err error) {
		var k keyed
		k.key, err = scanKey(rows, talliesOf(&k.tallies)...)
		all = append(all, k)
		return err
	})
	return all, err
}

// compare adds the sorted lists up. One that is as long as was asked for may
// have been cut, so nothing is said of the keys after its end: the next audit
// begins there.
func compare(counts, ledger, runs []keyed, limit int) store.Audited {
	var end store.Key
	byKey := make(map[store.Key]store.Drift)
	for i, list := range [][]keyed{counts, ledger, runs} {
		if len(list) == limit {
			if last := list[limit-1].key; end.IsZero() || last.Compare(end) < 0 {
				end = last
			}
		}
		for _, k := range list {
			d := byKey[k.key]
			d.Key = k.key
			if i < 2 {
				d.Stored = d.Stored.Add(k.tallies)
			} else {
				d.Actual = k.tallies
			}
			byKey[k.key] = d
		}
	}
	out := store.Audited{Next: end}
	for key, d := range byKey {
		if !end.IsZero() && key.Compare(end) > 0 {
			continue
		}
		out.Keys++
		if d.Stored != d.Actual {
			out.Drifts = append(out.Drifts, d)
		}
	}
	slices.SortFunc(out.Drifts, func(a, b store.Drift) int { return a.Key.Compare(b.Key) })
	return out
}
