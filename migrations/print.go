package migrations

import (
	"fmt"
	"strings"

	"github.com/edgaze-ai/runcounter/store/watched"
)

const printHead = `-- Run Counter for PostgreSQL: all migrations in one script, for the SQL editor of
-- Supabase or psql, as the owner of the watched table. It can be run twice;
-- runcounter migrate up, down and status know what it has applied.
--
-- A step that does not get its lock within two seconds, since the table is busy,
-- ends with "canceling statement due to lock timeout": run the script again. The
-- steps before it stay applied, and no write has waited for longer.
--
-- Its indexes are built at once: on a table with many runs, where writers should
-- not wait for that, run runcounter migrate up instead.
`

// PrintPostgres returns one script that does what Up does on such a table, in a
// transaction for each migration, and notes the version as golang-migrate does.
func PrintPostgres(t watched.Table) (string, error) {
	all, err := rendered(t)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(printHead)
	for _, s := range all {
		// The number is not lowered where a newer program was at work.
		fmt.Fprintf(&b, `
-- %[1]s
begin;
set local statement_timeout = 0;
%[2]s
create table if not exists run_counter.schema_migrations (version bigint not null primary key, dirty boolean not null);
delete from run_counter.schema_migrations where version < %[3]d or version = %[3]d and dirty;
insert into run_counter.schema_migrations (version, dirty)
select %[3]d, false where not exists (select from run_counter.schema_migrations);
commit;
`, s.name, strings.TrimRight(s.sql, "\n"), s.version)
	}
	return b.String(), nil
}
