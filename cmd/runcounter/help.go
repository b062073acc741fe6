package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"
)

// printHelp writes the help of a command: one sentence, the usage, what there
// is to know, and its commands or flags in groups.
func printHelp(w io.Writer, _ string, data any) {
	cmd, ok := data.(*cli.Command)
	if !ok {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\nUsage:\n", cmd.FullName(), cmd.Usage)
	for line := range strings.Lines(cmd.UsageText) {
		b.WriteString("  " + strings.TrimRight(line, "\n") + "\n")
	}
	if cmd.Description != "" {
		fmt.Fprintf(&b, "\n%s\n", cmd.Description)
	}
	var commands, flags groups
	for _, sub := range cmd.Commands { // VisibleCommands leaves out one that is called help
		commands.add(sub.Category, fmt.Sprintf("  %-12s  %s\n", sub.Name, sub.Usage))
	}
	for _, flag := range cmd.VisibleFlags() {
		group := ""
		if in, ok := flag.(cli.CategorizableFlag); ok {
			group = in.GetCategory()
		}
		if group == "" && len(cmd.Commands) > 0 {
			continue // the root has no flag but --help, which its text explains
		}
		flags.add(cmp.Or(group, "Help"), describe(flag))
	}
	commands.write(&b)
	flags.write(&b)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return // the reader of the help has left, and the library takes no error
	}
}

// groups are entries under headings, both in the order in which they came: the
// library's own categories are sorted by name, which puts the first thing to
// know last.
type groups struct {
	names   []string
	entries map[string]string
}

func (g *groups) add(name, entry string) {
	if g.entries == nil {
		g.entries = map[string]string{}
	}
	if _, known := g.entries[name]; !known {
		g.names = append(g.names, name)
	}
	g.entries[name] += entry
}

func (g *groups) write(b *strings.Builder) {
	for _, name := range g.names {
		fmt.Fprintf(b, "\n%s:\n%s", name, g.entries[name])
	}
}

// describe returns the help of a flag: its name and a sentence, and below that
// the environment variable and the default.
func describe(flag cli.Flag) string {
	const column = 26
	doc, ok := flag.(cli.DocGenerationFlag)
	if !ok {
		return ""
	}
	head := "  --" + flag.Names()[0]
	before, rest, quoted := strings.Cut(doc.GetUsage(), "`")
	usage := before
	if placeholder, after, closed := strings.Cut(rest, "`"); quoted && closed {
		head += " " + placeholder
		usage = before + placeholder + after
	}
	var notes []string
	for _, env := range doc.GetEnvVars() {
		notes = append(notes, "$"+env)
	}
	value := doc.GetDefaultText()
	if value == "" && doc.TakesValue() {
		value = strings.Trim(doc.GetValue(), `"`)
	}
	if value != "" {
		notes = append(notes, "default "+value)
	}
	gap := "\n" + strings.Repeat(" ", column)
	text := head + strings.Repeat(" ", max(column-len(head), 0)) + usage
	if len(head) > column-2 {
		text = head + gap + usage
	}
	if len(notes) > 0 {
		text += gap + "(" + strings.Join(notes, ", ") + ")"
	}
	return text + "\n"
}
