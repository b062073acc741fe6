// Package sqlmodel is a model of PostgreSQL for package harness, which reads SQL:
// code over database/sql that is written for PostgreSQL is explored by go test
// without a server, at the speed of memory.
//
//	harness.Test(t, func(s *harness.Sim) {
//		db := sqlmodel.Open(s, `create table seats (seat text primary key, holder text)`,
//			`insert into seats values ('12A', null)`)
//		for _, name := range []string{"ada", "bob"} {
//			s.Go(name, func(ctx context.Context) error { return Reserve(ctx, db, "12A", name) })
//		}
//		…
//	})
//
// It has what makes READ COMMITTED surprising: a snapshot for each statement, that
// is older than the lock for which it waits; rows that are looked at again after
// the wait, while the rest of the statement is not; the four locks on rows, with
// SKIP LOCKED and NOWAIT; unique indexes that wait for the end of another
// transaction; foreign keys, which lock the row to which they refer; sequences,
// which no rollback takes back; savepoints, advisory locks, and deadlocks, which
// it ends by 40P01. REPEATABLE READ keeps its snapshot, and fails with 40001.
// Errors are those of pgx, with PostgreSQL's codes and names of constraints.
//
// What it doesn't know it refuses by name, and the schedule fails: "the model does
// not know window functions: explore this on a server, postgres.Start". It never
// answers by a guess. The page docs/harness.md lists both. It is held to a server
// by a test that runs generated statements of several sessions on both: they have
// the same rows, errors and waits, and leave the same tables.
//
// # What differs from a server
//
//   - Rows come in the order in which their versions were made, as a sequential
//     scan meets them. Where a statement says no order, a server's may be another.
//   - Text is ordered by its bytes, as by the collation C, and the time zone is UTC.
//   - Of a circle of waits, the statement that closes it fails. A server may
//     choose another.
//   - Of several statements that one COMMIT lets go on, any may come first. A
//     server has its own order.
//   - gen_random_uuid counts. now() is the virtual clock, see [harness.Sim.Now].
//
// # What two steps have to do with each other
//
// Whole tables: those that a statement reads, writes and locks, and those to which
// their foreign keys refer. All sequences count as one, and all advisory locks.
package sqlmodel
