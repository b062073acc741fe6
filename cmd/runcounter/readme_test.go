package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v3"
)

const referencePage = "../../docs/reference.md"

// Each variable that serve reads has its row in the reference, and each row is
// one that serve reads.
func TestTheReferenceNamesEveryVariable(t *testing.T) {
	t.Parallel()
	var want []string
	for _, flag := range rootCommand().Command("serve").Flags {
		if doc, ok := flag.(cli.DocGenerationFlag); ok {
			want = append(want, doc.GetEnvVars()...)
		}
	}
	var got []string
	variable := regexp.MustCompile("`([A-Z_]+)`")
	for _, row := range regexp.MustCompile("(?m)^\\| (`[A-Z].*?) \\|").FindAllStringSubmatch(mustReadFile(t, referencePage), -1) {
		for _, name := range variable.FindAllStringSubmatch(row[1], -1) {
			got = append(got, name[1])
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, slices.Compact(got)); d != "" {
		t.Errorf("docs/reference.md's table of variables differs from the flags of serve (-serve +page):\n%s", d)
	}
}

// Each command has its row in the reference, in the order of --help.
func TestTheReferenceNamesEveryCommand(t *testing.T) {
	t.Parallel()
	var got, want []string
	for _, name := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(mustReadFile(t, referencePage), -1) {
		got = append(got, name[1])
	}
	for _, cmd := range rootCommand().Commands {
		want = append(want, cmd.Name)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("docs/reference.md's list of commands differs (-program +page):\n%s", d)
	}
}

// The laws have the same numbers and names wherever they are listed.
func TestTheLawsAreTheSameInEachList(t *testing.T) {
	t.Parallel()
	lists := map[string]*regexp.Regexp{
		"../../README.md":             regexp.MustCompile(`(?m)^(\d)\. \*\*([A-Z][^*]+)\.\*\*`),
		"../../docs/how-it-counts.md": regexp.MustCompile(`(?m)^\| (\d) \| \*\*([A-Z][^*]+)\.\*\*`),
		"../../store/doc.go":          regexp.MustCompile(`(?m)^//  (\d)\. ([A-Z][^:]+):`),
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

// pagesOfTheRepository are all that a reader is sent to.
func pagesOfTheRepository(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob(top + "/docs/*.md")
	if err != nil || len(pages) < 6 {
		t.Fatalf("got the pages %v, %v", pages, err)
	}
	return append(pages, top+"/README.md", top+"/CONTRIBUTING.md", top+"/CHANGELOG.md")
}

// Each link leads to a file of the repository, and to a heading in it.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#:\s]*)(?:#([^)\s]*))?\)`)
	for _, page := range pagesOfTheRepository(t) {
		for _, found := range link.FindAllStringSubmatch(mustReadFile(t, page), -1) {
			to := page
			if found[1] != "" {
				to = filepath.Join(filepath.Dir(page), found[1])
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s links to %s: %v", page, found[1], err)
			} else if found[2] != "" && !slices.Contains(anchorsOf(mustReadFile(t, to)), found[2]) {
				t.Errorf("%s links to %s: no heading is called so", page, found[1]+"#"+found[2])
			}
		}
	}
}

// The README leads to each page of docs/.
func TestTheReadmeLinksEachPage(t *testing.T) {
	t.Parallel()
	readme := mustReadFile(t, top+"/README.md")
	for _, page := range pagesOfTheRepository(t) {
		if name := filepath.Base(page); name != "README.md" && !strings.Contains(readme, "/"+name+")") && !strings.Contains(readme, "("+name+")") {
			t.Errorf("the README doesn't link %s", page)
		}
	}
}

// anchorsOf lists the headings of a page as GitHub names them in addresses.
func anchorsOf(page string) (anchors []string) {
	dropped := regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		anchors = append(anchors, strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(heading[1]), ""), " ", "-"))
	}
	return anchors
}

// Each page of docs/ opens with a paragraph for whom it is, what it gives, and
// how long it takes, in two lines of a wide screen.
func TestPagesSayForWhomTheyAre(t *testing.T) {
	t.Parallel()
	opening := regexp.MustCompile(`^# [^\n]+\n\nFor [^\n]+\. Gives [^\n]+; [^\n]+\.\n`)
	for _, page := range pagesOfTheRepository(t) {
		if filepath.Base(filepath.Dir(page)) != "docs" {
			continue
		}
		if first := opening.FindString(mustReadFile(t, page)); first == "" || len(first) > 320 {
			t.Errorf("%s doesn't open with \"For …. Gives …; ten minutes.\" in 320 bytes: %q", page, first)
		}
	}
}

// CONTRIBUTING names files and packages in the first column of its tables, and in
// the second what is in them.
func TestContributingNamesWhatThereIs(t *testing.T) {
	t.Parallel()
	word := regexp.MustCompile("`([A-Za-z]\\w*)`")
	rows := regexp.MustCompile("(?m)^\\| `([\\w./]+)` \\| (.*) \\|$").FindAllStringSubmatch(mustReadFile(t, top+"/CONTRIBUTING.md"), -1)
	if len(rows) < 20 {
		t.Fatalf("got %d rows: the page is not what this test reads", len(rows))
	}
	for _, row := range rows {
		files, err := filepath.Glob(filepath.Join(top, row[1]))
		if err == nil && !strings.Contains(filepath.Base(row[1]), ".") && len(files) == 1 {
			files, err = filepath.Glob(filepath.Join(top, row[1], "*.*"))
		}
		if err != nil || len(files) == 0 {
			t.Errorf("CONTRIBUTING.md names %s: there is none (%v)", row[1], err)
		}
		text := ""
		for _, file := range files {
			text += mustReadFile(t, file)
		}
		for _, name := range word.FindAllStringSubmatch(row[2], -1) {
			if !regexp.MustCompile(`\b` + name[1] + `\b`).MatchString(text) {
				t.Errorf("CONTRIBUTING.md names %s of %s: there is none", name[1], row[1])
			}
		}
	}
}
