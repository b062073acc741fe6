package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
)

// Without the migrations the store works on workflow_runs alone: a guarded
// UPDATE and count(*). Laws 4 to 7 hold, law 2 for our own calls, and a count
// is exact by being counted. There is no mark for a presumed outcome, so a real
// one that comes later can't supersede it; no amendment; nothing to audit.

// errNeedsMigrations is what can't be done by direct queries.
var errNeedsMigrations = fmt.Errorf("%w: this needs runcounter's migrations in the database; run runcounter migrate up", store.ErrInvalid)

const directCompleteSQL = `
with locked as (
    select r.id from public.workflow_runs as r where r.id = $1::uuid for no key update
), ended as (
    update public.workflow_runs as r
       set status = $2::text,
           completed_at = coalesce($3::timestamptz, $7::timestamptz),
           duration_ms = coalesce($4::integer, r.duration_ms, case when coalesce($3::timestamptz, $7::timestamptz) >= r.started_at
                then least(trunc(extract(epoch from coalesce($3::timestamptz, $7::timestamptz) - r.started_at) * 1000), 2147483647)::integer end),
           error_details = coalesce($5::jsonb, r.error_details),
           state_snapshot = coalesce($6::jsonb, r.state_snapshot),
           updated_at = $7::timestamptz
      from locked
     where r.id = locked.id and ` + activeSQL + `
    returning r.id
)
select exists (select from ended) from locked`

// directBegin takes a lock of its transaction for the key, and counts in the
// next statement. Such a lock holds among those who take it, which is those
// who begin runs through us.
func (s *Store) directBegin(ctx context.Context, have schema, b store.Begin) (begun store.Begun, err error) {
	if b.IdempotencyKey != "" {
		return begun, errNeedsMigrations
	}
	key := b.Key()
	err = s.write(ctx, func(tx pgx.Tx) error {
		begun = store.Begun{}
		if b.Limit != nil {
			if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended($1::text, 0))`, "runcounter "+key.String()); err != nil {
				return err
			}
		}
		var tallies store.Tallies
		// Counted and active in one statement: a run that ends between two is
		// in neither.
		err := send(ctx, tx, query{text: `
select ` + have.rowColumns() + `, n.*
  from (select` + actualSQL + `, count(*) filter (where ` + openSQL + `) as open
          from public.workflow_runs as r where ` + have.ofKey(key.Kind, "$1", "$2") + `) as n
  left join public.workflow_runs as r on r.id = $3::uuid`,
			args: []any{key.User.String(), key.Ref.String(), b.ID.String()},
			read: func(rows pgx.Rows) error {
				return scanRow(rows, &begun.Run.Row, append(talliesOf(&tallies)[:4], &begun.Active)...)
			}})
		if err != nil {
			return err
		}
		found := !begun.Run.ID.IsZero()
		begun.Counted = s.options.Policy.Count(tallies)
		switch {
		case found && begun.Run.Key() != key:
			return fmt.Errorf("%w: run %s is that of %s; begin with another id", store.ErrConflict, b.ID, begun.Run.Key())
		case found:
			begun.Run.Counted = counted(begun.Run, s.options.Policy)
			return nil
		case b.Full(begun.Counted, begun.Active):
			begun.LimitReached = true
			return nil
		}
		columns, values := "", ""
		args := []any{b.ID.String(), b.User.String(), idArg(b.Workflow), b.Now}
		if have.draft {
			columns, values = ", draft_id", ", $5::uuid"
			args = append(args, idArg(b.Draft))
		}
		begun.Created = true
		begun.Active++
		return send(ctx, tx, query{text: `
insert into public.workflow_runs as r (id, user_id, workflow_id, status, created_at, updated_at` + columns + `)
values ($1::uuid, $2::uuid, $3::uuid, 'pending', $4::timestamptz, $4::timestamptz` + values + `)
returning ` + have.rowColumns(), args: args, read: func(rows pgx.Rows) error { return scanRow(rows, &begun.Run.Row) }})
	})
	return begun, err
}
