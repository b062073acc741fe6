// Package migrations makes the schema that Run Counter needs, in SQLite and in
// PostgreSQL, and takes it away again. golang-migrate keeps the version.
//
// Begin with postgres/*.up.sql.tmpl: each file is one step, rendered for the
// watched table by render.go, and can be run twice. [Migrator] runs them for
// runcounter migrate, [PrintPostgres] writes them as one script, and
// [PostgresObjects] lists what they make. preflight.go refuses a table that is not
// understood, before anything is changed. webhook.go installs the signed webhook,
// which needs none of the migrations. advisory.go names the advisory locks.
//
// It imports store and store/watched. The backends import it; it knows nothing of
// them, nor of the receiver.
package migrations
