package scenarios

import (
	"context"
	"fmt"

	"github.com/edgaze-ai/runcounter/harness"
	pg "github.com/edgaze-ai/runcounter/harness/postgres"
)

// What follows counts by pushing and by polling, as is done where there is no
// ledger: tables of events, of what was seen, and a cursor.
func eventTables() []pg.Table {
	return []pg.Table{
		{Name: "counts", Columns: []string{"user_id", "n"}, Key: 1, Rows: []row{{int64(1), int64(0)}}},
		{Name: "seen", Columns: []string{"event"}, Key: 1},
		{Name: "events", Columns: []string{"seq", "at"}, Key: 1},
		{Name: "place", Columns: []string{"one", "upto"}, Key: 1, Rows: []row{{int64(1), int64(0)}}},
	}
}

func addOne(ctx context.Context, s *session) error { return addN(ctx, s, 1) }

func addN(ctx context.Context, s *session, d int64) error {
	_, err := exec(ctx, s, fmt.Sprintf(`update counts set n = n + %d where user_id = 1`, d), nil, tables("counts"), func(q *query) error {
		_, err := q.Update("counts", col(0, 1), func(r row) row { r[1] = r[1].(int64) + d; return r })
		return err
	})
	return err
}

// mark says that a webhook was seen, and reports whether it is the first time.
func mark(ctx context.Context, s *session, event int64) (bool, error) {
	rows, err := exec(ctx, s, fmt.Sprintf(`insert into seen values (%d) on conflict do nothing returning event`, event), nil, tables("seen"), func(q *query) error {
		r, err := q.Insert("seen", row{event}, pg.Conflict{DoNothing: true})
		if r != nil {
			q.Return(event)
		}
		return err
	})
	return len(rows) > 0, err
}

// receiveOnce is right: what was seen and what was counted are one transaction.
func receiveOnce(ctx context.Context, s *session, event int64) error {
	return tried(ctx, s, func() error {
		if first, err := mark(ctx, s, event); err != nil || !first {
			return err
		}
		return addOne(ctx, s)
	})
}

func receiveLookingFirst(ctx context.Context, s *session, event int64) error {
	rows, err := exec(ctx, s, fmt.Sprintf(`select event from seen where event = %d`, event), tables("seen"), nil, func(q *query) error {
		for _, r := range q.Select("seen", col(0, event)) {
			q.Return(r...)
		}
		return nil
	})
	if err != nil || len(rows) > 0 {
		return err
	}
	return inTx(ctx, s, func() error {
		if err := addOne(ctx, s); err != nil {
			return err
		}
		_, err := mark(ctx, s, event)
		return err
	})
}

func receiveMarkingFirst(ctx context.Context, s *session, event int64) error {
	if first, err := mark(ctx, s, event); err != nil || !first {
		return err
	}
	return addOne(ctx, s)
}

func keepSeen(context.Context, *session) error { return nil }

// forgetSeen drops what was seen long enough ago, it believes.
func forgetSeen(ctx context.Context, s *session) error {
	_, err := exec(ctx, s, `delete from seen`, nil, tables("seen"), func(q *query) error {
		_, err := q.Delete("seen", nil)
		return err
	})
	return err
}

// pushed delivers one webhook twice, the second overlapping the first, while
// what was seen is tidied up.
func pushed(y system) func(*harness.Sim) { return pushing(y) }

// pushedByACrasher delivers it to a process that may die, and once more to the
// one that takes its place.
func pushedByACrasher(y system) func(*harness.Sim) { return pushing(y, harness.Restarts()) }

func pushing(y system, with ...harness.ActorOption) func(*harness.Sim) {
	return func(s *harness.Sim) {
		db := pg.NewReadCommitted(s, eventTables())
		sessions := []*session{db.Session(), db.Session(), db.Session()}
		s.Go("webhook", func(ctx context.Context) error { return y.receive(ctx, sessions[0], 7) }, append(with, harness.Needed())...)
		s.Go("again", func(ctx context.Context) error { return y.receive(ctx, sessions[1], 7) })
		s.Go("tidies up", func(ctx context.Context) error { return y.forget(ctx, sessions[2]) })
		s.Eventually("one event is counted once", func() error {
			if n := db.Rows("counts")[0][1]; n != int64(1) {
				return fmt.Errorf("the count is %d", n)
			}
			return nil
		})
	}
}

// pollByDeleting is right: it takes what it sees, whenever that was committed.
func pollByDeleting(ctx context.Context, s *session) error {
	return tried(ctx, s, func() error {
		rows, err := exec(ctx, s, `delete from events returning seq, at`, nil, tables("events"), func(q *query) error {
			gone, err := q.Delete("events", nil)
			for _, r := range gone {
				q.Return(r...)
			}
			return err
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		return addN(ctx, s, int64(len(rows)))
	})
}

func pollBySequence(ctx context.Context, s *session) error { return pollBy(ctx, s, 0, "seq") }
func pollByTime(ctx context.Context, s *session) error     { return pollBy(ctx, s, 1, "at") }

// pollBy goes on from the greatest that it has seen of a column.
func pollBy(ctx context.Context, s *session, column int, name string) error {
	return inTx(ctx, s, func() error {
		place, err := exec(ctx, s, `select upto from place where one = 1 for update`, nil, tables("place"), func(q *query) error {
			rows, err := q.ForUpdate("place", pg.Wait, nil)
			for _, r := range rows {
				q.Return(r[1])
			}
			return err
		})
		if err != nil {
			return err
		}
		upto := place[0][0].(int64)
		rows, err := exec(ctx, s, fmt.Sprintf(`select %s from events where %s > %d`, name, name, upto), tables("events"), nil, func(q *query) error {
			for _, r := range q.Select("events", func(r row) bool { return r[column].(int64) > upto }) {
				q.Return(r[column])
			}
			return nil
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, r := range rows {
			upto = max(upto, r[0].(int64))
		}
		if err := addN(ctx, s, int64(len(rows))); err != nil {
			return err
		}
		_, err = exec(ctx, s, fmt.Sprintf(`update place set upto = %d`, upto), nil, tables("place"), func(q *query) error {
			_, err := q.Update("place", nil, func(r row) row { r[1] = upto; return r })
			return err
		})
		return err
	})
}

// polled has two writers, whose events are numbered and timed when they are
// made and not when they are committed, and a reader that polls.
func polled(y system) func(*harness.Sim) {
	return func(s *harness.Sim) {
		db := pg.NewReadCommitted(s, eventTables())
		for i := range int64(2) {
			writer := db.Session()
			s.Go(fmt.Sprintf("writer %d", i+1), func(ctx context.Context) error {
				return inTx(ctx, writer, func() error {
					_, err := exec(ctx, writer, fmt.Sprintf(`insert into events values (%d, %d)`, i+1, 10*(i+1)), nil, tables("events"), func(q *query) error {
						_, err := q.Insert("events", row{i + 1, 10 * (i + 1)}, pg.Conflict{})
						return err
					})
					return err
				})
			}, harness.Needed())
		}
		poller, last := db.Session(), db.Session()
		s.Go("poller", func(ctx context.Context) error { return y.poll(ctx, poller) })
		s.Eventually("each event is counted", func() error {
			if err := y.poll(context.Background(), last); err != nil {
				return err
			}
			if n := db.Rows("counts")[0][1]; n != int64(2) {
				return fmt.Errorf("the count is %d of 2", n)
			}
			return nil
		})
	}
}
