package migrations

// The advisory locks that Run Counter takes, which an application that takes some
// of its own in the same database must leave alone. golang-migrate takes one more,
// for as long as one migration lasts, whose key it draws from the names of the
// database and of run_counter.schema_migrations. No function or trigger in the
// database takes any: what these lock is locked by its rows.
const (
	// lockMigrating is held by the session of a migrate up or down until that ends,
	// so that a second process waits for it.
	lockMigrating int64 = 0x72756e636f756e74 // "runcount"

	// LockBeginSQL locks the key $1 until its transaction ends. Begin takes it
	// where there is a limit and the migrations are not applied, so that calls of
	// one key count one after the other; with them, it locks the key's row in
	// run_counter.keys instead.
	LockBeginSQL = `select pg_advisory_xact_lock(hashtextextended('runcounter ' || $1::text, 0))`
)
