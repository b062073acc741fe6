package store_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/edgaze-ai/runcounter/store"
)

func TestWhatIsLeftIsNeverNegative(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		number := rapid.OneOf(rapid.Int64Range(0, 5), rapid.SampledFrom([]int64{math.MaxInt64, math.MaxInt64 - 1, 1 << 40}))
		few := rapid.Int64Range(0, 10)
		u := store.Usage{Limit: store.Limit{Max: number.Draw(t, "max")}, Granted: number.Draw(t, "granted"), Counted: few.Draw(t, "counted"), Active: few.Draw(t, "active")}
		left := u.Remaining()
		if left < 0 || u.Full() != (left == 0) {
			t.Fatalf("%+v: %d left, full: %v", u, left, u.Full())
		}
		if u.Limit.Max < 1<<50 && u.Granted < 1<<50 {
			if want := max(0, u.Limit.Max+u.Granted-u.Counted-u.Active); left != want {
				t.Fatalf("%+v: %d left, want %d", u, left, want)
			}
		} else if left == 0 {
			t.Fatalf("%+v is full", u)
		}
	})
}

func TestLimitsThatCantBeKept(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limits []store.Limit
		kept   bool
	}{
		"none":                     {nil, true},
		"of a key":                 {store.UpTo(10), true},
		"of both, in either order": {[]store.Limit{{Scope: store.UserLimit, Max: 0}, {Scope: store.KeyLimit, Max: 1, From: epoch}}, true},
		"negative":                 {store.UpTo(-1), false},
		"of no scope":              {[]store.Limit{{Max: 1}}, false},
		"of another scope":         {[]store.Limit{{Scope: "workflow", Max: 1}}, false},
		"two of a scope":           {append(store.UpTo(1), store.UpTo(2)...), false},
		"from a time to come":      {[]store.Limit{{Scope: store.KeyLimit, Max: 1, From: epoch.Add(time.Microsecond)}}, false},
	} {
		if err := store.ValidateLimits(c.limits, epoch); (err == nil) != c.kept || err != nil && !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: got %v, want it kept: %v", name, err, c.kept)
		}
	}
}

func TestALimitBoundsItsScope(t *testing.T) {
	t.Parallel()
	for _, key := range []store.Key{adaResize, adaSketch} {
		if got := (store.Limit{Scope: store.KeyLimit}).Of(key); got != key.Scope() {
			t.Errorf("of the key: got %s, want %s", got, key)
		}
		if got, want := (store.Limit{Scope: store.UserLimit}).Of(key), (store.Scope{User: ada}); got != want {
			t.Errorf("of the user: got %s, want %s", got, want)
		}
	}
}

func TestAnAllowanceNamesWhoseItIs(t *testing.T) {
	t.Parallel()
	ofKey, ofUser := store.Limit{Scope: store.KeyLimit}, store.Limit{Scope: store.UserLimit}
	for name, c := range map[string]struct {
		asked store.AllowanceRequest
		key   store.Key
		valid bool
	}{
		"of both":                       {store.AllowanceRequest{User: ada, Workflow: resize, Limits: []store.Limit{ofKey, ofUser}}, adaResize, true},
		"of a draft":                    {store.AllowanceRequest{User: ada, Workflow: resize, Draft: sketch, Limits: []store.Limit{ofKey}}, adaSketch, true},
		"of the user":                   {store.AllowanceRequest{User: ada, Limits: []store.Limit{ofUser}}, store.Key{User: ada}, true},
		"of nothing":                    {store.AllowanceRequest{User: ada, Workflow: resize}, adaResize, false},
		"of no workflow":                {store.AllowanceRequest{User: ada, Limits: []store.Limit{ofKey}}, store.Key{User: ada}, false},
		"of nobody":                     {store.AllowanceRequest{Workflow: resize, Limits: []store.Limit{ofUser}}, store.Key{}, false},
		"of a limit that can't be kept": {store.AllowanceRequest{User: ada, Limits: []store.Limit{ofUser, ofUser}}, store.Key{User: ada}, false},
	} {
		if got := c.asked.Key(); got != c.key {
			t.Errorf("%s: the key is %v, want %v", name, got, c.key)
		}
		if err := c.asked.Validate(); (err == nil) != c.valid || err != nil && !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: got %v, want it valid: %v", name, err, c.valid)
		}
	}
}

func TestTheFirstFullLimitIsTheOneReached(t *testing.T) {
	t.Parallel()
	open, full, fuller := store.Usage{Limit: store.Limit{Max: 2}, Active: 1}, store.Usage{Limit: store.Limit{Max: 1}, Active: 1}, store.Usage{Limit: store.Limit{Max: 1}, Active: 5}
	for _, c := range []struct {
		usages []store.Usage
		want   store.Usage
	}{{nil, store.Usage{}}, {[]store.Usage{open}, store.Usage{}}, {[]store.Usage{open, full, fuller}, full}, {[]store.Usage{fuller, full}, fuller}} {
		if got := (store.BeginResult{Usages: c.usages}).Reached(); got != c.want {
			t.Errorf("of %+v: got %+v, want %+v", c.usages, got, c.want)
		}
	}
}
