package postgres

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// TestCaseT32_ARunThatIsHandedOverIsNotItsOldOwnersToEnd has the hand-over
// commit while the old owner's call waits for the row.
func TestCaseT32_ARunThatIsHandedOverIsNotItsOldOwnersToEnd(t *testing.T) {
	t.Parallel()
	address := mustApp(t)
	owner, old := newSession(t, address), newSession(t, pgtest.As(t, address, "authenticator"))
	owner.do(`begin`, `update workflow_runs set user_id = '`+ada+`', workflow_id = '`+adaFlow+`' where id = '`+active+`'`)
	old.do(`set role authenticated`, `set request.jwt.claims = '{"sub": "`+bob+`"}'`)
	old.watcher = owner.watcher // who may see what another session waits for
	old.begin(func() error {
		_, err := old.conn.Exec(t.Context(), `select complete_workflow_run('`+active+`', 'completed')`)
		return err
	})
	owner.do(`commit`)
	if err := need.Await(t, "the old owner's answer", old.done); code(err) != "42501" {
		t.Errorf("the old owner's call: got %v, want 42501", err)
	}
	var status string
	if err := owner.conn.QueryRow(t.Context(), `select status from workflow_runs where id = '`+active+`'`).Scan(&status); err != nil || status != "running" {
		t.Errorf("the run is %s, %v; want it running", status, err)
	}
}

// late is a long transaction of an application, which is older than everything
// that the others of a test do.
func (f *fixture) late() *session {
	s := f.session()
	s.do(`begin`, `select now()`)
	return s
}

// run inserts a run that has just been started.
func (f *fixture) run(n int) string {
	id := storetest.MustID('1', n).String()
	pgtest.Exec(f, f.address, `insert into workflow_runs (id, user_id, workflow_id, status, created_at, started_at) values ('`+id+`', '`+
		f.key.User.String()+`', '`+f.key.Ref.String()+`', 'running', clock_timestamp(), clock_timestamp())`)
	return id
}

// holds wants a condition on the runs, with a as the last amendment of each.
func (f *fixture) holds(what, condition string) {
	f.Helper()
	var all bool
	var rows string
	err := f.store.pool.QueryRow(f.Context(), `
select bool_and(coalesce(`+condition+`, false)), string_agg(concat_ws(' | ', to_jsonb(r), to_jsonb(a)), e'\n')
  from workflow_runs as r
  left join lateral (select * from run_counter.amendments as a where a.run_id = r.id order by seq desc limit 1) as a on true`).Scan(&all, &rows)
	if err != nil || !all {
		f.Errorf("%s: %s doesn't hold, %v:\n%s", what, condition, err, rows)
	}
}

// decideAndWrite amends a run and writes it in one transaction.
func (f *fixture) decideAndWrite(s *session) {
	f.Helper()
	id := f.run(1)
	pgtest.Exec(f, f.address, `select complete_workflow_run('`+id+`', 'completed')`)
	s.do(`begin`, `select run_counter.amend_run('`+id+`', 'failed', 'support', 'a mistake')`,
		`select run_counter.amend_run('`+id+`', 'completed', 'support', 'none')`,
		`update workflow_runs set status = 'failed', completed_at = '2020-01-01' where id = '`+id+`'`,
		`update workflow_runs set status = 'running', completed_at = null where id = '`+id+`'`,
		`update workflow_runs set completed_at = '2020-01-01' where id = '`+id+`'`,
		`commit`)
	f.holds("what was decided", `r.status = 'completed' and r.completed_at = a.was_completed_at`)
}

// TestCasesOfMoments runs what we date in a transaction that is older than what
// it dates.
func TestCasesOfMoments(t *testing.T) {
	t.Parallel()
	const after = `r.completed_at >= r.created_at and r.completed_at >= r.started_at and r.duration_ms >= 0`
	for name, do := range map[string]func(f *fixture){
		"case T33: complete_workflow_run ends a run after it began": func(f *fixture) {
			s := f.late()
			s.do(`select complete_workflow_run('`+f.run(1)+`', 'completed')`, `commit`)
			f.holds("the end", after)
		},
		"case T33: so does the application's own update": func(f *fixture) {
			s := f.late()
			s.do(`update workflow_runs set status = 'completed' where id = '`+f.run(1)+`'`, `commit`)
			f.holds("the end", after)
		},
		"case T33: and after a re-opening that came meanwhile": func(f *fixture) {
			id := f.run(1)
			pgtest.Exec(f, f.address, `select complete_workflow_run('`+id+`', 'completed')`)
			s := f.late()
			pgtest.Exec(f, f.address, `select run_counter.amend_run('`+id+`', 'running', 'support', 'it goes on')`)
			s.do(`select complete_workflow_run('`+id+`', 'failed')`, `commit`)
			f.holds("the end", `r.status = 'failed' and r.completed_at > a.at`)
		},
		"case T33: a run that is begun in a long transaction begins now": func(f *fixture) {
			s := f.late()
			pgtest.Exec(f, f.address, `create table moment as select clock_timestamp() as at`)
			s.do(`select begin_workflow_run('`+f.key.User.String()+`', '`+f.key.Ref.String()+`')`, `commit`)
			f.holds("the begin", `r.created_at > (select at from moment) and r.updated_at = r.created_at`)
		},
		"case T34: a run that ended meanwhile is re-opened": func(f *fixture) {
			s := f.late()
			id := f.run(1)
			pgtest.Exec(f, f.address, `select complete_workflow_run('`+id+`', 'completed')`)
			s.do(`select run_counter.amend_run('`+id+`', 'running', 'support', 'it goes on')`, `commit`)
			f.holds("the amendment", `r.status = 'running' and r.completed_at is null and a.at >= a.was_completed_at and r.updated_at = a.at`)
		},
		"case T34: the older transaction that decides last has the last word": func(f *fixture) {
			id := f.run(1)
			pgtest.Exec(f, f.address, `select complete_workflow_run('`+id+`', 'completed')`)
			s := f.late()
			pgtest.Exec(f, f.address, `select run_counter.amend_run('`+id+`', 'failed', 'support', 'first')`)
			s.do(`select run_counter.amend_run('`+id+`', 'cancelled', 'support', 'second')`, `commit`)
			f.holds("the amendments", `r.status = 'cancelled' and r.updated_at = a.at and a.why = 'second' and
a.at > (select min(at) from run_counter.amendments)`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			do(f)
			exact(t, f.store)
		})
	}
}

// TestCaseT34_ARunThatEndsWhileItsAmendmentWaitsIsReopened has the store's own
// moment be older than the end of the run, by a wait for its row.
func TestCaseT34_ARunThatEndsWhileItsAmendmentWaitsIsReopened(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.run(1)
	app := f.session()
	app.do(`begin`, `select from workflow_runs where id = '`+id+`' for update`)
	ended := make(chan error, 1)
	go func() {
		_, err := f.store.Amend(t.Context(), store.AmendRequest{ID: storetest.MustID('1', 1), Status: store.Pending, Who: "support", Why: "again", Now: time.Now().Add(-time.Second)}) // the call took its time
		ended <- err
	}()
	until(t, func() bool { return waits(t, app.watcher, `application_name = 'runcounter'`) })
	app.do(`select complete_workflow_run('`+id+`', 'completed')`, `commit`)
	if err := need.Await(t, "the end of the amendment", ended); err != nil {
		t.Fatal(err)
	}
	f.holds("the amendment", `r.status = 'pending' and a.at >= a.was_completed_at`)
	var refused error
	_, refused = app.conn.Exec(t.Context(), `update workflow_runs set status = 'completed', completed_at = now() + interval '1 hour';
select run_counter.amend_run('`+id+`', 'running', 'support', 'too early')`, pgx.QueryExecModeSimpleProtocol)
	if code(refused) != "22023" {
		t.Errorf("a run that ends in an hour: got %v, want 22023", refused)
	}
}
