package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
)

// Ledger counts the rows that wait to be folded.
type Ledger struct {
	Rows   int64 // at most MaxLedger + 1
	Oldest time.Duration
}

// MaxLedger bounds the rows of the ledger that are counted.
const MaxLedger = 100_000

// Ledger looks at the ledger.
func (i *Inspector) Ledger(ctx context.Context) (l Ledger, err error) {
	err = i.inspect(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
select count(*), coalesce(extract(epoch from clock_timestamp() - min(at)), 0)::double precision
  from (select at from run_counter.ledger limit $1::integer) as l`, MaxLedger+1).Scan(&l.Rows, (*span)(&l.Oldest))
	})
	return l, err
}

// Holder is a session or slot that keeps dead rows from going away, and indexes built
// concurrently wait.
type Holder struct {
	Kind string // session, prepared transaction, replication slot
	Name string // a pid, a gid, a slot's name
	Who  string // application_name and role
	Does string // a session's state
	For  time.Duration
}

// Holders returns who has held a snapshot or a transaction for longer than
// that: at most five of each kind, the oldest first. blind means that the role
// can't see what other roles' sessions do.
func (i *Inspector) Holders(ctx context.Context, older time.Duration) (all []Holder, blind bool, err error) {
	err = i.inspect(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `select not pg_has_role('pg_read_all_stats', 'usage')`).Scan(&blind)
		if err != nil {
			return err
		}
		for _, text := range []string{`
select 'session', pid::text, trim(coalesce(application_name, '') || ' ' || coalesce(usename, '')), coalesce(state, backend_type, ''),
       extract(epoch from clock_timestamp() - xact_start)::double precision
  from pg_stat_activity
 where pid <> pg_backend_pid() and (datname = current_database() or datname is null) and backend_type is distinct from 'autovacuum worker'
   and (backend_xmin is not null or backend_xid is not null or state like 'idle in transaction%')
   and xact_start <= clock_timestamp() - make_interval(secs => $1::double precision)
 order by xact_start limit 5`, `
select 'prepared transaction', gid, owner::text, 'prepared', extract(epoch from clock_timestamp() - prepared)::double precision
  from pg_prepared_xacts
 where database = current_database() and prepared <= clock_timestamp() - make_interval(secs => $1::double precision)
 order by prepared limit 5`, `
select 'replication slot', slot_name::text, slot_type, case when active then 'behind' else 'inactive' end, 0::double precision
  from pg_replication_slots
 where $1::double precision is not null
   and (not active and (xmin is not null or catalog_xmin is not null or restart_lsn is not null) or age(xmin) > 1000000)
 order by 2 limit 5`,
		} {
			rows, _ := tx.Query(ctx, text, older.Seconds()) // its error is that of the rows
			found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h Holder, err error) {
				err = row.Scan(&h.Kind, &h.Name, &h.Who, &h.Does, (*span)(&h.For))
				return h, err
			})
			if err != nil {
				return err
			}
			all = append(all, found...)
		}
		return nil
	})
	return all, blind, err
}

// Extension is one of PostgreSQL's.
type Extension struct{ Name, Installed, Available string }

// Extensions looks for the ones that webhooks need.
func (i *Inspector) Extensions(ctx context.Context) (all []Extension, err error) {
	err = i.inspect(ctx, func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `
select n, coalesce(e.extversion, ''), coalesce(a.default_version, '')
  from unnest(array['pg_net', 'supabase_vault', 'pgcrypto']) as n
  left join pg_extension as e on e.extname = n
  left join pg_available_extensions as a on a.name = n`) // its error is that of the rows
		all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Extension])
		return err
	})
	return all, err
}

// Deliveries are the fates of webhooks, as doctor reads them.
type Deliveries struct {
	store.Deliveries
	Net   bool // pg_net is there
	Blind bool // the role can't see whether its worker runs
}

// doctorReach bounds what doctor reads: as far back as pg_net remembers.
var doctorReach = reach{window: pgNetKeeps, calls: 500, answers: 500, scanned: 20_000, doctor: true}

// Deliveries looks at what became of webhooks: those of workflow_runs where
// that can be told, which is where they are our own or Supabase's. pg_net
// doesn't say what a call was for.
func (i *Inspector) Deliveries(ctx context.Context) (d Deliveries, err error) {
	err = i.inspect(ctx, func(tx pgx.Tx) error {
		there, err := findSenders(ctx, tx)
		if err != nil {
			return err
		}
		var now time.Time
		if err := tx.QueryRow(ctx, `select clock_timestamp()`).Scan(&now); err != nil {
			return err
		}
		d.Net, d.Blind = there.net, there.installed && there.worker == store.WorkerUnseen
		if there.net || there.own {
			d.Deliveries, err = readDeliveries(ctx, tx, there, now, doctorReach)
			d.Watched = err == nil
		}
		return err
	})
	return d, err
}
