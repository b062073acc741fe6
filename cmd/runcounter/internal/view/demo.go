package view

import (
	"fmt"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/demo"
)

// Demo compares the counters of a demonstration with the truth.
func Demo(w *demo.World, seed uint64, naive demo.NaiveCounts, ours map[store.Key]int64, took time.Duration) string {
	var p page
	p.print(`%d runs of 24 users in 72 workflows, seed %d: %d webhooks arrived,
%d of them twice and %d after a later one of the same run; %d outcomes never came,
%d were overwritten by a late "running", and %d recounts lost their race.

`, w.Runs, seed, len(w.Arrivals), w.Twice, w.Disordered, w.Lost, w.Overwritten, len(w.Recounts))
	rows := [][]string{{"", "RUNS COUNTED", "COUNTS THAT ARE WRONG"}}
	for _, c := range []struct {
		name   string
		counts map[store.Key]int64
	}{{"truth", w.Truth}, {"count = count + 1", naive.Added}, {"rows as they came last", naive.Rows}, {"Run Counter", ours}} {
		total, wrong := w.Compare(c.counts)
		rows = append(rows, []string{c.name, decimal(total), fmt.Sprintf("%d of %d", wrong, len(w.Keys))})
	}
	p.table(rows)
	example := w.Example(naive.Added)
	p.print("\nUser %s, workflow %s:\ntruth %d, count + 1 says %d, the rows say %d, Run Counter says %d.\n\nDelivered in %s, %.0f webhooks a second, each acked after its commit.\n",
		example.User, example.Ref, w.Truth[example], naive.Added[example], naive.Rows[example], ours[example],
		took.Round(10*time.Millisecond), float64(len(w.Arrivals))/took.Seconds())
	return p.String()
}
