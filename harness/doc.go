// Package harness answers, in go test, whether there is an order of events in
// which database code goes wrong. It runs the real code, decides at every
// database statement who goes next, tries all orders that matter or samples
// them, lets connections break and processes die, and hands back the shortest
// story of what went wrong, to be replayed with one command.
//
// The engine below it is a package of its own, which brings its driver:
//
//   - harness/sqlite: an embedded SQLite, offline.
//   - harness/postgres: a real PostgreSQL; and a model of READ COMMITTED, offline.
//   - [Gate]: any other driver of database/sql.
//
// # A first test
//
// Here is code over database/sql that looks and then acts:
//
//	func transfer(ctx context.Context, db *sql.DB, from, to string, amount int) error {
//		var balance int
//		err := db.QueryRowContext(ctx, `select balance from accounts where name = ?`, from).Scan(&balance)
//		if err != nil || balance < amount {
//			return err
//		}
//		_, err = db.ExecContext(ctx, `update accounts set balance = balance + iif(name = ?1, -?3, ?3)
//			where name in (?1, ?2)`, from, to, amount)
//		return err
//	}
//
// and a test that has two of them at once. It needs no configuration:
//
//	func TestTransfer(t *testing.T) {
//		harness.Test(t, func(s *harness.Sim) {
//			db := sqlite.Open(s, `create table accounts (name text primary key, balance integer not null)`,
//				`insert into accounts values ('ada', 100), ('bob', 0), ('cy', 0)`)
//			s.Go("rent", func(ctx context.Context) error { return transfer(ctx, db, "ada", "bob", 70) })
//			s.Go("food", func(ctx context.Context) error { return transfer(ctx, db, "ada", "cy", 60) })
//			s.Always("no account is overdrawn", func() error {
//				var n int
//				err := db.QueryRow(`select min(balance) from accounts`).Scan(&n)
//				if err == nil && n < 0 {
//					err = fmt.Errorf("the balance is %d", n)
//				}
//				return err
//			})
//		})
//	}
//
// The function is a scenario. It is called once for every schedule: it gets its
// database (here by harness/sqlite), starts actors
// ([Sim.Go]), and names what must hold. The actors run when it has returned. The
// setup of a database runs once; before every other schedule its rows are put
// back. Tables are made there, and not by actors.
//
// An actor stands for a process, a worker, a request. Each of its statements is
// a step; what it does between two statements belongs to the first of them. One
// actor runs at a time. A statement that finds the database locked waits, as it
// would with a busy_timeout that is long enough, until another actor has made
// progress; when all wait for each other that is a deadlock, and a failure. So
// is an error that an actor returns, and a panic.
//
// # How a failure reads
//
// [Example] is this test, run, with the report that it prints. From top to
// bottom:
//
//   - VIOLATED: which oracle, and what it said.
//   - MINIMAL: how long the shortest schedule is, and whether it failed again
//     when it was run three times more. FLAKY instead says that it did not,
//     and where it went another way.
//   - WITHOUT: actors and operations that the story does not need.
//   - The timeline: a column for each actor, the values that were read, the
//     values that [Sim.Show] names, ✗ at the step after which the oracle failed,
//     and the point of no return: the first step after which every order that
//     was tried fails.
//   - WHY: the cycle of reads and writes behind it, where there is one. It goes
//     by tables, not by rows. Where the texts of the statements leave no doubt it
//     begins with the anomaly's name: lost update, write skew, phantom, stale
//     read, non-repeatable read, read skew. No engine here allows a dirty read.
//   - FIX: what usually helps against that anomaly.
//   - ENGINES: where a model was explored, whether the real one fails too.
//   - EXPLORED: how much was searched; see below.
//   - REPLAY: the command that runs this schedule alone.
//
// Nothing in it differs between two runs: there are no times of day, and ids
// (UUIDs) are renamed in the order in which they appear.
//
// # What actors wait for beside the database
//
// An actor may wait for a mutex, a channel, a sync.WaitGroup, a connection of a
// pool of one. The runtime's own stacks tell that it does; it goes on when
// another actor has let it. Then the exploration begins anew with more steps,
// since who comes to a mutex first is decided between statements: an actor's
// start is a step, and so is going on with an answer. When all wait for each
// other that is a deadlock, and the report says in which line.
//
// [Background] is for an actor that has no end of its own, such as a worker that
// polls: its context ends when the others have returned.
//
// # Replay
//
// A schedule is a word such as r1f2r1: one step of the actor r, two of f, one
// of r. An actor is called by a letter of its name; c is the clock; ~ comes
// before what was chosen within a step, such as a fault, and ! before what was
// left out; !* says that starting and going on are steps. The flags exist in every package whose tests import this one, and in
// no other, so name the package:
//
//	go test ./bank -run '^TestTransfer$' -harness.replay=r1f2r1   # this schedule alone
//	go test ./bank -run '^TestTransfer$' -harness.html=/tmp       # draws the failure as a page
//	go test ./bank -harness.seed=7                                # samples other schedules
//	go test ./bank -harness.time=1m                               # and samples for longer, in each test
//
// A failing schedule is kept as a file in testdata/schedules, which [Test] runs
// first the next time; commit it, and it is a regression test that takes a
// millisecond. Its second line says which letter is which actor, so that others
// may be added or moved. A file whose schedule the code can't follow any more
// fails the test, since it tests nothing: delete it, or mend the scenario. With
// -harness.save=false nothing is kept.
//
// The same seed and the same code give the same schedules, in any process, on
// any number of CPUs, with the race detector or without. That holds as long as
// the scenario does the same twice: what depends on the wall clock, on random
// numbers, on the order of a map, or on what an earlier schedule left in memory
// is a failure of the kind "diverged" where the harness notices it.
//
// # Oracles
//
//   - [Sim.Always] is asked after every step that can have changed what is
//     committed, and at the end.
//   - [Sim.Eventually] is asked at the end, when all actors have returned. It
//     may first do what the system does to get there, such as a last sweep.
//   - [Sim.Sometimes] must be seen at the end of at least one schedule: a
//     scenario that never gets to what it is about proves nothing.
//   - [Sim.Linearizable] records calls and their answers, and asks porcupine for
//     an order that explains them.
//
// What a scenario and its oracles do themselves is not scheduled: no step comes
// between.
//
// To shorten a failure the minimiser leaves out whole actors, and operations
// that were marked by [Sim.Op], as long as the same oracle fails, and does not
// fail in every order without them: an oracle "both have paid" keeps both. Where
// that is not enough, as in a scenario that always fails, start those that it
// asks for by [Needed]. Where faults are left it searches again with fewer, in
// other orders too; MINIMAL says where that was broken off before all were tried.
//
// # What is tried
//
// Without options, [Test] tries all orders, up to 10,000 schedules. Where they
// don't suffice it goes on with all orders of one preemption, then two, and
// then samples, 2,500 schedules each. [WithStrategies] says otherwise:
//
//   - [Exhaustive] tries all orders that matter. Two steps that touch nothing
//     of each other's can be swapped without any actor or oracle noticing; sleep sets leave
//     out orders that differ in nothing else.
//   - [Preemptions] tries all orders in which an actor is left at most so often
//     though it could have gone on. Most bugs need one or two.
//   - [Random] gives each actor the same chance at each step. It is good at
//     short programs, and hopeless at long ones.
//   - [PCT] gives actors priorities and changes them at few moments: it finds a
//     bug that needs a few steps in the right order, however long the program.
//   - [Plain] leaves out nothing: what the others are held against.
//   - [Replay] runs one schedule, such as one that failed in the past.
//
// A test that passes logs what it did (go test -v):
//
//	884 schedules, all orders, 0 failing
//	10,000 schedules of all orders, stopped there; 456 schedules, all orders up to 1 preemption;
//	2,500 schedules of all orders up to 2 preemptions, stopped there; sampled: PCT(3), 2,500, 0 failing
//
// What runs as one step though it has an inside, such as a function of the
// database, is named: "all orders, but for what happens inside the function
// public.begin_run". Functions in plpgsql can be stepped through: see StepInto of
// postgres.Config. And where an engine notices that something ran which was no
// step at all, the schedule fails as "unscheduled", whatever its oracles say.
//
// "All orders" without more says that nothing was left to try. "Stopped there"
// says that the budget was spent first ([Budget], or a number in the strategy).
// "Sampled" says how many were drawn, and no more than that. Schedules that
// were broken off as equivalent to others are not in these numbers; they do
// count towards a budget.
//
// [WithGrain] with [Transactions] makes a whole transaction a step, where a store is
// known to do everything in one, which makes room for more actors.
//
// # Faults
//
// At most one fault happens in a schedule, unless [Sim.Faults] says more, and
// only where it was allowed:
//
//   - [MayCrash] lets an actor die before any of its statements, and after a
//     COMMIT, or a write outside of a transaction, before its answer. Its open
//     transactions are rolled back. [Restarts] runs its function again, on what
//     the crash left.
//   - [LostBefore] and [LostAfter], given to a database, break the connection
//     during COMMIT, and the caller can't know which it was. SQLite and the
//     model return [ErrLost], a driver over a real connection its own error.
//   - [Refused] answers a statement that takes the lock for writing with
//     SQLITE_BUSY, or on the model with 40001; [Deadlock] answers one there
//     with 40P01. A real server knows no such faults but its own.
//
// The error of a crashed actor is no failure. All other errors reach the code
// under test, which has to deal with them: what an actor returns is a failure.
//
// [Sim.Now] is a virtual clock. It stands still until an actor calls
// [Sim.Sleep]; that it moves on is a step, which may come at any moment. A lease
// that runs out and a sweep that falls due are tried early and late, without
// waiting for anything.
//
// [Sim.Deliver] is a sender of webhooks as an adversary. Each delivery is an
// actor; its habits ([PgNet] has those that were measured of Supabase's) make
// them come twice, late, never, all of them again, or be lost at once. Each
// counts as a fault. In any order they come anyway.
//
// # What two steps have to do with each other
//
// An exhausted search rests on knowing what a step touches. Each engine decides
// that, and its package says how. Of what is known of nothing, as over [Gate],
// no order is left out.
//
// The tests hold the reduced search to the plain one.
//
// # What it cannot find
//
//   - Data races in memory. Actors take turns, so there are none while it runs;
//     go test -race finds them. And what actors tell each other through
//     variables of the scenario is not seen: orders that differ in that alone
//     are left out. Put a [Sim.Step] before it.
//   - What goes on in goroutines that an actor starts itself. One that uses the
//     database fails the test, which names it: start it with [Sim.Go]. (The one
//     in which database/sql rolls back a transaction whose context has ended is
//     an actor of its own, with a step that comes at any moment.)
//   - What happens between two statements. It belongs to the first of them, and
//     no other actor comes between.
//   - Anything that hangs on the wall clock: time.Now, tickers, timeouts, the
//     deadline of a context. Time is an argument of code that can be tested.
//     Where no actor can go on but one may wait for the clock, the harness waits
//     for half a second; what it lets go on then stands in the verdict as not
//     explored.
//   - Anomalies that need more than the engine has: see its package.
//   - What happens in files and on the network: a database in memory, or on a
//     file without fsync, loses nothing with a crash that it has committed.
//   - More than one database server: no replicas, no failover.
//
// A sampled pass proves nothing. It says that so many schedules were drawn and
// none failed. An exhausted search proves what it says, for this scenario, these
// actors with this data, this engine, and this many faults, and nothing for a
// third actor or a second fault.
package harness
