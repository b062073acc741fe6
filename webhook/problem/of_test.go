package problem_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// TestWhatTheStoreRefusesIsSaid: what a caller can mend is told in a sentence of its own,
// by a code where a program has to tell it apart, and never in the database's words.
func TestWhatTheStoreRefusesIsSaid(t *testing.T) {
	t.Parallel()
	database := errors.New(`duplicate key value violates unique constraint "one_pending" (Key (email)=(ada@example.com) already exists)`)
	for name, c := range map[string]struct {
		err    error
		status int
		code   string
		want   string
	}{
		"a sentence":             {store.Refuse("this needs %s: run it", "x"), 400, "", "This needs x: run it."},
		"a unique constraint":    {&store.ConstraintError{Constraint: "one_pending", Unique: true}, 409, "not_unique", `The unique constraint "one_pending" refuses it`},
		"a trigger's uniqueness": {&store.ConstraintError{Unique: true}, 409, "not_unique", "A trigger of the database refuses it"},
		"another constraint":     {&store.ConstraintError{Constraint: "of_a_user"}, 400, "", `The constraint "of_a_user" refuses it`},
		"a column":               {&store.ConstraintError{Column: "tenant"}, 400, "", `The column "tenant" must not be null`},
		"an index":               {&store.NoIndexError{}, 400, "no_index", "runcounter migrate up --user-windows"},
		"a status":               {&store.UnmappedStatusError{Status: store.Timeout}, 400, "", "no status that means timeout"},
		"another's id":           {store.ErrConflict, 409, "conflict", "Use a new one"},
		"in other words":         {store.ErrInvalid, 400, "", "can't be carried out"},
	} {
		if field, _ := reflect.TypeFor[problem.Problem]().FieldByName("Code"); !strings.Contains(field.Tag.Get("doc"), c.code) {
			t.Errorf("%s: the description of code lacks %s", name, c.code)
		}
		got := problem.Of(fmt.Errorf("begin: %w", errors.Join(c.err, database)))
		if got.Status != c.status || got.Code != c.code || !strings.Contains(got.Detail, c.want) || strings.Contains(got.Detail, "ada@") || got.Title == "" {
			t.Errorf("%s: got %d %q %q, want %d %q %q", name, got.Status, got.Code, got.Detail, c.status, c.code, c.want)
		}
	}
}
