package pgtest

import (
	_ "embed"
	"testing"
)

//go:embed supabase_roles.sql
var supabaseRoles string

//go:embed supabase.sql
var supabaseObjects string

const supabaseDatabase = `do $do$
begin
    execute format('alter database %I owner to owner', current_database());
    execute format('alter database %I set search_path to "$user", public, extensions', current_database());
end
$do$`

// Supabase returns a database that has what only Supabase has: its roles, the
// schema auth with users, uid(), role() and jwt(), the schemas extensions and
// graphql_public, and the privileges that it grants by default. The address is
// that of the role owner, which like Supabase's postgres is no superuser, owns
// the database and schema public, and is a member of anon, authenticated and
// service_role. authenticator can log in as well, as the Data API does.
func Supabase(t testing.TB) string {
	t.Helper()
	admin := supabase.admin(t)
	address := copied(t, admin, "supabase", func(address string) {
		Exec(t, admin, supabaseRoles)
		Exec(t, address, supabaseObjects)
	})
	Exec(t, address, supabaseDatabase) // which a copy leaves behind
	return As(t, address, "owner")
}
