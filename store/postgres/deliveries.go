package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
)

const (
	// settleBatch is the number of calls that one transaction settles.
	settleBatch = 2000
	// keepArrived and keepLost are how long calls stay in the log of ours.
	keepArrived = time.Hour
	keepLost    = 7 * 24 * time.Hour
	// grace is the time after its timeout for which a call may be in no table: a
	// batch of pg_net's is one transaction, so it never should be.
	grace = time.Minute
)

// sweepReach bounds how far back a sweep looks, and how much it reads: at 200
// calls a second, what a quarter of an hour brings is 180,000.
var sweepReach = reach{window: 15 * time.Minute, calls: 20_000, answers: 2000, scanned: 5000}

// Deliveries settles what is known of our own webhook's calls, prunes the log
// of them, and returns what became of the webhooks of workflow_runs in the last
// 15 minutes. Any number of processes may ask at once: each takes the calls
// that no other process holds, and none waits.
//
// Where there is nothing to look at, or the role may not, what it returns says
// that nothing was watched.
func (s *Store) Deliveries(ctx context.Context, now time.Time) (d store.Deliveries, err error) {
	now = store.Instant(now)
	if db, err := s.features(ctx); err == nil {
		s.readGuard(ctx, db, time.Now()) // each sweep comes here
	}
	for again := false; ; again = true {
		d, err = s.deliveries(ctx, now)
		if codeOf(err) == "42501" {
			return store.Deliveries{}, nil
		}
		if err == nil || again || !objectMissing(err) { // the webhook, or pg_net, has just been removed
			return d, translate(err)
		}
	}
}

// Settle writes down what became of our own webhook's calls in the database at an
// address, as a sweep does. Where no sweep comes, since the runs are counted in
// a mirror elsewhere, it has to be called every hour or so, or calls leave the
// log before anything looked at them. Nothing happens where there is none, or
// the role may not.
func Settle(ctx context.Context, address string) error {
	pool, err := connect(ctx, address, nil, 1)
	if err != nil {
		return err
	}
	defer pool.Close()
	_, err = (&Store{pool: pool}).Deliveries(ctx, time.Now())
	return err
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
		d, err = readDeliveries(ctx, tx, there, now, sweepReach)
		return err
	})
	d.Watched = err == nil
	return d, err
}

// briefly runs do in a transaction that waits for no lock and takes no time:
// the next sweep comes soon.
func (s *Store) briefly(ctx context.Context, do func(tx pgx.Tx) error) error {
	return s.write(ctx, func(tx pgx.Tx) error {
		if err := setTimeouts(ctx, tx); err != nil {
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

// writeFates writes what became of calls that are locked, and adds those that
// were lost to the sums of losses. It drops those whose fate can't be known
// any more, and lost ones whose rows an import has read since.
func writeFates(ctx context.Context, tx pgx.Tx, there senders, calls []call, now time.Time) (int, error) {
	var (
		settled, dropped []int64
		fates, details   []string
		times            []time.Time
		lost             losses
	)
	for _, c := range calls {
		fate, detail := c.fate(there)
		switch {
		case fate == store.FateWaiting:
			continue
		case fate == "":
			fate, dropped = store.FateUnseen, append(dropped, c.seq)
		case fate.Lost() && c.recovered:
			dropped = append(dropped, c.seq)
		default:
			at := c.answeredAt
			if at.IsZero() {
				at = now
			}
			settled, fates, details, times = append(settled, c.seq), append(fates, string(fate)), append(details, detail), append(times, at)
		}
		if fate.Lost() && !c.recovered {
			lost.add(c, fate, detail, now)
		}
	}
	if n := len(settled) + len(dropped); n == 0 {
		return 0, nil
	}
	err := send(ctx, tx,
		query{text: `
update run_counter_webhook.calls as c
   set fate = n.fate, detail = n.detail, settled_at = n.at
  from unnest($1::bigint[], $2::text[], $3::text[], $4::timestamptz[]) as n (seq, fate, detail, at)
 where c.seq = n.seq`, args: []any{settled, fates, details, times}},
		query{text: `delete from run_counter_webhook.calls where seq = any ($1::bigint[])`, args: []any{dropped}},
		lost.query())
	return len(settled) + len(dropped), err
}

// losses are calls that were lost, in columns.
type losses struct {
	kinds, details []string
	changes        []int64
	deletions      []bool
	at             []time.Time
}

func (l *losses) add(c call, fate store.Fate, detail string, now time.Time) {
	l.kinds, l.details = append(l.kinds, string(fate)), append(l.details, detail)
	l.changes, l.deletions = append(l.changes, c.missed(fate)), append(l.deletions, c.deletions)
	l.at = append(l.at, now.Add(-c.age))
}

func (l *losses) query() query {
	return query{text: `
insert into run_counter_webhook.losses (kind, calls, changes, deletions, since, at, detail)
select n.kind, count(*), sum(n.changes), n.deletions, min(n.at), max(n.at), (array_agg(n.detail order by n.at desc))[1]
  from unnest($1::text[], $2::bigint[], $3::boolean[], $4::timestamptz[], $5::text[]) as n (kind, changes, deletions, at, detail)
 group by n.kind, n.deletions`, args: []any{l.kinds, l.changes, l.deletions, l.at, l.details}}
}

// pruneCalls keeps the log short. The newest that arrived stays, however old it
// is: without it, a loss before it would look like the last thing that happened.
// What was lost is in the sums of losses by then; what was not looked at in time
// gets there now.
func (s *Store) pruneCalls(ctx context.Context, there senders, now time.Time) error {
	for {
		var pruned int64
		err := s.briefly(ctx, func(tx pgx.Tx) error {
			err := tx.QueryRow(ctx, `
with gone as (
delete from run_counter_webhook.calls
 where seq in (select c.seq
                 from run_counter_webhook.calls as c
                where case when c.fate is null then not $4::boolean and c.at < $1::timestamptz - $5::bigint * interval '1 us'
                           when c.fate = 'arrived' then c.settled_at < $1::timestamptz - $2::bigint * interval '1 us'
                                and c.seq < (select max(a.seq) from run_counter_webhook.calls as a where a.fate = 'arrived')
                           else c.settled_at < $1::timestamptz - $3::bigint * interval '1 us' end
                limit $6::integer
                  for update skip locked)
returning *), unseen as (
insert into run_counter_webhook.losses (kind, calls, changes, deletions, since, at)
select $7::text, count(*), sum(g.changes), g.deletions > 0, min(g.at), max(g.at)
  from gone as g cross join run_counter_webhook.settings as s
 where g.fate is null and not `+recoveredSQL("g")+`
 group by g.deletions > 0)
select count(*) from gone`,
				now, keepArrived.Microseconds(), keepLost.Microseconds(), there.net, there.keeps.Microseconds(), settleBatch, string(store.FateUnseen)).Scan(&pruned)
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `select run_counter_webhook.add_up()`)
			return err
		})
		if err != nil || pruned < settleBatch {
			return err
		}
	}
}
