package postgres

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

// databases returns some with rules of the application's own, with our migrations
// and without.
func databases(t *testing.T, rules ...string) map[string]*Store {
	t.Helper()
	all := map[string]*Store{}
	for name, up := range map[string]bool{"with migrations": true, "without": false} {
		address := pgtest.Database(t)
		pgtest.Exec(t, address, append([]string{sourcetest.BareTable}, rules...)...)
		if up {
			sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
		}
		all[name] = mustOpen(t, address, Options{})
	}
	return all
}

// TestAConstraintOfTheApplicationIsNamed: it is no conflict about ids, and the caller
// learns which one refuses the request, but no values of other rows.
func TestAConstraintOfTheApplicationIsNamed(t *testing.T) {
	t.Parallel()
	user, flow := sourcetest.MustParse(t, ada), sourcetest.MustParse(t, adaFlow)
	begin := func(s *Store, n int) error {
		_, err := s.Begin(t.Context(), store.Begin{ID: storetest.MustID('1', n), User: user, Workflow: flow, Now: time.Now()})
		return err
	}
	for name, c := range map[string]struct {
		rule string
		do   func(s *Store) error
		want store.ConstraintError
	}{
		"one run is pending": {
			`create unique index one_pending on workflow_runs (user_id) where status = 'pending'`,
			func(s *Store) error { return errors.Join(begin(s, 1), begin(s, 2)) },
			store.ConstraintError{Constraint: "one_pending", Unique: true},
		},
		"one run is running": {
			`create unique index one_running on workflow_runs (user_id) where status = 'running'; insert into workflow_runs (id, user_id, status) values (gen_random_uuid(), '` + ada + `', 'running')`,
			func(s *Store) error {
				_, err := s.Start(t.Context(), storetest.MustID('1', 1), time.Now())
				return err
			},
			store.ConstraintError{Constraint: "one_running", Unique: true},
		},
		"one run is completed": {
			`create unique index one_completed on workflow_runs (user_id) where status = 'completed'; insert into workflow_runs (id, user_id, status, completed_at) values (gen_random_uuid(), '` + ada + `', 'completed', now())`,
			func(s *Store) error {
				_, err := s.Complete(t.Context(), store.Completion{ID: storetest.MustID('1', 1), Outcome: store.Outcome{Status: store.Completed}, Now: time.Now()})
				return err
			},
			store.ConstraintError{Constraint: "one_completed", Unique: true},
		},
		"users exist": {
			`create table users (id uuid primary key); alter table workflow_runs add constraint of_a_user foreign key (user_id) references users (id)`,
			func(s *Store) error { return begin(s, 1) }, store.ConstraintError{Constraint: "of_a_user"},
		},
		"a check": {
			`alter table workflow_runs add constraint no_failures check (status <> 'failed')`,
			func(s *Store) error {
				_, err := s.Complete(t.Context(), store.Completion{ID: storetest.MustID('1', 1), Outcome: store.Outcome{Status: store.Failed}, Now: time.Now()})
				return err
			},
			store.ConstraintError{Constraint: "no_failures"},
		},
		"a column without a default": {
			`alter table workflow_runs add tenant text not null`,
			func(s *Store) error { return begin(s, 1) }, store.ConstraintError{Column: "tenant"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			there := `insert into workflow_runs (id, user_id, workflow_id, status) values ('` + storetest.MustID('1', 1).String() + `', '` + ada + `', '` + adaFlow + `', 'pending')`
			for with, s := range databases(t, c.rule) {
				if c.want.Unique || c.want.Constraint == "no_failures" {
					if _, err := s.pool.Exec(t.Context(), there); err != nil {
						t.Fatal(err)
					}
				}
				err := c.do(s)
				got, ok := errors.AsType[*store.ConstraintError](err)
				if !ok || *got != c.want || !errors.Is(err, store.ErrInvalid) || errors.Is(err, store.ErrConflict) {
					t.Errorf("%s: got %v, want %+v", with, err, c.want)
				}
			}
		})
	}
}

// TestARunThatATriggerKeepsOutIsRefused: no row is inserted, and PostgreSQL has no error.
func TestARunThatATriggerKeepsOutIsRefused(t *testing.T) {
	t.Parallel()
	for with, s := range databases(t, `create function keep_out() returns trigger language plpgsql as $$ begin return null; end $$;
create trigger keep_out before insert on workflow_runs for each row execute function keep_out()`) {
		got, err := s.Begin(t.Context(), store.Begin{
			ID: storetest.MustID('1', 1), User: sourcetest.MustParse(t, ada), Workflow: sourcetest.MustParse(t, adaFlow), Now: time.Now(),
		})
		if !errors.Is(err, store.ErrInvalid) || !strings.Contains(fmt.Sprint(err), "a trigger of the table keeps it out") {
			t.Errorf("%s: got %+v, %v; want a sentence about the trigger", with, got, err)
		}
	}
}

// TestAnIdempotencyKeyOfARefusedRunIsFree: what the application's constraint refuses
// leaves nothing behind, and may be sent again once it holds.
func TestAnIdempotencyKeyOfARefusedRunIsFree(t *testing.T) {
	t.Parallel()
	s := databases(t, `create unique index one_pending on workflow_runs (user_id) where status = 'pending'`)["with migrations"]
	begin := func(n int, key string) (store.BeginResult, error) {
		return s.Begin(t.Context(), store.Begin{
			ID: storetest.MustID('1', n), User: sourcetest.MustParse(t, ada), Workflow: sourcetest.MustParse(t, adaFlow), IdempotencyKey: key, Now: time.Now(),
			Limits: []store.Limit{{Scope: store.KeyLimit, Max: 2}},
		})
	}
	if _, err := begin(1, "one"); err != nil {
		t.Fatal(err)
	}
	if got, err := begin(2, "two"); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("a second pending run: got %+v, %v; want it refused", got, err)
	}
	if _, err := s.Start(t.Context(), storetest.MustID('1', 1), time.Now()); err != nil {
		t.Fatal(err)
	}
	if got, err := begin(3, "two"); err != nil || !got.Created || got.Run.ID != storetest.MustID('1', 3) || got.Usages[0].Active != 2 {
		t.Errorf("the key of a refused run, sent again: got %+v, %v; want a run and both slots used", got, err)
	}
}

// TestWithoutMigrationsARunBegunTwiceAtOnceIsOne: the second finds the run, and that
// its id is taken is no conflict with itself.
func TestWithoutMigrationsARunBegunTwiceAtOnceIsOne(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		flow string
		want error
	}{"the same": {adaFlow, nil}, "another's": {bobFlow, store.ErrConflict}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := pgtest.Database(t)
			pgtest.Exec(t, address, sourcetest.BareTable)
			s, first := mustOpen(t, address, Options{}), newSession(t, address)
			first.do(`begin`, `insert into workflow_runs (id, user_id, workflow_id, status) values ('`+storetest.MustID('1', 1).String()+`', '`+ada+`', '`+c.flow+`', 'pending')`)
			var got store.BeginResult
			ended := make(chan error, 1)
			go func() {
				var err error
				got, err = s.Begin(t.Context(), store.Begin{ID: storetest.MustID('1', 1), User: sourcetest.MustParse(t, ada), Workflow: sourcetest.MustParse(t, adaFlow), Now: time.Now()})
				ended <- err
			}()
			until(t, func() bool { return waits(t, first.watcher, `application_name = 'runcounter'`) })
			first.do(`commit`)
			if err := need.Await(t, "the end of the second begin", ended); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if c.want == nil && (got.Created || got.Run.ID != storetest.MustID('1', 1)) {
				t.Errorf("got %+v, want the run that is there", got)
			}
		})
	}
}

// TestWithoutMigrationsWhatNeedsThemSaysSo, in a sentence that reaches the caller.
func TestWithoutMigrationsWhatNeedsThemSaysSo(t *testing.T) {
	t.Parallel()
	s := databases(t)["without"]
	user, flow := sourcetest.MustParse(t, ada), sourcetest.MustParse(t, adaFlow)
	for name, do := range map[string]func() error{
		"an idempotency key": func() error {
			_, err := s.Begin(t.Context(), store.Begin{ID: storetest.MustID('1', 1), User: user, Workflow: flow, IdempotencyKey: "one", Now: time.Now()})
			return err
		},
		"a grant": func() error {
			_, err := s.Grant(t.Context(), store.GrantRequest{User: user, Runs: 1, Who: "ada", Why: "x", Now: time.Now()})
			return err
		},
		"a revocation": func() error {
			_, err := s.RevokeGrant(t.Context(), store.RevokeRequest{Seq: 1, Who: "ada", Why: "x", Now: time.Now()})
			return err
		},
		"an amendment": func() error {
			_, err := s.Amend(t.Context(), store.AmendRequest{ID: storetest.MustID('1', 1), Status: store.Failed, Who: "ada", Why: "x", Now: time.Now()})
			return err
		},
		"a policy":      func() error { return s.SetPolicy(t.Context(), store.Policy{Terminal: true}) },
		"a dead letter": func() error { return s.KeepDeadLetter(t.Context(), store.DeadLetter{ReceivedAt: time.Now()}) },
	} {
		err := do()
		if _, ok := errors.AsType[*store.RequestError](err); !ok || !strings.Contains(fmt.Sprint(err), "run runcounter migrate up") {
			t.Errorf("%s: got %v, want the command that helps", name, err)
		}
	}
}
