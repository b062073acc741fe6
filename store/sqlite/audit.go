package sqlite

import (
	"context"
	"database/sql"
	"slices"

	"github.com/edgaze-ai/runcounter/store"
)

// keyed is the count of one key.
type keyed struct {
	key     store.Key
	tallies store.Tallies
}

// Audit implements [store.Maintainer].
func (s *Store) Audit(ctx context.Context, a store.Audit) (store.AuditResult, error) {
	var counts, runs []keyed
	err := s.read(ctx, func(q querier) error {
		page := append(keyArgs(a.After), a.Max)
		err := each(ctx, q, "audit", auditCountsSQL, page, func(rows *sql.Rows) error {
			var e ended
			key, err := scanKey(rows, e.targets()...)
			if len(counts) == 0 || counts[len(counts)-1].key != key {
				counts = append(counts, keyed{key: key})
			}
			e.AddTo(&counts[len(counts)-1].tallies)
			return err
		})
		if err != nil {
			return err
		}
		runs, err = list(ctx, q, "audit", auditRunsSQL, page, func(rows *sql.Rows, k *keyed) (err error) {
			k.key, err = scanKey(rows, talliesOf(&k.tallies)...)
			return err
		})
		return err
	})
	if err != nil {
		return store.AuditResult{}, err
	}
	return compare(counts, runs, a.Max), nil
}

// The two lists that an audit compares. Each follows an index and stops at the
// limit, so a page costs the same wherever it begins.
var auditCountsSQL = `
select k.user_id, k.kind, k.ref_id, c.status, c.presumed, c.n
  from (` + countedKeys(` where (user_id, kind, ref_id) > (?, ?, ?)`) + `) as k
 cross join counts as c on c.user_id = k.user_id and c.kind = k.kind and c.ref_id = k.ref_id
 order by 1, 2, 3`

const auditRunsSQL = `
select user_id, kind, ref_id,` + tallySQL + `
 where completed_at is not null and kind is not null and (user_id, kind, ref_id) > (?, ?, ?)
 group by user_id, kind, ref_id
 order by user_id, kind, ref_id
 limit ?`

// compare sets the sorted lists side by side. One that is as long as was asked for
// may have been cut, so nothing is said of the keys after its end: the next audit
// begins there.
func compare(counts, runs []keyed, limit int) store.AuditResult {
	var end store.Key
	byKey := make(map[store.Key]store.Drift)
	for i, list := range [][]keyed{counts, runs} {
		if len(list) == limit {
			if last := list[limit-1].key; end.IsZero() || last.Compare(end) < 0 {
				end = last
			}
		}
		for _, k := range list {
			d := byKey[k.key]
			d.Key = k.key
			if i == 0 {
				d.Stored = k.tallies
			} else {
				d.Actual = k.tallies
			}
			byKey[k.key] = d
		}
	}
	out := store.AuditResult{Next: end}
	for key, d := range byKey {
		if !end.IsZero() && key.Compare(end) > 0 {
			continue
		}
		out.Keys++
		if d.Wrong() {
			out.Drifts = append(out.Drifts, d)
		}
	}
	slices.SortFunc(out.Drifts, func(a, b store.Drift) int { return a.Key.Compare(b.Key) })
	return out
}
