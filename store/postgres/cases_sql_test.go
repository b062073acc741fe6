package postgres

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// TestCaseALoginRoleThatNeverSaidSETROLEIsNotTrusted has roles connect by
// themselves: a role is what it may do, whether it was set or logged in.
func TestCaseALoginRoleThatNeverSaidSETROLEIsNotTrusted(t *testing.T) {
	t.Parallel()
	address := mustApp(t)
	pgtest.Exec(t, address, `insert into workflow_runs (user_id, workflow_id, status) values ('`+ada+`', '`+adaFlow+`', 'completed')`) // not folded
	suffix := fmt.Sprint(time.Now().UnixNano())                                                                                        // roles belong to the server, which tests share
	user, server, both := "case_user_"+suffix, "case_server_"+suffix, "case_both_"+suffix
	admin := pgtest.Admin(t, address)
	for role, of := range map[string]string{user: "authenticated", server: "service_role", both: "authenticated, service_role"} {
		pgtest.Exec(t, admin, `create role `+role+` login; grant `+of+` to `+role)
		t.Cleanup(func() { pgtest.Exec(t, admin, `drop role `+role) })
	}
	const bobs = `set request.jwt.claims = '{"sub": "` + bob + `"}'; `
	for _, tt := range []struct {
		role, setup, sql, want string
	}{
		{user, "", `select get_user_workflow_run_count('` + bob + `', '` + bobFlow + `')::text`, "42501"},
		{user, bobs, `select get_user_workflow_run_count('` + bob + `', '` + bobFlow + `')::text`, "1"},
		{user, bobs, `select get_user_workflow_run_count('` + ada + `', '` + adaFlow + `')::text`, "42501"},
		{user, bobs + `set role authenticated; set role none; `, `select get_user_workflow_run_count('` + ada + `', '` + adaFlow + `')::text`, "42501"},
		{user, bobs, `select complete_workflow_run('00000000-0000-4000-8000-0000000000a2', 'completed')::text`, "42501"},
		{user, bobs, `select complete_workflow_run('` + active + `', 'cancelled')::text`, "42501"},
		{user, bobs, `select count(*)::text from workflow_run_counts where user_id <> '` + bob + `'`, "0"},
		{user, bobs, `select count(*)::text from workflow_run_counts`, "2"},
		{user, "", `select count(*)::text from workflow_run_counts`, "0"},
		{server, "", `select get_user_workflow_run_count('` + ada + `', '` + adaFlow + `')::text`, "2"},
		{server, "", `select count(*)::text from workflow_run_counts`, "3"},
		{server, "", `begin; select complete_workflow_run('` + active + `', 'cancelled')::text; rollback`, "true"},
		{both, "", `select count(*)::text from workflow_run_counts`, "3"},
		{both, bobs + `set role authenticated; `, `select count(*)::text from workflow_run_counts`, "2"},
		{both, bobs + `set role authenticated; set role none; `, `select count(*)::text from workflow_run_counts`, "3"},
	} {
		conn, err := pgx.Connect(t.Context(), pgtest.As(t, address, tt.role))
		if err != nil {
			t.Fatal(err)
		}
		all, err := conn.PgConn().Exec(t.Context(), tt.setup+tt.sql).ReadAll()
		got := code(err)
		for _, one := range all {
			if err == nil && len(one.Rows) > 0 {
				got = string(one.Rows[0][0])
			}
		}
		if got != tt.want {
			t.Errorf("%s: %s%s: got %q, %v; want %s", strings.TrimSuffix(tt.role, "_"+suffix), tt.setup, tt.sql, got, err, tt.want)
		}
		conn.Close(t.Context())
	}
}

// TestCaseHardeningChecksEachTimeOfEachStatement has an end user set each of a
// run's times into the future, by INSERT and by UPDATE.
func TestCaseHardeningChecksEachTimeOfEachStatement(t *testing.T) {
	t.Parallel()
	address := mustApp(t)
	pgtest.Exec(t, address, `drop trigger touch on workflow_runs`) // the application's, which sets updated_at
	c := newCaller(t, address)
	insert := func(column, value string) string {
		return `insert into workflow_runs (user_id, workflow_id, status, ` + column + `) values ('` + bob + `', '` + bobFlow + `', 'running', ` + value + `)`
	}
	for _, column := range []string{"completed_at", "started_at", "updated_at", "created_at"} {
		for _, sql := range []string{
			`update workflow_runs set ` + column + ` = now() + interval '6 minutes' where id = '` + active + `'`,
			`update workflow_runs set ` + column + ` = 'infinity' where id = '` + active + `'`,
			insert(column, `now() + interval '6 minutes'`), insert(column, `'infinity'`),
		} {
			if _, _, err := c.as("bob", sql); code(err) != "42501" || !strings.Contains(err.Error(), "future") {
				t.Errorf("%s: got %v, want it refused for the future", sql, err)
			}
			if _, _, err := c.as("service_role", sql); err != nil {
				t.Errorf("%s, as the server: %v", sql, err)
			}
		}
	}
	for _, sql := range []string{
		`update workflow_runs set updated_at = now() + interval '4 minutes' where id = '` + active + `'`, // clocks differ
		`update workflow_runs set updated_at = now() where id = '` + active + `'`,
		insert("updated_at", "now() + interval '4 minutes'"),
		insert("metadata", "'{}'"),
		`update workflow_runs set metadata = '{}' where id = '` + active + `'`,
	} {
		if _, rows, err := c.as("bob", sql); err != nil || rows != 1 {
			t.Errorf("%s: got %d rows, %v; want one", sql, rows, err)
		}
	}
	// A time that was there before is nobody's fault of now.
	pgtest.Exec(t, address, `update workflow_runs set started_at = now() + interval '1 day', updated_at = now() + interval '1 day' where id = '`+active+`'`)
	if _, rows, err := c.as("bob", `update workflow_runs set metadata = '{}' where id = '`+active+`'`); err != nil || rows != 1 {
		t.Errorf("a touch of a run that is ahead of the clock: got %d rows, %v; want one", rows, err)
	}
}

// TestCaseTheWordsOfASweepDoNotStayAfterARealOutcome has an application write a
// real outcome over a presumed one by an UPDATE of its own.
func TestCaseTheWordsOfASweepDoNotStayAfterARealOutcome(t *testing.T) {
	t.Parallel()
	const own, other = `{"code": "NODE_ERROR"}`, `{"code": "OUT_OF_MEMORY"}`
	for name, tt := range map[string]struct {
		details, set string
		want         store.JSON
		duration     bool // it was written
	}{
		"the sweep's words go":                        {"null", `status = 'completed'`, "", false},
		"also where a time comes with it":             {"null", `status = 'completed', completed_at = now(), duration_ms = 5`, "", true},
		"also where the status stays":                 {"null", `status = 'failed', completed_at = now()`, "", false},
		"the application's own words stay":            {`'` + own + `'`, `status = 'completed'`, own, false},
		"what comes with the outcome stands":          {"null", `status = 'failed', completed_at = now(), error_details = '` + other + `'`, other, false},
		"what comes with the outcome replaces others": {`'` + own + `'`, `status = 'completed', error_details = '` + other + `'`, other, false},
		"and may be nothing":                          {`'` + own + `'`, `status = 'completed', error_details = null`, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			pgtest.Exec(t, f.address, `insert into workflow_runs (id, user_id, workflow_id, status, started_at, updated_at, error_details) values ('`+storetest.MustID('1', 1).String()+`', '`+
				f.key.User.String()+`', '`+f.key.Ref.String()+`', 'running', now() - interval '1 day', now() - interval '1 day', `+tt.details+`)`)
			if got := f.failStuck(); len(got) != 1 {
				t.Fatalf("FailStuck: got %+v, want the run", got)
			}
			before := f.runOne(1)
			pgtest.Exec(t, f.address, `update workflow_runs set `+tt.set)
			got := f.runOne(1)
			if got.Presumed || got.ErrorDetails != tt.want {
				t.Errorf("got presumed %v, error_details %s; want it real, with %q", got.Presumed, got.ErrorDetails, tt.want)
			}
			if !got.CompletedAt.After(before.CompletedAt) || time.Since(got.CompletedAt) > time.Minute {
				t.Errorf("completed_at is %v, want the moment of the UPDATE, not the sweep's %v", got.CompletedAt, before.CompletedAt)
			}
			if want := store.MillisOf(got.CompletedAt.Sub(got.StartedAt).Milliseconds()); !tt.duration && got.DurationMS != want || tt.duration && got.DurationMS.MS != 5 {
				t.Errorf("duration_ms is %+v, want it filled from the new end (%+v), or as written", got.DurationMS, want)
			}
			exact(t, f.store)
		})
	}
}

// TestCaseTwoBeginsWithOneIdempotencyKeyAtOnceWithoutALimit has the second wait
// for the first, which commits, or does not.
func TestCaseTwoBeginsWithOneIdempotencyKeyAtOnceWithoutALimit(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ end, second, want string }{
		"the first commits":                 {`commit`, `p_idempotency_key => 'order-7', p_run_id => '` + storetest.MustID('1', 2).String() + `'`, storetest.MustID('1', 1).String()},
		"the first is rolled back":          {`rollback`, `p_idempotency_key => 'order-7', p_run_id => '` + storetest.MustID('1', 2).String() + `'`, storetest.MustID('1', 2).String()},
		"the same id, and the first stays":  {`commit`, `p_run_id => '` + storetest.MustID('1', 1).String() + `'`, storetest.MustID('1', 1).String()},
		"the same id under another key":     {`commit`, `p_idempotency_key => 'order-8', p_run_id => '` + storetest.MustID('1', 1).String() + `'`, storetest.MustID('1', 1).String()},
		"the same id, and the first is not": {`rollback`, `p_run_id => '` + storetest.MustID('1', 1).String() + `'`, storetest.MustID('1', 1).String()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			begin := `select begin_workflow_run('` + f.key.User.String() + `', '` + f.key.Ref.String() + `', `
			a, b := f.session(), f.session()
			a.do(`begin`, begin+`p_idempotency_key => 'order-7', p_run_id => '`+storetest.MustID('1', 1).String()+`')`)
			var got string
			b.begin(func() error { return b.conn.QueryRow(t.Context(), begin+tt.second+`)::text`).Scan(&got) })
			if len(b.done) > 0 {
				t.Error("the second did not wait for the first")
			}
			a.do(tt.end)
			b.finish()
			var runs int
			if err := a.conn.QueryRow(t.Context(), `select count(*) from workflow_runs`).Scan(&runs); err != nil {
				t.Fatal(err)
			}
			if got != tt.want || runs != 1 {
				t.Errorf("the second began %s, and there are %d runs; want %s alone", got, runs, tt.want)
			}
			var again string
			if err := a.conn.QueryRow(t.Context(), begin+tt.second+`)::text`).Scan(&again); err != nil || again != tt.want {
				t.Errorf("the second once more: got %s, %v; want %s", again, err, tt.want)
			}
		})
	}
}

// TestCaseAnAmendmentPassesTheGuardInItsOwnTransactionAlone has a run end again
// just as it had ended before it was re-opened: a late UPDATE then looks like the
// re-opening.
func TestCaseAnAmendmentPassesTheGuardInItsOwnTransactionAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.begun(1)
	f.endsAsBefore()
	exact(t, f.store)
}

// endsAsBefore has the application's own update end a run, twice, by the same
// words: a completion of ours would be dated behind the re-opening.
func (f *fixture) endsAsBefore() {
	f.Helper()
	const end = `update workflow_runs set status = 'completed', completed_at = created_at + interval '1 hour'`
	pgtest.Exec(f, f.address, end)
	if _, err := f.store.Amend(f.Context(), store.AmendRequest{ID: storetest.MustID('1', 1), Status: store.Running, Who: "support", Why: "again", Now: time.Now()}); err != nil {
		f.Fatal(err)
	}
	pgtest.Exec(f, f.address, end, `update workflow_runs set status = 'running', completed_at = null`)
	if got := f.runOne(1); got.Status != store.Completed || !got.CompletedAt.Equal(got.CreatedAt.Add(time.Hour)) {
		f.Errorf("after a late running: got %+v, want it as it ended", got)
	}
}

// TestCaseAMarkOfAnotherOutcomeMakesNoneProvisional has hands move when a run
// ended, so that its mark is of an outcome that was.
func TestCaseAMarkOfAnotherOutcomeMakesNoneProvisional(t *testing.T) {
	t.Parallel()
	for name, hand := range map[string]string{
		"at another time":     `completed_at = completed_at - interval '1 second'`,
		"with another status": `status = 'cancelled'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.begun(1)
			if got := f.failStuck(); len(got) != 1 {
				t.Fatalf("FailStuck: got %+v, want the run", got)
			}
			pgtest.Exec(t, f.address, `begin; set local session_replication_role = replica; update workflow_runs set `+hand+`; commit`)
			ended := f.runOne(1)
			if ended.Presumed {
				t.Errorf("the run is %+v, want it real: no sweep ended it so", ended)
			}
			pgtest.Exec(t, f.address, `update workflow_runs set status = 'completed', completed_at = now()`)
			if r, err := f.store.Complete(t.Context(), store.Completion{ID: ended.ID, Outcome: store.Outcome{Status: store.Completed}, Now: time.Now()}); err != nil || r.Won {
				t.Errorf("Complete: got %+v, %v; want it lost", r, err)
			}
			if got := f.runOne(1); got.Status != ended.Status || !got.CompletedAt.Equal(ended.CompletedAt) {
				t.Errorf("the run is %+v, want it as it had ended", got)
			}
		})
	}
}
