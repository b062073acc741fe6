package main

import (
	"encoding/json"
	"io"

	"github.com/urfave/cli/v3"
)

// show prints a result: as a value for a program with --json, with the keys of the HTTP
// API, and else as a text for a person.
func show(cmd *cli.Command, value any, text string) error {
	out := cmd.Root().Writer
	if !cmd.Bool("json") {
		_, err := io.WriteString(out, text)
		return err
	}
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
