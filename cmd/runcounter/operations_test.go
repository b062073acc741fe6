package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func mustReadFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Each alert has its answer in the operations page, and asks for metrics that
// there are.
func TestAlertsHaveAnswersAndMetrics(t *testing.T) {
	t.Parallel()
	rules, page := mustReadFile(t, "../../docs/alerts.yml"), mustReadFile(t, "../../docs/operations.md")
	alerts := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(rules, -1)
	if len(alerts) < 10 {
		t.Fatalf("got %d alerts: the file is not what this test reads", len(alerts))
	}
	for _, alert := range alerts {
		if !strings.Contains(page, "\n### "+alert[1]+"\n") {
			t.Errorf("docs/operations.md has no answer to %s", alert[1])
		}
	}
	for _, heading := range regexp.MustCompile(`(?m)^### (\w+)$`).FindAllStringSubmatch(page, -1) {
		if !strings.Contains(rules, "- alert: "+heading[1]+"\n") {
			t.Errorf("docs/operations.md answers %s, which is no alert", heading[1])
		}
	}
	for _, part := range []string{"expr:", "severity:", "summary:", "action:"} {
		if n := strings.Count(rules, part); n != len(alerts) {
			t.Errorf("%d alerts have %s, want all %d", n, part, len(alerts))
		}
	}
	// Series with labels are there once something has happened: their help is.
	source := ""
	for _, pattern := range []string{"*.go", "../../webhook/*.go", "../../webhook/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if !strings.HasSuffix(file, "_test.go") {
				source += mustReadFile(t, file)
			}
		}
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(regexp.MustCompile(`runcounter_\w+`).FindAllString(rules, -1)))) {
		plain := strings.TrimSuffix(strings.TrimPrefix(name, "runcounter_"), "_bucket")
		if !strings.Contains(source, `"`+plain+`"`) && !strings.Contains(source, `"`+name+`"`) {
			t.Errorf("there is no metric %s", name)
		}
	}
}

// Each check of doctor has its line in the operations page.
func TestDoctorsChecksHaveAnswers(t *testing.T) {
	t.Parallel()
	page := mustReadFile(t, "../../docs/operations.md")
	rows := regexp.MustCompile(`(?m)^\| ([a-z, ]+) \|`).FindAllStringSubmatch(page, -1)
	var answered []string
	for _, row := range rows {
		answered = append(answered, strings.Split(row[1], ", ")...)
	}
	for _, name := range []string{"doctor-source", "doctor-mirror"} {
		for _, line := range regexp.MustCompile(`(?m)^ok       (.{12}) `).FindAllStringSubmatch(mustReadFile(t, "testdata/"+name+".golden"), -1) {
			if check := strings.TrimSpace(line[1]); !slices.Contains(answered, check) {
				t.Errorf("docs/operations.md says nothing of doctor's line %q", check)
			}
		}
	}
}
