package harness

// A Fault is what may happen to a step beside what it was meant to do.
type Fault int

// The faults. Which of them can happen to a step depends on the step: a
// deadlock needs a lock, an unknown outcome needs a COMMIT.
const (
	NoFault     Fault = iota
	CrashBefore       // the process dies before the statement gets to the database
	CrashAfter        // it dies after the statement took effect, before the answer
	Refused           // the database answers that it is busy, or with 40001, and nothing has happened
	Deadlock          // PostgreSQL answers with 40P01, and the transaction is over
	LostBefore        // the connection is lost, and nothing has happened
	LostAfter         // the connection is lost after the statement took effect
)

func (f Fault) String() string {
	return [...]string{"", "crashes before", "crashes after", "refused", "refused as a deadlock", "connection lost before", "connection lost after"}[f]
}

// fault decides which fault a step meets, and carries out what is the same on
// every database: a crash.
func (s *Sim) fault(a *actor, o op) (Fault, error) {
	if s.budget == 0 {
		return NoFault, nil
	}
	faults := o.faults
	if a.mayCrash && !o.local {
		// To die before a statement that is nobody else's business, or after
		// one that nobody sees yet, is to die before the next one that is.
		crashes := []Fault{CrashBefore}
		if o.last {
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
		a.dead.set(errCrashed)
		return f, errCrashed
	}
	return f, nil
}

// crashed gives the databases what a dead process leaves: its transactions are
// rolled back.
func (s *Sim) crashed(a *actor) {
	for _, db := range s.x.home.engines {
		db.crashed(a)
	}
}
