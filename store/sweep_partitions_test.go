package store_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
)

// divided is a mirror that has partitions, as a source may.
type divided struct {
	mirror
	now     store.Partitions
	comes   bool // one is attached before a key is recounted
	settled []store.Partitions
}

func (d *divided) Deliveries(context.Context, time.Time) (store.Deliveries, error) {
	return store.Deliveries{}, nil
}
func (d *divided) Altered(context.Context) (string, error)              { return "", nil }
func (d *divided) AuditDue(context.Context) (int64, error)              { return 0, nil }
func (d *divided) AuditDone(context.Context, int64) error               { return nil }
func (d *divided) Partitions(context.Context) (store.Partitions, error) { return d.now, nil }

func (d *divided) SettlePartitions(_ context.Context, p store.Partitions) error {
	d.settled = append(d.settled, p)
	d.now.New, d.now.Gone, d.now.Untold = nil, nil, nil
	return nil
}

func (d *divided) RecountAmong(ctx context.Context, key store.Key, now time.Time, p store.Partitions) (r store.RecountResult, same bool, err error) {
	if d.comes {
		d.now.IDs = append(slices.Clone(d.now.IDs), 9)
	}
	if !slices.Equal(p.IDs, d.now.IDs) {
		return r, false, nil
	}
	r, err = d.Recount(ctx, key, now)
	return r, true, err
}

// TestWhichSweepSettlesPartitions: one that has compared all keys and left none,
// where there is something to settle.
func TestWhichSweepSettlesPartitions(t *testing.T) {
	t.Parallel()
	moved := store.Partitions{IDs: []int64{1, 2}, New: []string{"public.february"}}
	untold := store.Partitions{IDs: []int64{1}, Untold: []string{"public.january"}}
	for _, tt := range []struct {
		name       string
		partitions store.Partitions
		wrong      bool // one key differs from its runs
		comes      bool // a partition is attached meanwhile
		options    store.SweepOptions
		settles    bool
		withheld   int
	}{
		{"one came, and all keys agree", moved, false, false, store.SweepOptions{}, true, 0},
		{"one came, and a key differs", moved, true, false, store.SweepOptions{}, false, 1},
		{"one came, a key differs, and the operator asks", moved, true, false, store.SweepOptions{Partitions: true, Full: true}, true, 0},
		{"one came, and nothing may be written", moved, false, false, store.SweepOptions{DryRun: true}, false, 0},
		{"one has no trigger", untold, false, false, store.SweepOptions{}, true, 0},
		{"one has no trigger, and a key differs", untold, true, false, store.SweepOptions{}, true, 0},
		{"one has no trigger, and one comes before a key is corrected", untold, true, true, store.SweepOptions{}, false, 1},
		{"nothing has changed", store.Partitions{IDs: []int64{1}}, false, false, store.SweepOptions{Full: true}, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := &divided{mirror: newMirror(t), now: tt.partitions, comes: tt.comes}
			d.mustInsert(t, 1, 2, store.Completed)
			if tt.wrong {
				d.mustSpoil(t, 1)
			}
			s := d.sweeper()
			s.Source = d
			r := mustSweep(t, s, tt.options)
			var want []store.Partitions
			if tt.settles {
				want = []store.Partitions{tt.partitions}
			}
			if diff := cmp.Diff(want, d.settled); diff != "" || r.Withheld.Keys != tt.withheld {
				t.Errorf("got %d keys withheld, want %d; settled (-want +got):\n%s", r.Withheld.Keys, tt.withheld, diff)
			}
		})
	}
}

// TestWhatWaitsOfPartitionsIsSaid has one sentence for each, and none for what does
// not wait.
func TestWhatWaitsOfPartitionsIsSaid(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		report store.SweepReport
		want   []string // how each sentence begins
	}{
		{"nothing", store.SweepReport{}, nil},
		{"one came", store.SweepReport{Partitions: store.Partitions{New: []string{"a"}}}, []string{"The watched table has other partitions"}},
		{"one has no trigger", store.SweepReport{Partitions: store.Partitions{Untold: []string{"b"}}}, []string{"A TRUNCATE of one of these partitions"}},
		{"both", store.SweepReport{Partitions: store.Partitions{Gone: []string{"a"}, Untold: []string{"b"}}}, []string{"The watched table has other partitions", "A TRUNCATE of one of these partitions"}},
	} {
		got := tt.report.PartitionSentences()
		if !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
			t.Errorf("%s: got %q, want sentences that begin with %q", tt.name, got, tt.want)
		}
	}
}
