package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/internal/version"
)

func init() {
	// The library's flag has the short name -v, which other programs take for "say more".
	cli.VersionFlag = &cli.BoolFlag{Name: "version", Usage: "print which build this is", HideDefault: true, Local: true}
	cli.VersionPrinter = func(cmd *cli.Command) { fmt.Fprint(cmd.Root().Writer, versionLine()) }
}

func versionLine() string { return "runcounter " + version.This().String() + "\n" }

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:      "version",
		Category:  groupHelp,
		Usage:     "prints which build this is",
		UsageText: "runcounter version [--json]",
		Description: `It prints the version, the commit and the version of Go. A server says the same
at /livez, in the foot of its console and as the metric runcounter_build_info.`,
		Flags: []cli.Flag{jsonFlag()},
		Action: action(0, func(_ context.Context, cmd *cli.Command) error {
			return show(cmd, version.This(), versionLine())
		}),
	}
}
