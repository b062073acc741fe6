package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/store"
)

const (
	// settleBatch is how many calls one transaction settles.
	settleBatch = 2000
	// keepArrived and keepLost are how long calls stay in the log of ours.
	keepArrived = time.Hour
	keepLost    = 7 * 24 * time.Hour
	// grace is how long after its timeout a call may be in nobody's hands: a
	// batch of pg_net's is one transaction, so it never should be.
	grace = time.Minute
)

// lately is how far back a sweep looks, and how much it reads at most: at 200
// calls a second, what a quarter of an hour brings is 180,000.
var lately = reach{window: 15 * time.Minute, calls: 20_000, answers: 2000, scanned: 5000}

// Deliveries settles what is known of our own webhook's calls, prunes the log
// of them, and returns what became of the webhooks of workflow_runs in the last
// 15 minutes. Any number of processes may ask at once: each takes the calls
// that nobody holds, and nobody waits.
//
// Where there is nothing to look at, or the role may not, what it returns says
// that nothing was watched.
func (s *Store) Deliveries(ctx context.Context, now time.Time) (d store.Deliveries, err error) {
	now = store.Instant(now)
	for again := false; ; again = true {
		d, err = s.deliveries(ctx, now)
		var e *pgconn.PgError
		if errors.As(err, &e) && e.Code == "42501" {
			return store.Deliveries{}, nil
		}
		if err == nil || again || !missing(err) { // somebody has just removed the webhook, or pg_net
			return d, translate(err)
		}
	}
}

func (s *Store) deliveries(ctx context.Context, now time.Time) (d store.Deliveries, err error) {
	var there senders
	err = s.briefly(ctx, func(tx pgx.Tx) (err error) {
		there, err = findSenders(ctx, tx)
		return err
	})
	if watched := there.own || there.net && there.sends; err != nil || !there.may || !watched {
		return store.Deliveries{}, err
	}
	if there.own {
		if err := s.settle(ctx, there, now); err != nil {
			return d, fmt.Errorf("settle calls: %w", err)
		}
		if err := s.pruneCalls(ctx, there, now); err != nil {
			return d, fmt.Errorf("prune the log of calls: %w", err)
		}
	}
	err = s.briefly(ctx, func(tx pgx.Tx) (err error) {
		d, err = readDeliveries(ctx, tx, there, now, lately)
		return err
	})
	d.Watched = err == nil
	return d, err
}

// briefly runs do in a transaction that waits for no lock and takes no time:
// the next sweep comes soon.
func (s *Store) briefly(ctx context.Context, do func(tx pgx.Tx) error) error {
	return s.write(ctx, func(tx pgx.Tx) error {
		if err := beBrief(ctx, tx); err != nil {
			return err
		}
		return do(tx)
	})
}

// settle writes down what became of calls, batch by batch.
func (s *Store) settle(ctx context.Context, there senders, now time.Time) error {
	for there.net {
		var settled int
		err := s.briefly(ctx, func(tx pgx.Tx) error {
			calls, err := openCalls(ctx, tx, there, now, settleBatch, true)
			if err != nil {
				return err
			}
			settled, err = writeFates(ctx, tx, there, calls, now)
			return err
		})
		if err != nil || settled < settleBatch {
			return err
		}
	}
	return nil
}

// writeFates writes what became of calls that are locked, and drops those of
// which nobody can know it any more.
func writeFates(ctx context.Context, tx pgx.Tx, there senders, calls []call, now time.Time) (int, error) {
	var (
		settled, forgotten []int64
		fates, details     []string
		times              []time.Time
	)
	for _, c := range calls {
		switch fate, detail := c.fate(there); {
		case fate == "":
			forgotten = append(forgotten, c.seq)
		case fate != store.FateWaiting:
			at := c.answeredAt
			if at.IsZero() {
				at = now
			}
			settled, fates, details, times = append(settled, c.seq), append(fates, string(fate)), append(details, detail), append(times, at)
		}
	}
	if n := len(settled) + len(forgotten); n == 0 {
		return 0, nil
	}
	err := send(ctx, tx,
		query{text: `
update run_counter_webhook.calls as c
   set fate = n.fate, detail = n.detail, settled_at = n.at
  from unnest($1::bigint[], $2::text[], $3::text[], $4::timestamptz[]) as n (seq, fate, detail, at)
 where c.seq = n.seq`, args: []any{settled, fates, details, times}},
		query{text: `delete from run_counter_webhook.calls where seq = any ($1::bigint[])`, args: []any{forgotten}})
	return len(settled) + len(forgotten), err
}

// pruneCalls keeps the log short. The newest that arrived stays, however old it
// is: without it, a loss before it would look like the last thing that happened.
func (s *Store) pruneCalls(ctx context.Context, there senders, now time.Time) error {
	for {
		var pruned int64
		err := s.briefly(ctx, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, `
delete from run_counter_webhook.calls
 where seq in (select c.seq
                 from run_counter_webhook.calls as c
                where case when c.fate is null then not $4::boolean and c.at < $1::timestamptz - $5::bigint * interval '1 us'
                           when c.fate = 'arrived' then c.settled_at < $1::timestamptz - $2::bigint * interval '1 us'
                                and c.seq < (select max(a.seq) from run_counter_webhook.calls as a where a.fate = 'arrived')
                           else c.settled_at < $1::timestamptz - $3::bigint * interval '1 us' end
                limit $6::integer
                  for update skip locked)`,
				now, keepArrived.Microseconds(), keepLost.Microseconds(), there.net, there.keeps.Microseconds(), settleBatch)
			pruned = tag.RowsAffected()
			return err
		})
		if err != nil || pruned < settleBatch {
			return err
		}
	}
}
