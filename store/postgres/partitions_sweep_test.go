package postgres

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
)

// mustSweep sweeps once.
func mustSweep(t testing.TB, s *store.Sweeper, o store.SweepOptions) store.SweepReport {
	t.Helper()
	r, err := s.Sweep(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const (
	aprilsRun = `insert into workflow_runs (user_id, workflow_id, status, created_at) values ('` + ada + `', '` + adaFlow + `', 'completed', '2026-04-02')`
	april     = `create table public.april partition of public.workflow_runs for values from ('2026-04-01') to ('2026-05-01')`
)

// TestCaseT14_APartitionThatIsMadeLaterIsNoticed by the next sweep, which lets it
// tell when it is emptied. Emptied before that, it is found, and named.
func TestCaseT14_APartitionThatIsMadeLaterIsNoticed(t *testing.T) {
	t.Parallel()
	f := newPartitioned(t)
	sweeper := &store.Sweeper{Store: f.store, Source: f.store, Slice: 1, Limits: store.Limits{}}
	pgtest.Exec(t, f.address, partitionedRuns)
	if r := mustSweep(t, sweeper, store.SweepOptions{}); r.Full || r.Drifting > 0 || len(r.PartitionSentences()) > 0 {
		t.Fatalf("before: got %+v, want nothing said", r)
	}
	pgtest.Exec(t, f.address, april, aprilsRun)
	if r := mustSweep(t, sweeper, store.SweepOptions{DryRun: true}); !cmp.Equal(r.Partitions.New, []string{"public.april"}) || r.Drifting > 0 {
		t.Errorf("a dry sweep: got %+v, want the partition named", r.Partitions)
	}
	if r := mustSweep(t, sweeper, store.SweepOptions{}); !r.Full || r.Drifting > 0 || len(r.PartitionSentences()) > 0 {
		t.Errorf("the next sweep: got %+v, want all keys audited, and nothing said", r)
	}
	pgtest.Exec(t, f.address, `truncate april`)
	exact(t, f.store)
	if r := mustSweep(t, sweeper, store.SweepOptions{}); r.Full {
		t.Error("the sweep after it audits all keys again")
	}

	pgtest.Exec(t, f.address, strings.NewReplacer("april", "may", "-05-", "-06-", "-04-", "-05-").Replace(april),
		strings.Replace(aprilsRun, "-04-", "-05-", 1), `truncate may`)
	if r := mustSweep(t, sweeper, store.SweepOptions{}); r.Withheld != (store.Withheld{Keys: 1, Runs: -1}) || r.Corrected > 0 {
		t.Errorf("emptied before: got %+v, want the key found and left", r)
	}
	if r := mustSweep(t, sweeper, store.SweepOptions{Partitions: true}); r.Corrected != 1 || len(r.PartitionSentences()) > 0 {
		t.Errorf("asked for: got %+v, want it repaired", r)
	}
	pgtest.Exec(t, f.address, strings.Replace(aprilsRun, "-04-", "-05-", 1), `truncate may`)
	exact(t, f.store)
}

// TestCaseT14_APartitionOfAnotherOwnerIsNamed where the migrations' role may not
// give it a trigger, until it may.
func TestCaseT14_APartitionOfAnotherOwnerIsNamed(t *testing.T) {
	t.Parallel()
	f := newPartitionedIn(t, pgtest.Supabase(t))
	admin := pgtest.Admin(t, f.address)
	pgtest.Exec(t, f.address, april)
	pgtest.Exec(t, admin, `alter table april owner to current_user`)
	sweeper := sourcetest.SweeperOf(f.store)
	r := mustSweep(t, sweeper, store.SweepOptions{})
	if !cmp.Equal(r.Partitions.Untold, []string{"public.april"}) {
		t.Errorf("got %+v, want the partition named", r.Partitions)
	}
	if said := strings.Join(sweeper.Degraded(), " "); !strings.Contains(said, "TRUNCATE of one of 1 partitions") || strings.Contains(said, "april") {
		t.Errorf("strangers read %q, want that there is one, and no name", said)
	}
	pgtest.Exec(t, f.address, aprilsRun)
	pgtest.Exec(t, admin, `truncate april`)
	if r := mustSweep(t, sweeper, store.SweepOptions{Full: true}); r.Corrected != 1 {
		t.Errorf("a sweep after its TRUNCATE: got %+v, want the count repaired", r)
	}
	pgtest.Exec(t, admin, `do $$ begin execute 'alter table april owner to ' || (select tableowner from pg_tables where tablename = 'january'); end $$`)
	if r := mustSweep(t, sweeper, store.SweepOptions{}); len(r.PartitionSentences()) > 0 {
		t.Errorf("once it may: got %q, want nothing said", r.PartitionSentences())
	}
	pgtest.Exec(t, f.address, aprilsRun, `truncate april`)
	exact(t, f.store)
}

// TestCaseT14_CountsStayWhenAPartitionIsDetachedUntilItIsAskedFor: what goes or
// comes with a partition, no trigger sees.
func TestCaseT14_CountsStayWhenAPartitionIsDetachedUntilItIsAskedFor(t *testing.T) {
	t.Parallel()
	f := newPartitioned(t)
	pgtest.Exec(t, f.address, partitionedRuns)
	sweeper := &store.Sweeper{Store: f.store, Source: f.store, Slice: 1, Limits: store.Limits{}}
	counted := func() int64 {
		t.Helper()
		c, err := f.store.Count(t.Context(), f.key.Scope(), store.AllTime)
		if err != nil {
			t.Fatal(err)
		}
		return c.Tallies.Ended.Total()
	}
	wantKept := func(what, sentence string, want int64, changes store.Withheld) {
		t.Helper()
		for _, full := range []bool{true, false, false} { // looked at once, and then as before
			r := mustSweep(t, sweeper, store.SweepOptions{})
			if said := strings.Join(r.PartitionSentences(), " "); r.Full != full || r.Drifting > 0 || r.Withheld != changes || !strings.Contains(said, sentence) || !strings.Contains(said, "runcounter sweep --partitions") {
				t.Errorf("%s: got %+v, %q; want nothing repaired, and it said", what, r, said)
			}
			if said := strings.Join(sweeper.Degraded(), " "); !strings.Contains(said, "Partitions of the watched table came or went, and 2 counts") || strings.Contains(said, "january") {
				t.Errorf("%s: strangers read %q, want that some came or went, and no name", what, said)
			}
		}
		if got := counted(); got != want {
			t.Errorf("%s: the count is %d, want %d", what, got, want)
		}
	}
	wantSettled := func(what string, repaired int, want int64, asked bool) {
		t.Helper()
		if r := mustSweep(t, sweeper, store.SweepOptions{Partitions: asked}); r.Corrected != repaired || len(r.PartitionSentences()) > 0 {
			t.Errorf("%s: got %+v, want %d repaired", what, r, repaired)
		}
		if got := counted(); got != want {
			t.Errorf("%s: the count is %d, want %d", what, got, want)
		}
		exact(t, f.store)
		if said := strings.Join(sweeper.Degraded(), " "); strings.Contains(said, "artitions") {
			t.Errorf("%s: got %q, want nothing said of partitions", what, said)
		}
	}
	attach := `alter table workflow_runs attach partition january for values from ('2026-01-01') to ('2026-02-01')`
	mustSweep(t, sweeper, store.SweepOptions{})

	pgtest.Exec(t, f.address, `alter table workflow_runs detach partition january`)
	wantKept("detached", "(gone: public.january); 2 counts differ from the runs that are there, by -32 runs in all", 48, store.Withheld{Keys: 2, Runs: -32})
	if r := mustSweep(t, sweeper, store.SweepOptions{DryRun: true, Full: true}); r.Drifting != 2 || r.Withheld.Keys != 2 {
		t.Errorf("a dry sweep: got %+v, want both keys listed", r)
	}
	pgtest.Exec(t, f.address, attach)
	wantSettled("attached again", 0, 48, false)

	pgtest.Exec(t, f.address, `alter table workflow_runs detach partition january`)
	mustSweep(t, sweeper, store.SweepOptions{})
	pgtest.Exec(t, f.address, `alter table workflow_runs detach partition february`)
	if r := mustSweep(t, sweeper, store.SweepOptions{}); r.Withheld.Runs != -64 || !cmp.Equal(r.Partitions.Gone, []string{`public."february 0"`, `public."february 1"`, "public.january"}) {
		t.Errorf("another is detached: got %+v, want all of them named, and what they changed", r)
	}
	pgtest.Exec(t, f.address, `alter table workflow_runs attach partition february for values from ('2026-02-01') to ('2026-03-01')`)
	wantSettled("asked for", 2, 32, true)

	pgtest.Exec(t, f.address, attach)
	wantKept("attached with runs", "(new: public.january); 2 counts differ from the runs that are there, by +32 runs in all", 32, store.Withheld{Keys: 2, Runs: 32})
	pgtest.Exec(t, f.address, `truncate january`) // they were in no count
	wantSettled("emptied before anybody asked", 0, 32, false)

	pgtest.Exec(t, f.address, partitionedRuns, `drop table january`, `create table january partition of workflow_runs for values from ('2026-01-01') to ('2026-02-01')`)
	wantKept("dropped and made anew", "(gone: public.january; new: public.january)", 80, store.Withheld{Keys: 2, Runs: -32})
	wantSettled("asked for again", 2, 64, true)
}

// detaching takes a partition off between an audit and what repairs.
type detaching struct {
	*Store
	detach func()
}

func (d detaching) Audit(ctx context.Context, a store.Audit) (store.AuditResult, error) {
	found, err := d.Store.Audit(ctx, a)
	if len(found.Drifts) > 0 {
		d.detach()
	}
	return found, err
}

// TestCaseT14_APartitionThatGoesWhileAnAuditRepairsIsNoticed has a key drift for
// another reason.
func TestCaseT14_APartitionThatGoesWhileAnAuditRepairsIsNoticed(t *testing.T) {
	t.Parallel()
	f := newPartitioned(t)
	pgtest.Exec(t, f.address, partitionedRuns, `insert into run_counter.counts select distinct user_id, kind, ref_id, 'failed', false, 1 from run_counter.counts on conflict (user_id, kind, ref_id, status, presumed) do update set n = counts.n + 1`, `insert into run_counter.ledger (user_id, kind, ref_id, status, presumed, n) values ('`+ada+`', 'workflow', '`+adaFlow+`', 'failed', false, 1)`)
	sweeper := &store.Sweeper{Store: detaching{f.store, func() { pgtest.Exec(t, f.address, `alter table workflow_runs detach partition january`) }}, Source: f.store, Limits: store.Limits{}}
	if r := mustSweep(t, sweeper, store.SweepOptions{}); r.Corrected != 0 || r.Withheld.Keys != 1 {
		t.Errorf("got %+v, want the key left as it is", r)
	}
	if c, err := f.store.Count(t.Context(), f.key.Scope(), store.AllTime); err != nil || c.Tallies.Ended.Total() != 49 {
		t.Errorf("got %+v, %v; want 49 as before", c, err)
	}
	sweeper.Store = f.store
	if r := mustSweep(t, sweeper, store.SweepOptions{}); r.Withheld.Keys != 2 || len(r.PartitionSentences()) != 1 {
		t.Errorf("the next sweep: got %+v, want both keys left, and it said", r)
	}
	mustSweep(t, sweeper, store.SweepOptions{Partitions: true})
	exact(t, f.store)
}
