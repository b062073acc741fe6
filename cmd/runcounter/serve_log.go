package main

import (
	"log/slog"
	"os"

	"github.com/mattn/go-isatty"
	"github.com/urfave/cli/v3"
)

// logOf returns the log. A server on loopback belongs to a person trying it
// out, even where the output goes through go run or into a file.
func logOf(cmd *cli.Command, loopback bool) (log *slog.Logger, text bool, err error) {
	out := cmd.Root().ErrWriter
	var level slog.Level
	if err := level.UnmarshalText([]byte(cmd.String("log-level"))); err != nil {
		return nil, false, badUsage("--log-level %q is none of debug, info, warn, error", cmd.String("log-level"))
	}
	options := &slog.HandlerOptions{Level: level}
	switch cmd.String("log-format") {
	case "text":
		text = true
	case "":
		file, ok := out.(*os.File)
		text = loopback || ok && isatty.IsTerminal(file.Fd())
	case "json":
	default:
		return nil, false, badUsage("--log-format %q is none of text, json", cmd.String("log-format"))
	}
	if text {
		return slog.New(slog.NewTextHandler(out, options)), true, nil
	}
	return slog.New(slog.NewJSONHandler(out, options)), false, nil
}
