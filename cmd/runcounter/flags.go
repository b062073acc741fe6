package main

import (
	"strings"

	"github.com/urfave/cli/v3"
)

// The groups of commands and of flags in --help.
const (
	groupRun      = "To run it"
	groupAsk      = "To ask and to tell"
	groupMaintain = "To look after it"
	groupHelp     = "About the program"
	flagsWhere    = "Where"
	flagsWho      = "Who may come in"
	flagsUsers    = "Signed-in users"
	flagsRules    = "What counts"
	flagsWhat     = "What"
	flagsLog      = "Output"
)

const defaultDatabase = "sqlite:runcounter.db"

// Each function returns a new flag: a flag keeps the value that it was given,
// so two commands can't share one.

// noneFlag is a text that the environment may set, and that is none by default.
func noneFlag(name, category, usage, variable string) cli.Flag {
	return &cli.StringFlag{Name: name, Category: category, DefaultText: "none", Usage: usage, Sources: cli.EnvVars(variable)}
}

func databaseFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "database-url", Category: flagsWhere, Value: defaultDatabase,
		Usage:   "the `DATABASE`: sqlite:PATH, or postgres://USER:PASSWORD@HOST:5432/NAME",
		Sources: cli.EnvVars("DATABASE_URL"),
	}
}

func listenFlag() cli.Flag {
	return &cli.StringFlag{Name: "listen", Category: flagsWhere, DefaultText: defaultListen, Usage: "listen on `HOST:PORT`; :8080 is every interface", Sources: cli.EnvVars("RUNCOUNTER_LISTEN")}
}

func portFlag() cli.Flag {
	return &cli.StringFlag{Name: "port", Category: flagsWhere, Usage: "listen on this `PORT` of every interface, unless --listen says where", Sources: cli.EnvVars("PORT")}
}

func metricsFlag() cli.Flag {
	return noneFlag("metrics-listen", flagsWhere, "also answer /metrics, /readyz and /livez at this `HOST:PORT`, without a key", "RUNCOUNTER_METRICS_LISTEN")
}

func drainFlag() cli.Flag {
	return &cli.DurationFlag{
		Name: "drain", Category: flagsWhere, Value: defaultDrain, DefaultText: "5s, and 0s on loopback",
		Usage:   "how long /readyz answers 503 before the listener closes, a `DURATION` of 20s at most",
		Sources: cli.EnvVars("RUNCOUNTER_DRAIN"),
	}
}

func clientFlag() cli.Flag {
	return noneFlag("client-header", flagsWho, "the `HEADER` in which the only proxy before serve names the client, such as Fly-Client-IP", "RUNCOUNTER_CLIENT_HEADER")
}

func secretFlag() cli.Flag {
	return &cli.StringFlag{Name: "webhook-secret", Category: flagsWho, Usage: "the `SECRETS` of senders, separated by commas: tokens or whsec_...", Sources: cli.EnvVars("RUNCOUNTER_WEBHOOK_SECRET")}
}

func keyFlag() cli.Flag {
	return &cli.StringFlag{Name: "api-key", Category: flagsWho, Usage: "the `KEYS` of the API, separated by commas", Sources: cli.EnvVars("RUNCOUNTER_API_KEY")}
}

func policyFlag() cli.Flag {
	return &cli.StringFlag{Name: "count-policy", Category: flagsRules, DefaultText: "what the database says, at first outcomes", Usage: "which runs count, a `POLICY`: outcomes (completed, failed) or terminal (all)", Sources: cli.EnvVars("RUNCOUNTER_COUNT_POLICY")}
}

func partitionsFlag() cli.Flag {
	return noneFlag("partitions", flagsRules, "`NAMES` under which a sender tells of the table's partitions, separated by commas; * stands for any text, as in public.workflow_runs_*", "RUNCOUNTER_PARTITIONS")
}

func leaseFlag() cli.Flag {
	return noneFlag("lease-column", flagsRules, "the `COLUMN` that a worker renews while a run is alive", "RUNCOUNTER_LEASE_COLUMN")
}

func stuckFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "stuck-after", Category: flagsRules, Value: "5m", DefaultText: "5m; on PostgreSQL none is ended until it is set",
		Usage: "how long a run may be silent before it is presumed failed: one\n" +
			strings.Repeat(" ", 26) + "`DURATION`, or pending=5m,running=30m,cancelling=10m; 0 is never",
		Sources: cli.EnvVars("RUNCOUNTER_STUCK_AFTER"),
	}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Category: flagsLog, Usage: "print JSON for a program"}
}

func userFlag() cli.Flag {
	return &cli.StringFlag{Name: "user", Category: flagsWhat, Usage: "the user's `ID`"}
}

func workflowFlag() cli.Flag {
	return &cli.StringFlag{Name: "workflow", Category: flagsWhat, Usage: "the workflow's `ID`"}
}

func fromFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: "from", Category: flagsWhat, DefaultText: "all time", Usage: usage}
}

// totalsFlag reads variables for serve alone: migrate grants roles by it, which must be
// said each time.
func totalsFlag(usage, byDefault string, variables ...string) cli.Flag {
	return &cli.StringFlag{Name: "totals-for", Category: flagsUsers, DefaultText: byDefault, Usage: usage, Sources: cli.EnvVars(variables...)}
}

func draftFlag() cli.Flag {
	return &cli.StringFlag{Name: "draft", Category: flagsWhat, Usage: "the draft's `ID`, instead of a workflow's"}
}
