package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness/internal/mutants"
)

const toy = "../../internal/mutants/testdata/toy"

var toys = []mutants.Target{{Dir: ".", Then: []string{"caller"}}}

// called is what a run of the command on the toy returned and printed.
func called(t *testing.T, accepted string, args ...string) (int, string) {
	t.Helper()
	var out, errs strings.Builder
	code := run(t.Context(), toy, toys, accepted, append([]string{"-spare", "3s"}, args...), &out, &errs)
	return code, out.String() + errs.String()
}

// listed is the name and the key of a mutant of the toy.
func listed(t *testing.T, edit string) (name, key string) {
	t.Helper()
	code, out := called(t, "", "-list")
	before, after, found := strings.Cut(out, edit)
	if code != 0 || !found {
		t.Fatalf("-list: got %d and %s, want %s among them", code, out, edit)
	}
	lines := strings.Split(before, "\n")
	rest, _, _ := strings.Cut(after, "\n")
	return lines[len(lines)-2], strings.TrimPrefix(lines[len(lines)-1], "  ") + edit + rest
}

func TestASurvivorIsToldUntilItIsAccepted(t *testing.T) {
	t.Parallel()
	name, key := listed(t, "a {< => <=} b")
	file := filepath.Join(t.TempDir(), "survived")
	code, out := called(t, "", "-only", name, "-survivors", file, "-least", "95")
	if code != 1 || !strings.Contains(out, "survived  "+name) || !strings.Contains(out, "0.0 %") || !strings.Contains(out, "+ \tif a <= b {") {
		t.Errorf("got %d and %s, want a failure with the edit", code, out)
	}
	written, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(written), key) {
		t.Fatalf("got %s, %v; want %s", written, err, key)
	}
	if code, out = called(t, string(written), "-list"); code != 2 || !strings.Contains(out, "no reason") {
		t.Errorf("accepted without a reason: got %d and %s, want it refused", code, out)
	}
	accepted := string(written) + "    Of two equal numbers either is the smaller.\ntoy.go never: gone\n    It was there once.\n"
	code, out = called(t, accepted, "-only", name, "-survivors", filepath.Join(t.TempDir(), "survived"), "-least", "95")
	if code != 0 || strings.Contains(out, "survived: see") {
		t.Errorf("accepted: got %d and %s, want it to count as neither", code, out)
	}
	if !strings.Contains(out, "made no more: toy.go never: gone") || strings.Contains(out, "made no more: "+key) {
		t.Errorf("got %s, want the one that is gone told, and not the other", out)
	}
}

func TestAnAcceptedSurvivorThatIsKilledIsTold(t *testing.T) {
	t.Parallel()
	name, key := listed(t, "a {< => >=} b")
	code, out := called(t, key+"\n  said to be the same\n", "-only", name, "-survivors", filepath.Join(t.TempDir(), "survived"))
	if code != 0 || !strings.Contains(out, "listed as a survivor, and killed: "+key) || !strings.Contains(out, "100.0 %") {
		t.Errorf("got %d and %s, want it to be told as stale", code, out)
	}
}

func TestAnotherTestThanTheOneThatKillsIt(t *testing.T) {
	t.Parallel()
	name, _ := listed(t, "a {< => >=} b")
	code, out := called(t, "", "-only", name, "-run", "TestSum", "-survivors", filepath.Join(t.TempDir(), "survived"))
	if code != 0 || !strings.Contains(out, "survived  "+name) {
		t.Errorf("got %d and %s, want it to survive TestSum", code, out)
	}
}

func TestASampleHasAsManyThatCount(t *testing.T) {
	t.Parallel()
	code, out := called(t, "", "-n", "2", "-seed", "3", "-ask", ".", "-survivors", filepath.Join(t.TempDir(), "survived"))
	counted := strings.Count(out, "killed    ") + strings.Count(out, "survived  ") + strings.Count(out, "timed out ")
	if code != 0 || counted != 2 {
		t.Errorf("got %d, and %d that count of 2:\n%s", code, counted, out)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"-only", "toy.go:1:never"}, {"-dir", "elsewhere"}, {"toy"}, {"-n", "many"}} {
		if code, out := called(t, "", args...); code != 2 {
			t.Errorf("%v: got %d and %s, want 2", args, code, out)
		}
	}
}

// TestTheTable holds the table and the accepted survivors to the repository.
func TestTheTable(t *testing.T) {
	t.Parallel()
	accepted, err := mutants.ParseAccepted(survivors)
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join("..", "..", "..")
	made := map[string]bool{}
	for _, target := range targets {
		all, err := target.Mutants(root, targets)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) == 0 {
			t.Errorf("%s has no mutants", target.Dir)
		}
		for _, m := range all {
			if made[m.Key] {
				t.Errorf("two mutants have the key %s", m.Key)
			}
			made[m.Key] = true
		}
		for _, dir := range target.Then {
			if tests, err := filepath.Glob(filepath.Join(root, dir, "*_test.go")); err != nil || len(tests) == 0 {
				t.Errorf("%s: %s has no tests", target.Dir, dir)
			}
		}
	}
	for key := range accepted {
		if !made[key] {
			t.Errorf("survivors.txt has one that is made no more: %s", key)
		}
	}
}
