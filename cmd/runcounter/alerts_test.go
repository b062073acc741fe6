package main

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
)

// TestCaseO8_EachAlertFiresAndIsSilent runs docs/alerts_test.yml, which has to
// hold both for each alert.
func TestCaseO8_EachAlertFiresAndIsSilent(t *testing.T) {
	t.Parallel()
	rules, tests := mustReadFile(t, "../../docs/alerts.yml"), mustReadFile(t, "../../docs/alerts_test.yml")
	parts := strings.Split(tests, "\n  - name: ")[1:]
	tried := map[string][]string{}
	for _, part := range parts {
		name, rest, _ := strings.Cut(part, " ")
		switch fires := strings.Contains(part, `exp_samples: [{labels: '{alertname="`+name+`"}', value: 1}]`); {
		case strings.HasPrefix(rest, "fires ") && fires:
			tried[name] = append(tried[name], "fires")
		case strings.HasPrefix(rest, "is silent ") && strings.Contains(part, "exp_samples: []"):
			tried[name] = append(tried[name], "is silent")
		default:
			t.Errorf("the test of %s does not expect what its name says:\n%s", name, part)
		}
	}
	alerts := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(rules, -1)
	for _, alert := range alerts {
		for _, want := range []string{"fires", "is silent"} {
			if !slices.Contains(tried[alert[1]], want) {
				t.Errorf("docs/alerts_test.yml has no test in which %s %s", alert[1], want)
			}
		}
		delete(tried, alert[1])
	}
	for name := range tried {
		t.Errorf("docs/alerts_test.yml tests %s, which is no alert", name)
	}

	promtool := need.Program(t, "promtool", "prometheus")
	for _, args := range [][]string{{"check", "rules", "../../docs/alerts.yml"}, {"test", "rules", "../../docs/alerts_test.yml"}} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
