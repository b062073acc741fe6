package doctor

import (
	"context"
	"errors"
	"net"
	"regexp"
	"strings"

	"github.com/edgaze-ai/runcounter/internal/pgroots"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/store/postgres"
)

// directHost is Supabase's own name of a project's database, which has IPv6
// addresses alone unless the project pays for another.
var directHost = regexp.MustCompile(`^db\.[a-z0-9]+\.supabase\.co$`)

const (
	transactionPooler = 6543
	sessionPooler     = "the session pooler (Connect in Supabase's dashboard: aws-0-REGION.pooler.supabase.com, port 5432, user postgres.PROJECT)"
)

func unreachable(ctx context.Context, t postgres.Target, err error) report.Finding {
	if errors.Is(err, postgres.ErrLogin) {
		fix := "check the user and the password of DATABASE_URL, whose special characters must be escaped"
		if strings.HasSuffix(t.Host, ".pooler.supabase.com") && !strings.Contains(t.User, ".") {
			fix = "behind Supabase's pooler the user is postgres.PROJECT"
		}
		return fail(fix, "%v", err)
	}
	if fix := pgroots.Fix(err); fix != "" {
		return fail(fix, "%v", err)
	}
	if directHost.MatchString(t.Host) {
		addresses, _ := net.DefaultResolver.LookupIPAddr(ctx, t.Host) // none: the finding says why
		return fail(directFix(addresses), "%v", err)
	}
	return fail("check the host, port and name in DATABASE_URL, and whether a firewall or Supabase's network restrictions stand in between", "%v", err)
}

// directFix is for a direct host that can't be reached, by what its name leads to.
func directFix(addresses []net.IPAddr) string {
	for _, a := range addresses {
		if a.IP.To4() != nil {
			return "check whether the project is paused, and whether its network restrictions let this machine in"
		}
	}
	return "the direct host speaks IPv6 alone, unless the project has the IPv4 add-on: use " + sessionPooler
}

func linkFindings(l postgres.Link) (found []report.Finding) {
	if l.Number < 150000 {
		found = append(found, fail("upgrade it", "PostgreSQL %s: Run Counter needs 15 or later", l.Version))
	}
	if l.Standby {
		found = append(found, fail("connect to the primary", "this is a standby, which can't be written"))
	} else if l.ReadOnly {
		found = append(found, fail("find the reason: Supabase does this when the disk is nearly full; alter database ... reset default_transaction_read_only ends it",
			"new transactions are read-only"))
	}
	way := "directly"
	switch {
	case l.Port == transactionPooler:
		way = "through a pooler in transaction mode: right for serve; migrate up needs port 5432 of the same host"
	case l.Pooled:
		way = "through a pooler: right for serve; migrate up needs a session of its own, so not transaction mode"
	}
	return append(found, passed("PostgreSQL %s, %s", l.Version, way))
}

func tlsFinding(l postgres.Link) report.Finding {
	const fix = "add ?sslmode=verify-full to DATABASE_URL; for another authority than Supabase's, give its root certificate in " + pgroots.Variable
	switch {
	case l.Local:
		return passed("sslmode %s, and the connection stays on this machine", l.TLS)
	case l.TLS == postgres.Plain && l.Private:
		return warn(fix, "none: others on the private network can read along")
	case l.TLS == postgres.Plain:
		return fail(fix, "none: a machine in between can read and change everything")
	case l.TLS == postgres.FullyVerified || l.Private:
		return passed("sslmode %s", l.TLS)
	case l.TLS == postgres.KnownIssuer:
		return warn(fix, "sslmode %s: the certificate was checked, and not whose it is", l.TLS)
	}
	return warn(fix, "sslmode %s: the certificate is not checked, so the server may not be yours", l.TLS)
}

func (t Thresholds) clockFinding(l postgres.Link) report.Finding {
	off, direction := l.Ahead, "ahead of"
	if off < 0 {
		off, direction = -off, "behind"
	}
	if off-l.Doubt > t.ClockSkew {
		return warn("set this machine's clock by NTP: by it runs are taken for stuck", "the database's is %s %s this machine's", roughly(off), direction)
	}
	return passed("the database's and this machine's agree")
}

func roleFindings(r postgres.Role) (found []report.Finding) {
	if !r.Table {
		found = append(found, fail("check whether DATABASE_URL names the right database; runcounter migrate up makes the table where there is none",
			"there is no table %s", r.Watched))
	}
	grant := "connect as " + r.TableOwner + ", the owner of workflow_runs, or as a role that has what service_role has"
	if len(r.Lacks) > 0 {
		found = append(found, fail(grant, "%s has no right to %s on workflow_runs", r.Name, few(r.Lacks)))
	}
	if r.Filtered {
		found = append(found, fail("connect as "+r.TableOwner+", or: alter role "+r.Name+" bypassrls", "row level security hides runs from %s", r.Name))
	}
	if len(r.LacksOurs) > 0 {
		found = append(found, fail(grant, "%s lacks %s", r.Name, few(r.LacksOurs)))
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
	return orOK(found, "%s, %s", r.Name, is)
}
