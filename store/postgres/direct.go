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
var errNeedsMigrations = fmt.Errorf("%w: this needs runcounter's migrations in the database; run runcounter migrate up", store.ErrInvalid)

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

// directBegin takes a lock of its transaction for the key, and counts in the
// next statement. Such a lock holds among those who take it, which is those
// who begin runs through us.
func (s *Store) directBegin(ctx context.Context, db features, b store.Begin) (begun store.BeginResult, err error) {
	if b.IdempotencyKey != "" {
		return begun, errNeedsMigrations
	}
	key := b.Key()
	err = s.write(ctx, func(tx pgx.Tx) error {
		begun = store.BeginResult{}
		if len(b.Limits) > 0 {
			if _, err := tx.Exec(ctx, migrations.LockBeginSQL, key.String()); err != nil {
				return err
			}
		}
		var tallies store.Tallies
		var active int64
		// Counted and active in one statement: a run that ends between two is
		// in neither.
		err := send(ctx, tx, query{text: `
select ` + rowSQL + `, coalesce(n.status, ''), coalesce(n.n, 0)
  from (values (true)) as one
  left join (select case when r.open then '' else r.status::text end as status, count(*) as n
               from ` + db.keyed("open") + ` as r where ` + db.ofKey(key.Kind, "$1", "$2") + ` group by 1) as n on true
  left join ` + db.rows() + ` as r on r.id = $3::` + db.id + ``,
			args: []any{key.User.String(), key.Ref.String(), b.ID.String()},
			read: func(rows pgx.Rows) error {
				var e ended
				if err := db.scanRow(rows, &begun.Run.Row, (*text)(&e.Status), &e.N); err != nil {
					return err
				}
				if e.Status == "" {
					active = e.N
				}
				e.AddTo(&tallies)
				return nil
			}})
		if err != nil {
			return err
		}
		found := !begun.Run.ID.IsZero()
		for _, l := range b.Limits {
			begun.Usages = append(begun.Usages, store.Usage{Limit: l, Counted: s.options.Policy.Count(tallies), Active: active})
		}
		switch {
		case found && begun.Run.Key() != key:
			return fmt.Errorf("%w: run %s is that of %s; begin with another id", store.ErrConflict, b.ID, begun.Run.Key())
		case found:
			begun.Run.Counted = begun.Run.CountsUnder(s.options.Policy)
			return nil
		case slices.ContainsFunc(begun.Usages, store.Usage.Full):
			begun.LimitReached = true
			return nil
		}
		t := db.table
		columns, values := "", ""
		for _, role := range []watched.Role{watched.CreatedAt, watched.UpdatedAt} {
			if t.Has(role) {
				columns, values = columns+", "+t.Col("", role), values+", "+t.Written(role, "$4::timestamptz")
			}
		}
		args := []any{b.ID.String(), b.User.String(), db.arg(watched.Workflow, b.Workflow), b.Now}
		if db.has(watched.Draft) {
			columns, values = columns+", "+t.Col("", watched.Draft), values+", $5::"+t.Type(watched.Draft)
			args = append(args, db.arg(watched.Draft, b.Draft))
		}
		begun.Created = true
		for i := range begun.Usages {
			begun.Usages[i].Active++
		}
		return send(ctx, tx, query{text: `
insert into ` + t.SQL() + ` as r (` + t.Col("", watched.ID) + `, ` + t.Col("", watched.User) + `, ` + t.Col("", watched.Workflow) + `, ` + t.Col("", watched.Status) + columns + `)
select $1::` + db.id + `, $2::` + db.user + `, $3::` + db.table.Type(watched.Workflow) + `, ` + watched.Literal(t.First()) + values + ` where $4::timestamptz is not null
returning ` + db.returned("r"), args: args, read: func(rows pgx.Rows) error { return db.scanRow(rows, &begun.Run.Row) }})
	})
	return begun, err
}
