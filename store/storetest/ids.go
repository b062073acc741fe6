package storetest

import (
	"errors"
	"strings"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// mustText returns the ID of a text.
func mustText(text string) store.ID {
	id, err := store.ParseID(text)
	if err != nil {
		panic(err) // of a constant
	}
	return id
}

// foreign are ids of other types than a table may have.
var foreign = []store.ID{
	mustText("7"), mustText("auth0|5f7c8ec7"), mustText(`it's "odd" \ \u0041 <&>`), mustText("x\ny\x01"), mustText(strings.Repeat("ß", 127)),
	mustText("00000000-0000-4000-8000-00000000000g"), mustText("00000000x0000-4000-8000-000000000001"),
}

// idCases are ids of any type.
var idCases = []contractCase{
	{"case T4: an id of whatever type that is in no row is not found, and has the count 0", func(s *script) {
		if s.Windows != nil {
			s.Windows(s)
		}
		s.complete(s.mustBegin(adaResize), store.Completed, time.Second)
		for _, id := range append(foreign, store.ID{}, MustID('9', 9)) {
			s.unknown(id)
		}
		s.wantCount(adaResize, 1)
	}},
	{"case T4: the UUID of zeros is an id like any other", func(s *script) {
		zeros := store.UUID([16]byte{})
		key := store.KeyOf(zeros, zeros, store.ID{})
		b := s.begin(store.Begin{ID: zeros, User: zeros, Workflow: zeros, Now: at(0)})
		want(s, "its key", b.Run.Key(), key)
		s.complete(zeros, store.Completed, time.Second)
		s.wantCount(key, 1)
		s.wantRun(zeros, store.Completed, at(time.Second))
		if _, err := s.Store.Run(s.ctx, store.ID{}); !errors.Is(err, store.ErrNotFound) {
			s.Errorf("the run without an id: got %v, want ErrNotFound", err)
		}
		if drifts, keys := s.audit(1); len(drifts) != 0 || keys != 1 {
			s.Errorf("audit: got %+v of %d keys, want none of one", drifts, keys)
		}
		counts, err := s.Store.SearchCounts(s.ctx, store.CountQuery{User: zeros, Ref: zeros, Limit: 2})
		if err != nil || len(counts) != 1 || counts[0].Key != key || counts[0].Count != 1 {
			s.Errorf("SearchCounts: got %+v, %v; want the one", counts, err)
		}
	}},
}

// unknown holds that nothing is known of a run, and counted of a key, of that id.
func (s *script) unknown(id store.ID) {
	s.Helper()
	_, run := s.Store.Run(s.ctx, id)
	_, start := s.Store.Start(s.ctx, id, at(0))
	_, complete := s.Store.Complete(s.ctx, store.Completion{ID: id, Outcome: store.Outcome{Status: store.Failed}, Now: at(0)})
	for what, err := range map[string]error{"Run": run, "Start": start, "Complete": complete} {
		if !errors.Is(err, store.ErrNotFound) {
			s.Errorf("%s of %q: got %v, want ErrNotFound", what, id, err)
		}
	}
	if _, err := s.Store.Amend(s.ctx, store.AmendRequest{ID: id, Status: store.Failed, Who: "a", Why: "b", Now: at(0)}); !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrInvalid) {
		s.Errorf("Amend of %q: got %v, want ErrNotFound", id, err)
	}
	if found, err := s.Store.FailStuck(s.ctx, store.FailStuck{Now: at(time.Hour), Limits: store.DefaultLimits(), Max: 10, Runs: []store.ID{id}}); err != nil || len(found) != 0 {
		s.Errorf("FailStuck of %q: got %+v, %v; want nothing", id, found, err)
	}
	if got, err := s.Store.History(s.ctx, id); err != nil || got.Found {
		s.Errorf("History of %q: got %+v, %v; want nothing", id, got, err)
	}
	if id.IsZero() {
		return // it names no key
	}
	for _, key := range []store.Key{store.KeyOf(id, resize, store.ID{}), store.KeyOf(ada, id, store.ID{}), store.KeyOf(id, store.ID{}, id)} {
		s.wantCount(key, 0)
		limits := []store.Limit{{Scope: store.KeyLimit, Max: 9}, {Scope: store.UserLimit, Max: 9}}
		for _, from := range []time.Time{{}, at(-time.Hour)} { // a window of a key, which needs no index of its own
			limits[0].From = from
			a := store.AllowanceRequest{User: key.User, Workflow: key.Workflow(), Draft: key.Draft(), Limits: limits, Now: at(time.Hour)}
			left, err := s.Store.Allowance(s.ctx, a)
			if err != nil || len(left) != 2 || left[0] != (store.Usage{Limit: limits[0]}) || key.User == id && left[1] != (store.Usage{Limit: limits[1]}) {
				s.Errorf("Allowance of %s: got %+v, %v; want nothing used", key, left, err)
			}
		}
		if counts, err := s.Store.CountsOf(s.ctx, []store.Key{key, adaResize}); err != nil || len(counts) != 2 || counts[0].Key != key || counts[0].Count != 0 || counts[1].Count != 1 {
			s.Errorf("CountsOf %s: got %+v, %v; want 0 and 1", key, counts, err)
		}
		if r, err := s.Store.Recount(s.ctx, key, at(0)); err != nil || r.Changed() {
			s.Errorf("Recount of %s: got %+v, %v; want no change", key, r, err)
		}
		if a, err := s.Store.Audit(s.ctx, store.Audit{After: key, Max: 10}); err != nil || len(a.Drifts) != 0 {
			s.Errorf("Audit after %s: got %+v, %v; want no drift", key, a, err)
		}
		if counts, err := s.Store.SearchCounts(s.ctx, store.CountQuery{User: key.User, Ref: key.Ref, Limit: 10}); err != nil || len(counts) != 0 {
			s.Errorf("SearchCounts of %s: got %+v, %v; want none", key, counts, err)
		}
	}
	for _, of := range []store.Scope{{User: id}, {User: id, Kind: store.KindWorkflow}, {Kind: store.KindWorkflow, Ref: id}, {Kind: store.KindDraft, Ref: id}, {User: id, Kind: store.KindWorkflow, Ref: id}} {
		s.wantIn(of, store.AllTime, 0)
		if _, one := of.Key(); one || s.Windows != nil {
			s.wantIn(of, between(0, month), 0)
		}
	}
	if grants, err := s.Store.Grants(s.ctx, store.GrantQuery{Of: store.Scope{User: id}, Limit: 10}); err != nil || len(grants) != 0 {
		s.Errorf("Grants of %q: got %+v, %v; want none", id, grants, err)
	}
	if counts, err := store.UserCounts(s.ctx, s.Store, id, store.Key{}, 10); err != nil || len(counts) != 0 {
		s.Errorf("UserCounts of %q: got %+v, %v; want none", id, counts, err)
	}
	place := store.Cursor{At: at(time.Hour), ID: id}
	if _, err := s.Store.SearchRuns(s.ctx, store.RunQuery{State: store.ActiveRuns, After: place, Limit: 10}); err != nil {
		s.Errorf("SearchRuns after %q: %v", id, err)
	}
	if _, err := s.Store.Repairs(s.ctx, place, 10); err != nil {
		s.Errorf("Repairs after %q: %v", id, err)
	}
}
