package main

import (
	"maps"
	"slices"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

// changeOf makes a change from the flags. The run takes a second unless its times say
// otherwise.
func changeOf(cmd *cli.Command, now time.Time) (change api.Change, err error) {
	kind, err := oneOf(cmd, "type", "INSERT", "UPDATE", "DELETE")
	if err != nil {
		return change, err
	}
	o, err := ownerOf(cmd)
	if err != nil {
		return change, err
	}
	table, err := decoderOf(cmd)
	if err != nil {
		return change, err
	}
	has := func(column string) bool {
		return table.Columns == nil || slices.Contains(slices.Collect(maps.Values(table.Columns)), column)
	}
	switch {
	case o.user.IsZero() && has("user_id"):
		return change, badUsage("say whose: add --user ID")
	case o.ofAll() && has("workflow_id"):
		return change, badUsage("say which run: add --workflow ID or --draft ID, since a run with neither is counted nowhere; of a table without workflows say --column workflow=")
	}
	id, err := idOf(cmd, "id")
	if err != nil {
		return change, err
	}
	if id.IsZero() {
		id = store.NewID()
	}
	row := api.Row{
		ID: id, User: o.user, Workflow: o.workflow, Draft: o.draft, Status: store.Status(cmd.String("status")),
		UpdatedAt: api.Instant(now), Columns: table.Columns,
	}
	if row.CompletedAt, err = completedAt(cmd, row.Status, now); err != nil {
		return change, err
	}
	change = api.ChangeOf(kind, row, store.Status(cmd.String("old-status")))
	change.Schema, change.Table = table.Schema, table.Table
	return change, nil
}

func completedAt(cmd *cli.Command, status store.Status, now time.Time) (api.Instant, error) {
	text := cmd.String("completed-at")
	switch {
	case text == "null", text == "" && !status.Terminal():
		return api.Instant{}, nil
	case text == "":
		return api.Instant(now), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return api.Instant{}, badUsage("--completed-at %q is not a time: write it as 2026-01-31T12:00:00Z, or null", text)
	}
	return api.Instant(at), nil
}
