package harness_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// TestCaseH9_ShowReadsWhatIsCommitted, and not what the connection sees that an
// actor left in a transaction: that was how seed 2,962 of the self-check lost
// an observation.
func TestCaseH9_ShowReadsWhatIsCommitted(t *testing.T) {
	for _, wal := range []bool{false, true} {
		shown := map[string]bool{}
		result := harness.ExploreBefore(t, harness.Eyes{Schedule: func(r harness.Seen) {
			for _, st := range r.Steps() {
				shown[st.Show[0]] = true
			}
		}}, func(s *harness.Sim) {
			db := counter(s, wal).Open()
			s.Go("leaves", func(ctx context.Context) error {
				conn, err := db.Conn(ctx)
				if err != nil {
					return err
				}
				defer func() { _ = conn.Close() }()
				for _, text := range []string{`begin`, `update counter set n = 7`} {
					if _, err := conn.ExecContext(ctx, text); err != nil {
						return err
					}
				}
				return nil
			})
			s.Go("waits", func(context.Context) error { return errors.Join(s.Step("one"), s.Step("two")) })
			s.Show("n", func() string { n, err := harnesstest.Read(db); return fmt.Sprint(n, err) })
			s.Eventually("it can be swept", func() error {
				if _, err := db.Exec(`select * from sqlite_master`); err != nil {
					return err
				}
				if n, err := harnesstest.Read(db); err != nil || n != 0 {
					return fmt.Errorf("n is %d, %w", n, err)
				}
				return nil
			})
		})
		if result.Failure != nil || len(shown) != 1 || !shown["0 <nil>"] {
			t.Errorf("wal %v: it shows %v; %v", wal, shown, result.Report)
		}
	}
}
