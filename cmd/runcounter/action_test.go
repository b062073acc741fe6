package main

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v3"
	"go.yaml.in/yaml/v3"
)

// The workflow of docs/operations.md is one that GitHub reads, and gives doctor
// variables that there are. It may write nothing, and waits no longer than it needs.
func TestDoctorAsAGitHubAction(t *testing.T) {
	t.Parallel()
	page := mustReadFile(t, "../../docs/operations.md")
	block := regexp.MustCompile("(?ms)^## Doctor as a GitHub Action$.*?^```yaml\n(.*?)^```").FindStringSubmatch(page)
	if block == nil {
		t.Fatal("docs/operations.md has no workflow")
	}
	var workflow struct {
		Name        string
		On          map[string]any
		Permissions map[string]string
		Jobs        map[string]struct {
			RunsOn  string `yaml:"runs-on"`
			Timeout int    `yaml:"timeout-minutes"`
			Steps   []struct {
				Uses, Run string
				With, Env map[string]string
			}
		}
	}
	read := yaml.NewDecoder(strings.NewReader(block[1]))
	read.KnownFields(true)
	if err := read.Decode(&workflow); err != nil {
		t.Fatal(err)
	}
	job := workflow.Jobs["doctor"]
	if _, scheduled := workflow.On["schedule"]; !scheduled || workflow.Permissions == nil || len(workflow.Permissions) > 0 || job.RunsOn == "" || job.Timeout == 0 || len(job.Steps) == 0 {
		t.Fatalf("got %+v", workflow)
	}
	last := job.Steps[len(job.Steps)-1]
	words := strings.Fields(last.Run)
	if len(words) < 2 || words[0] != "runcounter" || !slices.ContainsFunc(rootCommand().Commands, func(c *cli.Command) bool { return c.Name == words[1] }) {
		t.Errorf("the last step runs %q, which is no command", last.Run)
	}
	variables := mustReadFile(t, referencePage)
	for name, value := range last.Env {
		if !strings.Contains(variables, "`"+name+"`") {
			t.Errorf("there is no variable %s", name)
		}
		if secret := strings.HasSuffix(name, "_URL") || strings.HasSuffix(name, "_SECRET") || strings.HasSuffix(name, "_KEY"); secret && !strings.HasPrefix(value, "${{ secrets.") {
			t.Errorf("%s is %q, want a secret of the repository", name, value)
		}
	}
}
