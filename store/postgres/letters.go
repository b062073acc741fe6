package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
)

// KeepDeadLetter keeps what can't be read, and drops the oldest beyond the
// bounds. Without the migrations there is no place to keep it.
func (s *Store) KeepDeadLetter(ctx context.Context, letters ...store.DeadLetter) error {
	return s.attempt(ctx, func(db features) error {
		if !db.installed {
			return errNeedsMigrations
		}
		queries := make([]query, 0, len(letters)+1)
		for _, d := range letters {
			queries = append(queries, query{
				text: `insert into run_counter.dead_letters (received_at, reason, bytes, body) values ($1::timestamptz, $2::text, $3::bigint, $4::bytea)`,
				args: []any{store.Instant(d.ReceivedAt), d.Reason, d.Bytes, append([]byte{}, d.Body...)},
			})
		}
		return s.commit(ctx, append(queries, query{text: `
delete from run_counter.dead_letters
 where seq in (select seq
                 from (select seq, row_number() over newest as n, sum(length(body)) over newest as kept
                         from run_counter.dead_letters
                       window newest as (order by seq desc)) as d
                where n > $1::integer or kept > $2::bigint)`, args: []any{store.MaxDeadLetters, store.MaxDeadLetterBytes}})...)
	})
}

// lettersWhere is the condition of a query, whose parameters are $1 to $5.
const lettersWhere = `
 where ($1::bigint = 0 or seq = $1::bigint) and ($2::text = '' or position(lower($2::text collate "C") in lower(reason collate "C")) > 0)
   and ($3::bigint = 0 or seq < $3::bigint) and ($4::timestamptz is null or received_at < $4::timestamptz) and ($5::text = '' or reason = $5::text)`

func letterArgs(search store.DeadLetterQuery) []any {
	return []any{search.Seq, search.Reason, search.Before, timeArg(search.Until), search.Is}
}

// DeadLetters returns a page of them, latest first, without their bodies
// unless one alone is asked for.
func (s *Store) DeadLetters(ctx context.Context, search store.DeadLetterQuery) ([]store.DeadLetter, error) {
	return installed(ctx, s, func(_ features, letters *[]store.DeadLetter) error {
		return send(ctx, s.pool, query{
			text: `
select seq, received_at, reason, bytes, octet_length(body), case when $1::bigint <> 0 then body end
  from run_counter.dead_letters` + lettersWhere + ` order by seq desc limit $6::integer`,
			args: append(letterArgs(search), search.Limit),
			read: all(letters, func(rows pgx.Rows, d *store.DeadLetter) error {
				return rows.Scan(&d.Seq, (*instant)(&d.ReceivedAt), &d.Reason, &d.Bytes, &d.Kept, &d.Body)
			}),
		})
	})
}

// DropDeadLetters drops those, and returns how many.
func (s *Store) DropDeadLetters(ctx context.Context, search store.DeadLetterQuery) (int, error) {
	return installed(ctx, s, func(_ features, dropped *int) error {
		return s.commit(ctx, query{
			text: `with dropped as (delete from run_counter.dead_letters` + lettersWhere + ` returning 1) select count(*) from dropped`,
			args: letterArgs(search),
			read: func(rows pgx.Rows) error { return rows.Scan(dropped) },
		})
	})
}
