package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestACallIsTriedThreeTimesWhileTheStoreIsUnavailable(t *testing.T) {
	away, broken := fmt.Errorf("%w: no route", ErrUnavailable), errors.New("broken")
	for _, c := range []struct {
		name  string
		fails []error // of the calls, in their order
		calls int
		want  error
	}{
		{"one that succeeds is made once", nil, 1, nil},
		{"one that is unavailable twice succeeds", []error{away, away}, 3, nil},
		{"one that stays unavailable is given up", []error{away, away, away, away}, 3, away},
		{"any other failure is no reason to call again", []error{broken}, 1, broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := 0
			got, err := Retry(t.Context(), func(context.Context) (int, error) {
				calls++
				if calls <= len(c.fails) {
					return 0, c.fails[calls-1]
				}
				return 7, nil
			})
			if !errors.Is(err, c.want) || calls != c.calls || err == nil && got != 7 {
				t.Errorf("got %d, %v after %d calls; want %v after %d", got, err, calls, c.want, c.calls)
			}
		})
	}
	t.Run("none is made again once the context has ended", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		_, err := Retry(ctx, func(context.Context) (int, error) { calls++; cancel(); return 0, away })
		if calls != 1 || !errors.Is(err, away) {
			t.Errorf("got %v after %d calls, want one", err, calls)
		}
	})
}
