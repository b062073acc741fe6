package store_test

import (
	"cmp"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/edgaze-ai/runcounter/store"
)

func TestWhichLimitsAGrantRaises(t *testing.T) {
	t.Parallel()
	at := func(h int) time.Time { return epoch.Add(time.Duration(h) * time.Hour) }
	ofKey, ofUser := store.Limit{Scope: store.KeyLimit}, store.Limit{Scope: store.UserLimit}
	since := func(l store.Limit, h int) store.Limit { l.From = at(h); return l }
	given := store.Grant{Of: adaResize.Scope(), GrantedAt: at(1)}
	toUser := store.Grant{Of: store.Scope{User: ada}, GrantedAt: at(1)}
	until, revoked := given, given
	until.ExpiresAt, revoked.RevokedAt = at(3), at(2)
	for name, c := range map[string]struct {
		grant store.Grant
		limit store.Limit
		key   store.Key
		now   int
		want  bool
	}{
		"its key's":                           {given, ofKey, adaResize, 2, true},
		"its user's":                          {given, ofUser, adaResize, 2, true},
		"its user's, asked of another key":    {given, ofUser, adaSketch, 2, true},
		"its user's, asked of the user alone": {given, ofUser, store.Key{User: ada}, 2, true},
		"another key's":                       {given, ofKey, adaSketch, 2, false},
		"another user's key's":                {given, ofKey, bobResize, 2, false},
		"another user's":                      {given, ofUser, bobResize, 2, false},
		"a user's grant the user's":           {toUser, ofUser, adaResize, 2, true},
		"a user's grant no key's":             {toUser, ofKey, adaResize, 2, false},
		"before it expires":                   {until, ofKey, adaResize, 2, true},
		"when it expires":                     {until, ofKey, adaResize, 3, false},
		"revoked, by any clock":               {revoked, ofKey, adaResize, 1, false},
		"in a window from before it":          {given, since(ofKey, 0), adaResize, 2, true},
		"in a window from its moment":         {given, since(ofUser, 1), adaResize, 2, true},
		"in a window from after it":           {given, since(ofKey, 2), adaResize, 2, false},
		"in a user's window from after it":    {given, since(ofUser, 2), adaResize, 2, false},
	} {
		if got := c.grant.Raises(c.limit, c.key, at(c.now)); got != c.want {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// TestAGrantIsUsedInOneOfTwoPeriods: of the limits of periods that follow each other, as
// they are asked for within each, a grant raises that of the one in which it was given.
func TestAGrantIsUsedInOneOfTwoPeriods(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		hour := func(name string, least, most int) time.Time {
			return epoch.Add(time.Duration(rapid.IntRange(least, most).Draw(t, name)) * time.Hour)
		}
		g := store.Grant{Of: adaResize.Scope(), GrantedAt: hour("granted", 0, 9)}
		scope := rapid.SampledFrom([]store.LimitScope{store.KeyLimit, store.UserLimit}).Draw(t, "scope")
		raised := 0
		for period := range 2 {
			begins := epoch.Add(time.Duration(5*period) * time.Hour)
			now := hour("now", 5*period, 5*period+4)
			if now.Before(g.GrantedAt) {
				continue // nobody has asked yet
			}
			if g.Raises(store.Limit{Scope: scope, From: begins}, adaResize, now) {
				raised++
			}
		}
		if raised > 1 {
			t.Fatalf("a grant of %v raises the limits of both periods", g.GrantedAt)
		}
	})
}

func TestGrantsThatCantBeGiven(t *testing.T) {
	t.Parallel()
	right := store.GrantRequest{User: ada, Workflow: resize, Runs: 5, Who: "support", Why: "a bad week", Now: epoch}
	if err := cmp.Or(right.Validate(), right.ValidateExpiry()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(g *store.GrantRequest){
		"no user": func(g *store.GrantRequest) { g.User = store.ID{} }, "no runs": func(g *store.GrantRequest) { g.Runs = 0 },
		"too many": func(g *store.GrantRequest) { g.Runs = store.MaxGrant + 1 }, "nobody": func(g *store.GrantRequest) { g.Who = "" },
		"no reason": func(g *store.GrantRequest) { g.Why = "" }, "an end that has come": func(g *store.GrantRequest) { g.ExpiresAt = epoch },
		"an end within the microsecond": func(g *store.GrantRequest) { g.ExpiresAt = epoch.Add(time.Nanosecond) },
	} {
		g := right
		change(&g)
		if err := cmp.Or(g.Validate(), g.ValidateExpiry()); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	for name, r := range map[string]store.RevokeRequest{"nobody": {Seq: 1, Why: "x"}, "no reason": {Seq: 1, Who: "x"}} {
		if err := r.Validate(); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("a revocation with %s: got %v, want ErrInvalid", name, err)
		}
	}
}

func TestARequestIsTheSameAsItsGrantInAllThatItSays(t *testing.T) {
	t.Parallel()
	asked := store.GrantRequest{User: ada, Workflow: resize, Runs: 5, Who: "support", Why: "a bad week", ExpiresAt: epoch.Add(time.Hour + time.Nanosecond), Now: epoch}
	given := store.Grant{Seq: 7, Of: adaResize.Scope(), Runs: 5, Who: "support", Why: "a bad week", ExpiresAt: epoch.Add(time.Hour), GrantedAt: epoch.Add(-time.Hour)}
	if !asked.Same(given) {
		t.Errorf("%+v is not the same as %+v", asked, given)
	}
	for name, change := range map[string]func(g *store.Grant){
		"whose": func(g *store.Grant) { g.Of = store.Scope{User: ada} }, "runs": func(g *store.Grant) { g.Runs++ },
		"who": func(g *store.Grant) { g.Who = "x" }, "why": func(g *store.Grant) { g.Why = "x" },
		"its end": func(g *store.Grant) { g.ExpiresAt = g.ExpiresAt.Add(time.Microsecond) }, "no end": func(g *store.Grant) { g.ExpiresAt = time.Time{} },
	} {
		other := given
		change(&other)
		if asked.Same(other) {
			t.Errorf("another in %s is the same", name)
		}
	}
}

func TestErrorsOfGrantsSpeakOfGrants(t *testing.T) {
	t.Parallel()
	if err := store.NoGrant(7); !errors.Is(err, store.ErrNotFound) || strings.Contains(err.Error(), "run") {
		t.Errorf("NoGrant: got %v", err)
	}
	err := store.GrantConflict(store.Grant{Seq: 7, Of: adaResize.Scope(), Runs: 5, IdempotencyKey: "refill-7"})
	if !errors.Is(err, store.ErrConflict) || !strings.HasPrefix(err.Error(), `the idempotency key "refill-7" belongs to grant 7, of 5 runs to user`) {
		t.Errorf("GrantConflict: got %v", err)
	}
}
