package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// Without the migrations the store works on workflow_runs alone: a guarded
// UPDATE and count(*). Laws 4 to 7 hold, law 2 for our own calls, and a count
// is exact by being counted. There is no mark for a presumed outcome, so a real
// one that comes later can't supersede it; no amendment; nothing to audit.

// errNeedsMigrations refuses what can't be done by direct queries.
var errNeedsMigrations = store.Refuse("this needs Run Counter's migrations in the database: run runcounter migrate up")

func (h features) directCompleteSQL() string {
	started, id := h.table.Moment("r", watched.StartedAt), h.table.Col("r", watched.ID)
	return `
with given as (
    select $4::integer as duration_ms, $5::text as error_details, $6::text as state_snapshot
), locked as (
    select ` + id + ` as id from ` + h.table.SQL() + ` as r where ` + id + ` = $1::` + h.id + ` for no key update
), ended as (
    update ` + h.table.SQL() + ` as r
       set ` + h.outcome("r", "$2::text", "coalesce($3::timestamptz, $7::timestamptz)") + h.set(watched.UpdatedAt, "$7::timestamptz") +
		h.set(watched.DurationMS, `coalesce(given.duration_ms, `+h.table.Col("r", watched.DurationMS)+`, case when coalesce($3::timestamptz, $7::timestamptz) >= `+started+` and isfinite(`+started+`)
                then least(trunc((extract(epoch from coalesce($3::timestamptz, $7::timestamptz)) - extract(epoch from `+started+`)) * 1000), 2147483647)::integer end)`) +
		h.set(watched.ErrorDetails, `coalesce(given.error_details`+h.table.JSON(watched.ErrorDetails)+`, `+h.table.Col("r", watched.ErrorDetails)+`)`) +
		h.set(watched.StateSnapshot, `coalesce(given.state_snapshot`+h.table.JSON(watched.StateSnapshot)+`, `+h.table.Col("r", watched.StateSnapshot)+`)`) + `
      from locked, given
     where ` + id + ` = locked.id and ` + h.table.Active("r") + `
    returning true
)
select exists (select from ended) from locked`
}

// directLocks are what stands for the scopes of limits in locks: the user's comes first.
func directLocks(key store.Key, limits []store.Limit) (locks []string) {
	for _, l := range limits {
		if l.Scope == store.UserLimit {
			locks = append([]string{l.Of(key).String()}, locks...)
		} else {
			locks = append(locks, key.String())
		}
	}
	return locks
}

// directBegin takes locks of its transaction for the scopes of the limits, and counts in
// the next statement. Such a lock holds among those who take it, which is those
// who begin runs through us.
func (s *Store) directBegin(ctx context.Context, db features, b store.Begin) (begun store.BeginResult, err error) {
	if b.IdempotencyKey != "" {
		return begun, errNeedsMigrations
	}
	key := b.Key()
	err = s.write(ctx, func(tx pgx.Tx) error {
		begun = store.BeginResult{}
		for _, lock := range directLocks(key, b.Limits) {
			if _, err := tx.Exec(ctx, migrations.LockBeginSQL, lock); err != nil {
				return err
			}
		}
		u := usagesOf(b.Limits)
		look := []query{{
			text: `select ` + rowSQL + ` from ` + db.rows() + ` as r where r.id = $1::` + db.id, args: []any{b.ID.String()},
			read: func(rows pgx.Rows) error { return db.scanRow(rows, &begun.Run.Row) },
		}}
		if len(b.Limits) > 0 {
			look = append(look, db.directUsages(key, u, s.options.Policy))
		}
		if err := send(ctx, tx, look...); err != nil {
			return err
		}
		begun.Usages = u.all
		if begun.Run.ID.IsZero() {
			if begun.LimitReached = slices.ContainsFunc(begun.Usages, store.Usage.Full); begun.LimitReached {
				return nil
			}
			if err := db.directInsert(ctx, tx, b, &begun, look[0]); err != nil {
				return err
			}
		}
		if begun.Run.Key() != key && !begun.Created {
			return fmt.Errorf("%w: run %s is that of %s; begin with another id", store.ErrConflict, b.ID, begun.Run.Key())
		}
		begun.Run.Counted = begun.Run.CountsUnder(s.options.Policy)
		return nil
	})
	return begun, err
}

// directInsert creates a run, or finds the one that another call has begun with its id
// meanwhile: the insert waits for that one, and the next statement sees it. What can't be
// inserted although its id is free meets another constraint, which PostgreSQL names.
func (h features) directInsert(ctx context.Context, tx pgx.Tx, b store.Begin, begun *store.BeginResult, look query) error {
	t := h.table
	columns, values := "", ""
	for _, role := range []watched.Role{watched.CreatedAt, watched.UpdatedAt} {
		if t.Has(role) {
			columns, values = columns+", "+t.Col("", role), values+", "+t.Written(role, "$4::timestamptz")
		}
	}
	args := []any{b.ID.String(), b.User.String(), h.arg(watched.Workflow, b.Workflow), b.Now}
	if h.has(watched.Draft) {
		columns, values = columns+", "+t.Col("", watched.Draft), values+", $5::"+t.Type(watched.Draft)
		args = append(args, h.arg(watched.Draft, b.Draft))
	}
	for _, taken := range []string{"on conflict do nothing", ""} {
		err := send(ctx, tx, query{text: `
insert into ` + t.SQL() + ` as r (` + t.Col("", watched.ID) + `, ` + t.Col("", watched.User) + `, ` + t.Col("", watched.Workflow) + `, ` + t.Col("", watched.Status) + columns + `)
select $1::` + h.id + `, $2::` + h.user + `, $3::` + t.Type(watched.Workflow) + `, ` + watched.Literal(t.First()) + values + ` where $4::timestamptz is not null ` + taken + `
returning ` + h.returned("r"), args: args, read: func(rows pgx.Rows) error { begun.Created = true; return h.scanRow(rows, &begun.Run.Row) }})
		if begun.Created {
			for i := range begun.Usages {
				begun.Usages[i].Active++
			}
		}
		if err != nil || begun.Created {
			return err
		}
		if err := send(ctx, tx, look); err != nil || !begun.Run.ID.IsZero() {
			return err
		}
	}
	return store.Refuse("run %s can't be inserted: a trigger of the table keeps it out", b.ID)
}
