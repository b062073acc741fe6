package server

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/need"
)

// dashboard is the part of Grafana's JSON that the tests read.
type dashboard struct {
	UID, Title string
	Panels     []panel
	Templating struct{ List []struct{ Name string } }
}

type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ H, W, X, Y int }
	Targets                  []struct{ Expr string }
}

func mustReadDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile("../../deploy/grafana/runcounter.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// Names that Prometheus has, and functions of its language that look like metrics.
var theirs = []string{"up", "ALERTS"}

// sought matches a metric with what stands in its braces.
var sought = regexp.MustCompile(`\b(runcounter_\w+|process_\w+|go_\w+|up|ALERTS)\b(?:\{([^}]*)\})?`)

// wantRegistered fails the test unless an expression asks for metrics and labels that a
// server registers.
func wantRegistered(t *testing.T, where, expr string, all map[string]described) {
	t.Helper()
	found := sought.FindAllStringSubmatch(expr, -1)
	if len(found) == 0 {
		t.Errorf("%s: %s asks for no metric", where, expr)
	}
	for _, f := range found {
		if slices.Contains(theirs, f[1]) {
			continue
		}
		name := f[1]
		m, there := all[name]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if plain := strings.TrimSuffix(name, suffix); !there && plain != name {
				m, there = all[plain]
			}
		}
		if !there {
			t.Errorf("%s: no server has the metric %s", where, name)
			continue
		}
		labels := append(strings.Split(m.labels, ","), "job", "instance", "le")
		for _, label := range regexp.MustCompile(`(\w+) *[=!]`).FindAllStringSubmatch(f[2], -1) {
			if !slices.Contains(labels, label[1]) {
				t.Errorf("%s: %s has no label %s, only %s", where, name, label[1], m.labels)
			}
		}
	}
}

func TestTheDashboardAsksForMetricsThatThereAre(t *testing.T) {
	all, d := registered(t), mustReadDashboard(t)
	for _, variable := range d.Templating.List {
		if !slices.Contains([]string{"datasource", "job", "instance"}, variable.Name) {
			t.Errorf("a variable %s that no test knows", variable.Name)
		}
	}
	for _, p := range d.Panels {
		if p.Type != "row" && (len(p.Targets) == 0 || p.Description == "") {
			t.Errorf("%s: no query or no description", p.Title)
		}
		for _, target := range p.Targets {
			wantRegistered(t, p.Title, target.Expr, all)
		}
	}
}

// Panels lie side by side: one over another can't be read.
func TestTheDashboardsPanelsHaveAPlaceEach(t *testing.T) {
	d := mustReadDashboard(t)
	taken, ids := map[string]string{}, map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s: its id %d is another's, or it is wider than the page", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := fmt.Sprint(p.GridPos.X+x, " ", p.GridPos.Y+y)
				if other := taken[at]; other != "" {
					t.Fatalf("%s lies over %s", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
	}
	if first := d.Panels[0].Title; first != "Is anything wrong?" {
		t.Errorf("the first row is %q, want what is wrong", first)
	}
}

// Prometheus's own parser reads each query, as that of a rule.
func TestTheDashboardsQueriesParse(t *testing.T) {
	promtool := need.Program(t, "promtool", "prometheus")
	variables := strings.NewReplacer("$__rate_interval", "5m", "$job", "job", "$instance", "host:80")
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []rule
	for _, p := range mustReadDashboard(t).Panels {
		for _, target := range p.Targets {
			expr := variables.Replace(target.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("%s: %s has a variable that no test knows", p.Title, target.Expr)
			}
			rules = append(rules, rule{fmt.Sprintf("panel:%d:%d", p.ID, len(rules)), expr})
		}
	}
	// JSON is YAML.
	text, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, out)
	}
}

// What alerts ask for is registered too, labels included.
func TestAlertsAskForMetricsThatThereAre(t *testing.T) {
	rules, err := os.ReadFile("../../docs/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	all := registered(t)
	exprs := regexp.MustCompile(`(?m)^ +expr: (.+)$`).FindAllStringSubmatch(string(rules), -1)
	if len(exprs) < 10 {
		t.Fatalf("got %d expressions: the file is not what this test reads", len(exprs))
	}
	for _, expr := range exprs {
		wantRegistered(t, "docs/alerts.yml", expr[1], all)
	}
}

// Each metric that an operator may need has a panel; the rest is named here.
func TestTheDashboardShowsWhatTheServerKnows(t *testing.T) {
	text, err := os.ReadFile("../../deploy/grafana/runcounter.json")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := []string{"runcounter_build_info", "runcounter_batch_changes", "runcounter_delivery_body_bytes_total", "runcounter_changes_out_of_order_total", "runcounter_stream_events_total", "runcounter_database_connection_waits_total"}
	for _, name := range slices.Sorted(maps.Keys(registered(t))) {
		if strings.HasPrefix(name, "runcounter_") && !slices.Contains(elsewhere, name) && !strings.Contains(string(text), name) {
			t.Errorf("no panel shows %s", name)
		}
	}
}
