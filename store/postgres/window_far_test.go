package postgres

import (
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// TestAWindowThatIsOpenHasTheFarthestEnds: a column without zone holds the last hours
// of the year 9998 by the clock of its zone, which west of UTC are moments of 9999 and
// east of it, at the other end, of the year 1.
func TestAWindowThatIsOpenHasTheFarthestEnds(t *testing.T) {
	t.Parallel()
	far := map[watched.Kind][2]string{
		watched.TimestampTZ: {"'0002-01-01 00:00:00+00'", "'9998-12-31 23:59:59.999+00'"}, watched.Timestamp: {"'0002-01-01 00:00:00'", "'9998-12-31 23:59:59.999'"},
		watched.Milliseconds: {"-62104060800000", "253370764799999"}, watched.Seconds: {"-2147483648", "2147483647"},
	}
	for _, tt := range endsIn {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			address := windowed(t, tt.alter, tt.said)
			s := mustOpen(t, address, Options{})
			db, err := s.features(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			column, _ := db.table.Column(watched.CompletedAt)
			for _, end := range far[column.Kind] {
				pgtest.Exec(t, address, `insert into workflow_runs (id, user_id, workflow_id, status, completed_at) values (gen_random_uuid(), '`+ada+`', '`+adaFlow+`', 'completed', `+end+`)`)
			}
			user, flow := sourcetest.MustParse(t, ada), sourcetest.MustParse(t, adaFlow)
			now, first, last := time.Now(), time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
			for _, of := range []store.Scope{{User: user}, {Kind: store.KindWorkflow, Ref: flow}, store.KeyOf(user, flow, store.ID{}).Scope()} {
				for in, want := range map[store.Window]int64{
					store.AllTime: 2, {From: first}: 2, {To: last}: 2, {From: first, To: last}: 2, {From: now}: 1, {To: now}: 1, {From: now, To: last}: 1, {From: first, To: now}: 1, {From: last}: 0, {To: first}: 0,
				} {
					if got, err := s.Count(t.Context(), of, in); err != nil || got.Count != want {
						t.Errorf("%s in %v: got %d, %v; want %d", of, in, got.Count, err, want)
					}
				}
			}
			sourcetest.MustBe(t, address, `select array[get_workflow_run_count('`+ada+`', p_from => now()), get_workflow_run_count('`+ada+`', p_to => now()),
 get_workflow_run_count('`+ada+`', p_from => '-infinity', p_to => 'infinity')]`, "{1,1,2}")
			left, err := s.Allowance(t.Context(), store.AllowanceRequest{User: user, Workflow: flow, Now: now, Limits: []store.Limit{{Scope: store.KeyLimit, Max: 5, From: now.Add(-time.Hour)}, {Scope: store.UserLimit, Max: 5, From: first}}})
			if err != nil || left[0].Counted != 1 || left[1].Counted != 2 {
				t.Errorf("what is left: got %+v, %v; want 1 and 2 counted", left, err)
			}
		})
	}
}
