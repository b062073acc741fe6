package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
)

const noticeSQL = `n.subject, n.state, n.id, n.body, n.made_at, n.tries`

func scanNotice(n *store.Notice) func(rows pgx.Rows) error {
	return func(rows pgx.Rows) error {
		return rows.Scan((*text)(&n.Subject), (*text)(&n.State), (*text)(&n.ID), (*text)(&n.Body), (*instant)(&n.MadeAt), &n.Tries)
	}
}

// withNotices is an attempt of what needs the table of notices: who asked for them is
// told where there is none.
func (s *Store) withNotices(ctx context.Context, do func() error) error {
	return s.attempt(ctx, func(db features) error {
		if !db.installed {
			return errNeedsMigrations
		}
		return do()
	})
}

// Notice implements [store.NoticeBox].
func (s *Store) Notice(ctx context.Context, subject string) (n store.Notice, err error) {
	err = s.withNotices(ctx, func() error {
		n = store.Notice{}
		return send(ctx, s.pool, query{
			text: `select ` + noticeSQL + ` from run_counter.notices as n where n.subject = $1::text`, args: []any{subject}, read: scanNotice(&n),
		})
	})
	return n, err
}

// TurnNotice implements [store.NoticeBox]. Two instances meet at the row of the subject,
// and the second finds the notice of the first.
func (s *Store) TurnNotice(ctx context.Context, was string, n store.Notice, due time.Time) (turned bool, err error) {
	err = s.withNotices(ctx, func() error {
		full := false
		err := s.commit(ctx, query{
			text: `
with room as (
    select $7::text <> '' or $6::timestamptz is null or (select count(*) from run_counter.notices where due_at is not null) < $8::bigint as there
), turned as (
    insert into run_counter.notices as n (subject, state, id, body, made_at, due_at)
    select $1::text, $2::text, $3::text, $4::text, $5::timestamptz, $6::timestamptz from room where room.there
        on conflict (subject) do update
       set state = excluded.state, id = excluded.id, body = excluded.body, made_at = excluded.made_at, due_at = excluded.due_at, tries = 0
     where n.id <> excluded.id and $7::text in ('', n.id)
    returning 1
)
select exists (select from turned), not room.there and not exists (select from run_counter.notices as n where n.subject = $1::text and n.id = $3::text) from room`,
			args: []any{n.Subject, n.State, n.ID, n.Body, store.Instant(n.MadeAt), timeArg(bound(due)), was, store.MaxNotices},
			read: func(rows pgx.Rows) error { return rows.Scan(&turned, &full) },
		})
		if err == nil && full {
			return store.ErrNoticesFull
		}
		return err
	})
	return turned, err
}

// TakeNotice implements [store.NoticeBox].
func (s *Store) TakeNotice(ctx context.Context, now, until time.Time) (n store.Notice, err error) {
	err = s.withNotices(ctx, func() error {
		n = store.Notice{}
		return s.commit(ctx, query{
			text: `
update run_counter.notices as n
   set due_at = $2::timestamptz, tries = n.tries + 1
 where n.subject = (select d.subject from run_counter.notices as d where d.due_at <= $1::timestamptz order by d.due_at, d.subject limit 1 for update skip locked)
returning ` + noticeSQL,
			args: []any{store.Instant(now), store.Instant(until)}, read: scanNotice(&n),
		})
	})
	return n, err
}

// SettleNotice implements [store.NoticeBox].
func (s *Store) SettleNotice(ctx context.Context, id string, due time.Time) error {
	return s.withNotices(ctx, func() error {
		return s.commit(ctx, query{text: `update run_counter.notices set due_at = $2::timestamptz where id = $1::text`, args: []any{id, timeArg(bound(due))}})
	})
}
