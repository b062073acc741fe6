package postgres

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// guards are what keeps the laws, each with a small, plausible way to be
// without it, and the test that must go red then: a case of the suite or of
// sourceCases by the beginning of its name, or chaos. The locks of folds,
// recounts, begins and the fill are switched off in interleave_test.go, where
// their orders are stepped by hand.
var guards = []struct {
	name string
	off  func(f *fixture)
	red  string
}{
	{"the guard on updates", drop("zzzz_run_counter_guard"), "chaos"},
	{"the guard on inserts", drop("zzzz_run_counter_guard_insert"), "chaos"},
	{"the ledger of inserts", drop("zzzz_run_counter_ledger_insert"), "chaos"},
	{"the ledger of updates", drop("zzzz_run_counter_ledger_update"), "chaos"},
	{"the ledger of deletes", drop("zzzz_run_counter_ledger_delete"), "chaos"},
	{"the ledger of a TRUNCATE", drop("zzzz_run_counter_ledger_truncate"), "a TRUNCATE"},
	{"the ledger of presumed outcomes", func(f *fixture) {
		pgtest.Exec(f, f.address, `drop trigger ledger_presumed on run_counter.presumed`)
	}, "chaos"},
	{"the old key of a run that changes hands", replace("ledger_update()", "if v_old is not null then", "if false then"), "chaos"},
	{"the new key of a run that changes hands", replace("ledger_update()", "if v_new is not null then", "if false then"), "chaos"},
	{"a run that comes to a key as presumed takes its mark along",
		replace("ledger_update()", "set user_id = new.user_id, ref_id = v_new,", "set user_id = user_id, ref_id = ref_id,"), "a presumed run that changes hands"},
	{"a mark goes when its outcome does", replace("ledger_update()", "delete from run_counter.presumed where run_id = old.id;", "null;"), "chaos"},
	{"a mark goes when its run does", replace("ledger_delete()", "delete from run_counter.presumed where run_id = old.id;", "null;"), "a presumed run that is deleted"},
	{"the first status stands", replace("guard()", "new.status := old.status;", "null;"), "chaos"},
	{"the first completed_at stands", replace("guard()", "new.completed_at := old.completed_at;", "null;"), "chaos"},
	{"a presumed outcome can be superseded", replace("guard()", "v_presumed := exists", "v_presumed := false and exists"), "chaos"},
	{"a presumed outcome is superseded by a real one alone",
		replace("guard()", "v_presumed := new.status = any ("+terminalSQL+")", "v_presumed := true"), "chaos"},
	{"an amendment passes the guard", replace("guard()", "if exists (select from run_counter.amendments", "if false and exists (select from run_counter.amendments"), "an amendment overrides"},
	{"and nothing but the amendment itself", func(f *fixture) {
		f.replace("run_counter.guard()", "and a.xact = pg_catalog.pg_current_xact_id_if_assigned()", "")
		f.replace("run_counter.guard()", decidedSQL, "")
	}, "a late running does not undo an amendment"},
	{"in its own transaction", replace("guard()", "and a.xact = pg_catalog.pg_current_xact_id_if_assigned()", ""), "an amendment passes in its transaction"},
	{"nor what comes behind it in its transaction", replace("guard()", decidedSQL, ""), "case T34: after an amendment"},
	{"an end is never before what it ends", replace("end_of(uuid,timestamptz,timestamptz,timestamptz)", "p_created, p_started,", ""), "case T33: an end that is not dated"},
	{"an end is after the re-opening", replace("end_of(uuid,timestamptz,timestamptz,timestamptz)", "interval '1 microsecond'", "interval '-1 day'"), "case T33: an end is after"},
	{"an amendment is behind the one before it", replace("amend_run(uuid,text,text,text,timestamptz)", "v_run.earliest);", "null);"), "case T34: two amendments"},
	{"case T1: who has no user has no key", replace("ledger_update()", "case when new.user_id is not null then coalesce(new.draft_id, new.workflow_id) end", "coalesce(new.draft_id, new.workflow_id)"), "case T1: a run without a user is ended"},
	{"case T1: nor had one", replace("ledger_update()", "case when old.user_id is not null then coalesce(old.draft_id, old.workflow_id) end", "coalesce(old.draft_id, old.workflow_id)"), "case T1: a run without a user is nobody's"},
	{"case T12: an INSERT that becomes an UPDATE is left alone", replace("guard()", "if not v_there then", "if true then"), "case T12"},
	{"case T20: a null argument leaves the duration", replace("complete_run(uuid,text,timestamptz,integer,jsonb,jsonb,timestamptz)", "coalesce(p_duration_ms, v_run.duration_ms,", "coalesce(p_duration_ms,"), "case T20: a completion leaves"},
	{"case T20: and the details", replace("complete_run(uuid,text,timestamptz,integer,jsonb,jsonb,timestamptz)", "coalesce(p_error_details, v_run.error_details)", "p_error_details"), "case T20: a completion leaves"},
	{"case T20: but not a sweep's duration", func(f *fixture) { // with the guard off the function stands alone
		f.replace("run_counter.guard()", "nullif(old.duration_ms, run_counter.duration_of("+momentSQL("started_at")+", "+momentSQL("completed_at")+"))", "old.duration_ms")
		f.replace("run_counter.complete_run(uuid,text,timestamptz,integer,jsonb,jsonb,timestamptz)", "nullif(v_run.duration_ms, run_counter.duration_of(v_run.started_at, v_run.completed_at))", "v_run.duration_ms")
	}, "case T20: what a sweep wrote"},
	{"only an active or presumed run can be completed",
		replace("complete_run(uuid,text,timestamptz,integer,jsonb,jsonb,timestamptz)", "won := coalesce(v_run.active, false) or v_run.presumed;", "won := true;"), "law 2: the first outcome wins"},
	{"a presumed run can still be completed",
		replace("complete_run(uuid,text,timestamptz,integer,jsonb,jsonb,timestamptz)", "won := coalesce(v_run.active, false) or v_run.presumed;", "won := coalesce(v_run.active, false);"), "a real outcome supersedes"},
	{"a completion that says what was presumed is real",
		replace("complete_run(uuid,text,timestamptz,integer,jsonb,jsonb,timestamptz)", "delete from run_counter.presumed where run_id = p_run_id and not v_run.active;", "null;"), "a completion that says what was presumed"},
	{"active runs hold a slot", replace(beginRun, "counted + active - granted >= p_limit", "counted - granted >= p_limit"), "a limit holds"},
	{"counted and active are read in one statement", replace(beginRun, "active := v_run.active;",
		"perform pg_catalog.pg_sleep(0.01); select count(*) into active from public.workflow_runs as r where r.user_id = p_user_id and r.completed_at is null;"), "case T27"},
	{"counted and active of a user are read in one statement", replace(beginRun, "user_active := v_run.user_active;",
		"perform pg_catalog.pg_sleep(0.01); select count(*) into user_active from public.workflow_runs as r where r.user_id = p_user_id and r.completed_at is null;"), "begins under two limits"},
	{"a window is read in one statement with what is active", replace(beginRun, "active := v_run.active;",
		"perform pg_catalog.pg_sleep(0.01); select count(*) into active from public.workflow_runs as r where r.user_id = p_user_id and coalesce(r.draft_id, r.workflow_id) = v_ref and r.completed_at is null;"),
		"begins under the limit of a window"},
	{"a user's limit is looked at under the user's lock", replace(beginRun, "perform run_counter.lock_key(p_user_id, '', ", "perform (p_user_id, '', "), "begins under two limits"},
	{"the user's limit has the active runs of all keys", replace(usageOf, "where r.slot_user = p_user_id and r.ref_id is not null and r.open",
		"where r.slot_user = p_user_id and r.ref_id = p_ref_id and r.open"), "a hundred begins at once on ten keys"},
	{"and those that have ended", replace(usageOf, "user_counted := run_counter.counted_of(p_user_id, "+nulls(2), "user_counted := run_counter.counted_of(p_user_id, p_kind, p_ref_id"), "a user's limit has the runs of all keys"},
	{"a window ends before its end", everywhere(countedOf, "end_order < ", "end_order <= "), "windows in SQL"},
	{"the runs of a window are of one snapshot", func(f *fixture) { // a statement before the one that counts, in a function that is not STABLE
		const talliesIn = "run_counter.tallies_in(uuid,text,uuid,timestamptz,timestamptz)"
		f.replace(talliesIn, "begin", "begin perform pg_catalog.pg_sleep(0.005);")
		pgtest.Exec(f, f.address, `alter function `+talliesIn+` volatile`)
	}, "chaos"},
	{"a look at a window ends where it is full", everywhere(countedOf, "limit p_most", ""), "a begin looks at no more"},
	{"a grant that was revoked raises no limit", replace(grantedOf, "and g.revoked_at is null", ""), "a grant is revoked once"},
	{"nor one that has expired", replace(grantedOf, "g.expires_at > p_now", "true"), "a grant stands until"},
	{"a grant is used in one window", replace(grantedOf, "g.granted_at >= p_from", "true"), "in a window a grant counts"},
	{"a grant is of its key", replace(grantedOf, "g.kind = p_kind and g.ref_id = p_ref_id", "true"), "a grant raises the limit of its key"},
	{"the first who revokes a grant is kept", replace("revoke_grant(bigint,text,text,timestamptz)", "and g.revoked_at is null", ""), "a grant is revoked once"},
	{"an idempotency key is looked up before the end", replace("grant_runs(uuid,text,uuid,bigint,text,text,timestamptz,text,timestamptz)", "p_expires_at <= v_now and not exists", "p_expires_at <= v_now or exists"), "a request that is repeated after its grant expired"},
	{"an idempotency key belongs to one grant", replace("grant_runs(uuid,text,uuid,bigint,text,text,timestamptz,text,timestamptz)", "raise unique_violation", "raise notice"), "the same idempotency key gives the same grant"},
	{"a limit is near from 80 percent on", replace(markLimit, "p_used >= v_ceiling - v_ceiling / 5", "p_used >= v_ceiling"), "a limit is near from 80 percent"},
	{"a mark keeps the time of the first begin", replace(markLimit, "where (m.max_runs, m.counts_from) is distinct from (excluded.max_runs, excluded.counts_from)", ""), "a limit is near from 80 percent"},
	{"a mark follows its limit", replace(markLimit, "is distinct from (excluded", "is not distinct from (excluded"), "a limit that is not named any more"},
	{"a mark goes with its limit", replace(markLimit, "delete from run_counter.limit_marks where", "perform from run_counter.limit_marks where"), "a limit that is not named any more"},
	{"a mark says how much was granted", replace(markLimit, "p_limit + p_granted", "p_limit"), "a limit with grants is near"},
	{"the lock of a key writes its row", replace("lock_key(uuid,text,uuid)", "update run_counter.keys set kind = kind",
		"perform from run_counter.keys"), "case T28"},
	{"an id belongs to one key", replace(beginRun, "elsif not created and (v_run.user_id", "elsif false and (v_run.user_id"), "an id or idempotency key of another"},
	{"an idempotency key is kept", replace(beginRun, "values (p_user_id, p_idempotency_key, id_of_run) on conflict do nothing;",
		"select p_user_id, p_idempotency_key, id_of_run where false; if false then null; end if; perform 1;"), "begin again"},
	{"a fold moves the totals too", noTotals, "a fold changes no count"},
	{"a recount changes the total", noTotals, "a recount changes the total"},
	{"a wrong total is repaired", noTotals, "an audit finds a total"},
	{"a total is added to, and never set", func(f *fixture) {
		pgtest.Exec(f, f.address, `create function sets() returns trigger language plpgsql as $$ begin
			if tg_op = 'UPDATE' then new.n := new.n - old.n; else new.shard := 0; end if; return new; end $$;
			create trigger a before insert or update on run_counter.totals for each row execute function sets()`)
	}, "a recount changes the total"},
	{"a presumed outcome is marked", func(f *fixture) {
		pgtest.Exec(f, f.address, `create function unmarked() returns trigger language plpgsql as $$ begin return null; end $$;
			create trigger a before insert on run_counter.presumed for each row execute function unmarked()`)
	}, "a run that is silent"},
	{"a sign of life keeps a run", func(f *fixture) {
		f.store.hooks.presume = func(r store.Row, l store.Limits, now time.Time) (store.Row, bool) {
			r.UpdatedAt, r.StartedAt = r.UpdatedAt.Add(-24*time.Hour), time.Time{}
			return store.Presume(r, l, now)
		}
	}, "a limit is to the microsecond"},
	{"a row that contradicts itself is repaired", func(f *fixture) {
		f.store.hooks.repair = func(r store.Row) (store.Row, store.Reason) { return r, store.Consistent }
	}, "chaos without the guard"},
}

// noTotals keeps what is folded, recounted and repaired out of the totals.
func noTotals(f *fixture) {
	pgtest.Exec(f, f.address, `create function unmoved() returns trigger language plpgsql as $$ begin return null; end $$;
		create trigger a before insert or update on run_counter.totals for each row execute function unmoved()`)
}

// decidedSQL is how the guard knows the update that belongs to an amendment.
var decidedSQL = "and a.was = old.status and a.was_completed_at = " + momentSQL("completed_at") + " and a.status = new.status"

// momentSQL is a time of the row as it was.
func momentSQL(column string) string { return watched.Default().Moment("old", watched.Role(column)) }

const (
	usageOf   = "usage_of(uuid,text,uuid,bigint,timestamptz,bigint,timestamptz,timestamptz,boolean)"
	countedOf = "counted_of(uuid,text,uuid,timestamptz,timestamptz,bigint)"
	grantedOf = "granted_of(uuid,text,uuid,timestamptz,timestamptz)"
)

const markLimit = "mark_limit(uuid,text,uuid,bigint,timestamptz,bigint,bigint,timestamptz)"

const beginRun = "begin_run(uuid,uuid,uuid,uuid,bigint,text,timestamptz,timestamptz,bigint,timestamptz)"

func drop(trigger string) func(f *fixture) {
	return func(f *fixture) { pgtest.Exec(f, f.address, `drop trigger `+trigger+` on workflow_runs`) }
}

func replace(function, old, text string) func(f *fixture) {
	return func(f *fixture) { f.replace("run_counter."+function, old, text) }
}

// nulls are arguments.
func nulls(n int) string { return strings.TrimSuffix(strings.Repeat("null, ", n), ", ") }

func everywhere(function, old, text string) func(f *fixture) {
	return func(f *fixture) { f.replaceN("run_counter."+function, old, text, -1) }
}

// sourceCases hold what a mirror has no counterpart of, and what the suite's
// cases reach by chance.
var sourceCases = map[string]func(t testing.TB, b storetest.Backend, f *fixture){
	"a TRUNCATE takes all counts to 0": func(t testing.TB, b storetest.Backend, f *fixture) {
		f.end(1)
		f.stuck(t, b, 2)
		pgtest.Exec(t, f.address, `truncate workflow_runs`)
		b.Exact(t)
		f.end(3)
	},
	"case T27: begins beside completions": func(t testing.TB, _ storetest.Backend, f *fixture) {
		newSlots(t, f.address).rounds(10, 8, true)
	},
	"case T28: begins in REPEATABLE READ": func(t testing.TB, _ storetest.Backend, f *fixture) {
		newSlots(t, pgtest.With(t, f.address, "default_transaction_isolation", "repeatable read")).rounds(3, 0, false)
	},
	"begins under two limits": func(t testing.TB, _ storetest.Backend, f *fixture) {
		q := newQuotas(t, f, "read committed")
		q.perUser = 12 // two more than are active
		q.rounds(8)
	},
	"begins under the limit of a window": func(t testing.TB, _ storetest.Backend, f *fixture) {
		q := newQuotas(t, f, "read committed")
		q.ofKey, q.byStore = true, true
		q.keys, q.perKey, q.perUser = 1, 12, 100
		q.rounds(8)
	},
	"a begin looks at no more of a window than fills it": func(t testing.TB, b storetest.Backend, f *fixture) {
		for n := range 5 {
			f.end(n)
		}
		limits := []store.Limit{{Scope: store.KeyLimit, Max: 2, From: time.Now().Add(-time.Hour)}}
		if r, err := b.Store.Begin(t.Context(), store.Begin{ID: storetest.MustID('1', 1), User: f.key.User, Workflow: f.key.Ref, Limits: limits, Now: time.Now()}); err != nil || !r.LimitReached || r.Usages[0].Counted != 2 {
			t.Errorf("Begin: got %+v, %v; want 2 counted", r, err)
		}
	},
	"windows in SQL": func(t testing.TB, _ storetest.Backend, f *fixture) {
		f.end(1)
		pgtest.Exec(t, f.address, `update run_counter.settings set guard = 'off'`, `update workflow_runs set completed_at = '2026-01-31 23:00+00'`)
		sourcetest.MustBe(t, f.address, `select get_workflow_run_count('`+f.key.User.String()+`', '`+f.key.Ref.String()+`', null, p_from => '2026-01-31 23:00+00', p_to => '2026-01-31 23:00:00.000001+00')`, "1")
		sourcetest.MustBe(t, f.address, `select get_workflow_run_count('`+f.key.User.String()+`', '`+f.key.Ref.String()+`', null, p_to => '2026-01-31 23:00+00')`, "0")
	},
	"case T34: after an amendment the decided status alone passes": func(t testing.TB, _ storetest.Backend, f *fixture) {
		f.decideAndWrite(f.session())
	},
	"an amendment passes in its transaction alone": func(_ testing.TB, _ storetest.Backend, f *fixture) {
		f.begun(1)
		f.endsAsBefore()
	},
	"case T34: two amendments by clocks that lag": func(t testing.TB, _ storetest.Backend, f *fixture) {
		id := f.run(1)
		pgtest.Exec(t, f.address, `select complete_workflow_run('`+id+`', 'completed')`,
			`select run_counter.amend_run('`+id+`', 'failed', 'support', 'first', now() + interval '1 hour')`,
			`select run_counter.amend_run('`+id+`', 'cancelled', 'support', 'second', now())`)
		f.holds("the amendments", `a.why = 'second' and a.at > now() + interval '1 minute' and r.updated_at = a.at`)
	},
	"a presumed run that changes hands": func(t testing.TB, b storetest.Backend, f *fixture) {
		f.stuck(t, b, 1)
		pgtest.Exec(t, f.address, `update workflow_runs set user_id = '`+storetest.MustID('b', 2).String()+`'`)
	},
	"a presumed run that is deleted": func(t testing.TB, b storetest.Backend, f *fixture) {
		f.stuck(t, b, 1)
		pgtest.Exec(t, f.address, `delete from workflow_runs`)
	},
	"a late running does not undo an amendment": func(t testing.TB, b storetest.Backend, f *fixture) {
		f.end(1)
		id := storetest.MustID('2', 1)
		if _, err := b.Store.Amend(t.Context(), store.AmendRequest{ID: id, Status: store.Cancelled, Who: "support", Why: "a refund", Now: time.Now()}); err != nil {
			t.Fatal(err)
		}
		pgtest.Exec(t, f.address, `update workflow_runs set status = 'running', completed_at = null`)
		if r, err := b.Store.Run(t.Context(), id); err != nil || r.Status != store.Cancelled {
			t.Errorf("the run is %s, %v; want cancelled", r.Status, err)
		}
	},
	"a completion that says what was presumed is real": func(t testing.TB, b storetest.Backend, f *fixture) {
		presumed := f.stuck(t, b, 1)
		got, err := b.Store.Complete(t.Context(), store.Completion{ID: presumed.ID, Outcome: presumed.Outcome(), Now: time.Now()})
		if err != nil || !got.Won || got.Run.Presumed || got.Run.Status != presumed.Status || !got.Run.CompletedAt.Equal(presumed.CompletedAt) {
			t.Errorf("got %+v, %v; want it won, for real, as it was presumed", got, err)
		}
	},
	"case T12: an upsert ends with the duration of its own run": func(t testing.TB, b storetest.Backend, f *fixture) {
		pgtest.Exec(t, f.address, minuteOld+upsert+`on conflict (id) do update set status = excluded.status, completed_at = excluded.completed_at, duration_ms = excluded.duration_ms`)
		if r, err := b.Store.Run(t.Context(), sourcetest.MustParse(t, oneRun)); err != nil || r.DurationMS.MS < 60_000 {
			t.Errorf("the run took %+v, %v; want a minute", r.DurationMS, err)
		}
	},
	"a limit is to the microsecond": func(t testing.TB, b storetest.Backend, f *fixture) {
		id := storetest.MustID('1', 1)
		now := store.Instant(time.Now())
		if _, err := b.Store.Begin(t.Context(), store.Begin{ID: id, User: f.key.User, Workflow: f.key.Ref, Now: now}); err != nil {
			t.Fatal(err)
		}
		limits := store.Limits{store.Pending: time.Hour}
		for after, want := range map[time.Duration]int{time.Hour: 0, time.Hour + time.Microsecond: 1} {
			got, err := b.Store.FailStuck(t.Context(), store.FailStuck{Now: now.Add(after), Limits: limits, Max: 10, DryRun: true})
			if err != nil || len(got) != want {
				t.Errorf("after %s: got %d stuck runs, %v; want %d", after, len(got), err, want)
			}
		}
		if got, err := b.Store.FailStuck(t.Context(), store.FailStuck{Now: now.Add(2 * time.Hour), Limits: limits, Max: 10}); err != nil || len(got) != 1 ||
			!got[0].After.CompletedAt.Equal(now.Add(time.Hour)) {
			t.Errorf("got %+v, %v; want the run, as of an hour", got, err)
		}
	},
}

// stuck makes a run that a sweep presumes failed, and returns it.
func (f *fixture) stuck(t testing.TB, b storetest.Backend, n int) store.Row {
	t.Helper()
	pgtest.Exec(t, f.address, `insert into workflow_runs (id, user_id, workflow_id, status, updated_at) values ('`+storetest.MustID('1', n).String()+`', '`+
		f.key.User.String()+`', '`+f.key.Ref.String()+`', 'running', now() - interval '1 day')`)
	r, err := b.Store.FailStuck(t.Context(), store.FailStuck{Now: time.Now(), Limits: store.DefaultLimits(), Max: 10})
	if err != nil || len(r) != 1 {
		t.Fatalf("FailStuck: got %+v, %v; want the one run", r, err)
	}
	return r[0].After
}

func TestSource(t *testing.T) {
	for name, test := range sourceCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			b := backendOf(t, f.store)
			test(t, b, f)
			b.Exact(t)
		})
	}
}

func TestGuards(t *testing.T) {
	need.Serial(t)
	for _, guard := range guards {
		t.Run(guard.name, func(t *testing.T) {
			t.Parallel()
			said := storetest.Watch(t, func(t testing.TB) { without(t, guard.red, guard.off) })
			for _, s := range said[:min(len(said), 1)] {
				t.Logf("red: %.300s", s)
			}
			if len(said) == 0 {
				t.Errorf("nothing goes red without it: %q is green", guard.red)
			}
		})
	}
}

// without runs a test on a store that lacks a guard, until it goes red.
func without(t testing.TB, red string, off func(f *fixture)) {
	open := func(t testing.TB) (*fixture, storetest.Backend) {
		f := newFixtureOn(t, mustInstallWindows(t)) // to make them later would make all anew
		off(f)
		b := backendOf(t, f.store)
		b.Windows = func(testing.TB) {}
		return f, b
	}
	if chaos, ok := strings.CutPrefix(red, "chaos"); ok {
		f, b := open(t)
		guarded := chaos == ""
		if !guarded {
			pgtest.Exec(t, f.address, `update run_counter.settings set guard = 'off'`)
		}
		for seed := uint64(0); seed < 40 && !t.Failed(); seed++ {
			storetest.SourceChaosSeed(t, b, guarded, seed)
		}
		return
	}
	var named []string // a case is named by its beginning, which must be that of one alone
	for name := range sourceCases {
		if strings.HasPrefix(name, red) {
			named = append(named, name)
		}
	}
	switch len(named) {
	case 0:
	case 1:
		f, b := open(t)
		sourceCases[named[0]](t, b, f)
		b.Exact(t)
		return
	default:
		panic(fmt.Sprintf("%q is the beginning of %q: say which", red, named))
	}
	ran := false
	for name, test := range storetest.Contract(func(t testing.TB) storetest.Backend { _, b := open(t); return b }) {
		if strings.HasPrefix(name, red) {
			ran = true
			test(t)
		}
	}
	if !ran {
		panic("there is no case " + red)
	}
}
