package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// senders names the objects of a database that send webhooks, and those that log
// them.
type senders struct {
	net       bool // pg_net's queue and answers
	installed bool // as the extension's, which has a worker
	worker    store.Worker
	own       bool // a webhook of our own
	hooks     bool // Supabase's list of its webhooks' calls, which the role may read
	may       bool // the role may do all that a sweep does with them
	sends     bool // a trigger of workflow_runs sends
	watched   watched.Table
	sequence  string        // numbers pg_net's calls; empty where it can't be read
	keeps     time.Duration // for how long pg_net keeps answers
}

// pgNetKeeps is for how long pg_net keeps answers unless it is told otherwise.
const pgNetKeeps = 6 * time.Hour

// sendsSQL asks whether a trigger, of function p in schema fn, makes a webhook of
// a change.
const sendsSQL = `(fn.nspname || '.' || p.proname in ('supabase_functions.http_request', 'run_counter_webhook.notify') or p.prosrc ~ '\mnet\.http_(post|get)\M')`

// findSenders looks at the catalogs alone, so it needs no privilege. A worker
// belongs to one database of a server.
func findSenders(ctx context.Context, tx pgx.Tx) (s senders, err error) {
	var up, blind bool
	if s.watched, err = watchedTable(ctx, tx); err != nil {
		return s, err
	}
	err = tx.QueryRow(ctx, `
with named as (
    select n.nspname || '.' || c.relname as name, c.oid,
           has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select') as readable,
           has_table_privilege(c.oid, 'update') and has_table_privilege(c.oid, 'delete') as writable
      from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
     where n.nspname || '.' || c.relname in ('net._http_response', 'net.http_request_queue', 'supabase_functions.hooks',
           'run_counter_webhook.calls', 'run_counter_webhook.losses', 'run_counter_webhook.settings', 'run_counter_webhook.failures')
)
select (select count(*) = 2 from named where name like 'net.%'),
       exists (select from pg_extension where extname = 'pg_net'),
       (select count(*) = 4 from named where name like 'run\_counter\_webhook.%'),
       exists (select from named where name = 'supabase_functions.hooks' and readable),
       (select coalesce(bool_and(readable and (writable or name not in ('run_counter_webhook.calls', 'run_counter_webhook.losses'))), true) from named where name <> 'supabase_functions.hooks'),
       exists (select from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid join pg_namespace as fn on fn.oid = p.pronamespace
                where t.tgrelid = `+regclass(s.watched)+` and not t.tgisinternal and t.tgenabled in ('O', 'A') and `+sendsSQL+`),
       exists (select from pg_stat_activity where datname = current_database() and (backend_type ilike '%pg_net%' or application_name like 'pg_net %')),
       not pg_has_role('pg_read_all_stats', 'usage'),
       coalesce((select format('%I.%I', n.nspname, s.relname)
                   from named as q
                   join pg_depend as d on d.refclassid = 'pg_class'::regclass and d.refobjid = q.oid and d.classid = 'pg_class'::regclass and d.deptype in ('a', 'i')
                   join pg_class as s on s.oid = d.objid and s.relkind = 'S'
                   join pg_namespace as n on n.oid = s.relnamespace
                  where q.name = 'net.http_request_queue' and has_table_privilege(s.oid, 'select') limit 1), ''),
       coalesce(extract(epoch from case when current_setting('pg_net.ttl', true) ~ '^\d+ (second|minute|hour|day)s?$'
                                        then current_setting('pg_net.ttl', true)::interval end), $1::double precision)::double precision`, pgNetKeeps.Seconds()).
		Scan(&s.net, &s.installed, &s.own, &s.hooks, &s.may, &s.sends, &up, &blind, &s.sequence, (*span)(&s.keeps))
	switch {
	case !s.installed:
	case up:
		s.worker = store.WorkerUp
	case !blind:
		s.worker = store.WorkerDown
	}
	return s, err
}

// answerSQL are the columns of a [store.Response], from pg_net's table as r. What
// is counted can't stand in a reason, where a quotation mark has a backslash
// before it.
const answerSQL = `coalesce(r.status_code, 0), coalesce(r.timed_out, false), left(coalesce(r.error_msg, ''), 200),
       coalesce(left(r.content, 200) like '%"received"%', false),
       coalesce(case when left(r.content, 200) like '%"refused":[{%' then (length(r.content) - length(replace(r.content, '{"change":', ''))) / length('{"change":') end, 0),
       coalesce(case when jsonb_typeof(r.headers) = 'object' then exists (select from jsonb_object_keys(r.headers) as k where lower(k) = 'location') end, false)`

func intoAnswer(r *store.Response) []any {
	return []any{&r.Status, &r.TimedOut, &r.Error, &r.Ours, &r.Refused, &r.Moved}
}

// exampleOf returns the words by which one call is named beside its fate.
func exampleOf(r store.Response) string {
	if store.FateOf(r) == store.FatePartly {
		return fmt.Sprintf("%d refused", r.Refused)
	}
	if r.Error == "" && r.Status > 0 {
		return fmt.Sprintf("status %d", r.Status)
	}
	return r.Error
}

// call is one of our own webhook of which it was not written down yet what
// became of it.
type call struct {
	seq        int64
	age        time.Duration // since the statement that made it
	answer     store.Response
	answeredAt time.Time // zero where it has no answer
	timeout    time.Duration
	queued     bool
	changes    int64
	deletions  bool // among the changes
	recovered  bool // an import has read the rows since, as its transaction left them
	// Since it was made, pg_net's numbers have begun anew: another call has its
	// number, or none has come so far yet.
	renumbered, unnumbered bool
}

// fate says what became of the call: waiting where nothing can be said yet, and
// nothing where it can't be known any more.
func (c call) fate(in senders) (fate store.Fate, detail string) {
	const crash = "PostgreSQL came back with an empty queue"
	switch {
	case !c.renumbered && !c.answeredAt.IsZero():
		if fate = store.FateOf(c.answer); fate.Lost() {
			detail = exampleOf(c.answer)
		}
		return fate, detail
	case !c.renumbered && c.queued:
		return store.FateWaiting, ""
	case c.age > in.keeps-time.Minute:
		return "", ""
	case c.renumbered, c.unnumbered:
		return store.FateVanished, crash
	case c.age > c.timeout+grace:
		return store.FateVanished, "neither queued nor answered"
	}
	return store.FateWaiting, ""
}

// recoveredSQL asks whether an import has read the changes of a call: its transaction was
// over when the import began. An import brings no deletion. The settings are s.
func recoveredSQL(call string) string {
	return `(` + call + `.deletions = 0 and coalesce(` + call + `.at <= s.recovered_at and pg_visible_in_snapshot(` + call + `.xact, s.recovered), false))`
}

// openCalls returns the calls without a fate, the oldest first. To settle them
// it takes those alone of which something can be said, and locks them.
//
// It is one statement, so that it sees pg_net's tables as they were at one
// moment; the sequence it reads after that, and never before a call that it
// numbered. A number is drawn once between two crashes, so the newest of its
// number is the one that an answer is to. The answer was made after the call,
// less a minute, since an answer's time is when pg_net began its batch.
func openCalls(ctx context.Context, tx pgx.Tx, there senders, now time.Time, limit int, settle bool) (calls []call, err error) {
	var first *time.Time
	var millis int64
	// pg_net's tables grow and empty faster than PostgreSQL learns of it, and a
	// nested loop over what it takes for few rows would not end.
	err = tx.QueryRow(ctx, `
select (select min(at) from run_counter_webhook.calls where fate is null),
       (select coalesce(max(timeout_milliseconds), 60000) from run_counter_webhook.settings)
  from set_config('enable_nestloop', 'off', true)`).Scan(&first, &millis)
	if err != nil || first == nil {
		return nil, err
	}
	numbered := "null"
	if there.sequence != "" {
		numbered = `(select case when is_called then last_value else 0 end from ` + there.sequence + `)`
	}
	decided := ""
	if settle {
		decided = `
   and (r.id is not null or l.newest > c.seq
        or q.id is null and (coalesce(c.request_id > n.numbered, false) or c.at < $1::timestamptz - $4::bigint * interval '1 us'))`
	}
	text := `
select c.seq, extract(epoch from $1::timestamptz - c.at)::double precision, ` + answerSQL + `, r.created,
       q.id is not null, l.newest > c.seq, coalesce(c.request_id > n.numbered, false), c.changes::bigint, c.deletions > 0, ` + recoveredSQL("c") + `
  from run_counter_webhook.calls as c
  left join run_counter_webhook.settings as s on true
  join (select request_id, max(seq) as newest from run_counter_webhook.calls group by request_id) as l on l.request_id = c.request_id
 cross join (select ` + numbered + ` as numbered offset 0) as n
  left join net._http_response as r on r.id = c.request_id and r.created >= c.at - interval '1 minute' and r.created >= $2::timestamptz
  left join net.http_request_queue as q on q.id = c.request_id
 where c.fate is null` + decided + `
 order by c.seq
 limit $3::integer`
	timeout := time.Duration(millis) * time.Millisecond
	args := []any{now, first.Add(-time.Minute), limit}
	if settle {
		text += ` for update of c skip locked`
		args = append(args, (timeout + grace).Microseconds())
	}
	seen := int64(0)
	err = send(ctx, tx, query{text: text, args: args, read: func(rows pgx.Rows) error {
		c := call{timeout: timeout}
		into := append([]any{&c.seq, (*span)(&c.age)}, intoAnswer(&c.answer)...)
		if err := rows.Scan(append(into, (*instant)(&c.answeredAt), &c.queued, &c.renumbered, &c.unnumbered, &c.changes, &c.deletions, &c.recovered)...); err != nil {
			return err
		}
		if c.seq != seen { // two answers of one number: the first is as good
			calls = append(calls, c)
		}
		seen = c.seq
		return nil
	}})
	return calls, err
}

// maxOpen is more than the log of calls holds.
const maxOpen = 20_000

// reach bounds what is read of the log and of the answers of webhooks.
type reach struct {
	window  time.Duration // how far back
	calls   int           // of our own whose fate is written down, at most
	answers int           // to calls of Supabase's webhooks, at most
	scanned int           // answers to whomever, among which those are looked for
	doctor  bool          // an operator asks, who can judge what is doubtful
}

// readDeliveries returns what became of the webhooks of workflow_runs lately.
// It writes nothing.
func readDeliveries(ctx context.Context, tx pgx.Tx, there senders, now time.Time, to reach) (store.Deliveries, error) {
	d := store.Deliveries{
		Own: there.own, Worker: there.worker, Window: to.window,
		Calls: map[store.Fate]int64{}, Examples: map[store.Fate]string{},
	}
	if to.doctor {
		d.Window = 0
	}
	if there.own {
		if err := readOwn(ctx, tx, there, now, to, &d); err != nil {
			return d, fmt.Errorf("read the log of calls: %w", err)
		}
	}
	if !there.net {
		return d, nil
	}
	if there.hooks || to.doctor && !there.own {
		if err := readAnswers(ctx, tx, there, now, to, &d); err != nil {
			return d, fmt.Errorf("read pg_net's answers: %w", err)
		}
	}
	queue := query{text: `select count(*) from (select from net.http_request_queue limit $1::integer) as q`, args: []any{store.MaxQueued + 1},
		read: func(rows pgx.Rows) error { return rows.Scan(&d.Queued) }}
	return d, send(ctx, tx, queue)
}

// readOwn reads the log of our own webhook: the calls whose fate is written
// down, those whose fate is not written down yet, and the statements that
// were committed without one.
func readOwn(ctx context.Context, tx pgx.Tx, there senders, now time.Time, to reach, d *store.Deliveries) error {
	newest, newestAge := int64(-1), time.Duration(0)
	note := func(fate store.Fate, n int64, example string, seq int64, age time.Duration) {
		d.Calls[fate] += n
		if example != "" {
			d.Examples[fate] = example
		}
		if seq > newest && fate != store.FateWaiting {
			newest, newestAge, d.Newest = seq, age, fate
		}
	}
	err := send(ctx, tx,
		query{text: `
select c.fate, count(*), coalesce((array_agg(c.detail order by c.seq desc))[1], ''), max(c.seq),
       coalesce(extract(epoch from $1::timestamptz - max(c.at)), 0)::double precision
  from (select fate, seq, at, detail
          from run_counter_webhook.calls
         where fate is not null and settled_at > $1::timestamptz - $2::bigint * interval '1 us'
         order by seq desc limit $3::integer) as c
 group by c.fate`, args: []any{now, to.window.Microseconds(), to.calls}, read: func(rows pgx.Rows) error {
			var fate, example string
			var n, seq int64
			var age time.Duration
			err := rows.Scan(&fate, &n, &example, &seq, (*span)(&age))
			note(store.Fate(fate), n, example, seq, age)
			return err
		}},
		query{text: unrecoveredSQL, args: []any{now}, read: func(rows pgx.Rows) error { return readLoss(rows, d) }})
	if err != nil {
		return err
	}
	if there.net {
		calls, err := openCalls(ctx, tx, there, now, maxOpen, false)
		if err != nil {
			return err
		}
		for _, c := range calls {
			fate, example := c.fate(there)
			switch {
			case fate == store.FateWaiting:
				d.Oldest, d.Timeout = max(d.Oldest, c.age), c.timeout
			case fate.Lost() && c.recovered:
				continue
			case fate.Lost():
				d.Lose(fate, c.loss(fate))
			case fate == "" && !c.recovered:
				d.Lose(store.FateUnseen, c.loss(store.FateUnseen))
			}
			if fate != "" {
				note(fate, 1, example, c.seq, c.age)
			}
		}
	}
	d.NewestAgo = newestAge
	return nil
}

// unrecoveredSQL sums up the losses that nothing has recovered, by what became of the
// calls. Those of statements begin in a log of their own.
const unrecoveredSQL = `
select l.kind, sum(l.calls)::bigint, sum(l.changes)::bigint, coalesce(sum(l.calls) filter (where l.deletions), 0)::bigint,
       extract(epoch from $1::timestamptz - min(l.since))::double precision, extract(epoch from $1::timestamptz - max(l.at))::double precision,
       coalesce((array_agg(l.detail order by l.at desc))[1], '')
  from (select kind, calls, changes, deletions, since, at, detail from run_counter_webhook.losses
         union all
        select 'statements', 1, changes, operation = 'DELETE', at as since, at, code || ' ' || message from run_counter_webhook.failures) as l
 group by l.kind`

func readLoss(rows pgx.Rows, d *store.Deliveries) error {
	var kind, detail string
	var l store.Loss
	var newest time.Duration
	if err := rows.Scan(&kind, &l.Calls, &l.Changes, &l.Deletions, (*span)(&l.Since), (*span)(&newest), &detail); err != nil {
		return err
	}
	if kind == store.ComplaintStatements {
		d.Failed, d.FailedWhy, d.FailedAgo = l.Calls, detail, newest
		return nil
	}
	d.Lose(store.Fate(kind), l)
	if d.Examples[store.Fate(kind)] == "" && detail != "" {
		d.Examples[store.Fate(kind)] = detail
	}
	return nil
}

// missed returns the number of changes that a call of some fate did not bring.
func (c call) missed(fate store.Fate) int64 {
	if fate == store.FatePartly {
		return c.answer.Refused
	}
	return c.changes
}

// loss is a call that was lost.
func (c call) loss(fate store.Fate) store.Loss {
	l := store.Loss{Calls: 1, Changes: c.missed(fate), Since: c.age}
	if c.deletions {
		l.Deletions = 1
	}
	return l
}

// readAnswers reads what pg_net wrote of calls of Supabase's own webhooks of
// workflow_runs, or, where no log lists those, of all calls. Numbers begin anew
// after a crash, so the newest call of a number is the one that counts.
func readAnswers(ctx context.Context, tx pgx.Tx, there senders, now time.Time, to reach, d *store.Deliveries) error {
	oursOf := `
       (select h.created_at from supabase_functions.hooks as h
         where h.request_id = r.id and h.hook_table_id = ` + regclass(there.watched) + `::oid::integer
           and not exists (select from supabase_functions.hooks as l where l.request_id = r.id and l.id > h.id))`
	condition := ``
	if there.hooks {
		condition = ` where ` + oursOf + ` > r.created - interval '1 day'`
		if there.own {
			condition += ` and not exists (select from run_counter_webhook.calls as c where c.request_id = r.id and r.created >= c.at - interval '1 minute')`
		}
	}
	d.AllTables = !there.hooks && !there.own
	calls, seen, elsewhere := d.Calls, 0, int64(0)
	answers := query{text: `
select ` + answerSQL + `, extract(epoch from $1::timestamptz - r.created)::double precision
  from (select * from net._http_response where created > $1::timestamptz - $2::bigint * interval '1 us' order by created desc limit $3::integer) as r` +
		condition + `
 order by r.created desc
 limit $4::integer`, args: []any{now, to.window.Microseconds(), to.scanned, to.answers}, read: func(rows pgx.Rows) error {
		var r store.Response
		var age time.Duration
		if err := rows.Scan(append(intoAnswer(&r), (*span)(&age))...); err != nil {
			return err
		}
		if d.AllTables { // it is not known what these others should answer
			r.Ours, r.Refused, r.Moved = true, 0, false
		}
		fate := store.FateOf(r)
		if fate == store.FateElsewhere {
			elsewhere++
			return nil
		}
		seen++
		calls[fate]++
		if _, before := d.Examples[fate]; !before && fate.Lost() {
			d.Examples[fate] = exampleOf(r)
		}
		if seen == 1 && (d.Newest == "" || age < d.NewestAgo) {
			d.Newest, d.NewestAgo = fate, age
		}
		return nil
	}}
	if err := send(ctx, tx, answers); err != nil || !there.hooks {
		return err
	}
	// Supabase's webhooks of the table may be meant for others, who answer as
	// they like.
	if to.doctor && !there.own && calls[store.FateArrived] == 0 && elsewhere > 0 {
		calls[store.FateElsewhere] = elsewhere
	}
	oldest := query{text: `
select coalesce(extract(epoch from $1::timestamptz - min(` + oursOf + `)), 0)::double precision
  from (select id from net.http_request_queue limit $2::integer) as r`, args: []any{now, store.MaxQueued}, read: func(rows pgx.Rows) error {
		var oldest time.Duration
		err := rows.Scan((*span)(&oldest))
		d.Oldest = max(d.Oldest, oldest)
		return err
	}}
	return send(ctx, tx, oldest)
}
