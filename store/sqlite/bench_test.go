package sqlite

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// numbered returns the change that ends run n, of one of so many keys, as a
// webhook of a well-behaved source brings it.
func numbered(n, keys int) store.Change {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], uint64(n+1)*0x9e3779b97f4a7c15) // scattered, as random UUIDs are
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	old := store.Row{
		ID: store.UUID(id), User: storetest.MustID('a', n%keys), Workflow: storetest.MustID('c', 1), Status: store.Running,
		CreatedAt: now, StartedAt: now, UpdatedAt: now,
	}
	record := old
	record.Status, record.UpdatedAt, record.CompletedAt = store.Completed, now.Add(time.Second), now.Add(time.Second)
	record.DurationMS = store.MillisOf(1000)
	return store.Change{Op: store.Update, Record: record, Old: old, HasOld: true}
}

func batchOf(first, size, keys int) []store.Change {
	changes := make([]store.Change, size)
	for i := range changes {
		changes[i] = numbered(first+i, keys)
	}
	return changes
}

func mustDurable(b *testing.B) *Store {
	b.Helper()
	s, err := Open(b.Context(), filepath.Join(b.TempDir(), "a.db"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

// BenchmarkApply is the store alone: every change is of a new run and changes
// its count, on 1,000 keys, synchronous=full.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1, 16, 32, 64, 256} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			s := mustDurable(b)
			n := 0
			for b.Loop() {
				if _, err := s.Apply(b.Context(), batchOf(n, size, 1000), now); err != nil {
					b.Fatal(err)
				}
				n += size
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "changes/s")
		})
	}
}

// BenchmarkApplyBehind is a batch of changes of one key that has so many runs
// behind it.
func BenchmarkApplyBehind(b *testing.B) {
	for _, behind := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprintf("runs=%d", behind), func(b *testing.B) {
			s := mustDurable(b)
			n := 0
			for ; n < behind; n += 1000 {
				if _, err := s.Apply(b.Context(), batchOf(n, 1000, 1), now); err != nil {
					b.Fatal(err)
				}
			}
			start := n
			for b.Loop() {
				if _, err := s.Apply(b.Context(), batchOf(n, 64, 1), now); err != nil {
					b.Fatal(err)
				}
				n += 64
			}
			b.ReportMetric(float64(n-start)/b.Elapsed().Seconds(), "changes/s")
		})
	}
}

// BenchmarkCount reads a key with so many runs behind it.
func BenchmarkCount(b *testing.B) {
	for _, behind := range []int{0, 1_000, 100_000} {
		b.Run(fmt.Sprintf("runs=%d", behind), func(b *testing.B) {
			s := mustDurable(b)
			for n := 0; n < behind; n += 1000 {
				if _, err := s.Apply(b.Context(), batchOf(n, 1000, 1), now); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if _, err := s.Count(b.Context(), numbered(0, 1).Record.Key().Scope(), store.AllTime); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
