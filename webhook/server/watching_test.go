package server

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/webhook/notify"
)

// described is a metric as a server registers it.
type described struct{ help, labels string }

var describedAs = regexp.MustCompile(`fqName: "(\w+)", help: "(.*)", unit: ".*", constLabels: \{.*\}, variableLabels: \{(.*)\}\}`)

// registered returns all metrics that a source's server and a mirror's register, those
// without a sample yet among them.
func registered(t *testing.T) map[string]described {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "runs.db"), sqlite.Options{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	all := map[string]described{}
	for _, mirror := range []bool{true, false} {
		sweeper := &store.Sweeper{Store: db}
		if !mirror {
			sweeper.Source = struct{ store.Source }{}
		}
		s, err := New(Config{Store: db, Reader: db, Letters: db, Loopback: true, Mirror: mirror, Sweeper: sweeper, Connections: db.Connections, Notify: &notify.Settings{}, Notices: db})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Shutdown(t.Context()) })
		to := make(chan *prometheus.Desc)
		go func() {
			defer close(to)
			s.registry.Describe(to)
		}()
		for d := range to {
			found := describedAs.FindStringSubmatch(d.String())
			if found == nil {
				t.Fatalf("%s is not what this test reads", d)
			}
			all[found[1]] = described{found[2], found[3]}
		}
	}
	return all
}

// The page lists all metrics of ours, with their labels.
func TestThePageHasAllMetrics(t *testing.T) {
	var want []string
	for name, m := range registered(t) {
		if strings.HasPrefix(name, "runcounter_") {
			want = append(want, "`"+name+"` "+m.labels)
		}
	}
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n## The metrics\n")
	table, _, _ = strings.Cut(table, "\n## ")
	var got []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`runcounter_\\w+`) \\| ([^|]*?) *\\|").FindAllStringSubmatch(table, -1) {
		got = append(got, row[1]+" "+strings.ReplaceAll(strings.ReplaceAll(row[2], "`", ""), ", ", ","))
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics and docs/operations.md differ (-server +page):\n%s", diff)
	}
}

// An operation that is measured has its series from the start.
func TestEveryOperationHasItsSeries(t *testing.T) {
	var got []string
	for _, name := range []string{"retry.go", "cached.go", "server.go"} {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile(`\.of\("(\w+)"\)`).FindAllStringSubmatch(string(source), -1) {
			got = append(got, found[1])
		}
	}
	slices.Sort(got)
	want := slices.Sorted(slices.Values(operations[:]))
	if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
		t.Errorf("operations (-with series +measured):\n%s", diff)
	}
}
