package main

import (
	"context"
	"net"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
)

// configurationChecks look at what serve would be told by the same flags and
// environment. No secret is printed.
func configurationChecks(cmd *cli.Command, source bool) []checkup {
	return []checkup{
		{"listen", one(func(context.Context) (line, error) { return listenLine(cmd), nil })},
		{"secrets", func(context.Context) ([]line, error) { return secretLines(cmd), nil }},
		{"limits", one(func(context.Context) (line, error) { return limitsLine(cmd, source), nil })},
	}
}

func listenLine(cmd *cli.Command) line {
	listen := listenOf(cmd)
	address, err := net.ResolveTCPAddr("tcp", listen)
	switch {
	case err != nil:
		return failure("write HOST:PORT in RUNCOUNTER_LISTEN, such as 127.0.0.1:8080 or :8080", "serve can't listen there: %v", err)
	case address.IP.IsLoopback():
		return fine("serve would listen on %s, on this machine alone", listen)
	}
	return fine("serve would listen on %s, for other machines too", listen)
}

func secretLines(cmd *cli.Command) (lines []line) {
	address, err := net.ResolveTCPAddr("tcp", listenOf(cmd))
	loopback := err == nil && address.IP.IsLoopback()
	missing := func(variable, consequence string) {
		fix := "export " + variable + "=$(openssl rand -base64 32), and give it to your senders and programs"
		if loopback {
			lines = append(lines, warning(fix, "%s is not set here: any process on this machine can %s", variable, consequence))
			return
		}
		lines = append(lines, failure(fix, "%s is not set here, and without it serve refuses to listen for other machines", variable))
	}
	secrets, err := webhook.ParseSecrets(cmd.String("webhook-secret"))
	switch {
	case err != nil:
		lines = append(lines, failure("write a token, or whsec_ and base64; several separated by commas", "RUNCOUNTER_WEBHOOK_SECRET: %v", err))
	case secrets.IsZero():
		missing("RUNCOUNTER_WEBHOOK_SECRET", "change the counts")
	}
	switch keys, err := keysOf(cmd); {
	case err != nil:
		lines = append(lines, failure("write a key of 16 characters or more, as openssl rand -hex 32 makes it; several separated by commas", "%v", err))
	case len(keys) == 0:
		missing("RUNCOUNTER_API_KEY", "read and change runs")
	}
	return perhaps(lines, "of the webhook and of the API are set")
}

func limitsLine(cmd *cli.Command, source bool) line {
	limits, err := store.ParseLimits(cmd.String("stuck-after"))
	switch {
	case err != nil:
		return failure("write RUNCOUNTER_STUCK_AFTER=pending=5m,running=30m,cancelling=10m", "RUNCOUNTER_STUCK_AFTER: %v", err)
	case !presumes(cmd, source):
		return warning("say how long your runs may be silent: RUNCOUNTER_STUCK_AFTER=pending=5m,running=30m,cancelling=10m",
			"RUNCOUNTER_STUCK_AFTER is not set here: without it serve ends no run that falls silent")
	}
	return fine("a run is stuck after pending %s, running %s, cancelling %s", limits[store.Pending], limits[store.Running], limits[store.Cancelling])
}

// policyLine compares the policy that serve would set with the one in force.
func policyLine(cmd *cli.Command, inForce string) line {
	name := cmd.String("count-policy")
	if name == "" {
		return fine("%s, as the database says", inForce)
	}
	policy, err := store.ParsePolicy(name)
	if err != nil {
		return failure("write outcomes or terminal", "RUNCOUNTER_COUNT_POLICY: %v", err)
	}
	if policy.String() != inForce {
		return warning("unset RUNCOUNTER_COUNT_POLICY, or start serve: it sets what is written there", "%s is in force, and RUNCOUNTER_COUNT_POLICY says %s", inForce, policy)
	}
	return fine("%s, in the database and in RUNCOUNTER_COUNT_POLICY", inForce)
}

func fileError(err error) line {
	if os.IsNotExist(err) {
		return failure("name it with DATABASE_URL, or make one with runcounter serve or runcounter import", "there is no such file")
	}
	return failure("", "can't look: %v", err)
}
