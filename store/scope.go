package store

import (
	"fmt"
	"time"
)

// Scope says whose runs a count is of: those of a key, of a user, or of a workflow
// or draft over all its users. What is left out is not asked for: a Scope with a
// user alone has all their keys, drafts included; with a user and a kind, their keys
// of that kind; without a user, those of all users. The zero Scope is none.
type Scope struct {
	User ID
	Kind Kind
	Ref  ID
}

// Scope returns the scope that is this key alone.
func (k Key) Scope() Scope { return Scope(k) }

// ScopeOf returns the scope of the ids of a question, each of which may be
// the zero ID. A draft comes before a workflow, as in [KeyOf].
func ScopeOf(user, workflow, draft ID) Scope {
	s := TotalOf(workflow, draft).Scope()
	s.User = user
	return s
}

// Key returns the key that the scope is, and false where it is more than one.
func (s Scope) Key() (Key, bool) {
	return Key(s), !s.User.IsZero() && s.Kind != "" && !s.Ref.IsZero()
}

// Contains reports whether the runs of a key are among those of the scope.
func (s Scope) Contains(k Key) bool {
	return !k.IsZero() &&
		(s.User.IsZero() || s.User == k.User) &&
		(s.Kind == "" || s.Kind == k.Kind) &&
		(s.Ref.IsZero() || s.Ref == k.Ref)
}

// OfUser reports whether these are a user's keys, of one kind or of all.
func (s Scope) OfUser() bool { return !s.User.IsZero() && s.Ref.IsZero() }

// OfAllUsers reports whether these are the runs of a workflow or draft over all its users.
func (s Scope) OfAllUsers() bool { return s.User.IsZero() && !s.Ref.IsZero() }

// Validate refuses what is no scope, with [ErrInvalid].
func (s Scope) Validate() error {
	switch {
	case s.User.IsZero() && s.Ref.IsZero():
		return fmt.Errorf("%w: a count needs a user, a workflow or a draft", ErrInvalid)
	case s.Kind == "" && !s.Ref.IsZero():
		return fmt.Errorf("%w: the id %s is a workflow's or a draft's: say which", ErrInvalid, s.Ref.Shown())
	}
	return nil
}

func (s Scope) String() string {
	switch {
	case s == Scope{}:
		return "nothing"
	case s.OfUser() && s.Kind == "":
		return "user " + s.User.Shown()
	case s.OfUser():
		return "user " + s.User.Shown() + ", every " + string(s.Kind)
	}
	return Key(s).String()
}

// Window is a span of time by completed_at: From belongs to it, To does not. The
// zero time stands for no bound.
type Window struct{ From, To time.Time }

// AllTime is the window without bounds.
var AllTime Window

// Contains reports whether a run that ended then is in the window.
func (w Window) Contains(end time.Time) bool {
	return (w.From.IsZero() || !end.Before(w.From)) && (w.To.IsZero() || end.Before(w.To))
}

// Validate refuses a window that ends before it begins, with [ErrInvalid].
func (w Window) Validate() error {
	if !w.From.IsZero() && !w.To.IsZero() && w.To.Before(w.From) {
		return fmt.Errorf("%w: the window ends at %s, before it begins at %s: exchange them", ErrInvalid, w.To.Format(time.RFC3339Nano), w.From.Format(time.RFC3339Nano))
	}
	return nil
}

// Instants returns the window with bounds as the databases keep times.
func (w Window) Instants() Window { return Window{Instant(w.From), Instant(w.To)} }
