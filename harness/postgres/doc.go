// Package postgres runs scenarios of package harness on PostgreSQL. SQLite has
// one writer at a time, and knows none of the surprises of READ COMMITTED,
// PostgreSQL's default. There are three ways to them here. Package sqlmodel, a model
// that reads SQL, is a fourth.
//
// [NewReadCommitted] is a model in memory: a snapshot for each statement that is
// older than the lock for which it waits, rows that are looked at again after the
// wait while the rest of the statement is not, locks on rows and none on what
// isn't there, unique keys, SKIP LOCKED, advisory locks, and deadlocks, which it
// ends as PostgreSQL does, by 40P01. It reads no SQL. A [Statement] is the SQL,
// the tables that it touches, and what it means, by the methods of [Query]:
//
//	recount := &postgres.Statement{
//		SQL: `insert into counts values (1, (select count(*) from runs))
//			on conflict (user_id) do update set n = excluded.n`,
//		Reads: []string{"runs"}, Writes: []string{"counts"},
//		Do: func(q *postgres.Query) error {
//			n := q.Count("runs", nil)
//			_, err := q.Insert("counts", postgres.Row{int64(1), n},
//				postgres.Conflict{DoUpdate: func(r postgres.Row) postgres.Row { return postgres.Row{r[0], n} }})
//			return err
//		},
//	}
//
// That meaning is yours, and may be wrong. [On] runs the same exploration on a
// real server, by the SQL alone, one backend for each session; [VerifyOn], or
// -harness.postgres=ADDRESS, runs only the minimal schedule of a failure there,
// and says on the line ENGINES what it came to.
//
// [New] runs code over pgx, or any driver that takes a function to dial with, on
// a real server. The gate is in the protocol, so that every statement is a step,
// whatever context it has: those of a batch, a COPY, a cursor, a wait for a
// notification. Which of them wait for a lock is read from pg_blocking_pids. It
// empties and fills every table of its database before each schedule: give it
// one of its own, such as [Start] makes, on a server that it finds and starts.
//
// A call of a function is one step there, and the verdict names the function. With
// StepInto of [Config] the statements of functions in plpgsql are steps as well:
// their bodies have gates in them for as long as the test runs.
//
// [Database.Proxy] is the address at which a process in any language is an actor.
//
// On a real server a replay is not the same byte for byte. One COMMIT can let
// several statements go on, and PostgreSQL chooses among them; a schedule that
// it does not follow is tried again, and counted where that does not help.
//
// # What two steps have to do with each other
//
// On the model, by the tables that a [Statement] names, rows not told apart. One
// that touches another table panics. An advisory lock is no table: name one for
// it in Writes. On a real server by [New], by the tables that the text of a statement
// names, and those to which the catalogs lead from there: by views, triggers,
// functions, foreign keys and sequences. What a text does not tell for certain depends
// on everything: another level of isolation than READ COMMITTED, a COPY, a savepoint, an
// advisory lock, a text that is made at run time. See [Database].
//
// # What it cannot find
//
//   - What actors over [New] wait for beside the server: a mutex, a channel, a
//     connection of a full pool. After 30 seconds the test fails, and says where.
//     On the model that is explored.
//   - What a connection past the gate does that comes and goes within a step. One that
//     lives longer fails the test when an actor uses it.
//   - What other processes wait for, or tell each other, beside the server: see
//     [Database.Proxy].
//   - Anomalies that need more than the model has: it has READ COMMITTED and
//     neither REPEATABLE READ nor SERIALIZABLE, no foreign keys, no unique index
//     beside the primary key, no savepoints, no triggers, and it meets rows in the
//     order in which they were inserted, where PostgreSQL's changes with each
//     UPDATE.
package postgres
