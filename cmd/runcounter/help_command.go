package main

import (
	"context"

	"github.com/urfave/cli/v3"
)

func helpCommand() *cli.Command {
	return &cli.Command{
		Name:        "help",
		Category:    groupHelp,
		Usage:       "explains a command, with its flags and examples",
		UsageText:   "runcounter help [COMMAND]",
		Description: "It is the same as runcounter COMMAND --help.",
		Action: action(1, func(_ context.Context, cmd *cli.Command) error {
			about := cmd.Root()
			if name := cmd.Args().First(); name != "" {
				if about = about.Command(name); about == nil {
					return noCommand(cmd.Root(), name)
				}
			}
			printHelp(cmd.Root().Writer, "", about)
			return nil
		}),
	}
}

// noCommand is the error of a command that there is none of.
func noCommand(root *cli.Command, name string) error {
	var names []string
	for _, cmd := range root.Commands {
		names = append(names, cmd.Name)
	}
	return badUsage("there is no command %q. %sruncounter --help lists them", name, didYouMean("runcounter ", nearest(name, names)))
}
