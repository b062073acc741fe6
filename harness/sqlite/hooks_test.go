package sqlite

import (
	"context"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// TestAPlanThatLiesIsFoundOut by what the engine did.
func TestAPlanThatLiesIsFoundOut(t *testing.T) {
	const update = `update counter set n = n + 1`
	for name, c := range map[string]struct {
		lie   func(honest plan) plan
		texts []string
		want  string
	}{
		"a write that is none":          {func(plan) plan { return plan{} }, []string{update}, "changed rows of counter"},
		"another table":                 {func(p plan) plan { p.writes = 1 << 60; return p }, []string{update}, "changed rows of counter"},
		"in a transaction":              {func(p plan) plan { p.writes = 1 << 60; return p }, []string{`begin`, update, `commit`}, "changed rows of counter"},
		"a commit that is none":         {func(p plan) plan { p.write = false; return p }, []string{update}, "committed"},
		"a hidden end of a transaction": {func(p plan) plan { p.undoes = false; return p }, []string{`begin immediate`, `insert or rollback into counter values (0)`, `rollback`}, "rolled back"},
	} {
		t.Run(name, func(t *testing.T) {
			r := harness.Explore(t, func(s *harness.Sim) {
				d := New(s, Config{WAL: true, Setup: setUp(`create table counter (n unique)`, `insert into counter values (0)`)})
				text := c.texts[min(len(c.texts)-1, 1)]
				p, err := d.open("")
				if err != nil {
					panic(err)
				}
				honest, err := p.planNow(text, nil)
				if err != nil {
					panic(err)
				}
				lie := c.lie(*honest)
				d.sideOf("").plans[text] = &lie
				if err := p.conn.Close(); err != nil {
					panic(err)
				}
				db := d.Open()
				s.Go("worker", func(ctx context.Context) error { _ = execAll(ctx, db, c.texts...); return nil })
			}, harness.WithStrategies(harness.Exhaustive(1)))
			harnesstest.MustFail(t, r, "unscheduled", c.want)
		})
	}
}

// TestWhatRollsBackByItselfIsPlanned: a constraint that ends its transaction
// gives its lock to who waits.
func TestWhatRollsBackByItselfIsPlanned(t *testing.T) {
	for _, end := range []string{`insert or rollback into u values (1)`, `insert into raises values (1)`} {
		for _, wal := range []bool{true, false} {
			seen := map[int]bool{}
			r := harness.Explore(t, func(s *harness.Sim) {
				d := New(s, Config{WAL: wal, Setup: setUp(`create table u (n unique)`, `insert into u values (1)`, `create table raises (n)`,
					`create trigger r before insert on raises begin select raise(rollback, 'no'); end`)})
				db := d.Open()
				s.Go("ends", func(ctx context.Context) error {
					_ = execAll(ctx, db, `begin immediate`, `insert into u values (2)`, end)
					return nil
				})
				s.Go("writes", func(ctx context.Context) error {
					return execAll(ctx, db, `begin immediate`, `insert into u values (3)`, `commit`)
				})
				s.Eventually("one of them", func() error {
					var n int
					err := db.QueryRow(`select sum(n) from u`).Scan(&n)
					seen[n] = true
					return err
				})
			}, harness.WithStrategies(harness.Exhaustive(0), harness.Random(50)))
			if r.Failure != nil || len(seen) != 1 || !seen[4] {
				t.Errorf("%s, wal %v: %v; %v", end, wal, seen, r.Report)
			}
		}
	}
}
