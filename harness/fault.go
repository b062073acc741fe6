package harness

import (
	"errors"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// A Fault is what may happen to a step beside what it was meant to do.
type Fault = engine.Fault

// The faults. Which of them can happen to a step depends on the step: a
// deadlock needs a lock, an unknown outcome needs a COMMIT.
const (
	NoFault     = engine.NoFault
	CrashBefore = engine.CrashBefore // the process dies before the statement gets to the database
	CrashAfter  = engine.CrashAfter  // it dies after the statement took effect, before the answer
	Refused     = engine.Refused     // the database answers that it is busy, or with 40001, and nothing has happened
	Deadlock    = engine.Deadlock    // the database answers with 40P01, and the transaction is over
	LostBefore  = engine.LostBefore  // the connection is lost, and nothing has happened
	LostAfter   = engine.LostAfter   // the connection is lost after the statement took effect
)

// ErrLost is what a COMMIT returns whose connection was lost: it may have
// taken effect or not.
var ErrLost = errors.New("harness: the connection was lost during COMMIT, which may have taken effect or not")

// fault decides which fault a step meets, and carries out what is the same on
// every database: a crash.
func (s *Sim) fault(a *actor, o engine.Op) (Fault, error) {
	if s.budget == 0 {
		return NoFault, nil
	}
	faults := o.Faults
	if a.mayCrash && !o.Local {
		// To die before a statement that no other actor can notice, or after
		// one whose effect none can see yet, is to die before the next one that is.
		crashes := []Fault{CrashBefore}
		if o.Last {
			crashes = append(crashes, CrashAfter)
		}
		faults = append(crashes, faults...)
	}
	if len(faults) == 0 {
		return NoFault, nil
	}
	n := s.run.choose(len(faults)+1, true)
	if n == 0 {
		return NoFault, nil
	}
	s.budget--
	f := faults[n-1]
	if a.event != nil {
		a.event.fault = f
	}
	if f == CrashBefore {
		a.die(errCrashed)
		return f, errCrashed
	}
	return f, nil
}

// crashed gives the databases what a dead process leaves: its transactions are
// rolled back.
func (s *Sim) crashed(a *actor) {
	for _, e := range s.x.home.engines {
		e.Crashed(a)
	}
}
