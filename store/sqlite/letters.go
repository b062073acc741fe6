package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/edgaze-ai/runcounter/store"
)

// KeepDeadLetter keeps what can't be read, and drops the oldest beyond the
// bounds.
func (s *Store) KeepDeadLetter(ctx context.Context, letters ...store.DeadLetter) error {
	return s.write(ctx, func(t *tx) error {
		for _, d := range letters {
			err := t.execText("keep a dead letter", `insert into dead_letters (received_at, reason, bytes, body) values (?, ?, ?, ?)`,
				d.ReceivedAt.UnixMicro(), d.Reason, d.Bytes, append([]byte{}, d.Body...))
			if err != nil {
				return err
			}
		}
		return t.execText("drop old dead letters", `
delete from dead_letters
 where seq in (select seq
                 from (select seq,
                              row_number() over newest as n,
                              sum(length(body)) over newest as kept
                         from dead_letters
                       window newest as (order by seq desc))
                where n > ? or kept > ?)`, store.MaxDeadLetters, store.MaxDeadLetterBytes)
	})
}

// lettersWhere is the condition of a query.
func lettersWhere(search store.DeadLetterQuery) (w conditions) {
	if search.Seq != 0 {
		w.add("seq = ?", search.Seq)
	}
	if search.Reason != "" {
		w.add("instr(lower(reason), lower(?)) > 0", search.Reason) // of ASCII alone
	}
	if search.Is != "" {
		w.add("reason = ?", search.Is)
	}
	if search.Before != 0 {
		w.add("seq < ?", search.Before)
	}
	if !search.Until.IsZero() {
		w.add("received_at < ?", search.Until.UnixMicro())
	}
	return w
}

// DeadLetters returns a page of them, latest first, without their bodies
// unless one alone is asked for.
func (s *Store) DeadLetters(ctx context.Context, search store.DeadLetterQuery) ([]store.DeadLetter, error) {
	body := "null"
	if search.Seq != 0 {
		body = "body"
	}
	w := lettersWhere(search)
	text := `select seq, received_at, reason, bytes, length(body), ` + body + ` from dead_letters` + w.String() + ` order by seq desc limit ?`
	return list(ctx, s.reader, "list the dead letters", text, append(w.args, search.Limit), func(rows *sql.Rows, d *store.DeadLetter) error {
		var at sql.NullInt64
		err := rows.Scan(&d.Seq, &at, &d.Reason, &d.Bytes, &d.Kept, &d.Body)
		d.ReceivedAt = timeOf(at)
		return err
	})
}

// DropDeadLetters drops those, and returns how many.
func (s *Store) DropDeadLetters(ctx context.Context, search store.DeadLetterQuery) (dropped int, err error) {
	w := lettersWhere(search)
	err = s.write(ctx, func(t *tx) error {
		done, err := t.tx.ExecContext(t.ctx, `delete from dead_letters`+w.String(), w.args...)
		if err != nil {
			return fmt.Errorf("drop dead letters: %w", err)
		}
		n, err := done.RowsAffected()
		dropped = int(n)
		return err
	})
	return dropped, err
}
