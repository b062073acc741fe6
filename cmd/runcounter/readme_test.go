package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v3"
)

// Each variable that serve reads has its row in the README, and each row is one
// that serve reads.
func TestTheReadmeNamesEveryVariable(t *testing.T) {
	t.Parallel()
	var want []string
	for _, flag := range serveCommand().Flags {
		if doc, ok := flag.(cli.DocGenerationFlag); ok {
			want = append(want, doc.GetEnvVars()...)
		}
	}
	var got []string
	variable := regexp.MustCompile("`([A-Z_]+)`")
	for _, row := range regexp.MustCompile("(?m)^\\| (`[A-Z].*?) \\|").FindAllStringSubmatch(mustReadFile(t, "../../README.md"), -1) {
		for _, name := range variable.FindAllStringSubmatch(row[1], -1) {
			got = append(got, name[1])
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, slices.Compact(got)); d != "" {
		t.Errorf("the README's table of variables differs from the flags of serve (-serve +README):\n%s", d)
	}
}

// Each command is named where the README lists them.
func TestTheReadmeNamesEveryCommand(t *testing.T) {
	t.Parallel()
	_, list, _ := strings.Cut(mustReadFile(t, "../../README.md"), "\n**The command.** ")
	list, _, found := strings.Cut(list, ":")
	if !found {
		t.Fatal("the README has no list of commands")
	}
	var got, want []string
	for _, name := range regexp.MustCompile("`([a-z-]+)`").FindAllStringSubmatch(list, -1) {
		got = append(got, name[1])
	}
	for _, cmd := range rootCommand().Commands {
		want = append(want, cmd.Name)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the README's list of commands differs (-program +README):\n%s", d)
	}
}

// The laws have the same numbers and names wherever they are listed.
func TestTheLawsAreTheSameInEachList(t *testing.T) {
	t.Parallel()
	lists := map[string]*regexp.Regexp{
		"../../README.md":             regexp.MustCompile(`(?m)^(\d)\. \*\*([A-Z][^*]+)\.\*\*`),
		"../../docs/how-it-counts.md": regexp.MustCompile(`(?m)^\| (\d) \| \*\*([A-Z][^*]+)\.\*\*`),
		"../../store/store.go":        regexp.MustCompile(`(?m)^//  (\d)\. ([A-Z][^:]+):`),
	}
	want := []string{
		"1 Exact in every snapshot", "2 First outcome wins", "3 Convergence", "4 Idempotence and commutativity",
		"5 Quiet", "6 Acked is durable", "7 No stranger", "8 Harmless",
	}
	for file, law := range lists {
		var got []string
		for _, one := range law.FindAllStringSubmatch(mustReadFile(t, file), -1) {
			got = append(got, one[1]+" "+one[2])
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("the laws in %s differ (-want +got):\n%s", file, d)
		}
	}
}
