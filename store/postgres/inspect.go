package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/store"
)

// Inspector looks at a database, and at what stands around it, without
// changing anything: each look is a read-only transaction of a few seconds at
// most. What it finds are facts; doctor judges them.
//
// It needs neither our migrations nor the table, and works through a pooler in
// transaction mode.
type Inspector struct {
	pool    *pgxpool.Pool
	options Options
	Now     func() time.Time // [time.Now], to compare the clocks
}

// The errors of a look, beside the contract's.
var (
	// ErrForbidden means that the role may not see it.
	ErrForbidden = errors.New("not with this role")
	// ErrSlow means that there was no answer in time.
	ErrSlow = errors.New("no answer within 5 seconds")
	// ErrLogin means that the server is there, and doesn't let the role in.
	ErrLogin = errors.New("the server refuses the role")
)

// inspectTimeout bounds each statement of an inspection.
const inspectTimeout = 5 * time.Second

// Inspect returns an Inspector of the database at an address, to which it does
// not connect yet. The caller closes it. Errors never repeat the address.
func Inspect(ctx context.Context, address string, o Options) (*Inspector, error) {
	config, err := configure(address, o.Connect, poolSize)
	if err != nil {
		return nil, err
	}
	config.MaxConns, config.MinConns = 1, 0
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return &Inspector{pool: pool, options: o, Now: time.Now}, nil
}

// Close closes the connection.
func (i *Inspector) Close() { i.pool.Close() }

// Target says where an Inspector connects to: never with which password.
type Target struct {
	Host           string // a socket's folder begins with a slash
	Port           uint16
	User, Database string
}

func (t Target) String() string {
	return fmt.Sprintf("postgres://%s:%d/%s", t.Host, t.Port, t.Database)
}

// Target returns where it connects to.
func (i *Inspector) Target() Target {
	c := i.pool.Config().ConnConfig
	return Target{c.Host, c.Port, c.User, c.Database}
}

// inspect runs do in a read-only transaction. Its settings are the transaction's,
// since behind a pooler the session is another client's next.
func (i *Inspector) inspect(ctx context.Context, do func(tx pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*inspectTimeout)
	defer cancel()
	err := pgx.BeginTxFunc(ctx, i.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if err := setTimeouts(ctx, tx); err != nil {
			return err
		}
		return do(tx)
	})
	var e *pgconn.PgError
	switch {
	case errors.As(err, &e) && e.Code == "42501":
		return refused(ErrForbidden, e, err)
	case errors.As(err, &e) && (e.Code == "57014" || e.Code == "55P03"), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrSlow, err)
	case errors.As(err, &e) && e.Code[:2] == "28":
		return fmt.Errorf("%w: %w", ErrLogin, err)
	}
	return translate(err)
}

// setTimeouts bounds the statements of a transaction, and of it alone. To compile a
// statement takes half a second, more than any of these.
func setTimeouts(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `select set_config('statement_timeout', $1::text, true), set_config('lock_timeout', '1s', true), set_config('jit', 'off', true)`, inspectTimeout.String())
	return err
}

// TLS is the protection of a connection.
type TLS string

// From none to the whole: the server's certificate and name were checked.
const (
	Plain         TLS = "none"
	Encrypted     TLS = "require"   // the certificate is not checked
	KnownIssuer   TLS = "verify-ca" // the certificate was checked, the name not
	FullyVerified TLS = "verify-full"
)

// Link is the connection.
type Link struct {
	Target
	TLS      TLS
	Local    bool // it does not leave this machine
	Private  bool // nor a private network
	Pooled   bool // a pooler stands in between
	Version  string
	Number   int // of the version: 150004 is 15.4
	Standby  bool
	ReadOnly bool          // new transactions can't write, as on Supabase when the disk is full
	Ahead    time.Duration // the database's clock before this machine's
	Doubt    time.Duration // how exact that is
}

// Link connects, and says how.
func (i *Inspector) Link(ctx context.Context) (l Link, err error) {
	l.Target = i.Target()
	err = i.inspect(ctx, func(tx pgx.Tx) error {
		conn := tx.Conn().PgConn()
		l.TLS = protection(conn.Conn(), tx.Conn().Config())
		l.Local, l.Private = nearness(conn.Conn().RemoteAddr())
		var pid uint32
		var there time.Time
		before := i.Now()
		err := tx.QueryRow(ctx, `
select pg_backend_pid(), clock_timestamp(), current_setting('server_version'), current_setting('server_version_num')::integer,
       pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on'`).Scan(&pid, &there, &l.Version, &l.Number, &l.Standby, &l.ReadOnly)
		after := i.Now()
		// A pooler makes up the key by which a query is cancelled.
		l.Pooled = pid != conn.PID()
		l.Doubt = after.Sub(before) / 2
		l.Ahead = there.Sub(before.Add(l.Doubt))
		return err
	})
	return l, err
}

func protection(conn net.Conn, config *pgx.ConnConfig) TLS {
	secure, ok := conn.(*tls.Conn)
	if !ok {
		return Plain
	}
	if len(secure.ConnectionState().VerifiedChains) > 0 {
		return FullyVerified
	}
	if config.TLSConfig != nil && config.TLSConfig.VerifyPeerCertificate != nil {
		return KnownIssuer
	}
	return Encrypted
}

func nearness(addr net.Addr) (local, private bool) {
	if addr.Network() == "unix" {
		return true, true
	}
	at, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return false, false
	}
	ip := at.Addr().Unmap()
	return ip.IsLoopback(), ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast()
}

// Role is the role of the connection, with what it may do.
type Role struct {
	Name       string
	Superuser  bool
	BypassRLS  bool
	Watched    string // the watched table
	Table      bool   // it is there
	TableOwner string
	Owner      bool     // the role has what the table's owner has
	Filtered   bool     // row level security hides rows of the table from it
	Lacks      []string // privileges on the table
	LacksOurs  []string // privileges on what the migrations made
}

// Role looks at the role of the address.
func (i *Inspector) Role(ctx context.Context) (r Role, err error) {
	err = i.inspect(ctx, func(tx pgx.Tx) error {
		table, err := watchedTable(ctx, tx)
		if err != nil {
			return err
		}
		r.Watched = table.String()
		return tx.QueryRow(ctx, `
select u.rolname, u.rolsuper, u.rolbypassrls, t.oid is not null, coalesce(pg_get_userbyid(t.relowner), ''),
       coalesce(pg_has_role(t.relowner, 'usage'), false),
       coalesce(t.relrowsecurity and not (u.rolsuper or u.rolbypassrls or pg_has_role(t.relowner, 'usage') and not t.relforcerowsecurity), false),
       array(select p from unnest(array['select', 'insert', 'update']) as p where t.oid is not null and not has_table_privilege(t.oid, p)),
       array(select 'usage of schema run_counter' from pg_namespace where nspname = 'run_counter' and not has_schema_privilege(oid, 'usage')
              union all
             select p || ' on ' || c.oid::regclass
               from pg_class as c cross join unnest(array['select', 'insert', 'update', 'delete']) as p
              where c.relkind = 'r' and c.relnamespace = to_regnamespace('run_counter') and c.relname not in ('schema_migrations', 'replaced')
                and not has_table_privilege(c.oid, p)
              union all
             select 'execute on ' || f.oid::regprocedure
               from pg_proc as f
              where f.pronamespace = to_regnamespace('run_counter') and f.prorettype <> 'trigger'::regtype and f.proname not in ('define', 'fit')
                and not has_function_privilege(f.oid, 'execute'))
  from pg_roles as u
  left join pg_class as t on t.oid = `+regclass(table)+`
 where u.rolname = current_user`).Scan(&r.Name, &r.Superuser, &r.BypassRLS, &r.Table, &r.TableOwner, &r.Owner, &r.Filtered, &r.Lacks, &r.LacksOurs)
	})
	return r, err
}

// inspectInstalled is look with what the database has, as [Store] sees it.
func (i *Inspector) inspectInstalled(ctx context.Context, do func(tx pgx.Tx, db features) error) error {
	return i.inspect(ctx, func(tx pgx.Tx) error {
		db, err := readFeatures(ctx, tx, i.options)
		if err != nil {
			return err
		}
		return do(tx, db)
	})
}

// Drift compares at most so many counts with the runs behind them: those after
// a key, and, where these are fewer, from the beginning on.
func (i *Inspector) Drift(ctx context.Context, after store.Key, limit int) (all store.AuditResult, err error) {
	err = i.inspectInstalled(ctx, func(tx pgx.Tx, db features) (err error) {
		if all, err = audit(ctx, tx, db, store.Audit{After: after, Max: limit}, store.Key{}); err != nil || all.Keys == limit || after.IsZero() {
			return err
		}
		first, err := audit(ctx, tx, db, store.Audit{Max: limit - all.Keys}, after)
		all.Keys, all.Drifts = all.Keys+first.Keys, append(first.Drifts, all.Drifts...)
		return err
	})
	return all, err
}

// Stuck returns at most so many runs that a sweep would repair.
func (i *Inspector) Stuck(ctx context.Context, f store.FailStuck) (stuck []store.Repaired, err error) {
	s := &Store{options: i.options, hooks: hooks{repair: store.Repair, presume: store.Presume}}
	f.Now = store.Instant(f.Now)
	err = i.inspectInstalled(ctx, func(tx pgx.Tx, db features) (err error) {
		stuck, err = s.stuck(ctx, tx, db, f)
		return err
	})
	return stuck, err
}

// Health returns what else deserves a look.
func (i *Inspector) Health(ctx context.Context) (h store.Health, err error) {
	err = i.inspectInstalled(ctx, func(tx pgx.Tx, db features) error { return send(ctx, tx, healthQuery(db, &h)) })
	return h, err
}
