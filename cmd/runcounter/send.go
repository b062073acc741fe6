package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/api"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

const (
	hookPath   = "/webhooks/workflow-runs"
	edgePath   = "/functions/v1/run-counter"
	defaultURL = "http://127.0.0.1:8080" + hookPath
)

func sendCommand() *cli.Command {
	what := func(name, usage, value string) cli.Flag {
		return &cli.StringFlag{Name: name, Category: flagsWhat, Usage: usage, Value: value}
	}
	return &cli.Command{
		Name:      "send",
		Category:  groupAsk,
		Usage:     "posts a webhook, from a file or made from flags",
		UsageText: "runcounter send FILE [flags]       - is standard input\nruncounter send --user ID (--workflow ID | --draft ID) [flags]",
		Description: `Without a file it makes one change, by default that a run went from running to
completed now, and sends it in the form of a Supabase database webhook. A secret
that begins with whsec_ signs the request as Standard Webhooks has it; any other
goes into the header Authorization. Redirects are not followed.

Examples:
  runcounter send captured.json --secret "$RUNCOUNTER_WEBHOOK_SECRET"
  runcounter send --user 11111111-1111-4111-8111-111111111111 \
    --workflow aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa --status failed`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "url", Category: flagsWhere, Value: defaultURL, Usage: "the `URL` of the receiver", Sources: cli.EnvVars("RUNCOUNTER_URL")},
			&cli.StringFlag{Name: "secret", Category: flagsWhere, Usage: "the `SECRET` to send or sign with; the first of several", Sources: cli.EnvVars("RUNCOUNTER_WEBHOOK_SECRET")},
			what("type", "the `TYPE` of change: INSERT, UPDATE or DELETE", "UPDATE"),
			&cli.StringFlag{Name: "id", Category: flagsWhat, Usage: "the run's `ID`", DefaultText: "a new one"},
			userFlag(), workflowFlag(), draftFlag(),
			what("status", "the run's `STATUS` after the change", "completed"),
			what("old-status", "its `STATUS` before an UPDATE", "running"),
			&cli.StringFlag{Name: "completed-at", Category: flagsWhat, Usage: "when it ended, a `TIME` such as 2026-01-31T12:00:00Z, or null", DefaultText: "now, null for a status that is not an outcome"},
			tableFlag(), columnFlag(), jsonFlag(),
		},
		Action: action(send),
	}
}

func send(ctx context.Context, cmd *cli.Command) error {
	if err := atMost(1, cmd); err != nil {
		return err
	}
	body, err := bodyOf(cmd)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return badUsage("there is nothing to send: the file, or standard input, is empty")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, cmd.String("url"), bytes.NewReader(body))
	if err != nil || req.URL.Host == "" {
		return badUsage("--url is not the address of a server: write it as %s", defaultURL)
	}
	req.Header.Set("Content-Type", "application/json")
	if err := webhook.Authenticate(req.Header, webhook.FirstSecret(cmd.String("secret")), body, time.Now()); err != nil {
		return badUsage("--secret: %w", err)
	}
	client := &http.Client{
		Timeout:       2 * time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("no answer from the server: %w; is it running, and is --url right?", err)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return refused(res, text)
	}
	return printAnswer(cmd, text)
}

// bodyOf returns the bytes of the file, as they are, or those of a change that
// the flags make.
func bodyOf(cmd *cli.Command) ([]byte, error) {
	switch name := cmd.Args().First(); name {
	case "":
		return madeUp(cmd, time.Now())
	case "-":
		body, err := io.ReadAll(cmd.Root().Reader)
		if err != nil {
			return nil, badUsage("read standard input: %w", err)
		}
		return body, nil
	default:
		body, err := os.ReadFile(name)
		if err != nil {
			return nil, badUsage("%w: name a file, or - for standard input", err)
		}
		return body, nil
	}
}

// madeUp makes a change from the flags. The run lasts a second unless its
// times say otherwise.
func madeUp(cmd *cli.Command, now time.Time) ([]byte, error) {
	kind, err := oneOf(cmd, "type", "INSERT", "UPDATE", "DELETE")
	if err != nil {
		return nil, err
	}
	o, err := ownerOf(cmd)
	if err != nil {
		return nil, err
	}
	table, err := decoderOf(cmd)
	if err != nil {
		return nil, err
	}
	has := func(column string) bool {
		return table.Columns == nil || slices.Contains(slices.Collect(maps.Values(table.Columns)), column)
	}
	switch {
	case o.user.IsZero() && has("user_id"):
		return nil, badUsage("say whose: add --user ID")
	case o.ofAll() && has("workflow_id"):
		return nil, badUsage("say which run: add --workflow ID or --draft ID, since a run with neither is counted nowhere; of a table without workflows say --column workflow=")
	}
	id, err := idOf(cmd, "id")
	if err != nil {
		return nil, err
	}
	if id.IsZero() {
		id = store.NewID()
	}
	record := api.Row{
		ID: id, User: o.user, Workflow: o.workflow, Draft: o.draft, Status: store.Status(cmd.String("status")),
		UpdatedAt: api.Instant(now), Columns: table.Columns,
	}
	if record.CompletedAt, err = completedAt(cmd, record.Status, now); err != nil {
		return nil, err
	}
	end := now
	if at := time.Time(record.CompletedAt); !at.IsZero() {
		end = at
	}
	record.CreatedAt, record.StartedAt = api.Instant(end.Add(-time.Second)), api.Instant(end.Add(-time.Second))
	change := api.Change{Type: kind, Schema: table.Schema, Table: table.Table}
	if kind != "DELETE" {
		change.Record = &record
	}
	if kind != "INSERT" {
		old := record
		if kind == "UPDATE" {
			old.Status, old.CompletedAt, old.UpdatedAt = store.Status(cmd.String("old-status")), api.Instant{}, record.StartedAt
			if old.Status.Terminal() {
				old.CompletedAt = record.StartedAt
			}
		}
		change.Old = &old
	}
	return json.Marshal(change)
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

// refused is the answer of a server that did not take the delivery.
func refused(res *http.Response, text []byte) error {
	if to := res.Header.Get("Location"); to != "" && res.StatusCode/100 == 3 {
		return failed(fmt.Errorf("the server answered %s, to %s: webhooks don't follow redirects, so name that address with --url", res.Status, to))
	}
	var told problem.Problem
	if err := json.Unmarshal(text, &told); err != nil || told.Detail == "" {
		return failed(fmt.Errorf("the server answered %s, which is not an answer of Run Counter: is --url right?", res.Status))
	}
	return failed(fmt.Errorf("the server answered %s: %s", res.Status, told.Detail))
}

func printAnswer(cmd *cli.Command, text []byte) error {
	var answer webhook.Answer
	if err := json.Unmarshal(text, &answer); err != nil {
		return failed(fmt.Errorf("the server's answer is not one of Run Counter: is --url right? %w", err))
	}
	var no error
	if n := len(answer.Refused); n > 0 {
		no = failed(fmt.Errorf("%s could not be read; the others were taken", store.Quantity(int64(n), "change", "changes")))
	}
	out := cmd.Root().Writer
	if cmd.Bool("json") {
		return cmp.Or(printJSON(out, json.RawMessage(text)), no)
	}
	_, err := fmt.Fprintf(out, "Received %d, changed %d, ignored %d.\n", answer.Received, answer.Changed, answer.Ignored)
	for _, r := range answer.Refused {
		fmt.Fprintf(out, "Change %d was refused: %s\n", r.Change, oneLine(r.Reason))
	}
	if err != nil || len(answer.Counts) == 0 {
		return cmp.Or(err, no)
	}
	rows := [][]string{{"USER", "KIND", "ID", "COUNT"}}
	for _, c := range answer.Counts {
		if c.Workflow.IsZero() && c.Draft.IsZero() { // null where the table has no column for it
			c.Workflow = store.Absent
		}
		key := store.KeyOf(cmp.Or(c.User, store.Absent), c.Workflow, c.Draft)
		rows = append(rows, []string{cell(key.User), string(key.Kind), cell(key.Ref), decimal(c.Count)})
	}
	return cmp.Or(printTable(out, rows), no)
}
