package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/internal/version"
)

func TestCaseO2_TheProgramSaysWhichBuildItIs(t *testing.T) {
	t.Parallel()
	want := "runcounter " + version.This().String() + "\n"
	for _, args := range [][]string{{"version"}, {"--version"}} {
		if got := must(t, t.TempDir(), "", args...); got != want {
			t.Errorf("%v: got %q, want %q", args, got, want)
		}
	}
	if got := mustJSON[version.Build](t, t.TempDir(), "", "version"); got != version.This() {
		t.Errorf("version --json: got %+v, want %+v", got, version.This())
	}
}

func TestCaseO2_HelpIsACommandToo(t *testing.T) {
	t.Parallel()
	for _, same := range [][2][]string{
		{{"help"}, {"--help"}},
		{{"help", "serve"}, {"serve", "--help"}},
		{{"--help", "serve"}, {"serve", "--help"}},
		{{"help", "migrate"}, {"migrate", "up", "--help"}},
	} {
		if diff := cmp.Diff(must(t, t.TempDir(), "", same[1]...), must(t, t.TempDir(), "", same[0]...)); diff != "" {
			t.Errorf("%v and %v differ:\n%s", same[1], same[0], diff)
		}
	}
}

// Neither the library's words nor package strconv's reach a person, and what was meant is
// named.
func TestCasesO2AndO12_WrongUsageIsAnsweredInOurWords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		env  string
		want string
	}{
		{[]string{"srve"}, "", `there is no command "srve". Did you mean runcounter serve? runcounter --help lists them`},
		{[]string{"dead"}, "", `there is no command "dead". Did you mean runcounter dead-letters? runcounter --help lists them`},
		{[]string{"help", "adit"}, "", `there is no command "adit". Did you mean runcounter audit? runcounter --help lists them`},
		{[]string{"--help", "foo"}, "", `there is no command "foo". runcounter --help lists them`},
		{[]string{"count", "--usr", "x"}, "", `there is no flag --usr. Did you mean --user? runcounter count --help lists the flags`},
		{[]string{"count", "--user=--usr", "--wrkflow=x"}, "", `there is no flag --wrkflow. Did you mean --workflow? runcounter count --help lists the flags`},
		{[]string{"count", "--user", "--usr", "--colour"}, "", `there is no flag --colour. runcounter count --help lists the flags`},
		{[]string{"--vrsion"}, "", `there is no flag --vrsion. Did you mean --version? runcounter --help lists the flags`},
		{[]string{"demo", "--runs", "many"}, "", `--runs takes a whole number, and not "many"; runcounter demo --help lists the flags`},
		{[]string{"demo", "--seed=-1"}, "", `--seed takes a whole number from 0 on, and not "-1"; runcounter demo --help lists the flags`},
		{[]string{"serve", "--drain", "5"}, "", `--drain takes a duration such as 20s or 5m, and not "5"; runcounter serve --help lists the flags`},
		{[]string{"serve"}, "RUNCOUNTER_DRAIN=soon", `RUNCOUNTER_DRAIN takes a duration such as 20s or 5m, and not "soon"; runcounter serve --help lists the flags`},
		{[]string{"migrate", "down", "--yes=maybe"}, "", `--yes takes true or false, and not "maybe"; runcounter migrate --help lists the flags`},
	} {
		r := exec1(t, command(t, t.TempDir(), []string{tt.env}, tt.args...), "")
		if diff := cmp.Diff(result{"", "runcounter: " + tt.want + "\n", exitUsage}, r, cmp.AllowUnexported(result{})); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tt.args, diff)
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	names := []string{"serve", "send", "sweep", "count", "recount"}
	for written, want := range map[string]string{
		"serv": "serve", "sreve": "serve", "snd": "send", "cuont": "count", "recont": "recount", "x": "", "": "", "restart": "", "se": "",
	} {
		if got := nearest(written, names); got != want {
			t.Errorf("%q: got %q, want %q", written, got, want)
		}
	}
}

// words are those that the program offers for a line whose last word is not yet whole.
func words(t *testing.T, line ...string) (names []string) {
	t.Helper()
	for text := range strings.Lines(must(t, t.TempDir(), "", append([]string{"completion", "words", "--"}, line...)...)) {
		name, about, found := strings.Cut(strings.TrimSuffix(text, "\n"), "\t")
		if !found || strings.Contains(about, "`") {
			t.Errorf("%v: %q is not a word, a tab and what it is", line, text)
		}
		names = append(names, name)
	}
	return names
}

func TestCompletionOffersWhatMayStandThere(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ line, want []string }{
		{[]string{"mi"}, []string{"migrate"}},
		{[]string{"migrate", ""}, []string{"up", "down", "status", "print"}},
		{[]string{"dead-letters", "dr"}, []string{"drop"}},
		{[]string{"help", "au"}, []string{"audit"}},
		{[]string{"count", "--us"}, []string{"--user"}},
		{[]string{"count", "--json", "--wo"}, []string{"--workflow"}},
		{[]string{"count", "--user", ""}, nil},
		{[]string{"count", "--user", "--"}, nil},
		{[]string{"count", "--user=x", "--kin"}, []string{"--kind"}},
		{[]string{"send", ""}, nil},
		{[]string{"nothing", ""}, nil},
		{[]string{"--ver"}, []string{"--version"}},
	} {
		if diff := cmp.Diff(tt.want, words(t, tt.line...)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.line, diff)
		}
	}
	var want []string
	for _, cmd := range rootCommand().Commands {
		want = append(want, cmd.Name)
	}
	if diff := cmp.Diff(want, words(t, "")); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}

// A command that takes one of several words lists them where completion reads them.
func TestTheUsageListsTheWordsOfACommand(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"migrate", "webhook", "dead-letters", "grant", "completion"} {
		cmd := rootCommand().Command(name)
		said := exec1(t, command(t, t.TempDir(), nil, name), "").errs
		for _, word := range actionsOf(cmd) {
			if !strings.Contains(said, word) {
				t.Errorf("runcounter %s offers %s, and says %q", name, word, said)
			}
		}
		if n := len(actionsOf(cmd)); n < 3 {
			t.Errorf("%s: got %d words", name, n)
		}
	}
	if got := actionsOf(&cli.Command{UsageText: "runcounter send FILE [flags]"}); got != nil {
		t.Errorf("got the words %v of a command that takes a file", got)
	}
}

// Each shell that the machine has completes by the script that is printed for it.
func TestCompletionInARealShell(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for shell, script := range map[string]string{
		"bash": `source <(runcounter completion bash) || exit
complete_line() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _runcounter; echo "${COMPREPLY[@]}"; }
complete_line runcounter migrate st
complete_line runcounter count --us
complete_line runcounter mi
complete_line runcounter import "a'; touch hacked; '"`,
		"zsh": `autoload -U compinit && compinit -u -d zcompdump; source <(runcounter completion zsh) || exit
_describe() { local -a found=("${(@P)2}"); echo "${(@)found%%:*}" }; _files() { echo }
complete_line() { words=("$@"); CURRENT=$#; _runcounter }
complete_line runcounter migrate st
complete_line runcounter count --us
complete_line runcounter mi
complete_line runcounter import "a'; touch hacked; '"`,
		"fish": `runcounter completion fish | source
for line in "runcounter migrate st" "runcounter count --us" "runcounter mi"
    complete -C "$line" | string split -f1 \t
end
echo`,
	} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			need.Program(t, shell, shell)
			dir := t.TempDir()
			program := "#!/bin/sh\n" + asCommand + "=1 exec '" + self + "' \"$@\"\n"
			if err := os.WriteFile(filepath.Join(dir, "runcounter"), []byte(program), 0o700); err != nil {
				t.Fatal(err)
			}
			args := map[string][]string{"bash": {"--norc", "-c"}, "zsh": {"-f", "-c"}, "fish": {"--no-config", "-c"}}[shell]
			cmd := exec.CommandContext(t.Context(), shell, append(slices.Clone(args), script)...)
			cmd.Dir, cmd.Env = dir, []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "HOME=" + dir}
			out, err := cmd.CombinedOutput()
			if want := "status\n--user\nmigrate\n\n"; err != nil || string(out) != want {
				t.Errorf("got %q, %v; want %q", out, err, want)
			}
			if _, err := os.Stat(filepath.Join(dir, "hacked")); err == nil {
				t.Error("the line was carried out")
			}
		})
	}
}
