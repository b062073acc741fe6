package main

import (
	"context"
	"embed"
	"fmt"
	"regexp"
	"strings"

	"github.com/urfave/cli/v3"
)

// The scripts ask runcounter completion words -- WORD... for each key: the list of
// commands and flags is the program's own. Those of the library evaluate the line, and
// need bash-completion.
//
//go:embed completions
var completions embed.FS

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Category:  groupHelp,
		Usage:     "prints the script by which a shell completes commands and flags",
		UsageText: "runcounter completion bash | zsh | fish",
		Description: `The shell reads it when it starts:
  bash  echo 'source <(runcounter completion bash)' >> ~/.bashrc
  zsh   echo 'source <(runcounter completion zsh)' >> ~/.zshrc, below compinit
  fish  runcounter completion fish > ~/.config/fish/completions/runcounter.fish`,
		Action: func(_ context.Context, cmd *cli.Command) error {
			shell := cmd.Args().First()
			if shell == "words" {
				return printWords(cmd.Root(), cmd.Args().Tail())
			}
			script, err := completions.ReadFile("completions/runcounter." + shell)
			if err != nil || cmd.NArg() > 1 {
				return badUsage("say for which shell: runcounter completion bash, zsh or fish")
			}
			_, err = cmd.Root().Writer.Write(script)
			return err
		},
	}
}

// printWords prints what may stand in place of the last word, each with a tab and what it
// is. It prints nothing where a file or a value of the reader's own is to stand.
func printWords(root *cli.Command, words []string) error {
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	if len(words) == 0 {
		return nil
	}
	for _, w := range candidates(root, words[:len(words)-1]) {
		if !strings.HasPrefix(w.name, words[len(words)-1]) || strings.HasPrefix(w.name, "-") && words[len(words)-1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(root.Writer, "%s\t%s\n", w.name, w.about); err != nil {
			return err
		}
	}
	return nil
}

type candidate struct{ name, about string }

// candidates are what may stand behind the words that are there.
func candidates(root *cli.Command, before []string) (may []candidate) {
	if len(before) == 0 {
		for _, cmd := range root.Commands {
			may = append(may, candidate{cmd.Name, cmd.Usage})
		}
		return append(may, candidate{"--help", "explains the program"}, candidate{"--version", "prints which build this is"})
	}
	cmd := root.Command(before[0])
	if cmd == nil {
		return nil
	}
	if cmd.Name == "help" {
		return candidates(root, nil)
	}
	if flagsIn(cmd, before).wantsValue() {
		return nil
	}
	if len(before) == 1 {
		for _, name := range actionsOf(cmd) {
			may = append(may, candidate{name, ""})
		}
	}
	for _, flag := range cmd.VisibleFlags() {
		about := ""
		if doc, ok := flag.(cli.DocGenerationFlag); ok {
			about = strings.Join(strings.Fields(strings.ReplaceAll(doc.GetUsage(), "`", "")), " ")
		}
		may = append(may, candidate{"--" + flag.Names()[0], about})
	}
	return may
}

var actionsText = regexp.MustCompile(`(?m)^runcounter \S+ ([a-z]+(?: \| [a-z]+)*)\b`)

// actionsOf are the words of which a command takes one, as its usage lists them.
func actionsOf(cmd *cli.Command) (names []string) {
	for _, found := range actionsText.FindAllStringSubmatch(cmd.UsageText, -1) {
		names = append(names, strings.Split(found[1], " | ")...)
	}
	return names
}
