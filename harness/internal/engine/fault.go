package engine

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
