// Package postgres keeps the counts of a PostgreSQL database's own
// workflow_runs, such as a Supabase project's.
//
// It is a source: the rows of the table are the truth, from every writer, and
// a change that is received is a hint to look. The triggers of
// migrations/postgres do what must happen in the writer's transaction; this
// package reads, folds, sweeps and repairs. Without the migrations it works by
// direct queries: see direct.go for what holds then.
//
// It uses no prepared statement, no lock of a session and no setting of one,
// so it works through a pooler in transaction mode as well.
//
// The package imports store, store/watched, migrations and pgx; the rules stand
// in store, and the watched table's columns in store/watched. Three types are
// exported: [Store] is the backend, [Inspector] reads what doctor asks without
// writing, and [Table] reads the rows that an import copies. A reader begins at
// [Open] and the type features in postgres.go, then follows [Store.Apply] in
// apply.go; rows.go has the columns, fold.go the ledger, sweep.go the repairs.
package postgres
