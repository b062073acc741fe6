package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/storetest"
)

var (
	ada, bob       = storetest.MustID('a', 1), storetest.MustID('b', 1)
	resize, sketch = storetest.MustID('c', 1), storetest.MustID('d', 1)
	adaResize      = store.KeyOf(ada, resize, store.ID{})
	adaSketch      = store.KeyOf(ada, store.ID{}, sketch)
	bobResize      = store.KeyOf(bob, resize, store.ID{})
)

func TestAScopeHasTheKeysThatItDoesNotLeaveOut(t *testing.T) {
	t.Parallel()
	all := []store.Key{adaResize, adaSketch, bobResize}
	for name, c := range map[string]struct {
		of   store.Scope
		want []store.Key
	}{
		"a key":                        {adaResize.Scope(), []store.Key{adaResize}},
		"a user":                       {store.Scope{User: ada}, []store.Key{adaResize, adaSketch}},
		"a user's drafts":              {store.Scope{User: ada, Kind: store.KindDraft}, []store.Key{adaSketch}},
		"a workflow":                   {store.ScopeOf(store.ID{}, resize, store.ID{}), []store.Key{adaResize, bobResize}},
		"a draft before its workflow":  {store.ScopeOf(store.ID{}, resize, sketch), []store.Key{adaSketch}},
		"a draft of the workflow's id": {store.Scope{Kind: store.KindDraft, Ref: resize}, nil},
		"a user who has none":          {store.Scope{User: sketch}, nil},
	} {
		if err := c.of.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, key := range all {
			want := false
			for _, k := range c.want {
				want = want || k == key
			}
			if got := c.of.Contains(key); got != want {
				t.Errorf("%s: %s has %s: got %v, want %v", name, c.of, key, got, want)
			}
		}
		if c.of.Contains(store.Key{}) {
			t.Errorf("%s has the runs that are in no key", name)
		}
	}
}

func TestWhatAScopeIs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		of                       store.Scope
		key, user, all, validate bool
		text                     string
	}{
		{adaResize.Scope(), true, false, false, true, "user " + ada.String() + ", workflow " + resize.String()},
		{store.Scope{User: ada}, false, true, false, true, "user " + ada.String()},
		{store.Scope{User: ada, Kind: store.KindDraft}, false, true, false, true, "user " + ada.String() + ", every draft"},
		{store.ScopeOf(store.ID{}, resize, store.ID{}), false, false, true, true, "workflow " + resize.String() + " of all users"},
		{store.ScopeOf(ada, store.Absent, store.ID{}), true, false, false, true, "user " + ada.String() + ", all runs"},
		{store.ScopeOf(store.Absent, resize, store.ID{}), true, false, false, true, "workflow " + resize.String() + " of no user"},
		{store.Scope{}, false, false, false, false, "nothing"},
		{store.Scope{Kind: store.KindWorkflow}, false, false, false, false, ""},
		{store.Scope{User: ada, Ref: resize}, false, false, false, false, ""},
		{store.Scope{Ref: resize}, false, false, true, false, ""},
	} {
		if key, one := c.of.Key(); one != c.key || one && key.Scope() != c.of {
			t.Errorf("%+v: Key is %v, %v; want %v", c.of, key, one, c.key)
		}
		if got := c.of.OfUser(); got != c.user {
			t.Errorf("%+v: OfUser is %v, want %v", c.of, got, c.user)
		}
		if got := c.of.OfAllUsers(); got != c.all {
			t.Errorf("%+v: OfAllUsers is %v, want %v", c.of, got, c.all)
		}
		if err := c.of.Validate(); (err == nil) != c.validate || err != nil && !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%+v: Validate is %v", c.of, err)
		}
		if got := c.of.String(); c.text != "" && got != c.text {
			t.Errorf("%+v is %q, want %q", c.of, got, c.text)
		}
	}
}

// TestWindowsSideBySideHaveEachRunOnce: of windows that meet, each end is in one.
func TestWindowsSideBySideHaveEachRunOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		moment := rapid.Custom(func(t *rapid.T) time.Time {
			return epoch.Add(time.Duration(rapid.IntRange(-3, 3).Draw(t, "µs")) * time.Microsecond)
		})
		first, second, end := moment.Draw(t, "first"), moment.Draw(t, "second"), moment.Draw(t, "end")
		if second.Before(first) {
			if err := (store.Window{From: first, To: second}).Validate(); !errors.Is(err, store.ErrInvalid) {
				t.Fatalf("a window that is exchanged: got %v, want ErrInvalid", err)
			}
			first, second = second, first
		}
		n := 0
		for _, w := range []store.Window{{To: first}, {From: first, To: second}, {From: second}} {
			if err := w.Validate(); err != nil {
				t.Fatal(err)
			}
			if w.Contains(end) {
				n++
			}
		}
		if n != 1 {
			t.Fatalf("an end at %v is in %d of the windows that meet at %v and %v, want 1", end, n, first, second)
		}
		if !store.AllTime.Contains(end) || (store.Window{From: first, To: first}).Contains(end) {
			t.Fatal("all time has every end, and a window of no length none")
		}
	})
}

func TestAWindowHasBoundsAsDatabasesKeepThem(t *testing.T) {
	t.Parallel()
	in := store.Window{From: epoch.Add(time.Nanosecond).In(time.FixedZone("", 3600))}.Instants()
	if in.From != epoch || !in.To.IsZero() {
		t.Errorf("got %v, want from %v on", in, epoch)
	}
	if store.AllTime.Instants() != store.AllTime {
		t.Error("all time has no bounds")
	}
}

func TestAWindowWithoutItsIndexNamesTheFlag(t *testing.T) {
	t.Parallel()
	for flag, of := range map[string]store.Scope{"--user-windows": {User: ada}, "--workflow-windows": {Kind: store.KindWorkflow, Ref: resize}} {
		err := error(&store.NoIndexError{Of: of})
		if !errors.Is(err, store.ErrInvalid) || !strings.Contains(err.Error(), "runcounter migrate up "+flag) {
			t.Errorf("%s: got %v, want an ErrInvalid with %s", of, err, flag)
		}
	}
}
