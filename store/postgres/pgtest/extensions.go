package pgtest

import (
	_ "embed"
	"strings"
	"testing"
)

//go:embed net.sql
var netObjects string

//go:embed vault.sql
var vaultObjects string

//go:embed hooks.sql
var hookObjects string

//go:embed extension.sql
var extensionMembers string

const (
	netVersion   = "0.20.4"
	vaultVersion = "0.3.1"
)

// InstallNet puts what extension pg_net consists of into a database, where it
// isn't yet, as if it had been created: tables, functions, and its row in
// pg_extension. Nothing is sent until [StartNet].
func InstallNet(t testing.TB, address string) {
	t.Helper()
	installExtension(t, address, "pg_net", netVersion, "net", netObjects)
}

// InstallVault puts what extension supabase_vault consists of into a database,
// where it isn't yet. Its secrets are scrambled, not encrypted.
func InstallVault(t testing.TB, address string) {
	t.Helper()
	installExtension(t, address, "supabase_vault", vaultVersion, "vault", vaultObjects)
}

func installExtension(t testing.TB, address, name, version, schema, objects string) {
	t.Helper()
	address = Admin(t, address)
	var there bool
	queryRow(t, address, &there, `select exists (select from pg_extension where extname = $1)`, name)
	if !there {
		members := strings.NewReplacer("{extension}", name, "{version}", version, "{schema}", schema).Replace(extensionMembers)
		Exec(t, address, objects+members) // one transaction
	}
}

// Offers reports whether the machine's PostgreSQL has the files of an extension,
// which say what a database could have.
func Offers(t testing.TB, address, extension string) (offered bool) {
	t.Helper()
	queryRow(t, Admin(t, address), &offered, `select exists (select from pg_available_extensions where name = $1)`, extension)
	return offered
}

// InstallHooks puts what Supabase's own database webhooks consist of into a
// database that has pg_net: a trigger that executes
// supabase_functions.http_request(URL, 'POST', HEADERS, '{}', MILLISECONDS)
// sends what the captured requests show.
func InstallHooks(t testing.TB, address string) {
	t.Helper()
	Exec(t, Admin(t, address), hookObjects)
}

// PatientWebhook lets our own webhook's trigger take two minutes over a statement of
// many rows, in place of two seconds. A test that counts what such a statement sends
// would else depend on how busy the machine is. TestCaseD12 in package migrations has
// the two seconds.
func PatientWebhook(t testing.TB, address string) {
	t.Helper()
	const limit = `interval '2 seconds'`
	var notify string
	queryRow(t, address, &notify, `select pg_get_functiondef('run_counter_webhook.notify'::regproc)`)
	if !strings.Contains(notify, limit) {
		t.Fatalf("notify() has no %s", limit)
	}
	Exec(t, address, strings.ReplaceAll(notify, limit, `interval '2 minutes'`))
}
