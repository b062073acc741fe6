package harness

import (
	"fmt"
	"strings"

	"github.com/anishathalye/porcupine"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// A History records calls, and holds them to a sequential model at the end:
// whatever happened at once must be explained by some order of calls, each at
// a moment between its beginning and its end (Herlihy and Wing, 1990). The
// check is porcupine's.
type History struct {
	name  string
	sim   *Sim
	model porcupine.Model
	calls []porcupine.Operation
	clock int64
}

// Linearizable returns a history whose calls must be linearizable to the
// model.
func (s *Sim) Linearizable(name string, model porcupine.Model) *History {
	h := &History{name: name, sim: s, model: model}
	s.histories = append(s.histories, h)
	return h
}

// Call records one call: do returns its output. A call that fails may have
// taken effect or not, and is left out of the history where the error is not
// an answer; unknown says that it may have taken effect at any later time.
//
// The beginning and the end of a call are steps: which of two calls was over
// before the other began is what linearizability is about.
func (h *History) Call(input any, do func() (output any, unknown bool, err error)) error {
	a, err := h.sim.x.caller()
	if err != nil {
		return err
	}
	if err := h.edge(a, "call", engine.Footprint{Calls: true}); err != nil {
		return err
	}
	h.clock++
	begun := h.clock
	place := len(h.calls)
	client := 0
	if a != nil {
		client = a.id
	}
	h.calls = append(h.calls, porcupine.Operation{ClientId: client, Input: input, Call: begun, Return: -1})
	output, unknown, err := do()
	if unknown {
		h.calls[place].Output = nil
		return err
	}
	if err != nil {
		h.calls[place].Return = -2
		return err
	}
	if err := h.edge(a, "return", engine.Footprint{Returns: true}); err != nil {
		return err
	}
	h.clock++
	h.calls[place].Output, h.calls[place].Return = output, h.clock
	return nil
}

func (h *History) edge(a *actor, what string, foot engine.Footprint) error {
	if a == nil {
		return nil
	}
	_, err := a.Gate(engine.Op{Text: what, Foot: foot})
	return err
}

func (h *History) check() error {
	var calls []porcupine.Operation
	for _, c := range h.calls {
		switch c.Return {
		case -2:
			continue
		case -1:
			c.Return = h.clock + 1 // at any time, or never: the model must take a nil output
		}
		calls = append(calls, c)
	}
	if porcupine.CheckOperations(h.model, calls) {
		return nil
	}
	var parts []string
	for _, c := range calls {
		text := fmt.Sprintf("%v → %v", c.Input, c.Output)
		if h.model.DescribeOperation != nil {
			text = h.model.DescribeOperation(c.Input, c.Output)
		}
		parts = append(parts, fmt.Sprintf("%s [%d,%d] %s", h.sim.actors[c.ClientId].name, c.Call, c.Return, text))
	}
	return fmt.Errorf("no order of the calls explains their answers: %s", strings.Join(parts, "; "))
}
