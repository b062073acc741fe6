package doctor

import (
	"context"
	"net"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
)

// Config holds the settings that serve would have by the same flags and environment, as it is
// written there.
type Config struct {
	Listen      string // HOST:PORT
	Policy      string // which runs count; empty leaves it to the database
	StuckAfter  string // how long a run may be silent
	Presumes    bool   // a sweep may end silent runs
	LeaseColumn string // the column that a worker renews, or empty

	WebhookSecret, APIKey Credential
}

// Credential says of a secret what may be said: whether there is one, and why it
// can't be read.
type Credential struct {
	Set bool
	Err error
}

// checks returns the checks of the configuration. No secret is printed.
func (c Config) checks() []check {
	return []check{
		{"listen", one(func(context.Context) (report.Finding, error) { return listenFinding(c.Listen), nil })},
		{"secrets", func(context.Context) ([]report.Finding, error) { return c.secretFindings(), nil }},
		{"limits", one(func(context.Context) (report.Finding, error) { return c.limitsFinding(), nil })},
	}
}

func listenFinding(listen string) report.Finding {
	address, err := net.ResolveTCPAddr("tcp", listen)
	switch {
	case err != nil:
		return fail("write HOST:PORT in RUNCOUNTER_LISTEN, such as 127.0.0.1:8080 or :8080", "serve can't listen there: %v", err)
	case address.IP.IsLoopback():
		return passed("serve would listen on %s, on this machine alone", listen)
	}
	return passed("serve would listen on %s, for other machines too", listen)
}

func (c Config) secretFindings() (found []report.Finding) {
	address, err := net.ResolveTCPAddr("tcp", c.Listen)
	loopback := err == nil && address.IP.IsLoopback()
	missing := func(variable, consequence string) {
		fix := "export " + variable + "=$(openssl rand -base64 32), and give it to your senders and programs"
		if loopback {
			found = append(found, warn(fix, "%s is not set here: any process on this machine can %s", variable, consequence))
			return
		}
		found = append(found, fail(fix, "%s is not set here, and without it serve refuses to listen for other machines", variable))
	}
	switch {
	case c.WebhookSecret.Err != nil:
		found = append(found, fail("write a token, or whsec_ and base64; several separated by commas", "RUNCOUNTER_WEBHOOK_SECRET: %v", c.WebhookSecret.Err))
	case !c.WebhookSecret.Set:
		missing("RUNCOUNTER_WEBHOOK_SECRET", "change the counts")
	}
	switch {
	case c.APIKey.Err != nil:
		found = append(found, fail("write a key of 16 characters or more, as openssl rand -hex 32 makes it; several separated by commas", "%v", c.APIKey.Err))
	case !c.APIKey.Set:
		missing("RUNCOUNTER_API_KEY", "read and change runs")
	}
	return orOK(found, "of the webhook and of the API are set")
}

func (c Config) limitsFinding() report.Finding {
	limits, err := store.ParseLimits(c.StuckAfter)
	switch {
	case err != nil:
		return fail("write RUNCOUNTER_STUCK_AFTER=pending=5m,running=30m,cancelling=10m", "RUNCOUNTER_STUCK_AFTER: %v", err)
	case !c.Presumes:
		return warn("say how long your runs may be silent: RUNCOUNTER_STUCK_AFTER=pending=5m,running=30m,cancelling=10m",
			"RUNCOUNTER_STUCK_AFTER is not set here: without it serve ends no run that falls silent")
	}
	return passed("a run is stuck after pending %s, running %s, cancelling %s", limits[store.Pending], limits[store.Running], limits[store.Cancelling])
}

// policyFinding compares the policy that serve would set with the one in force.
func (c Config) policyFinding(inForce string) report.Finding {
	if c.Policy == "" {
		return passed("%s, as the database says", inForce)
	}
	policy, err := store.ParsePolicy(c.Policy)
	if err != nil {
		return fail("write outcomes or terminal", "RUNCOUNTER_COUNT_POLICY: %v", err)
	}
	if policy.String() != inForce {
		return warn("unset RUNCOUNTER_COUNT_POLICY, or start serve: it sets what is written there", "%s is in force, and RUNCOUNTER_COUNT_POLICY says %s", inForce, policy)
	}
	return passed("%s, in the database and in RUNCOUNTER_COUNT_POLICY", inForce)
}
