package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
)

// The exit codes, as --help explains them.
const (
	exitFine        = 0
	exitNo          = 1
	exitUsage       = 2
	exitUnreachable = 3
)

// exitError carries the exit code of an error. Errors of the flag parser come
// without one: they are wrong usage.
type exitError struct {
	code int
	err  error // nil where the output has said it all
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// failed returns the error of exit code 1, the answer "no", with or without a sentence
// on stderr.
func failed(err error) error { return &exitError{exitNo, err} }

// badUsage returns an error that a person can fix on the command line.
func badUsage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// action wraps every command: it refuses flags and arguments that are given and
// empty, names the database, and gives every error its exit code.
func action(do cli.ActionFunc) cli.ActionFunc {
	return func(ctx context.Context, cmd *cli.Command) error {
		if err := refuseEmpty(cmd); err != nil {
			return err
		}
		where, err := settleDatabase(cmd)
		if err != nil {
			return err
		}
		err = coded(do(ctx, cmd))
		if exit, ok := errors.AsType[*exitError](err); where != "" && (!ok || exit.code != exitUsage) {
			if _, unheard := fmt.Fprintf(cmd.Root().ErrWriter, "database: %s\n", where); unheard != nil {
				return err // the exit code still tells
			}
		}
		return err
	}
}

func coded(err error) error {
	if _, coded := errors.AsType[*exitError](err); err == nil || coded {
		return err
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return failed(fmt.Errorf("%w, or it was deleted: check the id", err))
	case errors.Is(err, migrations.ErrTable):
		return failed(err)
	case errors.Is(err, store.ErrInvalid):
		return &exitError{exitUsage, err}
	}
	return &exitError{exitUnreachable, err}
}

// run is the program: its result is the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	cli.HelpPrinter = printHelp
	root := rootCommand()
	root.Reader, root.Writer, root.ErrWriter = in, out, errs
	err := root.Run(ctx, helpOf(root, args))
	if err == nil {
		return exitFine
	}
	code := exitUsage
	if coded, ok := errors.AsType[*exitError](err); ok {
		code = coded.code
	}
	if err.Error() != "" {
		if _, unheard := fmt.Fprintf(errs, "runcounter: %s\n", err); unheard != nil {
			return code // nobody listens; the exit code still tells
		}
	}
	return code
}

// helpOf leaves out what stands between a command and --help, as in runcounter
// webhook status --help: the library would look for a command of that name.
func helpOf(root *cli.Command, args []string) []string {
	if len(args) < 4 || root.Command(args[1]) == nil {
		return args
	}
	for _, arg := range args[2:] {
		switch arg {
		case "--":
			return args
		case "--help", "-h":
			return []string{args[0], args[1], arg}
		}
	}
	return args
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
  runcounter <command> --help    the flags of a command, with examples

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
			countCommand(), explainCommand(), completeCommand(), sendCommand(),
			doctorCommand(), sweepCommand(), auditCommand(), recountCommand(), deadLettersCommand(),
		},
		HideHelpCommand: true,
		HideVersion:     true,
		Action: func(_ context.Context, cmd *cli.Command) error {
			if name := cmd.Args().First(); name != "" {
				return badUsage("there is no command %q; runcounter --help lists them", name)
			}
			return cli.ShowRootCommandHelp(cmd)
		},
	}
	prepare(root)
	return root
}

// prepare gives all commands what they have in common.
func prepare(cmd *cli.Command) {
	cmd.OnUsageError = func(_ context.Context, cmd *cli.Command, err error, _ bool) error {
		return &exitError{exitUsage, fmt.Errorf("%w; %s --help lists the flags", err, cmd.FullName())}
	}
	for _, sub := range cmd.Commands {
		prepare(sub)
	}
}

// atMost refuses arguments that the command would ignore: a forgotten "--"
// before a flag must not go unnoticed.
func atMost(n int, cmd *cli.Command) error {
	if cmd.NArg() > n {
		return badUsage("%s does not know what to do with %q; %s --help shows its usage", cmd.FullName(), cmd.Args().Get(n), cmd.FullName())
	}
	return nil
}
