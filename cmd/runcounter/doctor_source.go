package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
)

// patient is a PostgreSQL database that is looked at.
type patient struct {
	cmd *cli.Command
	db  *postgres.Inspector

	// From here on it is worth a warning. Tests set others, so as not to wait.
	oldSnapshot time.Duration
	longLedger  int64
	oldLedger   time.Duration
	clocks      time.Duration
}

func newPatient(ctx context.Context, cmd *cli.Command) (patient, error) {
	db, err := postgres.Inspect(ctx, cmd.String("database-url"), postgres.Options{LeaseColumn: cmd.String("lease-column")})
	if errors.Is(err, postgres.ErrAddress) {
		return patient{}, badUsage("DATABASE_URL is %w", err)
	}
	return patient{
		cmd: cmd, db: db,
		oldSnapshot: 5 * time.Minute, longLedger: 20_000, oldLedger: 10 * time.Minute, clocks: 5 * time.Second,
	}, err
}

// examined looks at everything. What needs a connection, the table or the
// migrations is left out where there is none: one line has said so.
func (p patient) examined(ctx context.Context) report {
	r := report{Database: p.db.Target().String(), Kind: kindSource}
	link, err := p.db.Link(ctx)
	if err != nil {
		l := unreachable(ctx, p.db.Target(), err)
		l.Check = "connection"
		r.Checks = []line{l}
		return r
	}
	var role postgres.Role
	var schema postgres.Schema
	r.Checks = examine(ctx, []checkup{
		{"connection", func(context.Context) ([]line, error) { return linkLines(link), nil }},
		{"encryption", one(func(context.Context) (line, error) { return tlsLine(link), nil })},
		{"clock", one(func(context.Context) (line, error) { return p.clockLine(link), nil })},
		{"role", func(ctx context.Context) (lines []line, err error) {
			role, err = p.db.Role(ctx)
			return roleLines(role), err
		}},
		{"migrations", func(ctx context.Context) (lines []line, err error) {
			if schema, err = p.db.Schema(ctx); err != nil {
				schema.Version = schema.Latest // as far as anybody can tell
				return nil, err
			}
			return schemaLines(schema), nil
		}},
	})
	if schema.Version > 0 {
		r.Checks = append(r.Checks, examine(ctx, p.installedChecks())...)
	}
	if role.Table || role.Name == "" {
		r.Checks = append(r.Checks, examine(ctx, p.tableChecks())...)
	}
	r.Checks = append(r.Checks, examine(ctx, p.surroundingChecks())...)
	return r
}

// installedChecks look at what the migrations have made.
func (p patient) installedChecks() []checkup {
	return []checkup{
		{"functions", func(ctx context.Context) ([]line, error) {
			f, err := p.db.Functions(ctx)
			return functionLines(f), err
		}},
		{"grants", func(ctx context.Context) ([]line, error) {
			g, err := p.db.Grants(ctx)
			return grantLines(g), err
		}},
		{"triggers", func(ctx context.Context) ([]line, error) {
			all, expected, err := p.db.Triggers(ctx)
			return triggerLines(all, expected), err
		}},
		{"settings", func(ctx context.Context) ([]line, error) {
			s, err := p.db.Switches(ctx)
			return switchLines(s), err
		}},
		{"policy", one(func(ctx context.Context) (line, error) {
			s, err := p.db.Switches(ctx)
			return policyLine(p.cmd, s.Policy), err
		})},
		{"counts", one(func(ctx context.Context) (line, error) {
			from := store.NewID() // a page that begins anywhere, so that each look sees another
			all, err := p.db.Drift(ctx, store.KeyOf(from, from, store.ID{}), sample)
			return driftLine(all), err
		})},
		{"partitions", func(ctx context.Context) ([]line, error) {
			all, err := p.db.Partitions(ctx)
			return partitionLines(all), err
		}},
		{"ledger", one(func(ctx context.Context) (line, error) {
			l, err := p.db.Ledger(ctx)
			return p.ledgerLine(l), err
		})},
		{"dead letters", one(func(ctx context.Context) (line, error) {
			h, err := p.db.Health(ctx)
			return deadLettersLine(h), err
		})},
	}
}

// tableChecks look at the runs.
func (p patient) tableChecks() []checkup {
	return []checkup{
		{"runs", func(ctx context.Context) ([]line, error) {
			h, err := p.db.Health(ctx)
			return runLines(h), err
		}},
		{"stuck runs", one(func(ctx context.Context) (line, error) {
			limits, err := store.ParseLimits(p.cmd.String("stuck-after"))
			if err != nil {
				limits = store.DefaultLimits() // another line says what is wrong with them
			}
			stuck, err := p.db.Stuck(ctx, store.FailStuck{Now: time.Now(), Limits: limits, Max: maxStuck})
			return stuckLine(p.cmd, true, stuck), err
		})},
		{"webhook", func(ctx context.Context) ([]line, error) {
			all, _, err := p.db.Triggers(ctx)
			if err != nil {
				return nil, err
			}
			extensions, err := p.db.Extensions(ctx)
			if err != nil {
				return nil, err
			}
			own, err := p.db.Webhook(ctx)
			return webhookLines(all, extensions, own), err
		}},
	}
}

// surroundingChecks look at what stands around the table.
func (p patient) surroundingChecks() []checkup {
	return []checkup{
		{"deliveries", func(ctx context.Context) ([]line, error) {
			d, err := p.db.Deliveries(ctx)
			return deliveryLines(d), err
		}},
		{"extensions", one(func(ctx context.Context) (line, error) {
			all, err := p.db.Extensions(ctx)
			return extensionsLine(all), err
		})},
		{"snapshots", func(ctx context.Context) ([]line, error) {
			all, blind, err := p.db.Holders(ctx, p.oldSnapshot)
			return p.holderLines(all, blind), err
		}},
	}
}

// directHost is Supabase's own name of a project's database, which has IPv6
// addresses alone unless the project pays for another.
var directHost = regexp.MustCompile(`^db\.[a-z0-9]+\.supabase\.co$`)

const (
	transactionPooler = 6543
	sessionPooler     = "the session pooler (Connect in Supabase's dashboard: aws-0-REGION.pooler.supabase.com, port 5432, user postgres.PROJECT)"
)

func unreachable(ctx context.Context, t postgres.Target, err error) line {
	if errors.Is(err, postgres.ErrLogin) {
		fix := "look at the user and the password of DATABASE_URL, whose special characters must be escaped"
		if strings.HasSuffix(t.Host, ".pooler.supabase.com") && !strings.Contains(t.User, ".") {
			fix = "behind Supabase's pooler the user is postgres.PROJECT"
		}
		return failure(fix, "%v", err)
	}
	if directHost.MatchString(t.Host) {
		addresses, _ := net.DefaultResolver.LookupIPAddr(ctx, t.Host) // none: the finding says why
		return failure(directFix(addresses), "%v", err)
	}
	return failure("look at the host, port and name in DATABASE_URL, and whether a firewall or Supabase's network restrictions stand in between", "%v", err)
}

// directFix is for a direct host that can't be reached, by what its name leads to.
func directFix(addresses []net.IPAddr) string {
	for _, a := range addresses {
		if a.IP.To4() != nil {
			return "look whether the project is paused, and whether its network restrictions let this machine in"
		}
	}
	return "the direct host speaks IPv6 alone, unless the project has the IPv4 add-on: use " + sessionPooler
}

func linkLines(l postgres.Link) (lines []line) {
	if l.Number < 150000 {
		lines = append(lines, failure("upgrade it", "PostgreSQL %s: Run Counter needs 15 or later", l.Version))
	}
	if l.Standby {
		lines = append(lines, failure("connect to the primary", "this is a standby, which can't be written"))
	} else if l.ReadOnly {
		lines = append(lines, failure("look for the reason: Supabase does this when the disk is nearly full; alter database ... reset default_transaction_read_only ends it",
			"new transactions are read-only"))
	}
	way := "directly"
	switch {
	case l.Port == transactionPooler:
		way = "through a pooler in transaction mode: right for serve; migrate up needs port 5432 of the same host"
	case l.Pooled:
		way = "through a pooler: right for serve; migrate up needs a session of its own, so not transaction mode"
	}
	return append(lines, fine("PostgreSQL %s, %s", l.Version, way))
}

func tlsLine(l postgres.Link) line {
	const fix = "add ?sslmode=verify-full&sslrootcert=FILE to DATABASE_URL; Supabase's certificate is under Database → Settings → SSL"
	switch {
	case l.Local:
		return fine("sslmode %s, and the connection stays on this machine", l.TLS)
	case l.TLS == postgres.Plain && l.Private:
		return warning(fix, "none: others on the private network can read along")
	case l.TLS == postgres.Plain:
		return failure(fix, "none: a machine in between can read and change everything")
	case l.TLS == postgres.FullyVerified || l.Private:
		return fine("sslmode %s", l.TLS)
	case l.TLS == postgres.KnownIssuer:
		return warning(fix, "sslmode %s: the certificate was checked, and not whose it is", l.TLS)
	}
	return warning(fix, "sslmode %s: the certificate is not checked, so the server may not be yours", l.TLS)
}

func (p patient) clockLine(l postgres.Link) line {
	off, direction := l.Ahead, "ahead of"
	if off < 0 {
		off, direction = -off, "behind"
	}
	if off-l.Doubt > p.clocks {
		return warning("set this machine's clock by NTP: by it runs are taken for stuck", "the database's is %s %s this machine's", rough(off), direction)
	}
	return fine("the database's and this machine's agree")
}

func roleLines(r postgres.Role) (lines []line) {
	if !r.Table {
		lines = append(lines, failure("look whether DATABASE_URL names the right database; runcounter migrate up makes the table where there is none",
			"there is no table %s", r.Watched))
	}
	grant := "connect as " + r.TableOwner + ", the owner of workflow_runs, or as a role that has what service_role has"
	if len(r.Lacks) > 0 {
		lines = append(lines, failure(grant, "%s has no right to %s on workflow_runs", r.Name, few(r.Lacks)))
	}
	if r.Filtered {
		lines = append(lines, failure("connect as "+r.TableOwner+", or: alter role "+r.Name+" bypassrls", "row level security hides runs from %s", r.Name))
	}
	if len(r.LacksOurs) > 0 {
		lines = append(lines, failure(grant, "%s lacks %s", r.Name, few(r.LacksOurs)))
	}
	is := "not the owner of workflow_runs"
	switch {
	case r.Superuser:
		is = "a superuser"
	case r.Owner:
		is = "with the rights of the owner of workflow_runs"
	}
	if r.BypassRLS {
		is += ", bypasses row level security"
	}
	return perhaps(lines, "%s, %s", r.Name, is)
}

func schemaLines(s postgres.Schema) []line {
	const fix = "runcounter migrate up"
	at := migrationsLine(s.Version, s.Latest, s.Dirty, fix)
	if s.Version == 0 && !s.Dirty {
		at.Finding += ": counts are counted each time, and nothing keeps the first outcome but our own calls"
	}
	if at.Status != isFine {
		return []line{at}
	}
	var lines []line
	again := "runcounter migrate down --yes, then runcounter migrate up: the runs stay, the counts are made anew"
	if len(s.MissingTables) > 0 {
		lines = append(lines, failure(again, "all are applied, and these tables of schema run_counter are gone: %s", few(s.MissingTables)))
	}
	if len(s.Altered) > 0 {
		lines = append(lines, failure(fix, "workflow_runs was altered since they were applied: %s", strings.Join(s.Altered, "; ")))
	}
	if s.Zone != "" {
		lines = append(lines, warning("runcounter migrate up --timezone ZONE", "%s", s.Zone))
	}
	if len(s.BadIndexes) > 0 {
		lines = append(lines, warning("runcounter migrate print shows how to make them; drop a half-built one first",
			"these indexes on workflow_runs are missing or half built, and everything is slow without them: %s", few(s.BadIndexes)))
	}
	return perhaps(lines, "%s", at.Finding)
}

// partitionLines are none for a table that is plain.
func partitionLines(p store.Partitions) (lines []line) {
	if len(p.Gone) > 0 {
		lines = append(lines, failure("", "%s", p.Sentence()))
	} else if p.Moved() {
		lines = append(lines, warning("", "%s", p.Sentence()))
	}
	if what := p.UntoldSentence(); what != "" {
		lines = append(lines, warning("", "%s", what))
	}
	if len(p.IDs) == 0 {
		return lines
	}
	return perhaps(lines, "%s, whose runs are in the counts; a TRUNCATE of one is counted", quantity(int64(len(p.IDs)), "partition", "partitions"))
}

func (p patient) ledgerLine(l postgres.Ledger) line {
	rows := quantity(l.Rows, "row", "rows")
	if l.Rows > postgres.MaxLedger {
		rows = fmt.Sprintf("more than %d rows", postgres.MaxLedger)
	}
	const fix = "runcounter serve folds it with each sweep: is it running? runcounter sweep does it once"
	switch {
	case l.Rows == 0:
		return fine("empty: all is folded")
	case l.Rows > p.longLedger:
		return warning(fix, "%s to fold, the oldest of %s ago: counts are exact, and reading them gets slower", rows, rough(l.Oldest))
	case l.Oldest > p.oldLedger:
		return warning(fix, "%s to fold, the oldest of %s ago: no sweep folds", rows, rough(l.Oldest))
	}
	return fine("%s to fold, the oldest of %s ago", rows, rough(l.Oldest))
}

func (p patient) holderLines(all []postgres.Holder, blind bool) (lines []line) {
	for _, h := range all {
		switch h.Kind {
		case "session":
			lines = append(lines, warning("let it end, or end it: select pg_terminate_backend("+h.Name+")",
				"session %s (%s) has been %s, with a snapshot of %s ago: no dead row goes away, and new indexes wait", h.Name, h.Who, h.Does, rough(h.For)))
		case "prepared transaction":
			lines = append(lines, warning("commit prepared or rollback prepared '"+strings.ReplaceAll(h.Name, "'", "''")+"'",
				"prepared transaction %s of %s has been open for %s: no dead row goes away", h.Name, h.Who, rough(h.For)))
		default:
			lines = append(lines, warning("start who reads it, or: select pg_drop_replication_slot('"+strings.ReplaceAll(h.Name, "'", "''")+"')",
				"%s %s (%s) is %s: it keeps old rows or write-ahead log, until the disk is full", h.Kind, h.Name, h.Who, h.Does))
		}
	}
	if blind {
		lines = append(lines, warning("grant pg_read_all_stats to the role of DATABASE_URL; Supabase's postgres has it", "can't look: the role may not see what other roles' sessions do"))
	}
	return perhaps(lines, "none is older than %s", rough(p.oldSnapshot))
}
