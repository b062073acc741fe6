package harness

import (
	"errors"
	"fmt"
	"testing"
)

func TestSchedulesAreReadBack(t *testing.T) {
	for _, text := range []string{"w3r1w~2", "-~1w1", "a1b1a1", "w~0~1r2", "é2"} {
		s, err := parseSchedule(text)
		if err != nil || s.String() != text {
			t.Errorf("%s: got %s, %v", text, s, err)
		}
	}
	for _, text := range []string{"3", "w", "w0", "w~", "-2", "w99999999999999999999", "w1~2", "w6000w6000"} {
		if s, err := parseSchedule(text); err == nil {
			t.Errorf("%s: got %s, want an error", text, s)
		}
	}
}

func FuzzSchedule(f *testing.F) {
	f.Add("w3r1w~2")
	f.Add("-~1w1")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSchedule(text)
		if err != nil {
			return
		}
		again, err := parseSchedule(s.String())
		if err != nil || again.String() != s.String() {
			t.Errorf("%q is read as %s, and that as %s, %v", text, s, again, err)
		}
	})
}

// TestEveryActorHasALetter of its own, even where there are as many as there
// can be.
func TestEveryActorHasALetter(t *testing.T) {
	run := &execution{sim: &Sim{}}
	for i := range maxActors - 1 {
		name := []string{"worker 1\n", "a \u00a0“b”, ~!", ""}[i%3]
		run.sim.actors = append(run.sim.actors, &actor{id: i, name: name})
	}
	letters(run.sim.actors)
	seen := map[string]bool{"": true, "c": true, "-": true}
	for _, a := range run.sim.actors {
		if seen[a.letter] {
			t.Errorf("actor %d has the letter %q", a.id, a.letter)
		}
		seen[a.letter] = true
		s := schedule{{letter: a.letter}}
		if again, err := parseSchedule(s.String()); err != nil || fmt.Sprint(again) != fmt.Sprint(s) {
			t.Errorf("%s is read as %s, %v", s, again, err)
		}
	}
	cast, err := parseCast(run.cast())
	if err != nil || len(cast) != maxActors-1 {
		t.Fatalf("read %d actors, %v", len(cast), err)
	}
	for i, m := range cast {
		if a := run.sim.actors[i]; m != (member{a.letter, a.name}) {
			t.Errorf("actor %d is read as %q", i, m)
		}
	}
}

// TestStacksAreRead as the runtime prints them.
func TestStacksAreRead(t *testing.T) {
	t.Parallel()
	all := parseStacks(`goroutine 7 [sync.Mutex.Lock, 2 minutes]:
sync.(*Mutex).Lock(...)
	/usr/lib/go/src/sync/mutex.go:46
shop/bank.Pay(0x1)
	/home/shop/bank/pay.go:12 +0x1d
created by example.com/shop.Start in goroutine 3
	/home/shop/start.go:9 +0x2c

goroutine 8 [sync.Mutex.Lock]:
modernc.org/libc.(*mutex).lock(0x1)
	/home/go/pkg/mod/modernc.org/libc/mutex.go:5 +0x1d
example.com/shop.Pay(0x1)
	/home/shop/pay.go:12 +0x1d

goroutine 9 [select]:
database/sql.(*DB).conn(0x1)
	/usr/lib/go/src/database/sql/sql.go:1369 +0x9a
example.com/shop.Pay(0x1)
	/home/shop/pay.go:30 +0x1d

goroutine 11 [semacquire]:
runtime.Stack({0x1, 0x2, 0x3}, 0x0)
	/usr/lib/go/src/runtime/mprof.go:1369 +0x9a
example.com/shop.Pay(0x1)
	/home/shop/pay.go:31 +0x1d

goroutine 10 [runnable]:
main.main()
	/home/shop/main.go:3 +0x1d`, []string{"modernc.org/"})
	for _, want := range []struct {
		id            uint64
		parked, timed bool
		text          string
	}{
		{7, true, false, "sync.Mutex.Lock at pay.go:12"},
		{8, false, false, "sync.Mutex.Lock at mutex.go:5"}, // the engine's own
		{9, true, true, "select at pay.go:30"},
		{10, false, false, "runnable at main.go:3"},
		{11, false, false, "semacquire at pay.go:31"}, // the runtime's
	} {
		s := all[want.id]
		if s == nil || s.parked() != want.parked || s.timed() != want.timed || s.String() != want.text {
			t.Errorf("goroutine %d is read as %+v, want %+v", want.id, s, want)
		}
	}
	if s := all[7]; s.parent != 3 || s.creator != "example.com/shop.Start" {
		t.Errorf("its origin is read as %+v", s)
	}
}

// TestTheReplayIsAShellCommand whatever a test is called.
func TestTheReplayIsAShellCommand(t *testing.T) {
	r := &Report{Test: "TestIt/isn't_(a+b)", Schedule: schedule{{letter: "w"}}}
	if got, want := r.command(), `go test -run '^TestIt$/^isn'\''t_\(a\+b\)$' -harness.replay=w1`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestACrashIsNotTheEnd(t *testing.T) {
	if errors.Is(errCrashed, errStopped) {
		t.Error("a crash is taken for the end")
	}
}
