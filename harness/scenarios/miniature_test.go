package scenarios

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/edgaze-ai/runcounter/harness"
	lite "github.com/edgaze-ai/runcounter/harness/sqlite"
)

// What follows is a mirror in miniature, as people write one on SQLite: a
// receiver of webhooks that keeps runs and a count per user. Wrong versions
// have one part of it replaced.

// message is one webhook: the row as the sender has it after a change.
type message struct {
	op     string
	owner  int64
	status int64
	ended  int64 // 0 where it hasn't
	at     int64 // the sender's version
}

func (m message) String() string {
	return fmt.Sprintf("%s %d", m.op, m.at)
}

// known is what the mirror has of the run, of which there is one.
type known struct {
	there, deleted           bool
	owner, status, ended, at int64
}

func (k known) counted() bool { return k.there && !k.deleted && k.ended > 0 }

// miniature is the mirror, part by part.
type miniature struct {
	merge   func(k known, m message) known
	save    func(ctx context.Context, q querier, was, is known) error
	count   func(ctx context.Context, q querier, was, is known) error
	receive func(ctx context.Context, db *sql.DB, x miniature, m message, ack func()) error
}

// querier is a transaction or a connection.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func mini() miniature { return miniature{mergeMessage, saveRun, countBoth, receiveInOne} }

// mergeMessage is a join: the tombstone beats all, the first outcome wins, the
// rest is the last writer's.
func mergeMessage(k known, m message) known {
	if m.op == "DELETE" || k.deleted {
		return known{there: true, deleted: true}
	}
	k.there = true
	if m.at > k.at {
		k.owner, k.at = m.owner, m.at
		if k.ended == 0 {
			k.status = m.status
		}
	}
	if m.ended > 0 && (k.ended == 0 || m.ended < k.ended) {
		k.status, k.ended = m.status, m.ended
	}
	return k
}

func saveRun(ctx context.Context, q querier, _, is known) error {
	_, err := q.ExecContext(ctx, `insert into runs values (1, ?, ?, ?, ?, ?) on conflict (id) do update set deleted = excluded.deleted, owner = excluded.owner, status = excluded.status, ended = excluded.ended, at = excluded.at`,
		is.deleted, is.owner, is.status, is.ended, is.at)
	return err
}

// countBoth tells both keys.
func countBoth(ctx context.Context, q querier, was, is known) error {
	if was.counted() && (!is.counted() || is.owner != was.owner) {
		if err := countOne(ctx, q, was.owner, -1); err != nil {
			return err
		}
	}
	if is.counted() && (!was.counted() || is.owner != was.owner) {
		return countOne(ctx, q, is.owner, 1)
	}
	return nil
}

func countOne(ctx context.Context, q querier, of, d int64) error {
	_, err := q.ExecContext(ctx, `insert into counts values (?, ?) on conflict (owner) do update set n = n + excluded.n`, of, d)
	return err
}

func lookUp(ctx context.Context, q querier) (k known, err error) {
	err = q.QueryRowContext(ctx, `select 1, deleted, owner, status, ended, at from runs`).Scan(&k.there, &k.deleted, &k.owner, &k.status, &k.ended, &k.at)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return k, err
}

// receiveInOne looks, merges and counts in one transaction that has the write
// lock from its start, and answers when that is committed. Where the
// outcome is unknown it does the same again.
func receiveInOne(ctx context.Context, db *sql.DB, x miniature, m message, ack func()) error {
	for {
		err := locked(ctx, db, func(q querier) error { return x.learn(ctx, q, m) })
		if err == nil {
			ack()
		}
		if !errors.Is(err, harness.ErrLost) {
			return err
		}
	}
}

func (x miniature) learn(ctx context.Context, q querier, m message) error {
	was, err := lookUp(ctx, q)
	if err != nil {
		return err
	}
	return x.write(ctx, q, was, x.merge(was, m))
}

func (x miniature) write(ctx context.Context, q querier, was, is known) error {
	if is == was {
		return nil
	}
	if err := x.save(ctx, q, was, is); err != nil {
		return err
	}
	return x.count(ctx, q, was, is)
}

// locked runs do in a transaction that has the write lock from its start.
func locked(ctx context.Context, db *sql.DB, do func(q querier) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// history is what a sender does with a run, and what it makes of it.
type history struct {
	sent []message
	want known
}

var (
	handedOver = history{[]message{
		{"INSERT", 1, running, 0, 1}, {"UPDATE", 1, completed, 2, 2}, {"UPDATE", 2, completed, 2, 3},
	}, known{there: true, owner: 2, status: completed, ended: 2, at: 3}}
	overwritten = history{[]message{
		{"UPDATE", 1, completed, 2, 2}, {"UPDATE", 1, running, 0, 3}, {"UPDATE", 1, failed, 4, 4},
	}, known{there: true, owner: 1, status: completed, ended: 2, at: 4}}
	deleted = history{[]message{
		{"INSERT", 1, running, 0, 1}, {"UPDATE", 1, completed, 2, 2}, {"DELETE", 0, 0, 0, 3},
	}, known{there: true, deleted: true}}
)

const miniSchema = `
create table runs (id integer primary key, deleted integer not null, owner integer not null, status integer not null, ended integer not null, at integer not null);
create table counts (owner integer primary key, n integer not null)`

// open opens the miniature's database.
func (x miniature) open(s *harness.Sim, faults ...harness.Fault) *sql.DB {
	db := lite.New(s, lite.Config{Faults: faults, Setup: func(_ string, db *sql.DB) error {
		_, err := db.Exec(miniSchema)
		return err
	}})
	handle := sql.OpenDB(db.Connector("?_txlock=immediate"))
	s.OnEnd(func() { _ = handle.Close() })
	s.Always("law 1: the count of each user is that of the ended runs", func() error {
		var drift sql.NullString
		err := handle.QueryRow(`select group_concat(owner || ': ' || n, '; ') from (select owner, sum(n) as n from (select owner, n from counts union all select owner, -1 from runs where ended > 0 and not deleted) group by owner) where n <> 0`).Scan(&drift)
		switch {
		case busy(err): // another actor is writing, and nothing is newly committed
			return nil
		case err == nil && drift.Valid:
			err = errors.New("too many, by user: " + drift.String)
		}
		return err
	})
	s.Show("run", func() string {
		k, err := lookUp(context.Background(), handle)
		switch {
		case busy(err):
			return "being written"
		case !k.there:
			return "none"
		case k.deleted:
			return "deleted"
		}
		return fmt.Sprintf("%s of %d", outcomeOf(row{1, k.owner, k.status, at(k.ended)}), k.owner)
	})
	return handle
}

// at is a time as outcomeOf has it.
func at(t int64) any {
	if t == 0 {
		return nil
	}
	return t
}

// busy reports whether SQLite lets no reader in: in memory a writer holds off
// readers.
func busy(err error) bool {
	var coded interface{ Code() int }
	return errors.As(err, &coded) && coded.Code()&0xff == 5
}

// delivered has a sender with all habits of pg_net deliver a history. The
// mirror is in the end what the changes that it received amount to, and where
// nothing was lost, what the sender has.
func delivered(h history) scene {
	return func(y system) func(*harness.Sim) {
		return func(s *harness.Sim) {
			x := y.mirror
			db := x.open(s)
			arrived := map[int]bool{}
			requests := make([]harness.Request, len(h.sent))
			for i, m := range h.sent {
				requests[i] = harness.Request{Name: m.String(), Receive: func(ctx context.Context) error {
					return x.receive(ctx, db, x, m, func() { arrived[i] = true })
				}}
			}
			s.Deliver(requests, harness.PgNet...)
			s.Eventually("law 4: the order of deliveries doesn't matter", func() error {
				want := h.want
				if len(arrived) < len(h.sent) {
					want = known{}
					for _, i := range slices.Sorted(maps.Keys(arrived)) {
						want = mergeMessage(want, h.sent[i])
					}
				}
				return becomes(db, want)
			})
		}
	}
}

// becomes compares the run with what it should be. A run that was deleted is
// not there, with or without a tombstone.
func becomes(db *sql.DB, want known) error {
	got, err := lookUp(context.Background(), db)
	if err != nil {
		return err
	}
	if want.deleted && (got.deleted || !got.there) {
		return nil
	}
	if got != want {
		return fmt.Errorf("got %+v, want %+v", got, want)
	}
	return nil
}

// resent has a sender that sends again what was not acknowledged, to a
// receiver that may die.
func resent(y system) func(*harness.Sim) { return resending(y) }

// resentUnsure has connections break during COMMIT, too.
func resentUnsure(y system) func(*harness.Sim) {
	return resending(y, harness.LostBefore, harness.LostAfter)
}

func resending(y system, faults ...harness.Fault) func(*harness.Sim) {
	return func(s *harness.Sim) {
		x := y.mirror
		db := x.open(s, faults...)
		acked := map[int]bool{}
		s.Go("sender", func(ctx context.Context) error {
			for i, m := range handedOver.sent {
				if acked[i] {
					continue
				}
				if err := x.receive(ctx, db, x, m, func() { acked[i] = true }); err != nil {
					return err
				}
			}
			return nil
		}, harness.Restarts())
		s.Eventually("law 6: what was answered is there", func() error {
			if len(acked) < len(handedOver.sent) {
				return fmt.Errorf("%d messages were acknowledged", len(acked))
			}
			return becomes(db, handedOver.want)
		})
	}
}

// These are the parts as people write them.

// mergeByArrival takes whatever comes last for the truth.
func mergeByArrival(k known, m message) known {
	if m.op == "DELETE" || k.deleted {
		return known{there: true, deleted: true}
	}
	return known{there: true, owner: m.owner, status: m.status, ended: m.ended, at: m.at}
}

// mergeByVersion takes the latest row of the sender for the truth, and forgets
// that a run had ended where the sender does.
func mergeByVersion(k known, m message) known {
	if m.op != "DELETE" && !k.deleted && m.at < k.at {
		return k
	}
	return mergeByArrival(k, m)
}

// mergeKeepingTime keeps the time of the first outcome, and the status of the
// last that arrives.
func mergeKeepingTime(k known, m message) known {
	was := k
	k = mergeMessage(k, m)
	if !k.deleted && m.ended > 0 && was.ended > 0 {
		k.status = m.status
	}
	return k
}

// mergeKnownAlone drops an UPDATE of a run whose INSERT has not arrived.
func mergeKnownAlone(k known, m message) known {
	if !k.there && m.op == "UPDATE" {
		return k
	}
	return mergeMessage(k, m)
}

// mergeDeletingKnown drops a DELETE of a run whose INSERT has not arrived.
func mergeDeletingKnown(k known, m message) known {
	if !k.there && m.op == "DELETE" {
		return k
	}
	return mergeMessage(k, m)
}

// saveWithoutTombstone deletes the row, and with it what was known of it.
func saveWithoutTombstone(ctx context.Context, q querier, was, is known) error {
	if !is.deleted {
		return saveRun(ctx, q, was, is)
	}
	_, err := q.ExecContext(ctx, `delete from runs where id = 1`)
	return err
}

// countNewOwner tells the new key alone.
func countNewOwner(ctx context.Context, q querier, was, is known) error {
	if was.counted() && is.counted() && was.owner != is.owner {
		return countOne(ctx, q, is.owner, 1)
	}
	return countBoth(ctx, q, was, is)
}

// receiveAckingFirst answers when it has done everything but the commit.
func receiveAckingFirst(ctx context.Context, db *sql.DB, x miniature, m message, ack func()) error {
	return locked(ctx, db, func(q querier) error {
		if err := x.learn(ctx, q, m); err != nil {
			return err
		}
		ack()
		return nil
	})
}

// receiveLooking looks before it has the write lock.
func receiveLooking(ctx context.Context, db *sql.DB, x miniature, m message, ack func()) error {
	was, err := lookUp(ctx, db)
	if err != nil {
		return err
	}
	err = locked(ctx, db, func(q querier) error { return x.write(ctx, q, was, x.merge(was, m)) })
	if err == nil {
		ack()
	}
	return err
}

// receiveRetrying looks once, and tries what it decided until it hears that it
// worked.
func receiveRetrying(ctx context.Context, db *sql.DB, x miniature, m message, ack func()) error {
	var was *known
	for {
		err := locked(ctx, db, func(q querier) error {
			if was == nil {
				k, err := lookUp(ctx, q)
				if err != nil {
					return err
				}
				was = &k
			}
			return x.write(ctx, q, *was, x.merge(*was, m))
		})
		if err == nil {
			ack()
		}
		if !errors.Is(err, harness.ErrLost) {
			return err
		}
	}
}

// receiveInTwo commits the run before it counts it.
func receiveInTwo(ctx context.Context, db *sql.DB, x miniature, m message, ack func()) error {
	var was, is known
	err := locked(ctx, db, func(q querier) (err error) {
		if was, err = lookUp(ctx, q); err != nil {
			return err
		}
		is = x.merge(was, m)
		return x.save(ctx, q, was, is)
	})
	if err != nil {
		return err
	}
	if err := locked(ctx, db, func(q querier) error { return x.count(ctx, q, was, is) }); err != nil {
		return err
	}
	ack()
	return nil
}

// miniBugs are planted in the miniature.
var miniBugs = []bug{
	{"a tombstone that is forgotten", func(y *system) { y.mirror.save = saveWithoutTombstone }, delivered(deleted), "law 4", true},
	{"a delete that is dropped where it comes before the insert", func(y *system) { y.mirror.merge = mergeDeletingKnown }, delivered(deleted), "law 4", true},
	{"a mirror in which the last arrival wins", func(y *system) { y.mirror.merge = mergeByArrival }, delivered(handedOver), "law 4", true},
	{"a mirror that follows a late running", func(y *system) { y.mirror.merge = mergeByVersion }, delivered(overwritten), "law 4", true},
	{"a mirror with the time of the first outcome and the status of the last", func(y *system) { y.mirror.merge = mergeKeepingTime }, delivered(overwritten), "law 4", true},
	{"an update that is dropped where it comes before the insert", func(y *system) { y.mirror.merge = mergeKnownAlone }, delivered(handedOver), "law 4", true},
	{"a mirror that tells the new owner alone", func(y *system) { y.mirror.count = countNewOwner }, delivered(handedOver), "law 1", true},
	{"a receiver that looks before it locks", func(y *system) { y.mirror.receive = receiveLooking }, delivered(handedOver), "law", true},
	{"a receiver that commits the run before it counts it", func(y *system) { y.mirror.receive = receiveInTwo }, delivered(handedOver), "law 1", true},
	{"an answer before the commit", func(y *system) { y.mirror.receive = receiveAckingFirst }, resent, "law 6", true},
	{"a receiver that does again what it had decided, after a COMMIT whose outcome is unknown", func(y *system) { y.mirror.receive = receiveRetrying }, resentUnsure, "law 1", true},
}
