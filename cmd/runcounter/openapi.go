package main

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/webhook/api"
)

func openAPICommand() *cli.Command {
	return &cli.Command{
		Name:      "openapi",
		Category:  groupAsk,
		Usage:     "prints the OpenAPI document of the HTTP API",
		UsageText: "runcounter openapi",
		Description: `The document is OpenAPI 3.1, as JSON: every request of the API and the webhooks,
with its answers and errors. It needs no database; serve answers it at
/openapi.json, without a key.

Example:
  runcounter openapi > openapi.json    for a generator of clients`,
		Action: action(0, func(_ context.Context, cmd *cli.Command) error {
			var out bytes.Buffer
			if err := json.Indent(&out, api.OpenAPI(), "", "  "); err != nil {
				return err
			}
			out.WriteByte('\n')
			_, err := out.WriteTo(cmd.Root().Writer)
			return err
		}),
	}
}
