package postgres

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// Schema is the state of the migrations.
type Schema struct {
	Version, Latest uint     // Version 0: none is applied
	Dirty           bool     // one was interrupted
	Altered         []string // what was changed of workflow_runs since, as watched.Table.Changes says it
	Zone            string   // that times without zone are read in another than the database's, as watched.Table.ZoneNote says it
	MissingTables   []string
	BadIndexes      []string // of ours on workflow_runs: missing, or half built
}

// Schema looks at the version table, and at the tables and indexes.
func (i *Inspector) Schema(ctx context.Context) (s Schema, err error) {
	s.Latest = migrations.LatestPostgres()
	err = i.inspectInstalled(ctx, func(tx pgx.Tx, db features) error {
		objects, err := migrations.PostgresObjects(db.table)
		if err != nil {
			return err
		}
		var there bool
		err = tx.QueryRow(ctx, `select exists (select from pg_class where relname = 'schema_migrations' and relnamespace = to_regnamespace('run_counter'))`).Scan(&there)
		if err != nil || !there {
			return err
		}
		var version int64
		var zone string
		err = tx.QueryRow(ctx, `select version, dirty from run_counter.schema_migrations`).Scan(&version, &s.Dirty)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		s.Version = uint(max(version, 0))
		if err != nil || s.Version == 0 {
			return err
		}
		err = tx.QueryRow(ctx, `
select array(select n from unnest($1::text[]) as n
              where not exists (select from pg_class where relname = n and relkind = 'r' and relnamespace = to_regnamespace('run_counter'))),
       array(select n from unnest($2::text[]) as n
              where not exists (select from pg_class as c join pg_index as x on x.indexrelid = c.oid
                                 where c.relname = n and x.indrelid = `+regclass(db.table)+` and x.indisvalid)),
       current_setting('timezone')`,
			objects.Tables, objects.Indexes).Scan(&s.MissingTables, &s.BadIndexes, &zone)
		s.Zone = db.table.ZoneNote(zone)
		if err != nil || slices.Contains(s.MissingTables, "settings") {
			return err
		}
		s.Altered, err = altered(ctx, tx, db)
		return err
	})
	return s, err
}

// Functions are ours, and what is wrong with them.
type Functions struct {
	Present, Expected int
	Missing           []string
	Owners            []string // those who own some; more than one is odd
	OpenPath          []string // without a search_path of their own
	Others            []string // of the name of a public one of ours, and not ours
}

// Functions looks at the functions of the migrations.
func (i *Inspector) Functions(ctx context.Context) (f Functions, err error) {
	err = i.inspect(ctx, func(tx pgx.Tx) error {
		objects, err := migrations.PostgresObjects(watched.Default())
		if err != nil {
			return err
		}
		f.Expected = len(objects.Functions)
		err = tx.QueryRow(ctx, `
with named as (
    select p.*, n.nspname || '.' || p.proname as name,
           n.nspname = 'run_counter' or coalesce(obj_description(p.oid, 'pg_proc') like 'Run Counter:%', false) as ours
      from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
     where n.nspname = 'run_counter' or n.nspname || '.' || p.proname = any ($1::text[])
)
select array(select n from unnest($1::text[]) as n where not exists (select from named where ours and name = n)),
       array(select distinct pg_get_userbyid(proowner)::text from named where ours order by 1),
       array(select oid::regprocedure::text from named
              where ours and not coalesce('search_path=pg_catalog, pg_temp' = any (proconfig), false) order by 1),
       array(select oid::regprocedure::text from named where not ours order by 1)`,
			objects.Functions).Scan(&f.Missing, &f.Owners, &f.OpenPath, &f.Others)
		f.Present = f.Expected - len(f.Missing)
		return err
	})
	return f, err
}

// Grants are the rights that end users have and must not have.
type Grants struct {
	Anon   string   // the role of who has not signed in; public where there is no anon
	ToAnon []string // what it can use of ours
	ToUser []string // what authenticated can, beyond asking for and completing its own
	// OnTable are TRIGGER and TRUNCATE on the watched table that end users have,
	// such as "trigger to anon". Supabase's default privileges give both.
	OnTable []string
	Table   string // the watched one
}

// Grants looks for privileges that are too wide.
func (i *Inspector) Grants(ctx context.Context) (g Grants, err error) {
	err = i.inspect(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `select coalesce(to_regrole('anon')::text, 'public')`).Scan(&g.Anon)
		if err != nil {
			return err
		}
		table, err := watchedTable(ctx, tx)
		if err != nil {
			return err
		}
		g.Table = table.SQL()
		err = tx.QueryRow(ctx, `
select array(select w.privilege || ' to ' || r.role
               from unnest(array['public', 'anon', 'authenticated']) with ordinality as r (role, n),
                    unnest(array['trigger', 'truncate']) as w (privilege)
              where case when r.role = 'public' or to_regrole(r.role) is not null
                         then has_table_privilege(r.role, `+regclass(table)+`, w.privilege) end
              order by r.n, w.privilege)`).Scan(&g.OnTable)
		if err != nil {
			return err
		}
		open := []string{}
		if totals, err := totalsFor(ctx, tx); err != nil {
			return err
		} else if totals == "everyone" {
			open = forEveryone
		}
		for _, one := range []struct {
			role  string
			open  []string // functions that are meant for it
			table string   // privileges that are too wide
			into  *[]string
		}{
			{g.Anon, open, "select, insert, update, delete, truncate, references, trigger", &g.ToAnon},
			{"authenticated", forUsers, "insert, update, delete, truncate, references, trigger", &g.ToUser},
		} {
			err := tx.QueryRow(ctx, `
select array(select 'execute on ' || f.oid::regprocedure
               from pg_proc as f join pg_namespace as n on n.oid = f.pronamespace
              where (n.nspname = 'run_counter' and f.prorettype <> 'trigger'::regtype
                     or n.nspname = 'public' and obj_description(f.oid, 'pg_proc') like 'Run Counter:%')
                and not n.nspname || '.' || f.proname = any ($2::text[])
                and has_function_privilege($1::text, f.oid, 'execute')
              union all
             select 'a privilege on ' || c.oid::regclass
               from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
              where c.relkind in ('r', 'v')
                and (n.nspname = 'run_counter' or n.nspname = 'public' and c.relname = 'workflow_run_counts' and c.relkind = 'v')
                and has_table_privilege($1::text, c.oid, $3::text)
              order by 1)
 where $1::text = 'public' or to_regrole($1::text) is not null`, one.role, one.open, one.table).Scan(one.into)
			if err != nil && !errors.Is(err, pgx.ErrNoRows) {
				return err
			}
		}
		return nil
	})
	return g, err
}

// forUsers are the functions that the signed-in may call: each looks at who
// asks.
var forUsers = []string{
	"public.get_user_workflow_run_count", "public.get_workflow_run_count", "public.get_workflow_run_allowance", "public.complete_workflow_run", "public.complete_workflow_run_and_get_count",
	"run_counter.uid", "run_counter.allow_user", "run_counter.policy", "run_counter.count_own", "run_counter.count_in", "run_counter.allowance_own", "run_counter.own_counts",
	"run_counter.last_run_at", "run_counter.complete_own_run",
}

// forEveryone are those that anon may call, too, where everyone may ask for totals.
var forEveryone = []string{"public.get_workflow_run_count", "run_counter.count_in"}

// totalsFor reads who may ask for totals, "" where the database does not say.
func totalsFor(ctx context.Context, tx pgx.Tx) (who string, err error) {
	var there bool
	if err := tx.QueryRow(ctx, `select to_regclass('run_counter.settings') is not null`).Scan(&there); err != nil || !there {
		return "", err
	}
	err = tx.QueryRow(ctx, `select coalesce(max(to_jsonb(s) ->> 'totals_for'), '') from run_counter.settings as s`).Scan(&who)
	return who, err
}

// Trigger is one on workflow_runs, or of ours elsewhere.
type Trigger struct {
	Table, Name, Function         string
	Enabled                       string // O: yes; D: no; R: for replicas alone; A: always
	Row, Before                   bool
	Insert, Update, Delete, Empty bool // what it fires for; Empty is TRUNCATE
	Sends                         bool // it makes a webhook of the change
}

// Triggers lists all triggers on workflow_runs, and ours elsewhere, in the
// order in which PostgreSQL fires those of one event: by the bytes of their
// names. expected are the ones that the migrations make.
func (i *Inspector) Triggers(ctx context.Context) (all []Trigger, expected []migrations.Trigger, err error) {
	err = i.inspect(ctx, func(tx pgx.Tx) error {
		table, err := watchedTable(ctx, tx)
		if err != nil {
			return err
		}
		objects, err := migrations.PostgresObjects(table)
		if err != nil {
			return err
		}
		expected = objects.Triggers
		rows, _ := tx.Query(ctx, `
select n.nspname || '.' || c.relname, t.tgname::text, fn.nspname || '.' || p.proname, t.tgenabled::text,
       t.tgtype & 1 > 0, t.tgtype & 2 > 0, t.tgtype & 4 > 0, t.tgtype & 16 > 0, t.tgtype & 8 > 0, t.tgtype & 32 > 0,
       `+sendsSQL+`
  from pg_trigger as t
  join pg_class as c on c.oid = t.tgrelid
  join pg_namespace as n on n.oid = c.relnamespace
  join pg_proc as p on p.oid = t.tgfoid
  join pg_namespace as fn on fn.oid = p.pronamespace
 where not t.tgisinternal and (c.oid = `+regclass(table)+` or n.nspname = 'run_counter')
 order by 1, t.tgname collate "C"`) // its error is that of the rows
		all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Trigger])
		return err
	})
	return all, expected, err
}

// Switches are the settings in the database.
type Switches struct {
	Guard     watched.Guard
	Hardening bool
	Policy    string
	EndUsers  bool  // the database has the role authenticated
	GaveWay   int64 // runs whose outcome was overwritten since the guard could not keep it
	WouldKeep int64 // and since it only reports
}

// Switches reads the settings.
func (i *Inspector) Switches(ctx context.Context) (s Switches, err error) {
	err = i.inspect(ctx, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `select guard, hardening, policy, to_regrole('authenticated') is not null, r.gave_way, r.would_keep
  from run_counter.settings, (select count(*) filter (where kind = 'gave_way') as gave_way, count(*) filter (where kind = 'would_keep') as would_keep from run_counter.repairs) as r`).
			Scan(&s.Guard, &s.Hardening, &s.Policy, &s.EndUsers, &s.GaveWay, &s.WouldKeep)
	})
	return s, err
}
