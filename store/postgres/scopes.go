package postgres

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// Count implements [store.Store].
func (s *Store) Count(ctx context.Context, of store.Scope, in store.Window) (c store.Count, err error) {
	if err := cmp.Or(of.Validate(), in.Validate()); err != nil {
		return c, err
	}
	err = s.attempt(ctx, func(db features) error {
		if err := cmp.Or(db.requireScope(of), db.requireWindow(of, in)); err != nil {
			return err
		}
		var policy store.Policy
		c = store.Count{Key: store.Key(of)}
		err := s.snapshot(ctx, append([]query{s.policyFor(db, &policy), db.scopeQuery(of, in, &c.Tallies)}, db.lastRunAt(of, in, &c.LastRunAt)...)...)
		c.Count = policy.Count(c.Tallies)
		return err
	})
	return c, err
}

// requireScope refuses a scope of a kind that the table does not have.
func (h features) requireScope(of store.Scope) error {
	key := store.Key(of)
	if key.User.IsZero() && h.table.Absent(watched.User) {
		key.User = store.Absent
	}
	if key.Kind == "" {
		key.Kind = h.table.Counted()
	}
	return h.requireKey(key)
}

// requireWindow refuses a window that no index finds. Without the migrations there is none
// for any count.
func (h features) requireWindow(of store.Scope, in store.Window) error {
	if in == store.AllTime || !h.installed || h.hasWindows(of) {
		return nil
	}
	return &store.NoIndexError{Of: of}
}

func (h features) hasWindows(of store.Scope) bool {
	switch {
	case of.OfAllUsers():
		return h.table.WorkflowWindows()
	case of.OfUser():
		return h.table.UserWindows()
	}
	return true
}

// scopeQuery adds the tallies of a scope up: those that are stored, or of a window the
// runs, each in one statement.
func (h features) scopeQuery(of store.Scope, in store.Window, into *store.Tallies) query {
	args := h.keyArgs(store.Key(of))
	read := func(rows pgx.Rows) error { return addEnded(rows, into) }
	if in == store.AllTime && h.installed {
		const sum, group = `select k.status, k.presumed, sum(k.n)::bigint from `, ` as k where $1::text is not null or $2::text is not null or $3::text is not null group by 1, 2`
		user, kind, ref := `user_id = $1::text::`+h.user, `kind = $2::text`, `ref_id = $3::text::`+h.ref
		rows := watched.Stored(user + ` and ` + kind + ` and ` + ref)
		switch {
		case of.OfAllUsers():
			rows = watched.Total(kind + ` and ` + ref)
		case of.OfUser() && of.Kind == "":
			rows = watched.Stored(user)
		case of.OfUser():
			rows = watched.Stored(user + ` and ` + kind)
		}
		return query{text: sum + rows + group, args: args, read: read}
	}
	if h.installed {
		key := store.Key(of)
		user, ref := h.arg(watched.User, key.User), h.arg(watched.Workflow, key.Ref)
		if user == nil && !key.User.IsZero() || ref == nil && !key.Ref.IsZero() {
			return query{text: `select`} // what is no id of the table has no runs
		}
		return query{
			text: `select status, presumed, n from run_counter.tallies_in($1::` + h.user + `, $2::text, $3::` + h.ref + `, $4::timestamptz, $5::timestamptz)`,
			args: append([]any{user, textArg(key.Kind), ref}, windowArgs(in)...), read: read,
		}
	}
	where := ` where (` + usedArgs + `) and ` + h.ofScope(of, "$1::text", "$2::text", "$3::text") + ` and r.ended`
	if in != store.AllTime {
		where += ` and ` + h.table.Within("r", "$4::timestamptz", "$5::timestamptz")
	}
	return query{text: `select ` + statusSQL + `, false, count(*) from ` + h.keyed() + ` as r` + where + ` group by 1`, args: append(args, windowArgs(in)...), read: read}
}

// usedArgs names each argument of a statement, of which some would have no type.
const usedArgs = `$1::text is not null or $2::text is not null or $3::text is not null or $4::timestamptz is not null or $5::timestamptz is not null`

// windowArgs are the bounds of a window, null where there is none.
func windowArgs(in store.Window) []any {
	return []any{timeArg(bound(in.From)), timeArg(bound(in.To))}
}

// bound is the bound of a window as the database can hold it: no run ended beyond these.
func bound(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return slices.MinFunc([]time.Time{slices.MaxFunc([]time.Time{store.Instant(t), store.FirstEnd}, time.Time.Compare), store.EndsBefore}, time.Time.Compare)
}

// ofScope is the condition on a run r that it is of a scope, of whose parts those that it
// has are expressions.
func (h features) ofScope(of store.Scope, user, kind, ref string) string {
	if _, one := of.Key(); one {
		return h.ofKey(of.Kind, user, ref)
	}
	if of.OfUser() {
		condition := `r.user_id = ` + user + `::` + h.user + ` and r.ref_id is not null`
		if of.Kind != "" {
			condition += ` and r.kind = ` + kind
		}
		return condition
	}
	return h.table.OfKey(of.Kind, "", ref+`::`+h.ref)
}

// lastRunAt reads when the newest run of a key ended, and of other scopes nothing.
func (h features) lastRunAt(of store.Scope, in store.Window, into *time.Time) []query {
	key, one := of.Key()
	if !one || in != store.AllTime {
		return nil
	}
	return []query{{
		text: `select r.completed_at from ` + h.keyed() + ` as r where ` + h.ofKey(key.Kind, "$1", "$2") + ` and r.ended order by r.end_order desc limit 1`,
		args: []any{h.arg(watched.User, key.User), h.arg(watched.Workflow, key.Ref)},
		read: func(rows pgx.Rows) error { return rows.Scan((*instant)(into)) },
	}}
}
