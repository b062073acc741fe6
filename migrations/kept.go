package migrations

import (
	"context"
	"fmt"
	"strings"

	"github.com/edgaze-ai/runcounter/store"
)

// Kept counts what nothing brings back once [Migrator.Down] has dropped it. Runs are
// counted anew by the next Up, or imported; who was given runs, what an administrator has
// decided, and which outcomes of a source were presumed stands in these rows alone.
type Kept struct {
	Grants    int64 // of runs on top of a limit, with those that have expired or were revoked
	Standing  int64 // of these
	Decisions int64 // about outcomes, by administrators
	Presumed  int64 // outcomes, which a real one would supersede
}

// String lists what there is, and is empty where there is nothing.
func (k Kept) String() string {
	var all []string
	if k.Grants > 0 {
		stand := fmt.Sprintf("%d of which stand", k.Standing)
		if k.Standing == 1 {
			stand = "1 of which stands"
		}
		all = append(all, store.Quantity(k.Grants, "grant", "grants")+", "+stand)
	}
	if k.Decisions > 0 {
		all = append(all, store.Quantity(k.Decisions, "decision about an outcome", "decisions about outcomes"))
	}
	if k.Presumed > 0 {
		all = append(all, store.Quantity(k.Presumed, "presumed outcome", "presumed outcomes"))
	}
	return strings.Join(all, ", ")
}

// Kept returns what Down would drop for good. A table that is not there holds nothing: an
// up or a down may have been interrupted.
func (m *Migrator) Kept(ctx context.Context) (k Kept, err error) {
	standing, there, schema, db := `expires_at > unixepoch('now', 'subsec') * 1000000`, `select exists (select 1 from sqlite_master where type = 'table' and name = ?)`, "", m.sqlite
	if m.postgres != nil {
		standing, there, schema, db = `expires_at > now()`, `select to_regclass($1::text) is not null`, "run_counter.", m.postgres.db
	}
	for _, what := range []struct {
		table, text string
		into        []any
	}{
		{"grants", `select count(*), count(*) filter (where revoked_at is null and (expires_at is null or ` + standing + `)) from `, []any{&k.Grants, &k.Standing}},
		{"amendments", `select count(*) from `, []any{&k.Decisions}},
		{"presumed", `select count(*) from `, []any{&k.Presumed}},
	} {
		name, is := schema+what.table, false
		if err = db.QueryRowContext(ctx, there, name).Scan(&is); err == nil && is {
			err = db.QueryRowContext(ctx, what.text+name).Scan(what.into...)
		}
		if err != nil {
			return k, fmt.Errorf("count what %s holds: %w", name, err)
		}
	}
	return k, nil
}
