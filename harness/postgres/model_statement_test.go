package postgres

import (
	"context"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

// TestAStatementThatCanBeNoneIsRefused, even by an actor who asks for no error.
func TestAStatementThatCanBeNoneIsRefused(t *testing.T) {
	nothing := func(*Query) error { return nil }
	for _, test := range []struct {
		name string
		st   Statement
		want string
	}{
		{"without a meaning", Statement{SQL: `update a set n = 1`, Writes: []string{"a"}}, `the statement "update a set n = 1" has no meaning, and the model reads no SQL`},
		{"that is no SQL", Statement{SQL: `selct nonsense`, Do: nothing}, `the statement "selct nonsense" is no SQL: "selct" is no command of PostgreSQL`},
		{"that is empty", Statement{Do: nothing}, `is no SQL`},
		{"that is a comment", Statement{SQL: `-- select`, Do: nothing}, `is no SQL`},
		{"that ends the transaction", Statement{SQL: `COMMIT;`, Do: nothing}, `call Session.Commit instead`},
		{"that begins one", Statement{SQL: `start transaction`, Do: nothing}, `call Session.Begin instead`},
		{"that the model has not", Statement{SQL: `savepoint a`, Do: nothing}, `the model has no savepoints`},
	} {
		t.Run(test.name, func(t *testing.T) {
			harnesstest.MustFail(t, harness.Explore(t, func(s *harness.Sim) {
				session := NewReadCommitted(s, []Table{{Name: "a", Columns: []string{"n"}}}).Session()
				s.Go("worker", func(ctx context.Context) error {
					_, _ = session.Exec(ctx, &test.st)
					return nil
				})
			}), "panic", test.want)
		})
	}
}
