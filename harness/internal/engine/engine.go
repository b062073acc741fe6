// Package engine is the contract between the scheduler of package harness and
// the engines below it, by which the statements of actors reach a database. The
// scheduler implements [Host] and [Actor] and knows no engine. An engine
// implements [Engine], and [Flight] where its statements wait outside of the
// process.
//
// A statement takes this way: [Host.Caller] says whose it is, the engine plans
// what it touches, [Actor.Step] returns when the scheduler has chosen its actor,
// the engine runs it and tells what came of it, and [Actor.GoOn] hands back.
package engine

import (
	"context"
	"errors"
	"time"
)

// An Engine is one database of a scenario. It outlives schedules, and
// explorations that share it.
type Engine interface {
	// Crashed rolls back what an actor had open, whose process has died.
	Crashed(a Actor)
	// Traits is what reports need to know of the engine.
	Traits() Traits
}

// A Watcher is an engine to which something may come beside the steps, and which can
// look whether it did. Its methods are called while no actor runs.
type Watcher interface {
	// ActorsRun says that what comes from now on is of actors.
	ActorsRun()
	// ActorsRan says that for a while the scenario's oracles may come.
	ActorsRan()
	// Ends says that the schedule is over but for its oracles of the end. It reports
	// false where the engine has not watched and finds that it should have: the
	// exploration begins anew then.
	Ends() (told bool)
}

// ErrIdle is what [Host.Ask] returns where the actor has not begun, or has returned.
var ErrIdle = errors.New("harness: the actor does not run")

// A Verifier is an engine that can say whether a failure is one elsewhere too.
type Verifier interface {
	// Verify returns the line ENGINES of a report, or nothing. again follows the
	// schedule that failed once more, in an exploration with this setting.
	Verify(again func(Setting) (fails bool, verdict string)) string
}

// Traits is what reports need to know of an engine.
type Traits struct {
	// The line FIX: how a transaction keeps a row that it reads, how it comes
	// before another as a whole, and the same with what else helps where it has
	// read what is no longer so.
	KeepRow, ComeFirst, ReadAfresh string
	// Terse says that the answer "ok" does not tell whether a statement found a
	// row to write.
	Terse bool
	// Packages begin the names of functions of which a goroutine that waits for
	// a mutex waits for the engine, and not for another actor.
	Packages []string
}

// A Setting is what an engine wants to find in a whole exploration.
type Setting struct{ Key, Value any }

// A Host is the scheduler, in one schedule of a scenario. What it says of
// schedules is of the one that runs when it is asked.
type Host interface {
	// Next returns the next database of the scenario, which asks for them in the
	// same order in every schedule: first makes it, in the first of them alone.
	Next(first func(number int) Engine) Engine
	// OnClose calls do when the databases are given up, the last first.
	OnClose(do func())
	// OnEnd calls do when the schedule is over.
	OnEnd(do func())
	// Setting returns the value of a [Setting], or nil.
	Setting(key any) any
	// Resource returns the resource of a name: the same in every schedule.
	Resource(name string) Resources

	// Caller returns the actor whose statement this is, or nil for what is no
	// step: of the scenario, of its oracles, or when no schedule runs. A goroutine
	// beside the actors gets an error, and fails the schedule.
	Caller() (Actor, error)
	// Here returns the actor whose goroutine calls, or nil.
	Here() Actor
	// Schedule identifies the schedule that runs; nil when none does.
	Schedule() any
	// Now is the virtual clock.
	Now() time.Time
	// Detailed reports whether this schedule is run for a report.
	Detailed() bool
	// Whole reports whether the schedule is whole, and nothing in it has failed.
	Whole() bool
	// WholeTransactions reports whether a transaction is one step.
	WholeTransactions() bool
	// Rename replaces ids by names that are the same in every run.
	Rename(text string) string

	// Progress says that the step lets others go on who had to wait; publishes,
	// that it can have changed what is committed.
	Progress(publishes bool)
	// Asked says what an oracle reads, if one is being asked.
	Asked(read Resources)
	// Unseen says that oracles may read everything, by ways that the engine does
	// not see.
	Unseen()
	// Unexplored names something whose inside is one step, such as "the function
	// f", for the verdict. An engine does so whenever it meets it.
	Unexplored(what string)
	// Unscheduled fails the schedule: what ran is not what was scheduled, as the
	// sentence says.
	Unscheduled(sentence string)

	// Addressed says that the statements of the actor of a name come from another
	// process, in this schedule: by Ask, and not from its function. left is called
	// when that has returned, in the actor's goroutine and as part of its last step.
	Addressed(name string, left func(a Actor))
	// Ask has the goroutine of such an actor do something, when it has done what it
	// was asked for before, and returns when it is done. Nothing is done where the
	// actor has crashed, or its schedule is over: then the error is its statements'.
	// It is [ErrIdle] where the actor does not run.
	Ask(name string, do func(a Actor)) error

	// Outside says that statements run in another process, in the goroutines of
	// their actors.
	Outside()
	// Unsteady says that a schedule may go another way when it is followed again:
	// the engine has its say in the order.
	Unsteady()
	// Chose says that it had, in this schedule.
	Chose()
	// Underway returns the flights of all actors that have no answer yet. It is
	// called by methods of the flight of asks, which is not looked at.
	Underway(asks Actor) []Flight

	// Watch notes that database/sql rolls back the transaction of a connection,
	// in a goroutine of its own, when the context ends: see [Actor.Beside].
	// forget takes that back.
	Watch(ctx context.Context, conn any) (forget func())
}

// An Actor is one of the concurrent parts of a scenario. Its methods are called
// in its own goroutine.
type Actor interface {
	// Name is what the scenario calls it.
	Name() string
	// Dead returns the error with which its statements fail from now on, or nil.
	Dead() error
	// Refuse returns that error, to an actor that tries all the same.
	Refuse() error
	// Crash kills the actor after what it has done, and returns the error for it.
	Crash() error
	// Step returns when the actor is chosen to do this: with the fault that it
	// shall meet, or with the error with which it shall fail untried. inTx says
	// that it is within a transaction, which may be one step with what came
	// before it.
	Step(o Op, inTx bool) (Fault, error)
	// Gate is [Actor.Step] for what is a step whatever is one.
	Gate(o Op) (Fault, error)
	// Wait parks the actor, whose step has had no effect yet, until others have
	// made progress. blames says for whom it waits.
	Wait(blames string) (Fault, error)
	// GoOn is where the actor has its answer. inTx is as of [Actor.Step].
	GoOn(inTx bool)
	// Tell says for a report what came of the step.
	Tell(result string)
	// Note says for a report what the step has read and what it has written, as
	// others see it; and whether it ended a transaction or was in none.
	Note(reads, writes []string, ends bool)
	// Beside is the step of another goroutine: that in which database/sql rolls
	// back a transaction of this actor, whose context has ended; see [Host.Watch].
	Beside(conn any, foot Footprint, rollBack func()) error
	// Fly says that a statement is sent to where it may have to wait for another
	// actor's. Until it lands the scheduler asks the flight whether it does.
	Fly(f Flight)
	// Land says that the answer has come. Where others have made it wait, it
	// returns when the actor is chosen to go on; with an error where the flight
	// was aborted.
	Land() error
}

// A Flight is a statement on its way, as the scheduler asks for it.
type Flight interface {
	// Held reports whether the statement, which was sent at that time, waits for
	// others, as long as no actor goes on; and for whom. It is long ago where it
	// has been found to wait before.
	Held(since time.Time) (blames string, held bool)
	// Abort ends the statement, and returns when its answer can't but come.
	Abort()
}

// An Op is what an actor is about to do.
type Op struct {
	Text   string
	Foot   Footprint
	Ready  func() bool   // nil where it can always go on
	Blames func() string // whom it waits for, where it isn't ready
	Faults []Fault       // what may happen to it
	Last   bool          // others see what it does at once: a COMMIT, a write outside of a transaction
	Local  bool          // no other actor can notice it: [Actor.Step] decides that by Foot
}

// Next is [Host.Next] for one kind of engine.
func Next[T Engine](h Host, first func(number int) T) T {
	db, ok := h.Next(func(number int) Engine { return first(number) }).(T)
	if !ok {
		panic("harness: the scenario does not ask for its databases in the same order each time")
	}
	return db
}
