package anytable

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// TestCaseT9_ARealOutcomeSupersedesAnEndThatItsColumnRounds: the mark of a presumed
// run is of the moment that the row came to say, or the real outcome would be
// frozen out.
func TestCaseT9_ARealOutcomeSupersedesAnEndThatItsColumnRounds(t *testing.T) {
	t.Parallel()
	const silent = `'2026-10-25 00:20:00.123456+00'` // when a clock in Berlin shows an hour for the first time, and reads it as the second
	for name, tt := range map[string]struct {
		alter string
		said  watched.Overrides
	}{
		"timestamptz(0)":           {`alter table workflow_runs alter completed_at type timestamptz(0)`, watched.Overrides{}},
		"timestamp(3)":             {`alter table workflow_runs alter completed_at type timestamp(3)`, watched.Overrides{}},
		"milliseconds":             {`alter table workflow_runs alter completed_at type bigint using 1`, watched.Overrides{Times: watched.Milliseconds}},
		"seconds":                  {`alter table workflow_runs alter completed_at type integer using 1`, watched.Overrides{Times: watched.Seconds}},
		"an hour that comes twice": {`alter table workflow_runs alter completed_at type timestamp`, watched.Overrides{Zone: "Europe/Berlin"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := pgtest.Database(t)
			pgtest.Exec(t, address, sourcetest.BareTable, tt.alter)
			sourcetest.Migrate(t, address, sourcetest.UpWith(tt.said))
			pgtest.Exec(t, address, sourcetest.Begun(runOne), sourcetest.Begun(runTwo), `update workflow_runs set started_at = `+silent+`, created_at = `+silent)
			s := mustOpen(t, address, postgres.Options{})
			if r, err := sourcetest.SweeperOf(s).Sweep(t.Context(), store.SweepOptions{}); err != nil || r.Unwritable > 0 {
				t.Fatalf("a sweep: %+v, %v", r, err)
			}
			run, err := s.Run(t.Context(), sourcetest.MustParse(t, runOne))
			if err != nil || !run.Presumed || run.Status != store.Failed {
				t.Fatalf("got %+v, %v; want it presumed failed", run, err)
			}
			if took := run.CompletedAt.Sub(run.StartedAt); name != "an hour that comes twice" && time.Duration(run.DurationMS.MS) != took/time.Millisecond {
				t.Errorf("its duration is %d, and it took %v", run.DurationMS.MS, took)
			}
			pgtest.Exec(t, address, `update workflow_runs set status = 'completed' where id = '`+runOne+`'`)
			sourcetest.MustBe(t, address, `select count(*) from workflow_runs where status = 'completed' and duration_ms > 100000000`, "1") // of now, and not of the sweep
			sourcetest.MustBe(t, address, `select public.complete_workflow_run('`+runTwo+`', 'cancelled')`, "t")
			sourcetest.MustBe(t, address, `select count(*) from run_counter.presumed`, "0")
			for range 2 { // what comes behind a re-opening comes behind it in the column too
				sourcetest.MustBe(t, address, `select run_counter.amend_run('`+runTwo+`', 'running', 'support', 'again')`, "t")
				sourcetest.MustBe(t, address, `select public.complete_workflow_run('`+runTwo+`', 'completed')`, "t")
			}
			var reopened time.Time
			sourcetest.MustScan(t, address, `select max(at) from run_counter.amendments`, &reopened)
			if run, err := s.Run(t.Context(), sourcetest.MustParse(t, runTwo)); err != nil || run.Status != store.Completed || !run.Counted || !run.CompletedAt.After(reopened) {
				t.Errorf("got %+v, %v; want it completed after %v", run, err, reopened)
			}
			sourcetest.ExactAt(t, address)
		})
	}
}

// TestCaseT9_MarksFollowAnotherZone: what says when a presumed run ended says it in
// the zone that the operator corrects.
func TestCaseT9_MarksFollowAnotherZone(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, sourcetest.BareTable, timesOf("timestamp", "$ at time zone 'UTC'", "now()"))
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	pgtest.Exec(t, address, sourcetest.Begun(runOne), `update workflow_runs set created_at = '2026-01-01 12:00', started_at = '2026-01-01 12:00', updated_at = '2026-01-01 12:00'`)
	if _, err := sourcetest.SweeperOf(mustOpen(t, address, postgres.Options{})).Sweep(t.Context(), store.SweepOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, zone := range []string{"Asia/Tokyo", "America/New_York", "Asia/Tokyo"} {
		sourcetest.Migrate(t, address, sourcetest.UpWith(watched.Overrides{Zone: zone}))
		sourcetest.MustBe(t, address, `select count(*) from run_counter.presumed where ended_at = '2026-01-01 12:05 `+zone+`'`, "1")
		sourcetest.ExactAt(t, address)
	}
	pgtest.Exec(t, address, `update workflow_runs set status = 'completed'`)
	sourcetest.MustBe(t, address, `select count(*) from workflow_runs where status = 'completed'`, "1")
}

// TestCaseT9_AZoneThatTheDatabaseDoesNotKnow is refused, and one that the database
// itself is not in is said.
func TestCaseT9_AZoneThatTheDatabaseDoesNotKnow(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	pgtest.Exec(t, address, sourcetest.BareTable, inZone)
	m, err := migrations.Postgres(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	m.Override(watched.Overrides{Zone: "Local/Nowhere"})
	if err := m.Up(); !errors.Is(err, migrations.ErrTable) || !strings.Contains(err.Error(), `the database knows no time zone "Local/Nowhere"`) {
		t.Errorf("got %v, want the zone refused", err)
	}
	m.Override(watched.Overrides{Zone: "Europe/Berlin"})
	if err := m.Up(); err != nil {
		t.Fatal(err)
	}
	const said = "created_at has no time zone and is read as Europe/Berlin, but the database is in Asia/Tokyo"
	if all := strings.Join(m.Said(), "; "); !strings.Contains(all, said) {
		t.Errorf("up said %q, want %q", all, said)
	}
	i, err := postgres.Inspect(t.Context(), address, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if s, err := i.Schema(t.Context()); err != nil || !strings.Contains(s.Zone, said) {
		t.Errorf("doctor finds %+v, %v; want %q", s, err, said)
	}
}

// TestCaseT11_WhatCannotBeATimeIsAsIfItWereNotThere: no statement of the application
// fails by it, an end is filled, by a sweep where the column has a zone, and the run
// is listed.
func TestCaseT11_WhatCannotBeATimeIsAsIfItWereNotThere(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		alter  string
		said   watched.Overrides
		values []string
	}{
		"with zone": {"", watched.Overrides{}, []string{"'infinity'", "'-infinity'", "'0044-03-15 12:00+00 BC'", "'0001-01-01 00:00+00'", "'12026-01-01 00:00+00'", "'294276-12-31 23:59:59+00'", "'9999-12-31 23:59:59+00'"}},
		"without zone": {timesOf("timestamp", "$ at time zone 'UTC'", "now()"), watched.Overrides{Zone: "America/New_York"},
			[]string{"'infinity'", "'-infinity'", "'0044-03-15 12:00 BC'", "'0001-01-01 00:00'", "'12026-01-01 00:00'", "'294276-12-31 23:59:59'", "'9999-12-31 23:59:59'"}},
		"milliseconds": {integerTimes(1000), watched.Overrides{Times: watched.Milliseconds}, []string{"9223372036854775807", "-9223372036854775808", "-62135596800000", "253402300799000"}},
		"seconds":      {integerTimes(1), watched.Overrides{Times: watched.Seconds}, []string{"9223372036854775807", "-9223372036854775808", "1769904000000", "-62135596800"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := pgtest.Database(t)
			pgtest.Exec(t, address, sourcetest.BareTable, tt.alter)
			sourcetest.Migrate(t, address, sourcetest.UpWith(tt.said))
			s := mustOpen(t, address, postgres.Options{})
			ends := "set status = 'completed'"
			if name == "with zone" {
				ends = "set completed_at = null; update workflow_runs set status = 'completed', updated_at = now(), completed_at = $"
			}
			for _, value := range tt.values {
				pgtest.Exec(t, address, `delete from workflow_runs`, sourcetest.Begun(runOne), sourcetest.Begun(runTwo),
					`update workflow_runs set completed_at = `+value+`, started_at = `+value+`, created_at = `+value)
				if h, err := s.Health(t.Context()); err != nil || h.Active != 2 {
					t.Errorf("%s: got %+v, %v; want two that are active", value, h, err)
				}
				odd, err := s.SearchRuns(t.Context(), store.RunQuery{State: store.OddRuns, Limit: 10})
				if err != nil || len(odd) != 2 {
					t.Errorf("%s: got %+v, %v; want both listed as odd", value, odd, err)
				}
				pgtest.Exec(t, address, `update workflow_runs `+strings.ReplaceAll(ends, "$", value)+` where id = '`+runOne+`'`)
				sourcetest.MustBe(t, address, `select public.complete_workflow_run('`+runTwo+`', 'failed')`, "t")
				sourcetest.ExactAt(t, address)
				if name == "with zone" {
					sweeper := sourcetest.SweeperOf(s)
					if r, err := sweeper.Sweep(t.Context(), store.SweepOptions{}); err != nil || r.Repairs() != 1 {
						t.Errorf("%s: a sweep: %+v, %v; want one repair", value, r, err)
					}
				}
				if run, err := s.Run(t.Context(), sourcetest.MustParse(t, runOne)); err != nil || time.Since(run.CompletedAt).Abs() > time.Minute || run.DurationMS.Valid {
					t.Errorf("%s: got %+v, %v; want it to have ended now", value, run, err)
				}
				pgtest.Exec(t, address, `update run_counter.settings set guard = 'off'`, `update workflow_runs set completed_at = `+value+`, updated_at = `+value,
					`update run_counter.settings set guard = 'on'`)
				sourcetest.MustBe(t, address, `select public.get_user_workflow_run_count('`+ada+`', '`+adaFlow+`')`, "0")
				if r, err := sourcetest.SweeperOf(s).Sweep(t.Context(), store.SweepOptions{Full: true}); err != nil || r.Drifting > 0 {
					t.Errorf("%s: a sweep: %+v, %v", value, r, err)
				}
				sourcetest.ExactAt(t, address)
			}
		})
	}
}
