package sqlmodel

import (
	"math/rand/v2"
	"testing"
)

// FuzzStatements: whatever the text, the model answers or refuses. It neither
// panics nor hangs.
func FuzzStatements(f *testing.F) {
	g := &generator{Rand: rand.New(rand.NewPCG(1, 2)), open: map[int]bool{}, points: map[int]int{}}
	for range 150 {
		f.Add(g.statement(0).sql)
		x := expressions{g.Rand}
		f.Add("select " + x.of("bool", 2) + ", " + x.of("ts", 2) + " from e")
	}
	for _, r := range refusals {
		f.Add(r.sql)
	}
	for _, name := range ofAny {
		f.Add("select " + name + "()")
	}
	schema := schemas[0] + kindsSchema + filling + ";" + kindsRows
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 400 {
			return
		}
		s, err := newStage(schema, 1)
		if err != nil {
			t.Fatal(err)
		}
		list, err := parse(text)
		if err != nil {
			return
		}
		for _, p := range list {
			_, _ = newStage(p.text, 0) // as a schema it is refused or taken, and panics no more than as a statement
			_, ok := s.send(move{sql: p.text})
			if !ok {
				t.Fatalf("%s waits for itself", p.text)
			}
		}
		s.contents()
	})
}
