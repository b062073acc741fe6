package sqlmodel

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// TestGeneratedProgramsAsOnPostgreSQL runs generated statements of two or three
// sessions in a generated order on the model and on a server: each statement
// has the same rows, the same error, and waits for the same sessions, and the
// tables are the same in the end. HARNESS_TRIALS is how many programs.
func TestGeneratedProgramsAsOnPostgreSQL(t *testing.T) {
	t.Parallel()
	h := newTheatre(t, 3)
	var total played
	cuts := map[string]int{}
	trials := harnesstest.Trials(t, 200)
	for n := range trials {
		schema := schemas[n%uint64(len(schemas))]
		h.leave()
		h.must("drop schema public cascade; create schema public; " + schema + filling)
		s, err := newStage(schema+filling, 3)
		if err != nil {
			t.Fatal(err)
		}
		g := &generator{Rand: rand.New(rand.NewPCG(n, 15)), open: map[int]bool{}, points: map[int]int{}}
		r := play(h, s, g.program(2+int(n%2), 24), []string{"p", "c", "q"})
		if r.difference != "" {
			t.Errorf("seed %d, schema %d:\n%s", n, n%uint64(len(schemas)), r.difference)
			if total.difference += "x"; len(total.difference) == 5 {
				t.FailNow()
			}
		}
		total.moves, total.waits, total.refused = total.moves+r.moves, total.waits+r.waits, total.refused+r.refused
		if r.cut != "" {
			cuts[r.cut]++
		}
	}
	t.Logf("%d programs of %d statements, of which %d waited; %d refused; cut short: %v", trials, total.moves, total.waits, total.refused, fmt.Sprint(cuts))
}
