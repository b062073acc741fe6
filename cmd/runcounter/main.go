// Command runcounter receives database webhooks for workflow_runs, keeps the
// count of runs per user and workflow exact, and answers what it is.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	_ "time/tzdata" // for --timezone: the images have no zones

	"github.com/urfave/cli/v3"
)

func main() {
	os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
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
	} else {
		err = usageError(root, args, err)
	}
	if err.Error() != "" {
		if _, unheard := fmt.Fprintf(errs, "runcounter: %s\n", err); unheard != nil {
			return code // stderr is gone; the exit code still tells
		}
	}
	return code
}

// helpOf leaves out what stands between a command and --help, as in runcounter
// webhook status --help: the library would look for a command of that name. So it
// would behind --help, as in runcounter --help status.
func helpOf(root *cli.Command, args []string) []string {
	if len(args) > 2 && (args[1] == "--help" || args[1] == "-h") {
		return []string{args[0], "help", args[2]}
	}
	if len(args) < 4 || root.Command(args[1]) == nil || args[1] == "completion" {
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
