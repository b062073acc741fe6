package postgres

import (
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
		if err := db.requireLimits(key, a.Limits); err != nil {
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

// requireLimits refuses limits of a scope that the table does not have, or whose window no index finds.
func (h features) requireLimits(key store.Key, limits []store.Limit) error {
	for _, l := range limits {
		of := l.Of(key)
		if err := h.requireScope(of); err != nil {
			return err
		}
		if err := h.requireWindow(of, store.Window{From: l.From}); err != nil {
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

// scan reads usageColumns behind others.
func (u *usages) scan(rows pgx.Rows, before ...any) error {
	var none [6]*int64
	targets := []any{&none[0], &none[1], &none[2], &none[3], &none[4], &none[5]}
	for i := range u.all {
		one, at := &u.all[i], 0
		if one.Limit.Scope == store.UserLimit {
			at = 3
		}
		targets[at], targets[at+1], targets[at+2] = &one.Granted, &one.Counted, &one.Active
	}
	return rows.Scan(append(before, targets...)...)
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
