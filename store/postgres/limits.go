package postgres

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
)

// Allowance implements [store.Store].
func (s *Store) Allowance(ctx context.Context, a store.AllowanceRequest) (usages []store.Usage, err error) {
	if err := a.Validate(); err != nil {
		return nil, err
	}
	a.Now = store.Instant(a.Now)
	err = s.attempt(ctx, func(db features) error {
		key := a.Key()
		if err := cmp.Or(db.requireLimits(key, a.Limits), db.requireWindows(key, a.Limits)); err != nil {
			return err
		}
		u := usagesOf(a.Limits)
		look := query{
			text: `select ` + usageColumns + `
  from run_counter.usage_of($1::` + db.user + `, $2::text, $3::` + db.ref + `, $4::bigint, $5::timestamptz, $6::bigint, $7::timestamptz, $8::timestamptz, false)`,
			args: append(append(db.keyArgs(key), limitArgs(a.Limits)...), a.Now),
			read: func(rows pgx.Rows) error { return u.scan(rows) },
		}
		if !db.installed {
			look = db.directUsages(key, u, s.options.Policy)
		}
		err := send(ctx, s.pool, look)
		usages = u.all
		return err
	})
	return usages, err
}

// requireLimits refuses limits of a scope that the table does not have.
func (h features) requireLimits(key store.Key, limits []store.Limit) error {
	for _, l := range limits {
		if err := h.requireScope(l.Of(key)); err != nil {
			return err
		}
	}
	return nil
}

// requireWindows refuses limits whose window no index finds.
func (h features) requireWindows(key store.Key, limits []store.Limit) error {
	for _, l := range limits {
		if err := h.requireWindow(l.Of(key), store.Window{From: l.From}); err != nil {
			return err
		}
	}
	return nil
}

// limitArgs are the arguments of functions for the limit of a key and that of a user: its
// number and its beginning, null where there is none.
func limitArgs(limits []store.Limit) []any {
	var most [2]*int64
	var from [2]*time.Time
	for _, l := range limits {
		at := 0
		if l.Scope == store.UserLimit {
			at = 1
		}
		most[at], from[at] = &l.Max, timeArg(bound(l.From))
	}
	return []any{most[0], from[0], most[1], from[1]}
}

// usageColumns are what usages.scan reads.
const usageColumns = `granted, counted, active, user_granted, user_counted, user_active`

// usages are how far limits are used, in the order of the limits.
type usages struct{ all []store.Usage }

func usagesOf(limits []store.Limit) *usages {
	u := &usages{}
	for _, l := range limits {
		u.all = append(u.all, store.Usage{Limit: l})
	}
	return u
}

// scan reads usageColumns behind others. A limit of which nothing was counted is left out.
func (u *usages) scan(rows pgx.Rows, before ...any) error {
	var n [6]*int64
	if err := rows.Scan(append(before, &n[0], &n[1], &n[2], &n[3], &n[4], &n[5])...); err != nil {
		return err
	}
	var all []store.Usage
	for _, one := range u.all {
		at := 0
		if one.Limit.Scope == store.UserLimit {
			at = 3
		}
		if n[at+1] == nil {
			continue
		}
		one.Granted, one.Counted, one.Active = *n[at], *n[at+1], *n[at+2]
		all = append(all, one)
	}
	u.all = all
	return nil
}

// directUsages reads the usages where the migrations are not applied: counted and active
// of all limits in one statement. There are no grants.
func (h features) directUsages(key store.Key, u *usages, policy store.Policy) query {
	const none = `'infinity'::timestamptz`
	from := [2]string{none, none} // of the key's limit, and of the user's: nothing ends then
	args := h.keyArgs(key)
	of := key.Scope()
	for i := range u.all {
		l := u.all[i].Limit
		args = append(args, timeArg(bound(l.From)))
		at := 0
		if l.Scope == store.UserLimit {
			at, of = 1, store.Scope{User: key.User}
		}
		from[at] = fmt.Sprintf("coalesce($%d::timestamptz, '-infinity')", len(args))
	}
	ofKey := "false"
	if !key.Ref.IsZero() {
		ofKey = h.ofKey(key.Kind, "$1::text", "$3::text")
	}
	tallies := make([]store.Tallies, len(u.all))
	return query{
		text: `
select n.of_key, n.in_key, n.in_user, n.status, count(*)
  from (select (` + ofKey + `) is true as of_key, (r.completed_at >= ` + from[0] + `) is true as in_key, (r.completed_at >= ` + from[1] + `) is true as in_user,
               case when r.open then '' else r.status::text end as status
          from ` + h.keyed("open") + ` as r where ($2::text is not null or $3::text is not null) and ` + h.ofScope(of, "$1::text", "$2::text", "$3::text") + `) as n
 group by 1, 2, 3, 4`,
		args: args,
		read: func(rows pgx.Rows) error {
			var ofKey, inKey, inUser bool
			var e ended
			if err := rows.Scan(&ofKey, &inKey, &inUser, (*text)(&e.Status), &e.N); err != nil {
				return err
			}
			for i := range u.all {
				user := u.all[i].Limit.Scope == store.UserLimit
				switch {
				case !user && !ofKey:
				case e.Status == "":
					u.all[i].Active += e.N
				case user && inUser, !user && inKey:
					e.AddTo(&tallies[i])
					u.all[i].Counted = policy.Count(tallies[i])
				}
			}
			return nil
		},
	}
}
