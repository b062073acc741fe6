package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// auditSQL compares a page of keys with the runs behind them: one statement,
// one snapshot, and no lock that a writer waits for.
//
// $1 to $3 are the key after which the page begins, $4 is how many keys it
// holds. keys finds them in the order of the indexes, and is read no further
// than the page; the three sums are then taken over the same range.
func (h features) auditSQL() string {
	runKeys := func(kind store.Kind, ref string, more string) string {
		return `
    (select distinct r.user_id, '` + string(kind) + `'::text collate "C" as kind, ` + ref + ` as ref_id
       from ` + h.keyed() + ` as r
      where r.user_id >= $1::` + h.user + ` and r.has_user and ` + more + ` and r.ended
        and (r.user_id, '` + string(kind) + `'::text, ` + ref + `) > ($1::` + h.user + `, $2::text, $3::` + h.ref + `)
      order by 1, 3 limit $4::integer + 1)`
	}
	runs := func(kind store.Kind, ref string, more string) string {
		return `
    select r.user_id, '` + string(kind) + `'::text collate "C" as kind, ` + ref + ` as ref_id, ` + statusSQL + `, false as presumed, 0::bigint as stored, count(*) as actual
      from ` + h.keyed() + ` as r, bounds as b
     where r.user_id >= $1::` + h.user + ` and r.user_id <= b.last_user and r.has_user and ` + more + ` and r.ended
     group by 1, 2, 3, 4`
	}
	keys, actual := runKeys(h.table.Counted(), "r.workflow_id", "r.has_workflow and r.no_draft"), runs(h.table.Counted(), "r.workflow_id", "r.has_workflow and r.no_draft")
	if h.has(watched.Draft) {
		keys += ` union ` + runKeys(store.KindDraft, "r.draft_id", "r.has_draft")
		actual += ` union all ` + runs(store.KindDraft, "r.draft_id", "r.has_draft")
	}
	return `
with keys as materialized (
    select user_id, kind, ref_id
      from (` + keys + ` union
    (select user_id, kind, ref_id from run_counter.counts
      where (user_id, kind, ref_id) > ($1::` + h.user + `, $2::text, $3::` + h.ref + `) order by 1, 2, 3 limit $4::integer + 1) union
    (select distinct user_id, kind, ref_id from run_counter.ledger
      where (user_id, kind, ref_id) > ($1::` + h.user + `, $2::text, $3::` + h.ref + `) order by 1, 2, 3 limit $4::integer + 1)) as k
     order by 1, 2, 3 limit $4::integer
), bounds as materialized (
    select user_id as last_user from keys order by 1 desc limit 1
), sides as (
    select k.user_id, k.kind, k.ref_id, k.status, k.presumed, k.n as stored, 0::bigint as actual
      from ` + watched.Stored("user_id >= $1::"+h.user+" and user_id <= (select last_user from bounds)") + ` as k
     union all` + actual + `
     union all
    select r.user_id, r.kind collate "C", r.ref_id, ` + statusSQL + `, m.presumed, 0, m.n
      from ` + h.keyed() + ` as r` + marksSQL + `, bounds as b
     where r.user_id >= $1::` + h.user + ` and r.user_id <= b.last_user and r.ended
)
select k.user_id, k.kind, k.ref_id, n.status, n.presumed, sum(n.stored)::bigint, sum(n.actual)::bigint
  from keys as k join sides as n using (user_id, kind, ref_id)
 group by 1, 2, 3, 4, 5
 order by 1, 2, 3`
}

// Audit implements [store.Maintainer].
func (s *Store) Audit(ctx context.Context, a store.Audit) (store.AuditResult, error) {
	return installed(ctx, s, func(db features, out *store.AuditResult) (err error) {
		*out, err = audit(ctx, s.pool, db, a, store.Key{})
		return err
	})
}

// AuditDue returns the number of the last TRUNCATE that could not see all that
// it took away, or 0. Only a full audit finds what that left behind.
func (s *Store) AuditDue(ctx context.Context) (int64, error) {
	return installed(ctx, s, func(_ features, event *int64) error {
		return send(ctx, s.pool, query{
			text: `select coalesce(max(seq), 0) from run_counter.audits_due`,
			read: func(rows pgx.Rows) error { return rows.Scan(event) },
		})
	})
}

// AuditDone settles what was due up to an event. A TRUNCATE holds its table
// until it ends, so none with a smaller number is still to come.
func (s *Store) AuditDone(ctx context.Context, event int64) error {
	return s.attempt(ctx, func(features) error {
		return s.commit(ctx, query{text: `delete from run_counter.audits_due where seq <= $1::bigint`, args: []any{event}})
	})
}

// audit passes over the keys behind until, unless that is the zero key.
func audit(ctx context.Context, to sender, db features, a store.Audit, until store.Key) (out store.AuditResult, err error) {
	var found []store.Drift
	err = send(ctx, to, query{text: db.auditSQL(), args: append(db.cursorArgs(a.After), a.Max), read: addDrifts(&found)})
	if err != nil {
		return out, fmt.Errorf("audit after %s: %w", a.After, err)
	}
	for _, d := range found {
		if !until.IsZero() && d.Key.Compare(until) > 0 {
			continue
		}
		if out.Keys++; out.Keys == a.Max {
			out.Next = d.Key
		}
		if d.Wrong() {
			out.Drifts = append(out.Drifts, d)
		}
	}
	return out, nil
}

// addDrifts reads rows of a key and both sides of it, in the order of the keys, and
// puts those of a key together.
func addDrifts(found *[]store.Drift) func(rows pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var next store.Drift
		if err := addBoth(rows, &next.Stored, &next.Actual, (*keyID)(&next.Key.User), (*text)(&next.Key.Kind), (*keyID)(&next.Key.Ref)); err != nil {
			return err
		}
		if n := len(*found) - 1; n >= 0 && (*found)[n].Key == next.Key {
			last := &(*found)[n]
			last.Stored, last.Actual = last.Stored.Add(next.Stored), last.Actual.Add(next.Actual)
		} else {
			*found = append(*found, next)
		}
		return nil
	}
}
