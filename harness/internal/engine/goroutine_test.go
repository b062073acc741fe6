package engine

import (
	"runtime"
	"sync"
	"testing"
)

func TestAGoroutineIsToldItsOwnNumber(t *testing.T) {
	for range 500 { // one after the other, so that they take each other's place in the runtime
		var stayed, told, own uint64
		inNew(func() {
			id, leave := Stay()
			defer leave()
			stayed, told, own = id, Goroutine(), written()
		})
		if stayed != own || told != own {
			t.Fatalf("the goroutine %d is told %d, and %d by Stay", own, told, stayed)
		}
		inNew(func() { told, own = Goroutine(), written() })
		if told != own {
			t.Fatalf("the goroutine %d, which doesn't stay, is told %d", own, told)
		}
	}
	id, leave := Stay()
	defer leave()
	again, inner := Stay()
	inner()
	if told := Goroutine(); id != again || told != id {
		t.Errorf("a goroutine that stays twice is told %d, %d and %d", id, again, told)
	}
	if descriptor() != 0 { // else each of them is told by its stack
		if n := testing.AllocsPerRun(100, func() { Goroutine() }); n > 0 {
			t.Errorf("a goroutine that stays looks at its stack: %v allocations", n)
		}
	}
}

// inNew runs do in a new goroutine, and returns once that has ended.
func inNew(do func()) {
	var ended sync.WaitGroup
	ended.Go(do)
	ended.Wait()
}

func TestManyGoroutinesAreToldTheirOwnNumbers(t *testing.T) {
	var all sync.WaitGroup
	for n := range 100 {
		all.Go(func() {
			if n%2 == 0 {
				_, leave := Stay()
				defer leave()
			}
			for range 50 {
				if told, own := Goroutine(), written(); told != own {
					t.Errorf("the goroutine %d is told %d", own, told)
					return
				}
				runtime.Gosched()
			}
		})
	}
	all.Wait()
}

func BenchmarkGoroutine(b *testing.B) {
	b.Run("stays", func(b *testing.B) {
		_, leave := Stay()
		defer leave()
		deep(30, func() {
			for b.Loop() {
				Goroutine()
			}
		})
	})
	b.Run("does not", func(b *testing.B) {
		deep(30, func() {
			for b.Loop() {
				Goroutine()
			}
		})
	})
}

func deep(n int, do func()) {
	if n == 0 {
		do()
		return
	}
	deep(n-1, do)
}
