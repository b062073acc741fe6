package scenarios

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// driftSQL names the keys whose counts differ from their ended runs, per status and
// presumed, and the totals that differ from the counts. It is written anew, so that the product's audit is not its own
// judge.
const driftSQL = `
select group_concat(user_id || ' ' || kind || ' ' || ref_id || ': ' || n || ' ' || status || iif(presumed, ' presumed', ''), '; ')
  from (select user_id, kind, ref_id, status, presumed, sum(n) as n
          from (select user_id, kind, ref_id, status, presumed, n from counts
                union all
                select 'all users', kind, ref_id, status, presumed, -n from counts
                union all
                select 'all users', kind, ref_id, status, presumed, n from totals
                union all
                select user_id, kind, ref_id, status, evidence = 1, -1
                  from workflow_runs
                 where completed_at is not null and kind is not null)
         group by 1, 2, 3, 4, 5)
 where n <> 0`

// outcomesSQL names the real outcomes that no administrator has touched.
const outcomesSQL = `
select id, status || '@' || completed_at
  from workflow_runs
 where evidence > 1 and id not in (select run_id from amendments)`

// contentsSQL is all that a sweep, a webhook or a call can go by.
const contentsSQL = `
select (select json_group_array(json_array(id, user_id, workflow_id, draft_id, status, created_at, started_at, updated_at, lease_at, completed_at,
                                           duration_ms, error_details, evidence, amended_at, reopened_at, version, as_of, views)) from workflow_runs),
       (select json_group_array(json_array(user_id, kind, ref_id, status, presumed, n)) from counts),
       (select json_group_array(json_array(id, deleted_at)) from tombstones),
       (select json_group_array(json_array(user_id, idempotency_key, run_id)) from idempotency_keys),
       (select json_group_array(json_array(run_id, kind, times, first_at, last_at, was, status, completed_at)) from repairs),
       (select json_group_array(json_array(run_id, at, was, status)) from amendments),
       (select json_group_array(json_array(at, user_id, kind, ref_id, before, after)) from recounts)`

func (m *mirror) contents() string {
	var parts [7]string
	var into [7]any
	for i := range parts {
		into[i] = &parts[i]
	}
	if err := m.look.QueryRow(contentsSQL).Scan(into[:]...); err != nil {
		return err.Error()
	}
	return fmt.Sprint(parts)
}

// number is what a query counts.
func (m *mirror) number(query string, args ...any) (n int64, err error) {
	err = m.look.QueryRow(query, args...).Scan(&n)
	return n, err
}

// laws are those that hold in every snapshot.
func (m *mirror) laws() {
	m.sim.Always("law 1: counts equal the ended runs", m.exact)
	first := map[string]string{}
	m.sim.Always("law 2: the first outcome wins", func() error {
		rows, err := m.look.Query(outcomesSQL)
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var run, outcome string
			if err := rows.Scan(&run, &outcome); err != nil {
				return err
			}
			if was, known := first[run]; known && was != outcome {
				return fmt.Errorf("run %s ended as %s, and is now %s", run, was, outcome)
			}
			first[run] = outcome
		}
		return rows.Err()
	})
	m.sim.Always("a deleted run doesn't come back", func() error {
		n, err := m.number(`select count(*) from workflow_runs where id in (select id from tombstones)`)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d runs have a tombstone", n)
		}
		return err
	})
}

func (m *mirror) exact() error {
	var drift *string
	if err := m.look.QueryRow(driftSQL).Scan(&drift); err != nil {
		return err
	}
	if drift != nil {
		return errors.New("too many, per status: " + *drift)
	}
	return nil
}

// durable looks for what the callers were told.
func (m *mirror) durable(list []act, told []bool) error {
	for i, a := range list {
		query, run := `select (select count(*) from workflow_runs where id = ?1 and completed_at is not null) + (select count(*) from tombstones where id = ?1)`, 1
		switch a.name {
		case "begin":
			query, run = `select count(*) from workflow_runs where id = ?1`, 4
		case "complete", "complete differently", "deliver", "deliver again", "crash and restart":
		default:
			continue
		}
		n, err := m.number(query, runID(run).String())
		if err != nil {
			return err
		}
		if told[i] && n == 0 {
			return fmt.Errorf("%s was answered, and nothing is left of it", a.name)
		}
	}
	return nil
}

// deliversAgain has a webhook arrive twice more.
func (m *mirror) deliversAgain() error {
	st, err := m.open()
	if err != nil {
		return err
	}
	var left [2]string
	for i := range left {
		if err := apply(webhookDone...)(context.Background(), st); err != nil {
			return err
		}
		left[i] = m.contents()
	}
	if left[0] != left[1] {
		return fmt.Errorf("once it leaves %s, twice %s", left[0], left[1])
	}
	return nil
}

// settled is what a last full sweep leaves.
func (m *mirror) settled() error {
	st, err := m.open()
	if err != nil {
		return err
	}
	r, err := (&store.Sweeper{Store: st, Now: func() time.Time { return after(60) }}).Sweep(context.Background(), store.SweepOptions{Full: true})
	if err != nil {
		return err
	}
	if r.Drifting > 0 {
		return fmt.Errorf("%d keys drift", r.Drifting)
	}
	if n, err := m.number(`select count(*) from workflow_runs where completed_at is null`); err != nil || n > 0 {
		return errors.Join(fmt.Errorf("%d runs are still active", n), err)
	}
	return m.exact()
}

// quiet does once more what has been done, and looks whether SQLite was
// written to at all.
func (m *mirror) quiet() error {
	st, err := m.open()
	if err != nil {
		return err
	}
	ctx := context.Background()
	var version [2]int64
	for i := range version {
		if err := errors.Join(apply(webhookDone...)(ctx, st), m.settled(), answered(ends(store.Failed, 70)(ctx, st))); err != nil {
			return err
		}
		if version[i], err = m.number(`pragma data_version`); err != nil {
			return err
		}
	}
	if version[0] != version[1] {
		return errors.New("the database was written to")
	}
	return nil
}
