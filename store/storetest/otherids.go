package storetest

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// OtherIDs turns the suite's ids into ids of another type, and back. The order of the
// ids stays. Those that stand for themselves are left as they are.
type OtherIDs struct {
	Name     string
	to, from func(id string) string
}

// UUIDs are the suite's own.
var UUIDs = OtherIDs{"uuid", func(id string) string { return id }, func(id string) string { return id }}

// TextIDs are of different lengths, up to the longest, and hold what has to be
// escaped somewhere.
var TextIDs = TextIDsUpTo(store.MaxID)

// TextIDsUpTo are those of so many bytes at most; UUIDs where no others fit.
func TextIDsUpTo(most int) OtherIDs {
	length := len(ada.String())
	room := (min(most, store.MaxID) - len(textHead) - length) / 2
	if room < 0 {
		return UUIDs
	}
	return OtherIDs{
		"text",
		func(id string) string {
			if len(id) != length {
				return id
			}
			return textHead + id + strings.Repeat("ß", room*int(id[length-1]%4)/3)
		},
		func(id string) string {
			if id, other := strings.CutPrefix(id, textHead); other {
				return id[:length]
			}
			return id
		},
	}
}

const textHead = "auth0|'\"\\ü%/\t<&>"

// BigintIDs are those of an identity column, and IntegerIDs those of a serial.
var (
	BigintIDs  = integerIDs("bigint", 1<<60, 32)
	IntegerIDs = integerIDs("integer", 1<<29, 14)
)

// integerIDs are from base on, those of a [Source] from twice as much. The last bits
// are the number of an id, the 7 before it its kind.
func integerIDs(name string, base int64, bits int) OtherIDs {
	return OtherIDs{
		name,
		func(id string) string {
			var kind byte
			var n, seed int
			if _, err := fmt.Sscanf(id, "%02x000000-0000-4000-8000-%012x", &kind, &n); err == nil && MustID(kind, n).String() == id {
				return strconv.FormatInt(base+int64(kind)<<bits+int64(n), 10)
			}
			if _, err := fmt.Sscanf(id, drawnForm, &seed, &kind, &n); err == nil && seed < 1<<8 && fmt.Sprintf(drawnForm, seed, kind, n) == id {
				return strconv.FormatInt(2*base+int64(seed)<<(bits+7)+int64(kind)<<bits+int64(n), 10)
			}
			return id
		},
		func(id string) string {
			n, err := strconv.ParseInt(id, 10, 64)
			if err != nil || n < base {
				return id
			}
			number := func(n int64) int { return int(n & (1<<bits - 1)) }
			if rest := n - 2*base; rest >= 0 {
				return fmt.Sprintf(drawnForm, rest>>(bits+7), rest>>bits&0x7f, number(rest))
			}
			return MustID(byte((n-base)>>bits), number(n-base)).String()
		},
	}
}

// drawnForm is the text of an id that a [Source] draws: seed, kind and number.
const drawnForm = "00000000-0000-%04x-%02x00-%012x"

// Open opens a store through open whose ids are all of this type.
func (o OtherIDs) Open(open Open) Open { return ByColumn{Run: o, User: o, Ref: o}.Open(open) }

// ByColumn are ids of which each column has a type of its own: those of runs, of
// users, and of workflows and drafts.
type ByColumn struct {
	Run, User, Ref OtherIDs
	// Earlier moves all times back by as much: those of the suite have microseconds,
	// and a table may round them. Not for chaos, whose times have none.
	Earlier time.Duration
}

// Rounded moves the suite's times by as much as makes them whole seconds.
var Rounded = epoch.Sub(epoch.Truncate(time.Second))

// of returns how the column's ids are turned. A column is known by the name of a
// field that holds one of its ids.
func (o ByColumn) of(field string) OtherIDs {
	switch field {
	case "User":
		return o.User
	case "Workflow", "Draft", "Ref":
		return o.Ref
	}
	return o.Run
}

// Open opens a store through open that is given another id for each of the suite's,
// and turns back what it answers.
func (o ByColumn) Open(open Open) Open {
	to := turn{func(field string, id store.ID) store.ID { return turned(o.of(field).to, id) }, -o.Earlier}
	from := turn{func(field string, id store.ID) store.ID { return turned(o.of(field).from, id) }, o.Earlier}
	return func(t testing.TB) Backend {
		b := open(t)
		other := b
		other.Store, other.Source = renamed{b.Store, to, from}, nil
		if b.Write != nil {
			other.Write = func(t testing.TB, c store.Change) { t.Helper(); b.Write(t, with(to, c)) }
		}
		if b.ExactIn != nil {
			other.ExactIn = func(t testing.TB, of store.Scope, in store.Window) {
				t.Helper()
				b.ExactIn(t, with(to, of), with(to, in))
			}
		}
		other.Corrupt = func(t testing.TB, key store.Key, by int64) { b.Corrupt(t, with(to, key), by) }
		other.CorruptTotal = func(t testing.TB, of store.Key, by int64) { b.CorruptTotal(t, with(to, of), by) }
		other.Forget = func(t testing.TB, key store.Key) { b.Forget(t, with(to, key)) }
		return other
	}
}

func turned(f func(string) string, id store.ID) store.ID {
	if id.IsZero() || id == store.Absent {
		return id
	}
	return mustText(f(id.String()))
}

// turn turns ids, each of a field of such a name, and moves times.
type turn struct {
	id func(field string, id store.ID) store.ID
	by time.Duration
}

func (f turn) time(at time.Time) time.Time {
	if at.IsZero() {
		return at
	}
	return at.Add(f.by)
}

// with returns a copy of a value in which each id is another.
func with[T any](f turn, value T) T {
	copied := reflect.New(reflect.TypeFor[T]()).Elem()
	replace(f, "", copied, reflect.ValueOf(&value).Elem())
	return copied.Interface().(T)
}

func replace(f turn, field string, to, from reflect.Value) {
	to.Set(from)
	if id, is := from.Interface().(store.ID); is {
		to.Set(reflect.ValueOf(f.id(field, id)))
		return
	}
	if at, is := from.Interface().(time.Time); is {
		to.Set(reflect.ValueOf(f.time(at)))
		return
	}
	switch {
	case from.Kind() == reflect.Struct:
		for i := range from.NumField() {
			replace(f, from.Type().Field(i).Name, to.Field(i), from.Field(i))
		}
	case from.Kind() == reflect.Slice && !from.IsNil():
		to.Set(reflect.MakeSlice(from.Type(), from.Len(), from.Len()))
		for i := range from.Len() {
			replace(f, field, to.Index(i), from.Index(i))
		}
	}
}

// renamed is a store behind other ids. What names none goes through.
type renamed struct {
	Store
	to, from turn
}

func back[T any](r renamed, value T, err error) (T, error) { return with(r.from, value), err }

func (r renamed) Begin(ctx context.Context, b store.Begin) (store.BeginResult, error) {
	begun, err := r.Store.Begin(ctx, with(r.to, b))
	return back(r, begun, err)
}

func (r renamed) Start(ctx context.Context, id store.ID, at time.Time) (store.Run, error) {
	run, err := r.Store.Start(ctx, r.to.id("ID", id), r.to.time(at))
	return back(r, run, err)
}

func (r renamed) Complete(ctx context.Context, c store.Completion) (store.CompleteResult, error) {
	result, err := r.Store.Complete(ctx, with(r.to, c))
	return back(r, result, err)
}

func (r renamed) Amend(ctx context.Context, a store.AmendRequest) (store.Run, error) {
	run, err := r.Store.Amend(ctx, with(r.to, a))
	return back(r, run, err)
}

func (r renamed) Apply(ctx context.Context, changes []store.Change, received time.Time) ([]store.ApplyResult, error) {
	applied, err := r.Store.Apply(ctx, with(r.to, changes), r.to.time(received))
	return back(r, applied, err)
}

func (r renamed) AuditTotals(ctx context.Context, repair bool) ([]store.Drift, error) {
	wrong, err := r.Store.AuditTotals(ctx, repair)
	return back(r, wrong, err)
}

func (r renamed) Count(ctx context.Context, of store.Scope, in store.Window) (store.Count, error) {
	count, err := r.Store.Count(ctx, with(r.to, of), with(r.to, in))
	return back(r, count, err)
}

func (r renamed) Allowance(ctx context.Context, a store.AllowanceRequest) ([]store.Usage, error) {
	usages, err := r.Store.Allowance(ctx, with(r.to, a))
	return back(r, usages, err)
}

func (r renamed) Grant(ctx context.Context, g store.GrantRequest) (store.GrantResult, error) {
	result, err := r.Store.Grant(ctx, with(r.to, g))
	return back(r, result, err)
}

func (r renamed) RevokeGrant(ctx context.Context, revoke store.RevokeRequest) (store.Grant, error) {
	g, err := r.Store.RevokeGrant(ctx, with(r.to, revoke))
	return back(r, g, err)
}

func (r renamed) Grants(ctx context.Context, q store.GrantQuery) ([]store.Grant, error) {
	grants, err := r.Store.Grants(ctx, with(r.to, q))
	return back(r, grants, err)
}

func (r renamed) NearLimits(ctx context.Context, now time.Time, limit int) ([]store.NearLimit, error) {
	near, err := r.Store.NearLimits(ctx, r.to.time(now), limit)
	return back(r, near, err)
}

func (r renamed) Run(ctx context.Context, id store.ID) (store.Run, error) {
	run, err := r.Store.Run(ctx, r.to.id("ID", id))
	return back(r, run, err)
}

func (r renamed) Suspects(ctx context.Context, f store.FailStuck) ([]store.Suspect, error) {
	found, err := r.Store.Suspects(ctx, with(r.to, f))
	return back(r, found, err)
}

func (r renamed) FailStuck(ctx context.Context, f store.FailStuck) ([]store.Repaired, error) {
	repaired, err := r.Store.FailStuck(ctx, with(r.to, f))
	return back(r, repaired, err)
}

func (r renamed) Audit(ctx context.Context, a store.Audit) (store.AuditResult, error) {
	audited, err := r.Store.Audit(ctx, with(r.to, a))
	return back(r, audited, err)
}

func (r renamed) Recount(ctx context.Context, key store.Key, now time.Time) (store.RecountResult, error) {
	recounted, err := r.Store.Recount(ctx, with(r.to, key), r.to.time(now))
	return back(r, recounted, err)
}

func (r renamed) Fold(ctx context.Context, now time.Time, limit int) (int, error) {
	return r.Store.Fold(ctx, r.to.time(now), limit)
}

func (r renamed) NoteAhead(ctx context.Context, now time.Time) error {
	return r.Store.NoteAhead(ctx, r.to.time(now))
}

func (r renamed) CountsOf(ctx context.Context, keys []store.Key) ([]store.Count, error) {
	counts, err := r.Store.CountsOf(ctx, with(r.to, keys))
	return back(r, counts, err)
}

func (r renamed) SearchCounts(ctx context.Context, q store.CountQuery) ([]store.Count, error) {
	counts, err := r.Store.SearchCounts(ctx, with(r.to, q))
	return back(r, counts, err)
}

func (r renamed) SearchRuns(ctx context.Context, q store.RunQuery) ([]store.ListedRun, error) {
	runs, err := r.Store.SearchRuns(ctx, with(r.to, q))
	return back(r, runs, err)
}

func (r renamed) CountRuns(ctx context.Context, q store.RunQuery) (int, error) {
	return r.Store.CountRuns(ctx, with(r.to, q))
}

func (r renamed) Greatest(ctx context.Context, of store.Top, limit int) ([]store.Count, error) {
	counts, err := r.Store.Greatest(ctx, of, limit)
	return back(r, counts, err)
}

func (r renamed) Repairs(ctx context.Context, after store.Cursor, limit int) ([]store.ListedRepair, error) {
	repairs, err := r.Store.Repairs(ctx, with(r.to, after), limit)
	return back(r, repairs, err)
}

func (r renamed) Amendments(ctx context.Context, before int64, limit int) ([]store.Amendment, error) {
	decisions, err := r.Store.Amendments(ctx, before, limit)
	return back(r, decisions, err)
}

func (r renamed) Recounts(ctx context.Context, before int64, limit int) ([]store.ListedRecount, error) {
	recounts, err := r.Store.Recounts(ctx, before, limit)
	return back(r, recounts, err)
}

func (r renamed) History(ctx context.Context, id store.ID) (store.History, error) {
	history, err := r.Store.History(ctx, r.to.id("ID", id))
	return back(r, history, err)
}

func (r renamed) KeyHistory(ctx context.Context, key store.Key, limit int) (store.KeyHistory, error) {
	history, err := r.Store.KeyHistory(ctx, with(r.to, key), limit)
	return back(r, history, err)
}
