package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
	"github.com/edgaze-ai/runcounter/webhook"
)

// The groups of commands and of flags in --help.
const (
	groupRun   = "To run it"
	groupAsk   = "To ask and to tell"
	groupMend  = "To look after it"
	flagsWhere = "Where"
	flagsWho   = "Who may come in"
	flagsUsers = "Signed-in users"
	flagsRules = "What counts"
	flagsWhat  = "What"
	flagsLog   = "Output"
)

const defaultDatabase = "sqlite:runcounter.db"

// Each function returns a new flag: a flag keeps the value that it was given,
// so two commands can't share one.

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
	return &cli.StringFlag{
		Name: "metrics-listen", Category: flagsWhere, DefaultText: "none",
		Usage:   "also answer /metrics, /readyz and /livez at this `HOST:PORT`, without a key",
		Sources: cli.EnvVars("RUNCOUNTER_METRICS_LISTEN"),
	}
}

func drainFlag() cli.Flag {
	return &cli.DurationFlag{
		Name: "drain", Category: flagsWhere, Value: defaultDrain, DefaultText: "5s, and 0s on loopback",
		Usage:   "how long /readyz answers 503 before the listener closes, a `DURATION` of 20s at most",
		Sources: cli.EnvVars("RUNCOUNTER_DRAIN"),
	}
}

func clientFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "client-header", Category: flagsWho, DefaultText: "none",
		Usage:   "the `HEADER` in which the only proxy before serve names the client, such as Fly-Client-IP",
		Sources: cli.EnvVars("RUNCOUNTER_CLIENT_HEADER"),
	}
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

func tableFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "table", Category: flagsRules, Value: "public.workflow_runs",
		Usage:   "the table of the runs, as `SCHEMA.TABLE`; changes of others are ignored",
		Sources: cli.EnvVars("RUNCOUNTER_TABLE"),
	}
}

func partitionsFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "partitions", Category: flagsRules, DefaultText: "none",
		Usage:   "`NAMES` under which a sender tells of the table's partitions, separated by commas; * stands for any text, as in public.workflow_runs_*",
		Sources: cli.EnvVars("RUNCOUNTER_PARTITIONS"),
	}
}

// importTableFlag names the same table, which a mirror reads once.
func importTableFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "table", Category: flagsWhat, Value: "public.workflow_runs",
		Usage:   "the table or view that --from reads, as `SCHEMA.TABLE`",
		Sources: cli.EnvVars("RUNCOUNTER_TABLE"),
	}
}

func leaseFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "lease-column", Category: flagsRules, DefaultText: "none",
		Usage:   "the `COLUMN` that a worker renews while a run is alive",
		Sources: cli.EnvVars("RUNCOUNTER_LEASE_COLUMN"),
	}
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

func draftFlag() cli.Flag {
	return &cli.StringFlag{Name: "draft", Category: flagsWhat, Usage: "the draft's `ID`, instead of a workflow's"}
}

// idOf returns the id in a flag as it is written, and the zero ID where it is not
// set.
func idOf(cmd *cli.Command, name string) (store.ID, error) {
	text := cmd.String(name)
	if text == "" {
		return store.ID{}, nil
	}
	id, err := store.ParseID(text)
	if err != nil {
		return store.ID{}, badUsage("--%s %q is %w: write the id as the table has it", name, text, err)
	}
	return id, nil
}

// owner is whose count it is, as the three flags say.
type owner struct{ user, workflow, draft store.ID }

// ofAll reports whether neither a workflow nor a draft is named.
func (o owner) ofAll() bool { return o.workflow.IsZero() && o.draft.IsZero() }

// key is that of a database, whose table may have no users, or no workflows. It is
// the zero key where what is named is all of a user's.
func (o owner) key(ctx context.Context, db database) (store.Key, error) {
	user, workflow, err := db.Absent(ctx)
	switch {
	case err != nil:
		return store.Key{}, err
	case user && !o.user.IsZero():
		return store.Key{}, badUsage("the table has no column that says whose a run is, and its runs are counted by workflow alone: leave out --user")
	case workflow && !o.ofAll():
		return store.Key{}, badUsage("the table has no column that says what ran, and all runs of a user are one count: leave out --workflow and --draft")
	}
	if user {
		o.user = store.Absent
	}
	if workflow {
		o.workflow = store.Absent
	}
	if o.user.IsZero() {
		return store.Key{}, badUsage("say whose: add --user ID")
	}
	return store.KeyOf(o.user, o.workflow, o.draft), nil
}

// total is the key of a workflow's or draft's total, where a database counts by user
// and none is named; else the zero key.
func (o owner) total(ctx context.Context, db database) (store.Key, error) {
	user, workflow, err := db.Absent(ctx)
	if err != nil || user || workflow || !o.user.IsZero() {
		return store.Key{}, err
	}
	return store.TotalOf(o.workflow, o.draft), nil
}

// ownerOf reads --user, --workflow and --draft. Both refs at once are a mistake and
// not a draft, since a person types them.
func ownerOf(cmd *cli.Command) (o owner, err error) {
	for name, id := range map[string]*store.ID{"user": &o.user, "workflow": &o.workflow, "draft": &o.draft} {
		if *id, err = idOf(cmd, name); err != nil {
			return owner{}, err
		}
	}
	switch {
	case o.user.IsZero() && o.ofAll():
		return owner{}, badUsage("say whose: add --user ID")
	case !o.workflow.IsZero() && !o.draft.IsZero():
		return owner{}, badUsage("a count is a workflow's or a draft's: leave out --workflow or --draft")
	}
	return o, nil
}

// decoderOf returns the reader of rows that --table, --partitions, --lease-column,
// --column, --status, --any-case, --timezone, --times and --description ask for.
func decoderOf(cmd *cli.Command) (webhook.Decoder, error) {
	said, err := overridesOf(cmd)
	if err != nil {
		return webhook.Decoder{}, err
	}
	if lease, named := cmd.String("lease-column"), said.Columns[watched.Lease]; lease != "" {
		if named != "" && lease != named {
			return webhook.Decoder{}, badUsage("--column lease=%s and --lease-column %s name two columns: say one of them", named, lease)
		}
		said = watched.Overrides{Columns: map[watched.Role]string{watched.Lease: lease}}.Over(said)
	}
	d, err := decoderSaid(said)
	if err != nil {
		return d, err
	}
	for role, name := range said.Columns {
		if ours := d.Columns[name]; ours != "" && role != watched.Lease && ours != ourName(role) {
			return d, badUsage("the column %s can't be two things at once, %s and what --column %s=%[1]s says: say which column is the other with --column, or that there is none", name, ours, role)
		}
	}
	if names := strings.TrimSpace(cmd.String("partitions")); names != "" {
		for name := range strings.SplitSeq(names, ",") {
			name = strings.TrimSpace(name)
			if !strings.Contains(name, ".") {
				name = "public." + name
			}
			if schema, table, _ := strings.Cut(name, "."); schema == "" || table == "" {
				return d, badUsage("--partitions %q names no table: write them as public.workflow_runs_2026, or public.workflow_runs_* for all that begin so", names)
			}
			d.Partitions = append(d.Partitions, name)
		}
	}
	return d, nil
}

// decoderSaid is the reader of rows of a table of which so much is said.
func decoderSaid(said watched.Overrides) (d webhook.Decoder, err error) {
	d.Schema, d.Table = said.SchemaAndName()
	d.LeaseColumn, d.Columns, d.Statuses, d.AnyCase = said.Columns[watched.Lease], columnsOf(said.Columns), said.Statuses, said.AnyCase
	if d.AnyCase {
		d.Statuses = map[string]store.Status{}
		for theirs, ours := range said.Statuses {
			d.Statuses[string(store.Status(theirs).Lowered())] = ours
		}
	}
	if said.Zone != "" {
		if d.Zone, err = time.LoadLocation(said.Zone); err != nil {
			return d, badUsage("%q is no time zone that this program knows: write a name such as Europe/Berlin", said.Zone)
		}
	}
	d.Unit = map[watched.Kind]time.Duration{watched.Milliseconds: time.Millisecond, watched.Seconds: time.Second}[said.Times]
	return d, nil
}

// ourName is what we call the column of a role.
func ourName(role watched.Role) string {
	c, _ := watched.Default().Column(role)
	return c.Name
}

// columnsOf are the names of a table's columns, each with ours for it; nil where
// they are the same.
func columnsOf(said map[watched.Role]string) map[string]string {
	columns, other := map[string]string{}, false
	for _, ours := range watched.Default().Columns {
		name, named := said[ours.Role]
		if !named {
			name = ours.Name
		}
		if name != "" {
			columns[name] = ours.Name
		}
		other = other || name != ours.Name
	}
	if !other {
		return nil
	}
	return columns
}

// decoderFor is decoderOf for a database: a source knows what its table is called.
func decoderFor(ctx context.Context, cmd *cli.Command, db backend) (webhook.Decoder, error) {
	d, err := decoderOf(cmd)
	if err != nil || db.table == nil {
		return d, err
	}
	if !db.direct && (d.Columns != nil || len(d.Statuses) > 0 || d.AnyCase || d.Zone != nil || d.Unit != 0 || cmd.IsSet("claim")) {
		return d, badUsage("--column, --status, --any-case, --timezone, --times and --claim are kept by the database: say them to runcounter migrate up")
	}
	t, err := db.table(ctx)
	if err != nil {
		return d, err
	}
	known, err := decoderSaid(t.Foreign())
	known.Partitions, known.LeaseColumn = d.Partitions, cmp.Or(known.LeaseColumn, d.LeaseColumn)
	return known, err
}

func limitsOf(cmd *cli.Command) (store.Limits, error) {
	limits, err := store.ParseLimits(cmd.String("stuck-after"))
	if err != nil {
		return nil, badUsage("--stuck-after: %w", err)
	}
	return limits, nil
}

// presumes reports whether a sweep may end silent runs: a mirror's does by the
// default limits, a source's only where an operator has set --stuck-after.
func presumes(cmd *cli.Command, source bool) bool {
	return !source || cmd.IsSet("stuck-after")
}

// listenOf returns where serve listens.
func listenOf(cmd *cli.Command) string {
	port := cmd.String("port")
	if port != "" {
		port = ":" + port
	}
	return cmp.Or(cmd.String("listen"), port, defaultListen)
}

// keysOf returns the keys of the API.
func keysOf(cmd *cli.Command) ([]string, error) {
	keys, err := webhook.ParseAPIKeys(cmd.String("api-key"))
	if err != nil {
		return nil, badUsage("RUNCOUNTER_API_KEY: %w", err)
	}
	return keys, nil
}

// oneOf returns the value of a flag that has only some.
func oneOf(cmd *cli.Command, name string, choices ...string) (string, error) {
	value := cmd.String(name)
	for _, choice := range choices {
		if value == choice {
			return value, nil
		}
	}
	return "", badUsage("--%s %q is none of %s", name, value, strings.Join(choices, ", "))
}

// quantity prints 1 run and 2 runs.
func quantity(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
