package main

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
	"github.com/edgaze-ai/runcounter/webhook"
)

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

// ourName returns our name for the column of a role.
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
