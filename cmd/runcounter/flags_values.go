package main

import (
	"cmp"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
)

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

// timeOf returns the time in a flag, and the zero time where it is not set.
func timeOf(cmd *cli.Command, name string) (time.Time, error) {
	text := cmd.String(name)
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, badUsage("--%s %q is not a time: write it as 2026-01-31T12:00:00Z", name, text)
	}
	return store.Instant(at), nil
}

// openArgument opens the file that the argument names; - is standard input, and so is
// none.
func openArgument(cmd *cli.Command) (io.ReadCloser, error) {
	name := cmd.Args().First()
	if name == "" || name == "-" {
		return io.NopCloser(cmd.Root().Reader), nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, badUsage("%w: name a file, or - for standard input", err)
	}
	return file, nil
}

// policyOf returns the policy that a flag names, and nil where it names none.
func policyOf(cmd *cli.Command, flag string) (*store.Policy, error) {
	name := cmd.String(flag)
	if name == "" {
		return nil, nil
	}
	policy, err := store.ParsePolicy(name)
	if err != nil {
		return nil, badUsage("--%s: %w", flag, err)
	}
	return &policy, nil
}
