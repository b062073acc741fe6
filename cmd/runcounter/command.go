package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/internal/version"
)

// action wraps every command: it refuses flags and arguments that are given and
// empty, and arguments beyond the first few, which the command would ignore (a
// forgotten "--" before a flag must not go unnoticed), names the database, and gives
// every error its exit code.
func action(arguments int, do cli.ActionFunc) cli.ActionFunc {
	return func(ctx context.Context, cmd *cli.Command) error {
		if err := refuseEmpty(cmd); err != nil {
			return err
		}
		if cmd.NArg() > arguments {
			return badUsage("%s does not know what to do with %q; %s --help shows its usage", cmd.FullName(), cmd.Args().Get(arguments), cmd.FullName())
		}
		where, err := settleDatabase(cmd)
		if err != nil {
			return err
		}
		done, err := useRootCert(cmd)
		if err != nil {
			return err
		}
		defer done()
		err = coded(do(ctx, cmd))
		if exit, ok := errors.AsType[*exitError](err); where != "" && (!ok || exit.code != exitUsage) {
			if _, unheard := fmt.Fprintf(cmd.Root().ErrWriter, "database: %s\n", where); unheard != nil {
				return err // the exit code still tells
			}
		}
		return err
	}
}

func rootCommand() *cli.Command {
	root := &cli.Command{
		Name:      "runcounter",
		Usage:     "counts workflow runs exactly, whatever happens to the webhooks",
		UsageText: "runcounter <command> [flags]",
		Description: `It receives Supabase database webhooks for workflow_runs, makes the completion
of every run consistent, and keeps the count per user and workflow exact.

Start here:
  runcounter demo                what hostile webhooks do to counters, in ten seconds
  runcounter serve               receive webhooks; it prints a curl to try
  runcounter doctor              what is wrong with an installation, and its fix
  runcounter help <command>      the flags of a command, with examples

Every flag can be set in the environment by the variable beside it; the command
line wins. Output is for a person; --json makes it one for a program.

Exit codes:
  0  fine; to lose the race to end a run is a result too, see complete
  1  the answer is no: drift was found, a check of doctor failed, the server
     refused, there is no such run, or lines could not be read
  2  wrong usage; the message says what to do
  3  the database or the server can't be reached, or it failed`,
		Commands: []*cli.Command{
			serveCommand(), demoCommand(), tableCommand(), migrateCommand(), webhookCommand(), importCommand(),
			countCommand(), allowanceCommand(), explainCommand(), runsCommand(), completeCommand(), sendCommand(), openAPICommand(),
			doctorCommand(), sweepCommand(), auditCommand(), recountCommand(), grantCommand(), deadLettersCommand(),
			helpCommand(), versionCommand(), completionCommand(),
		},
		HideHelpCommand: true,
		Version:         version.This().Version,
		Action: func(_ context.Context, cmd *cli.Command) error {
			if name := cmd.Args().First(); name != "" {
				return noCommand(cmd, name)
			}
			return cli.ShowRootCommandHelp(cmd)
		},
	}
	prepare(root)
	return root
}

// prepare gives all commands what they have in common.
func prepare(cmd *cli.Command) {
	// Else the library prints the help before the error. usageError words it.
	cmd.OnUsageError = func(_ context.Context, _ *cli.Command, err error, _ bool) error { return err }
	cmd.Flags = withRootCert(cmd.Flags)
	for _, sub := range cmd.Commands {
		prepare(sub)
	}
}

// refuseEmpty refuses a flag or an argument that is given and empty: it is a
// variable that is not set ("$UNSET"), and to go on as if it had been left out
// would do something that was not meant. An empty variable of the environment
// is none.
func refuseEmpty(cmd *cli.Command) error {
	for _, text := range cmd.Args().Slice() {
		if strings.TrimSpace(text) == "" {
			return badUsage("an argument is empty: is a variable not set? Leave it out, or give it a value")
		}
	}
	for _, f := range cmd.Flags {
		flag, ok := f.(*cli.StringFlag)
		if ok && flag.IsSet() && len(flag.Sources.Chain) == 0 && strings.TrimSpace(cmd.String(flag.Name)) == "" {
			return badUsage("--%s is empty: is a variable not set? Leave it out, or give it a value", flag.Name)
		}
	}
	return nil
}
