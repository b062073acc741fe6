package pgtest

import (
	_ "embed"
	"testing"
)

//go:embed supabase_roles.sql
var supabaseRoles string

//go:embed supabase.sql
var supabaseObjects string

// Supabase returns a database that has what only Supabase has: its roles, the
// schema auth with users, uid(), role() and jwt(), the schemas extensions and
// graphql_public, and the privileges that it grants by default. The address is
// that of the role owner, which like Supabase's postgres is no superuser, owns
// the database and schema public, and is a member of anon, authenticated and
// service_role. authenticator can log in as well, as the Data API does.
func Supabase(t testing.TB) string {
	t.Helper()
	admin := supabase.admin(t)
	address := newDatabase(t, admin)
	Exec(t, admin, supabaseRoles) // by the first, while others may want to
	Exec(t, address, supabaseObjects)
	return As(t, address, "owner")
}
