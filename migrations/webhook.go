package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/edgaze-ai/runcounter/internal/pgroots"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// Webhook is a webhook of our own: triggers on the watched table that send what
// changed by pg_net, signed as https://www.standardwebhooks.com has it, with a
// secret that stands in Vault and nowhere else. It needs none of the
// migrations. What makes it is migrations/webhook/install.sql.tmpl.
type Webhook struct {
	URL     string        // of the receiver
	Timeout time.Duration // how long pg_net waits for an answer, 1 s to a minute
	Schema  string        // of the table
	Table   string
	// Said are the names of its columns and the words for its statuses, where they
	// are not ours; a column that plays the role of the lease is sent too. What
	// migrate up was told of the table need not be said again.
	Said watched.Overrides
}

// ErrWebhook is wrapped where a Webhook can't be made as it stands.
var ErrWebhook = errors.New("no such webhook")

// ReceiverPath is the path of a receiver's URL that names none.
const ReceiverPath = "/webhooks/workflow-runs"

// Check returns the webhook as it will be made: a URL without a path gets
// [ReceiverPath]. The errors wrap [ErrWebhook].
func (w Webhook) Check() (Webhook, error) {
	u, err := url.Parse(w.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return w, fmt.Errorf("%w: the URL must be that of the receiver, such as https://counter.example.com%s", ErrWebhook, ReceiverPath)
	}
	switch {
	case u.User != nil:
		return w, fmt.Errorf("%w: the URL holds a user and password, which every user of the database could read in pg_net's queue; the requests are signed instead", ErrWebhook)
	case u.Fragment != "":
		return w, fmt.Errorf("%w: the URL has a part behind #, which is never sent: leave it out", ErrWebhook)
	case u.Scheme == "http" && !private(u.Hostname()):
		return w, fmt.Errorf("%w: over http every machine in between can read who runs what: write https://%s", ErrWebhook, u.Host)
	case w.Timeout < time.Second || w.Timeout > time.Minute:
		return w, fmt.Errorf("%w: the timeout must be from 1s to 1m, and not %v", ErrWebhook, w.Timeout)
	case w.Schema == "" || w.Table == "":
		return w, fmt.Errorf("%w: the table has no name", ErrWebhook)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = ReceiverPath
	}
	w.URL = u.String()
	return w, nil
}

// private reports whether a host can't be reached from the internet.
func private(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast()
	}
	return host == "localhost" || !strings.Contains(host, ".") || strings.HasSuffix(host, ".internal") || strings.HasSuffix(host, ".local")
}

const webhookHead = `-- Run Counter's webhook: triggers on %[1]s that send what changed, signed, to
-- %[2]s
-- For the SQL editor of Supabase or psql, as the owner of the table. It can be
-- run twice, and again with another URL; the secret stays. Where it ends with
-- "canceling statement due to lock timeout" the table is busy: run it again.
--
-- The secret for RUNCOUNTER_WEBHOOK_SECRET is then
--   select decrypted_secret from vault.decrypted_secrets where name = 'run_counter_webhook';

`

// Script returns the SQL that installs the webhook on a table that was not looked
// at. It holds no secret: the database makes that. The errors wrap
// [ErrWebhook].
func (w Webhook) Script() (string, error) {
	w, err := w.Check()
	if err != nil {
		return "", err
	}
	table := watched.Assumed(w.Said)
	table.Schema, table.Name = w.Schema, w.Table
	text, err := w.sql(table)
	return fmt.Sprintf(webhookHead, w.Schema+"."+w.Table, w.URL) + text, err
}

// sql is the script for a table. Beside what [render] knows, its template knows
//
//	url, timeout      of the webhook, the timeout in milliseconds
//	names "id" "user" the columns that play the roles, as string constants
//	bareOr "id"       the same of one, null where there is none
//	run "o" "status"  a column of runs, of a row o
//	life              the conditions that a sign of life has moved by a minute, by column
//	details, size     whether error_details have changed, and are many bytes in all
//
// Conditions are string constants: the script puts together those whose columns
// are there.
func (w Webhook) sql(t watched.Table) (string, error) {
	text, err := files.ReadFile("webhook/install.sql.tmpl")
	if err != nil {
		return "", err
	}
	return render("webhook/install.sql", string(text), t, template.FuncMap{
		"url": func() string { return w.URL }, "timeout": w.Timeout.Milliseconds,
		"names":  func(roles ...watched.Role) string { return strings.Join(literals(t, roles), ", ") },
		"bareOr": func(role watched.Role) string { return append(literals(t, []watched.Role{role}), "null")[0] },
		"run":    t.Run,
		"life":   func() string { return life(t) },
		"details": func() string {
			return watched.Literal("not v_slim and n." + column(t, watched.CompletedAt) + " is not null and n." + column(t, watched.ErrorDetails) +
				"::text is distinct from o." + column(t, watched.ErrorDetails) + "::text")
		},
		"size": func() string {
			return watched.Literal("coalesce(sum(pg_column_size(x." + column(t, watched.ErrorDetails) + ")), 0) > 2097152")
		},
	})
}

// literals lists the roles' columns, as string constants.
func literals(t watched.Table, roles []watched.Role) (names []string) {
	for _, role := range roles {
		if c, there := t.Column(role); there {
			names = append(names, watched.Literal(c.Name))
		}
	}
	return names
}

// column returns the role's column. Where there is none the script does not use it.
func column(t watched.Table, role watched.Role) string {
	c, _ := t.Column(role)
	return watched.Ident(c.Name)
}

// life lists the columns with signs of life, each with the condition that it has moved
// to another minute.
func life(t watched.Table) string {
	rows := []string{"(null, null)"}
	for role, name := range map[watched.Role]string{watched.UpdatedAt: "updated_at", watched.Lease: "lease_at"} {
		if c, there := t.Column(role); there {
			moved := fmt.Sprintf("date_trunc('minute', %s) is distinct from date_trunc('minute', %s)", t.Run("n", name), t.Run("o", name))
			rows = append(rows, "("+watched.Literal(c.Name)+", "+watched.Literal(moved)+")")
		}
	}
	slices.Sort(rows)
	return strings.Join(rows, ", ")
}

// The names of the secrets in Vault: the second while a rotation is under way.
const (
	webhookSecret     = "run_counter_webhook"      //nolint:gosec // its name
	webhookNextSecret = "run_counter_webhook_next" //nolint:gosec // its name
)

// WebhookSwitch installs, changes and removes the webhook of one database.
type WebhookSwitch struct{ on *postgres }

// OpenWebhook connects to the database at an address such as postgres://...
// Any pooler will do. The context holds for all that it does, and the caller
// closes it. Errors never repeat the address.
func OpenWebhook(ctx context.Context, address string) (*WebhookSwitch, error) {
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, fmt.Errorf("%w: write postgres://USER:PASSWORD@HOST:5432/DATABASE, with the special characters of the password escaped", ErrAddress)
	}
	pgroots.Trust(config)
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	db := stdlib.OpenDB(*config)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect: %w", pgroots.Explain(err)), db.Close())
	}
	return &WebhookSwitch{&postgres{ctx: ctx, db: db, busyTimeout: busyTimeout}}, nil
}

// Close closes the connection.
func (s *WebhookSwitch) Close() error { return s.on.db.Close() }

// Installed holds the settings that a receiver of the webhook needs.
type Installed struct {
	Secret string
	// Table holds the names and words that a mirror needs to read the table's rows.
	Table watched.Overrides
}

// Install makes the webhook, or changes the one that is there. Its triggers take a short lock on the
// table, and try again where it is busy. The errors wrap [ErrWebhook] where w
// can't be made, [ErrTable] where a receiver would not understand the table, and
// [ErrSealed] where it was made and can't sign.
func (s *WebhookSwitch) Install(w Webhook) (made Installed, err error) {
	if w, err = w.Check(); err != nil {
		return made, err
	}
	var table watched.Table
	err = s.again(func() error {
		table, err = s.table(w)
		return err
	})
	if err != nil {
		return made, err
	}
	made.Table = table.Foreign()
	text, err := w.sql(table)
	if err != nil {
		return made, err
	}
	if err := s.retryWhileBusy(text); err != nil {
		return made, err
	}
	made.Secret, err = s.secret(webhookSecret)
	return made, err
}

// Watched returns the schema and the name of the table whose runs are counted in
// the database, and of the one that migrate up would make where none is.
func (s *WebhookSwitch) Watched() (schema, name string, err error) {
	conn, err := s.on.db.Conn(s.on.ctx)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = conn.Close() }() // it goes back to the pool
	was, _, err := s.on.described(conn)
	schema, name = was.Said.SchemaAndName()
	return schema, name, err
}

// table looks at the table that the webhook is of. What migrate up was told of it
// holds where nothing else is said.
func (s *WebhookSwitch) table(w Webhook) (t watched.Table, err error) {
	conn, err := s.on.db.Conn(s.on.ctx)
	if err != nil {
		return t, err
	}
	defer func() { _ = conn.Close() }() // it goes back to the pool
	c, there, err := readCatalog(s.on.ctx, conn, w.Schema, w.Table)
	if err != nil {
		return t, err
	}
	said := w.Said
	was, _, err := s.on.described(conn)
	if err != nil {
		return t, err
	}
	if was.Schema == w.Schema && was.Name == w.Table {
		said = said.Over(was.Said.Still(c))
	}
	if !there { // the script says so
		t = watched.Assumed(said)
		t.Schema, t.Name = w.Schema, w.Table
		return t, nil
	}
	return watched.Describe(c, said).Table, refused(c, "runcounter webhook install", forSending, said)
}

// Remove takes the webhook away, and its secret. The receiver hears no more
// of it; there is nothing to do where it isn't.
func (s *WebhookSwitch) Remove() error {
	text, err := files.ReadFile("webhook/remove.sql")
	if err != nil {
		return err
	}
	return s.retryWhileBusy(string(text))
}

// Acknowledge forgets all losses that are known, and returns how many calls and
// statements they were: an operator says that the receiver needs none of them.
func (s *WebhookSwitch) Acknowledge() (n int64, err error) {
	var there bool
	const query = `select to_regprocedure('run_counter_webhook.acknowledge(pg_snapshot, timestamptz)') is not null`
	if err := s.on.db.QueryRowContext(s.on.ctx, query).Scan(&there); err != nil {
		return 0, plain(err)
	}
	if !there {
		return 0, fmt.Errorf("%w: this database has none of our own; runcounter webhook install makes it", ErrWebhook)
	}
	err = s.on.db.QueryRowContext(s.on.ctx, `select run_counter_webhook.acknowledge()`).Scan(&n)
	return n, plain(err)
}

// ErrRotation is returned for a step of a rotation that can't be taken now.
var ErrRotation = errors.New("the secret can't be rotated so")

// ErrSealed is wrapped where Vault can't decrypt a secret: its key is another
// than the one that the secret was made with, as in a database that was restored
// into another project.
var ErrSealed = errors.New("the secret can't be decrypted by Vault")

// sealed explains the error of a secret that can't be decrypted. A missing
// permission to decrypt is returned as it is.
func sealed(name string, err error) error {
	e := serverError(err)
	if e == nil || e.Code == "42501" {
		return plain(err)
	}
	return fmt.Errorf("%w: %s (%s %s), as after a restore into another project, so nothing can be signed and nothing is sent. "+
		"Make another with runcounter webhook rotate, give it to the receiver, and drop this one with runcounter webhook rotate --finish",
		ErrSealed, name, e.Code, e.Message)
}

// Rotate makes a second secret and returns it. From now on each request is
// signed by both, until FinishRotation or CancelRotation. A second one that
// can't be decrypted signs nothing, and is replaced.
func (s *WebhookSwitch) Rotate() (secret string, err error) {
	err = s.inTx(func(tx *sql.Tx, main, next bool) error {
		switch {
		case !main:
			return fmt.Errorf("%w: there is none yet; runcounter webhook install makes one", ErrRotation)
		case next && s.dropSealed(tx):
		case next:
			return fmt.Errorf("%w: a rotation is under way already; finish it with --finish, or take it back with --cancel", ErrRotation)
		}
		_, err := tx.ExecContext(s.on.ctx, `
select vault.create_secret('whsec_' || encode(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), 'base64'),
                           $1::text, 'Run Counter signs its webhooks with it as well, until a rotation is finished.')`, webhookNextSecret)
		return err
	})
	if err != nil {
		return "", err
	}
	return s.secret(webhookNextSecret)
}

// dropSealed drops the second secret where it can't be decrypted, and reports
// whether it did.
func (s *WebhookSwitch) dropSealed(tx *sql.Tx) bool {
	if _, err := s.secret(webhookNextSecret); !errors.Is(err, ErrSealed) {
		return false
	}
	_, err := tx.ExecContext(s.on.ctx, `delete from vault.secrets where name = $1::text`, webhookNextSecret)
	return err == nil
}

// FinishRotation makes the second secret the only one.
func (s *WebhookSwitch) FinishRotation() error {
	return s.inTx(func(tx *sql.Tx, _, next bool) error {
		if !next {
			return fmt.Errorf("%w: none is under way; runcounter webhook rotate begins one", ErrRotation)
		}
		if _, err := tx.ExecContext(s.on.ctx, `delete from vault.secrets where name = $1::text`, webhookSecret); err != nil {
			return err
		}
		if _, err := tx.ExecContext(s.on.ctx, `select vault.update_secret(id, null, $1::text, 'Run Counter signs its webhooks with it. runcounter webhook rotate changes it.')
  from vault.secrets where name = $2::text`, webhookSecret, webhookNextSecret); err != nil {
			return err
		}
		_, err := tx.ExecContext(s.on.ctx, `update run_counter_webhook.settings set rotated_at = now()`)
		return err
	})
}

// CancelRotation drops the second secret.
func (s *WebhookSwitch) CancelRotation() error {
	return s.inTx(func(tx *sql.Tx, _, next bool) error {
		if !next {
			return fmt.Errorf("%w: none is under way", ErrRotation)
		}
		_, err := tx.ExecContext(s.on.ctx, `delete from vault.secrets where name = $1::text`, webhookNextSecret)
		return err
	})
}

// inTx does a step of a rotation alone: a second one waits.
func (s *WebhookSwitch) inTx(do func(tx *sql.Tx, main, next bool) error) (err error) {
	tx, err := s.on.db.BeginTx(s.on.ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return plain(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(plain(err), tx.Rollback())
		}
	}()
	var there, main, next bool
	err = tx.QueryRowContext(s.on.ctx, `select to_regclass('run_counter_webhook.settings') is not null and to_regclass('vault.secrets') is not null`).Scan(&there)
	if err != nil {
		return err
	}
	if there {
		if _, err = tx.ExecContext(s.on.ctx, `select from run_counter_webhook.settings for update`); err != nil {
			return err
		}
		err = tx.QueryRowContext(s.on.ctx, `
select exists (select from vault.secrets where name = $1::text), exists (select from vault.secrets where name = $2::text)`,
			webhookSecret, webhookNextSecret).Scan(&main, &next)
		if err != nil {
			return err
		}
	}
	if err = do(tx, main, next); err != nil {
		return err
	}
	return tx.Commit()
}

// secret reads one from Vault. It travels in an answer alone: statements and
// their parameters can be logged.
func (s *WebhookSwitch) secret(name string) (secret string, err error) {
	err = s.on.db.QueryRowContext(s.on.ctx, `select decrypted_secret from vault.decrypted_secrets where name = $1::text`, name).Scan(&secret)
	if errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("the secret %s is not in Vault, where it was a moment ago", name)
	}
	if err != nil {
		return "", sealed(name, err)
	}
	return secret, nil
}

// retryWhileBusy runs a script, and each of its transactions again while the table is busy.
func (s *WebhookSwitch) retryWhileBusy(script string) error {
	const end = "\ncommit;\n"
	for part := range strings.SplitAfterSeq(script, end) {
		if strings.TrimSpace(part) == "" {
			continue
		}
		if err := s.again(func() error { return s.run(part) }); err != nil {
			return err
		}
	}
	return nil
}

// again tries once more where a lock was not had in time.
func (s *WebhookSwitch) again(try func() error) error {
	deadline := time.Now().Add(s.on.busyTimeout)
	for wait := 250 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := try()
		if err == nil {
			return nil
		}
		if s.on.ctx.Err() != nil || !isBusy(err) {
			return plain(err)
		}
		if time.Now().After(deadline) {
			return s.stuck(err)
		}
		if err := pause(s.on.ctx, wait/2+rand.N(wait)); err != nil {
			return err
		}
	}
}

// run runs one transaction of a script, in one message to the server: a pooler
// may give the next one another session.
func (s *WebhookSwitch) run(part string) error {
	conn, err := s.on.db.Conn(s.on.ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it goes back to the pool
	if _, err := conn.ExecContext(s.on.ctx, part); err != nil {
		// What has begun and failed must not go back into the pool.
		_, rollback := conn.ExecContext(context.WithoutCancel(s.on.ctx), "rollback")
		return errors.Join(err, ignoreNet(rollback))
	}
	return nil
}

// ignoreNet leaves out that a connection is gone: the error before it says so.
func ignoreNet(err error) error {
	var gone net.Error
	if err == nil || errors.As(err, &gone) || serverError(err) == nil {
		return nil
	}
	return err
}

func (s *WebhookSwitch) stuck(err error) error {
	conn, connErr := s.on.db.Conn(s.on.ctx)
	if connErr != nil {
		return plain(err)
	}
	defer func() { _ = conn.Close() }() // it goes back to the pool
	return fmt.Errorf("%w: it had no lock within %v of tries%s; end what holds it or try at a quieter time: the same command goes on from where it stands",
		plain(err), s.on.busyTimeout, s.on.holders(conn))
}
