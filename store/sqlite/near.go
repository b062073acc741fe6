package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// markLimits keeps which limits of a run that has just begun are nearly used up. A mark
// stays as it was made while its limit is the same, or each begin would write it.
func (t *tx) markLimits(b store.Begin, usages []store.Usage) error {
	for _, u := range usages {
		of := u.Limit.Of(b.Key())
		var err error
		if what := fmt.Sprintf("mark a limit of %s", of); u.Near() {
			err = t.execText(what, `
insert into limit_marks (user_id, kind, ref_id, max_runs, counts_from, marked_at)
values (?, ?, ?, ?, ?, ?)
    on conflict (user_id, kind, ref_id) do update
   set max_runs = excluded.max_runs, counts_from = excluded.counts_from, marked_at = excluded.marked_at
 where max_runs <> excluded.max_runs or counts_from is not excluded.counts_from`,
				of.User.String(), string(of.Kind), of.Ref.String(), u.Limit.Max, nullTime(store.Instant(u.Limit.From)), b.Now.UnixMicro())
		} else {
			err = t.execText(what, `delete from limit_marks where user_id = ? and kind = ? and ref_id = ?`, of.User.String(), string(of.Kind), of.Ref.String())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// NearLimits implements [store.Reader].
func (s *Store) NearLimits(ctx context.Context, now time.Time, limit int) (near []store.NearLimit, err error) {
	err = s.withPolicy(ctx, func(q querier, policy store.Policy) error {
		near = nil
		marks, err := list(ctx, q, "list the marks of limits", `
select user_id, kind, nullif(ref_id, ''), max_runs, counts_from, marked_at
  from limit_marks order by marked_at desc, user_id, kind, ref_id limit ?`, []any{int64(limit) * store.NearLook}, scanMark)
		for i := 0; err == nil && i < len(marks) && len(near) < limit; i++ {
			m := marks[i]
			var usages []store.Usage
			usages, err = s.hooks.usages(ctx, q, policy, asked{key: store.Key(m.Of), limits: []store.Limit{m.Usage.Limit}, now: store.Instant(now)})
			var noIndex *store.NoIndexError
			switch {
			case errors.As(err, &noIndex): // the index of users' windows was dropped since
				err = nil
			case err == nil && usages[0].Near():
				m.Usage = usages[0]
				near = append(near, m)
			}
		}
		return err
	})
	return near, err
}

func scanMark(rows *sql.Rows, n *store.NearLimit) error {
	var from, since sql.NullInt64
	err := rows.Scan(&n.Of.User, &n.Of.Kind, &n.Of.Ref, &n.Usage.Limit.Max, &from, &since)
	if n.Usage.Limit.Scope = store.KeyLimit; n.Of.Kind == "" {
		n.Usage.Limit.Scope = store.UserLimit
	}
	n.Usage.Limit.From, n.Since = timeOf(from), timeOf(since)
	return err
}
