package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

const noticeSQL = `subject, state, id, body, made_at, tries`

func scanNotice(row *sql.Row) (n store.Notice, err error) {
	var made sql.NullInt64
	err = row.Scan(&n.Subject, &n.State, &n.ID, &n.Body, &made, &n.Tries)
	if errors.Is(err, sql.ErrNoRows) {
		return store.Notice{}, nil
	}
	n.MadeAt = timeOf(made)
	return n, err
}

// Notice implements [store.NoticeBox].
func (s *Store) Notice(ctx context.Context, subject string) (n store.Notice, err error) {
	err = s.read(ctx, func(q querier) error {
		if n, err = scanNotice(q.QueryRowContext(ctx, `select `+noticeSQL+` from notices where subject = ?`, subject)); err != nil {
			return fmt.Errorf("read the notice of %s: %w", subject, err)
		}
		return nil
	})
	return n, err
}

// TurnNotice implements [store.NoticeBox].
func (s *Store) TurnNotice(ctx context.Context, was string, n store.Notice, due time.Time) (turned bool, err error) {
	err = s.write(ctx, func(t *tx) error {
		turned = false
		last, err := scanNotice(t.tx.QueryRowContext(t.ctx, `select `+noticeSQL+` from notices where subject = ?`, n.Subject))
		if err != nil {
			return fmt.Errorf("read the notice of %s: %w", n.Subject, err)
		}
		if last.ID == n.ID || was != "" && last.ID != "" && last.ID != was {
			return nil
		}
		if was == "" && !due.IsZero() {
			var waiting int
			if err := t.tx.QueryRowContext(t.ctx, `select count(*) from notices where due_at is not null`).Scan(&waiting); err != nil {
				return fmt.Errorf("count the notices: %w", err)
			}
			if waiting >= store.MaxNotices {
				return store.ErrNoticesFull
			}
		}
		turned = true
		return t.execText("keep the notice of "+n.Subject, `
insert into notices (subject, state, id, body, made_at, due_at) values (?, ?, ?, ?, ?, ?)
    on conflict (subject) do update
   set state = excluded.state, id = excluded.id, body = excluded.body, made_at = excluded.made_at, due_at = excluded.due_at, tries = 0`,
			n.Subject, n.State, n.ID, n.Body, store.Instant(n.MadeAt).UnixMicro(), nullTime(due))
	})
	return turned, err
}

// TakeNotice implements [store.NoticeBox]. Where none is due, nothing is written.
func (s *Store) TakeNotice(ctx context.Context, now, until time.Time) (n store.Notice, err error) {
	var due bool
	err = s.read(ctx, func(q querier) error {
		return q.QueryRowContext(ctx, `select exists (select 1 from notices where due_at <= ?)`, now.UnixMicro()).Scan(&due)
	})
	if err != nil || !due {
		return n, err
	}
	err = s.write(ctx, func(t *tx) error {
		n, err = scanNotice(t.tx.QueryRowContext(t.ctx, `
update notices set due_at = ?2, tries = tries + 1
 where subject = (select subject from notices where due_at <= ?1 order by due_at, subject limit 1)
returning `+noticeSQL, now.UnixMicro(), until.UnixMicro()))
		if err != nil {
			return fmt.Errorf("take a notice: %w", err)
		}
		return nil
	})
	return n, err
}

// SettleNotice implements [store.NoticeBox].
func (s *Store) SettleNotice(ctx context.Context, id string, due time.Time) error {
	return s.write(ctx, func(t *tx) error {
		return t.execText("settle notice "+id, `update notices set due_at = ?2 where id = ?1`, id, nullTime(due))
	})
}
