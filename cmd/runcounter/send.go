package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/cmd/runcounter/internal/view"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/api"
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
			tableFlag(flagsRules, usageTable), columnFlag(), jsonFlag(),
		},
		Action: action(1, send),
	}
}

func send(ctx context.Context, cmd *cli.Command) error {
	body, err := bodyOf(cmd)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return badUsage("there is nothing to send: the file, or standard input, is empty")
	}
	req, err := api.NewDelivery(ctx, cmd.String("url"), body)
	if err != nil || req.URL.Host == "" {
		return badUsage("--url is not the address of a server: write it as %s", defaultURL)
	}
	if err := webhook.Authenticate(req.Header, webhook.FirstSecret(cmd.String("secret")), body, time.Now()); err != nil {
		return badUsage("--secret: %w", err)
	}
	text, err := api.Send(&http.Client{
		Timeout:       2 * time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, req)
	if refused, ok := errors.AsType[*api.Refusal](err); ok {
		return failed(refused)
	}
	if err != nil {
		return err
	}
	var answer webhook.Answer
	if err := json.Unmarshal(text, &answer); err != nil {
		return failed(fmt.Errorf("the server's answer is not one of Run Counter: is --url right? %w", err))
	}
	err = show(cmd, json.RawMessage(text), view.Answer(answer))
	if n := len(answer.Refused); err == nil && n > 0 {
		err = failed(fmt.Errorf("%s could not be read; the others were taken", store.Quantity(int64(n), "change", "changes")))
	}
	return err
}

// bodyOf returns the bytes of the file, as they are, or those of a change that
// the flags make.
func bodyOf(cmd *cli.Command) ([]byte, error) {
	if !cmd.Args().Present() {
		change, err := changeOf(cmd, time.Now())
		if err != nil {
			return nil, err
		}
		return json.Marshal(change)
	}
	in, err := openArgument(cmd)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(in)
	if err = errors.Join(err, in.Close()); err != nil {
		return nil, badUsage("read %s: %w", cmd.Args().First(), err)
	}
	return body, nil
}
