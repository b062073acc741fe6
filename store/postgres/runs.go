package postgres

import (
	"cmp"
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// Begin implements [store.Store]. run_counter.begin_run does it, as it does
// for a caller in SQL.
func (s *Store) Begin(ctx context.Context, b store.Begin) (begun store.BeginResult, err error) {
	if err := b.Validate(); err != nil {
		return begun, err
	}
	b.Now = store.Instant(b.Now)
	err = s.attempt(ctx, func(db features) error {
		if !b.Draft.IsZero() && !db.has(watched.Draft) {
			return store.Refuse("the table %s has no column draft_id", db.table.Name)
		}
		if err := cmp.Or(db.requireKey(b.Key()), db.requireLimits(b.Key(), b.Limits)); err != nil {
			return err
		}
		id, key := db.arg(watched.ID, b.ID), b.IdempotencyKey
		if id == nil && key == "" {
			key = "drawn for " + b.ID.String() // or to try again would begin another run
		}
		ids := map[watched.Role]store.ID{watched.ID: b.ID, watched.User: b.User, watched.Workflow: b.Workflow, watched.Draft: b.Draft}
		if b.AnyID && db.installed { // it is proposed
			delete(ids, watched.ID)
		}
		if err := db.requireIDs(ids); err != nil {
			return err
		}
		if !db.installed {
			begun, err = s.directBegin(ctx, db, b)
			return err
		}
		var policy store.Policy
		begun = store.BeginResult{}
		u := usagesOf(b.Limits)
		err := s.commit(ctx,
			query{text: `select created, limit_reached, ` + usageColumns + `
  from run_counter.begin_run($1::` + db.id + `, $2::` + db.user + `, $3::` + db.table.Type(watched.Workflow) + `, $4::` + db.table.Type(watched.Draft) + `, $7::bigint, $5::text, $6::timestamptz,
                             $8::timestamptz, $9::bigint, $10::timestamptz)`,
				args: append([]any{id, b.User.String(), db.arg(watched.Workflow, b.Workflow), db.arg(watched.Draft, b.Draft), textArg(key), b.Now}, limitArgs(b.Limits)...),
				read: func(rows pgx.Rows) error { return u.scan(rows, &begun.Created, &begun.LimitReached) }},
			policyQuery(&policy),
			query{text: `select ` + rowSQL + `, to_json(r.state_snapshot)::text, ` + presumedSQL + `
  from ` + db.rows("state_snapshot") + ` as r
 where r.id = coalesce((select run_id from run_counter.idempotency_keys where user_id = $1::` + db.user + ` and idempotency_key = $2::text), $3::` + db.id + `)`,
				args: []any{b.User.String(), textArg(key), id},
				read: func(rows pgx.Rows) error { return scanRun(db, rows, &begun.Run) }},
		)
		begun.Usages = u.all
		begun.Run.Counted = begun.Run.CountsUnder(policy)
		if begun.LimitReached {
			begun.Run = store.Run{}
		}
		if missing := db.requireWindows(b.Key(), b.Limits); missing != nil && codeOf(err) == "22023" {
			return missing // a run that was begun already is found without the index
		}
		return err
	})
	return begun, err
}

// Start implements [store.Store].
func (s *Store) Start(ctx context.Context, id store.ID, at time.Time) (run store.Run, err error) {
	err = s.attempt(ctx, func(db features) error {
		run, err = s.runAfter(ctx, db, id, query{text: `
update ` + db.table.SQL() + ` as r
   set ` + db.table.Col("", watched.Status) + ` = ` + db.table.Word("'running'") + db.set(watched.StartedAt, "$2::timestamptz") + db.set(watched.UpdatedAt, "$2::timestamptz") + `
 where ` + db.table.Col("r", watched.ID) + ` = $1::` + db.id + ` and ` + db.table.Status("r") + ` = 'pending' and $2::timestamptz is not null`, args: []any{db.arg(watched.ID, id), store.Instant(at)}})
		return err
	})
	return run, err
}

// Complete implements [store.Store]. run_counter.complete_run does it.
func (s *Store) Complete(ctx context.Context, c store.Completion) (result store.CompleteResult, err error) {
	o := c.Outcome
	if err := c.Validate(); err != nil {
		return result, err
	}
	c.Now, o.CompletedAt = store.Instant(c.Now), store.Instant(o.CompletedAt)
	err = s.attempt(ctx, func(db features) error {
		if err := db.requireStatus(o.Status); err != nil {
			return err
		}
		end := query{text: `select c.won from run_counter.complete_run($1::` + db.id + `, $2::text, $3::timestamptz, $4::integer, $5::jsonb, $6::jsonb, $7::timestamptz) as c`}
		if !db.installed {
			end.text = db.directCompleteSQL()
		}
		end.args = []any{db.arg(watched.ID, c.ID), string(o.Status), timeArg(o.CompletedAt), millisArg(o.DurationMS), textArg(o.ErrorDetails), textArg(o.Snapshot), c.Now}
		result = store.CompleteResult{}
		end.read = func(rows pgx.Rows) error { return rows.Scan(&result.Won) }
		var policy store.Policy
		found := false
		counts := map[store.Key]store.Tallies{}
		err := s.commit(ctx, end, s.policyFor(db, &policy),
			db.runQuery(c.ID, &result.Run, &found), runTalliesQuery(db, c.ID, counts))
		if err := notFound(err, found); err != nil {
			return err
		}
		result.Run.Counted = result.Run.CountsUnder(policy)
		if key := result.Run.Key(); !key.IsZero() {
			result.Count = store.Count{Key: key, Count: policy.Count(counts[key]), Tallies: counts[key]}
		}
		return nil
	})
	return result, err
}

// Amend implements [store.Store]. run_counter.amend_run does it.
func (s *Store) Amend(ctx context.Context, a store.AmendRequest) (run store.Run, err error) {
	if err := a.Validate(); err != nil {
		return run, err
	}
	err = s.attempt(ctx, func(db features) error {
		if !db.installed {
			return errNeedsMigrations
		}
		if err := db.requireStatus(a.Status); err != nil {
			return err
		}
		run, err = s.runAfter(ctx, db, a.ID, query{
			text: `select run_counter.amend_run($1::` + db.id + `, $2::text, $3::text, $4::text, $5::timestamptz)`,
			args: []any{db.arg(watched.ID, a.ID), string(a.Status), a.Who, a.Why, store.Instant(a.Now)},
			read: func(pgx.Rows) error { return nil },
		})
		return err
	})
	return run, err
}

// Run implements [store.Store].
func (s *Store) Run(ctx context.Context, id store.ID) (run store.Run, err error) {
	err = s.attempt(ctx, func(db features) (err error) {
		run, err = s.runAfter(ctx, db, id)
		return err
	})
	return run, err
}

// runAfter returns a run as it is after some statements, in one round trip.
func (s *Store) runAfter(ctx context.Context, db features, id store.ID, before ...query) (run store.Run, err error) {
	var policy store.Policy
	var found bool
	look := s.snapshot
	if len(before) > 0 {
		look = s.commit
	}
	err = look(ctx, append(before, s.policyFor(db, &policy), db.runQuery(id, &run, &found))...)
	run.Counted = run.CountsUnder(policy)
	return run, notFound(err, found)
}

// runQuery reads a run, and whether it is there.
func (h features) runQuery(id store.ID, run *store.Run, found *bool) query {
	return query{
		text: `select ` + rowSQL + `, to_json(r.state_snapshot)::text, ` + h.presumedColumn() + `
  from ` + h.rows("state_snapshot") + ` as r where r.id = $1::` + h.id,
		args: []any{h.arg(watched.ID, id)},
		read: func(rows pgx.Rows) error { *found = true; return scanRun(h, rows, run) },
	}
}

func notFound(err error, found bool) error {
	if err == nil && !found {
		return store.ErrNotFound
	}
	return err
}

func scanRun(db features, rows pgx.Rows, run *store.Run) error {
	return db.scanRow(rows, &run.Row, (*text)(&run.Snapshot), &run.Presumed)
}
