package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// WebhookTrigger is one of the three of our own webhook.
type WebhookTrigger struct {
	Name, Event string
	Enabled     string // as in [Trigger]; empty where it is missing, or executes another function
}

// WebhookState is the state of a webhook of our own in a database.
type WebhookState struct {
	Installed   bool // all below is zero where it is not
	URL         string
	Timeout     time.Duration
	Enabled     bool
	Table       string   // quoted where SQL wants it, such as public.workflow_runs
	TableGone   bool     // there is no such table any more
	Columns     []string // what is sent of it
	Gone        []string // of these, what the table has no more
	InstalledAt time.Time
	RotatedAt   time.Time // when a rotation was last finished
	Triggers    []WebhookTrigger
	Unheard     []string // partitions of the table without these triggers: what names one of them is not told
	Net         bool     // pg_net's net.http_post is there
	Vault       bool     // and Vault, which keeps the secret
	Unseen      bool     // the role may not see what is in it: Secret and Rotating say nothing
	Secret      bool
	Sealed      string // why Vault can't decrypt the secrets that are there; empty where it can, or the role may not
	Rotating    bool   // there is a second secret, and requests are signed by both
	RotatingFor time.Duration
	Calls       int64 // in the log
	Failures    int64 // statements that were committed without their webhook, and nothing has recovered
	FailedWhy   string
	FailedAgo   time.Duration
}

// Webhook looks at our own webhook.
func (i *Inspector) Webhook(ctx context.Context) (w WebhookState, err error) {
	err = i.inspect(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `select count(*) = 4 from pg_class where relnamespace = to_regnamespace('run_counter_webhook') and relname in ('settings', 'calls', 'losses', 'failures')`).
			Scan(&w.Installed)
		if err != nil || !w.Installed {
			return err
		}
		var millis int64
		var rotated *time.Time
		err = tx.QueryRow(ctx, `select url, timeout_milliseconds, enabled, watched, columns, installed_at, rotated_at from run_counter_webhook.settings`).
			Scan(&w.URL, &millis, &w.Enabled, &w.Table, &w.Columns, &w.InstalledAt, &rotated)
		if errors.Is(err, pgx.ErrNoRows) { // it was not finished, and nothing is sent
			w.Installed = false
			return nil
		}
		if err != nil {
			return err
		}
		w.Timeout = time.Duration(millis) * time.Millisecond
		if rotated != nil {
			w.RotatedAt = *rotated
		}
		for _, look := range []func(context.Context, pgx.Tx) error{w.lookAtTable, w.lookAtVault, w.lookAtLogs} {
			if err := look(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
	return w, err
}

func (w *WebhookState) lookAtTable(ctx context.Context, tx pgx.Tx) error {
	err := tx.QueryRow(ctx, `
select t.oid is null,
       array(select c from unnest($2::text[]) as c
              where t.oid is not null and not exists (select from pg_attribute as a where a.attrelid = t.oid and a.attname = c and a.attnum > 0 and not a.attisdropped))
  from (select to_regclass($1::text)::oid as oid) as t`, w.Table, w.Columns).Scan(&w.TableGone, &w.Gone)
	if err != nil {
		return err
	}
	rows, _ := tx.Query(ctx, `
select 'run_counter_webhook_' || e.event, e.event as fires_for, coalesce(t.tgenabled::text, '')
  from unnest(array['insert', 'update', 'delete']) with ordinality as e (event, n)
  left join pg_trigger as t on t.tgname = 'run_counter_webhook_' || e.event and t.tgrelid = to_regclass($1::text) and not t.tgisinternal
       and t.tgfoid = (select oid from pg_proc where proname = 'notify' and pronamespace = to_regnamespace('run_counter_webhook') and pronargs = 0)
 order by n`, w.Table) // its error is that of the rows
	if w.Triggers, err = pgx.CollectRows(rows, pgx.RowToStructByPos[WebhookTrigger]); err != nil {
		return err
	}
	return tx.QueryRow(ctx, `
select nullif(array(select format('%I.%I', n.nspname, c.relname)
               from `+watched.PartitionsOf("to_regclass($1::text)")+` as t
               join pg_class as c on c.oid = t.relid
               join pg_namespace as n on n.oid = c.relnamespace
              where t.level > 0 and c.relkind in ('r', 'p')
                and (select count(*) from pg_trigger as g
                      where g.tgrelid = c.oid and g.tgenabled in ('O', 'A')
                        and g.tgname in ('run_counter_webhook_insert', 'run_counter_webhook_update', 'run_counter_webhook_delete')) < 3
              order by 1), '{}')`, w.Table).Scan(&w.Unheard)
}

// lookAtVault looks whether secrets are there and can be decrypted, and never
// takes one out.
func (w *WebhookState) lookAtVault(ctx context.Context, tx pgx.Tx) error {
	err := tx.QueryRow(ctx, `
select exists (select from pg_proc where proname = 'http_post' and pronamespace = to_regnamespace('net')),
       v.oid is not null, v.oid is not null and not (has_schema_privilege(v.relnamespace, 'usage') and has_table_privilege(v.oid, 'select'))
  from (values (1)) as one
  left join pg_class as v on v.relname = 'secrets' and v.relnamespace = to_regnamespace('vault')`).Scan(&w.Net, &w.Vault, &w.Unseen)
	if err != nil || !w.Vault || w.Unseen {
		return err
	}
	err = tx.QueryRow(ctx, `
select exists (select from vault.secrets where name = 'run_counter_webhook'), count(*) > 0,
       coalesce(extract(epoch from clock_timestamp() - min(created_at)), 0)::double precision
  from vault.secrets
 where name = 'run_counter_webhook_next'`).Scan(&w.Secret, &w.Rotating, (*span)(&w.RotatingFor))
	if err != nil {
		return err
	}
	return w.tryVault(ctx, tx)
}

// tryVault has Vault decrypt the secrets, in a savepoint: the transaction outlives a refusal.
func (w *WebhookState) tryVault(ctx context.Context, tx pgx.Tx) error {
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		var bytes int64
		return tx.QueryRow(ctx, `select coalesce(sum(octet_length(decrypted_secret)), 0) from vault.decrypted_secrets where name in ('run_counter_webhook', 'run_counter_webhook_next')`).Scan(&bytes)
	})
	var e *pgconn.PgError
	if errors.As(err, &e) {
		if e.Code != "42501" {
			w.Sealed = e.Code + " " + e.Message
		}
		return nil
	}
	return err
}

func (w *WebhookState) lookAtLogs(ctx context.Context, tx pgx.Tx) error {
	d := store.Deliveries{Examples: map[store.Fate]string{}}
	err := send(ctx, tx,
		query{text: `select count(*) from run_counter_webhook.calls`, read: func(rows pgx.Rows) error { return rows.Scan(&w.Calls) }},
		query{text: unrecoveredSQL, args: []any{time.Now()}, read: func(rows pgx.Rows) error { return readLoss(rows, &d) }})
	w.Failures, w.FailedWhy, w.FailedAgo = d.Failed, d.FailedWhy, d.FailedAgo
	return err
}
