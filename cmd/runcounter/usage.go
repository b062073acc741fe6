package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"
)

// usageError says of an error of the flag parser what to do about it. The library
// repeats package strconv, and knows nothing of what was meant: the arguments are read
// again, for a flag that is none and a value that can't be.
func usageError(root *cli.Command, args []string, err error) error {
	cmd := root
	if len(args) > 1 && root.Command(args[1]) != nil {
		cmd, args = root.Command(args[1]), args[1:]
	}
	lists := cmd.FullName() + " --help lists the flags"
	given := flagsIn(cmd, args)
	for _, g := range given {
		if g.flag == nil {
			return fmt.Errorf("there is no flag %s. %s%s", g.name, didYouMean("--", nearest(strings.TrimLeft(g.name, "-"), flagNames(cmd))), lists)
		}
	}
	for _, g := range slices.Concat(given, environment(cmd)) {
		if want := wants(g.flag, g.value); g.has && want != "" {
			return fmt.Errorf("%s takes %s, and not %q; %s", g.name, want, g.value, lists)
		}
	}
	return fmt.Errorf("%w; %s", err, lists)
}

// given is a flag with its value, as it stands on the command line or in the environment.
type given struct {
	name, value string // the name with its dashes, or that of a variable
	flag        cli.Flag
	has         bool // a value
	waits       bool // for one, as the last of all
}

type givens []given

// wantsValue reports whether the last argument is a flag whose value is still to come.
func (g givens) wantsValue() bool { return len(g) > 0 && g[len(g)-1].waits }

// flagsIn returns what looks like a flag among the arguments behind a command's name.
func flagsIn(cmd *cli.Command, args []string) (found givens) {
	for i := 1; i < len(args) && args[i] != "--"; i++ {
		if !strings.HasPrefix(args[i], "-") || args[i] == "-" {
			continue
		}
		g := given{}
		g.name, g.value, g.has = strings.Cut(args[i], "=")
		plain := strings.TrimLeft(g.name, "-")
		for _, f := range append(cmd.Flags, cli.HelpFlag) {
			if slices.Contains(f.Names(), plain) {
				g.flag = f
			}
		}
		if doc, ok := g.flag.(cli.DocGenerationFlag); ok && doc.TakesValue() && !g.has {
			if g.waits = i+1 == len(args); !g.waits {
				i++
				g.value, g.has = args[i], true
			}
		}
		found = append(found, g)
	}
	return found
}

// environment returns the flags that have a variable which is set.
func environment(cmd *cli.Command) (found givens) {
	for _, f := range cmd.Flags {
		doc, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		for _, name := range doc.GetEnvVars() {
			if value := os.Getenv(name); value != "" {
				found = append(found, given{name: name, value: value, flag: f, has: true})
			}
		}
	}
	return found
}

// wants says what a flag takes, if this value is not of it.
func wants(flag cli.Flag, value string) string {
	var err error
	want := ""
	switch flag.(type) {
	case *cli.DurationFlag:
		_, err = time.ParseDuration(value)
		want = "a duration such as 20s or 5m"
	case *cli.IntFlag, *cli.Int64Flag:
		_, err = strconv.ParseInt(value, 0, 64)
		want = "a whole number"
	case *cli.Uint64Flag:
		_, err = strconv.ParseUint(value, 0, 64)
		want = "a whole number from 0 on"
	case *cli.BoolFlag:
		_, err = strconv.ParseBool(value)
		want = "true or false"
	}
	if err == nil {
		return ""
	}
	return want
}

func flagNames(cmd *cli.Command) (names []string) {
	for _, flag := range append(cmd.Flags, cli.HelpFlag) {
		names = append(names, flag.Names()[0])
	}
	return names
}
