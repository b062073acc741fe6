package postgres

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// presumedSQL holds for a run r whose outcome is provisional.
const presumedSQL = `exists (select from run_counter.presumed as p where p.run_id = r.id and p.ended_at = r.completed_at and p.status = r.status)`

func (h features) has(role watched.Role) bool { return h.table.Has(role) }

// rowSQL are the columns of a run r that [scanRow] reads.
const rowSQL = `r.id, r.user_id, r.workflow_id, r.draft_id, r.status, r.created_at, r.started_at, r.completed_at, r.updated_at, r.lease_at, r.duration_ms, to_json(r.error_details)::text`

var rowNames = []string{
	"id", "user_id", "workflow_id", "draft_id", "status", "created_at", "started_at", "completed_at", "updated_at", "lease_at", "duration_ms", "error_details",
}

// rows is the select of the runs with what rowSQL, presumedSQL and a key need, and
// more.
func (h features) rows(more ...string) string {
	return h.table.Runs(slices.Concat(rowNames, more)...)
}

// returned are the columns that [scanRow] reads, of a row of the table itself.
func (h features) returned(row string) string {
	columns := make([]string, len(rowNames))
	for i, name := range rowNames {
		columns[i] = h.table.Run(row, name)
	}
	return strings.Join(columns, ", ") + "::text"
}

// keyed is the select of the runs with what [features.ofKey] and a count need, and more.
func (h features) keyed(more ...string) string {
	return h.table.Runs(append([]string{"id", "user_id", "workflow_id", "draft_id", "has_user", "has_workflow", "has_draft", "no_draft", "kind", "ref_id", "status", "completed_at", "end_order", "ended"}, more...)...)
}

// set is the assignment of a value, a moment where it is a time, behind others; nothing where the column is
// not there, or not ours to write.
func (h features) set(role watched.Role, value string) string {
	c, there := h.table.Column(role)
	if !there || !c.Writable {
		return ""
	}
	return ", " + watched.Ident(c.Name) + " = " + h.table.Written(role, value)
}

// outcome is the assignment of a status of ours and of an end to a row. Of two
// words for one status the row keeps the one that it has.
func (h features) outcome(row, status, end string) string {
	t, word := h.table, h.table.Word(status)
	if t.Ambiguous() {
		word = "case when " + t.Status(row) + " = " + status + " then " + t.Col(row, watched.Status) + " else " + word + " end"
	}
	return t.Col("", watched.Status) + " = " + word + ", " + t.Col("", watched.CompletedAt) + " = " + t.Written(watched.CompletedAt, end)
}

// requireStatus refuses a status for which the table has no word.
func (h features) requireStatus(status store.Status) error {
	if _, there := h.table.Says(status); !there {
		return &store.UnmappedStatusError{Status: status}
	}
	return nil
}

func (h features) presumedColumn() string {
	if h.installed {
		return presumedSQL
	}
	return "false"
}

// ofKey is the condition on a run r that it belongs to a key, whose user and ref
// are two parameters. Each kind has an index of its own.
func (h features) ofKey(kind store.Kind, user, ref string) string {
	return h.table.OfKey(kind, user+`::`+h.user, ref+`::`+h.ref)
}

func (h features) scanRow(rows pgx.Row, row *store.Row, more ...any) error {
	err := rows.Scan(append([]any{
		(*anyID)(&row.ID), (*anyID)(&row.User), (*anyID)(&row.Workflow), (*anyID)(&row.Draft), (*text)(&row.Status),
		(*instant)(&row.CreatedAt), (*instant)(&row.StartedAt), (*instant)(&row.CompletedAt), (*instant)(&row.UpdatedAt),
		(*instant)(&row.LeaseAt), (*millis)(&row.DurationMS), (*text)(&row.ErrorDetails),
	}, more...)...)
	h.fill(row)
	return err
}

// fill says of a row what the table has no column for.
func (h features) fill(row *store.Row) {
	if h.table.Absent(watched.User) {
		row.User = store.Absent
	}
	if h.table.Absent(watched.Workflow) {
		row.Workflow = store.Absent
	}
}

// The types below read a column, null included, into the words of the house.

// anyID is an id of any type. A text that can't be one is read as null.
type anyID store.ID

func (u *anyID) ScanUUID(v pgtype.UUID) error {
	*u = anyID{}
	if v.Valid {
		*u = anyID(store.UUID(v.Bytes))
	}
	return nil
}

func (u *anyID) ScanInt64(v pgtype.Int8) error {
	*u = anyID{}
	if !v.Valid {
		return nil
	}
	id, err := store.ParseID(strconv.FormatInt(v.Int64, 10))
	*u = anyID(id)
	return err
}

func (u *anyID) ScanText(v pgtype.Text) error {
	id, err := store.ParseID(v.String)
	if err != nil {
		id = store.ID{}
	}
	*u = anyID(id)
	return nil
}

// keyID is an id in a table of ours: none is empty but what is absent.
type keyID store.ID

func (k *keyID) ScanUUID(v pgtype.UUID) error  { return (*anyID)(k).ScanUUID(v) }
func (k *keyID) ScanInt64(v pgtype.Int8) error { return (*anyID)(k).ScanInt64(v) }
func (k *keyID) ScanText(v pgtype.Text) error {
	if v.Valid && v.String == "" {
		*k = keyID(store.Absent)
		return nil
	}
	return (*anyID)(k).ScanText(v)
}

type text string

func (t *text) ScanText(v pgtype.Text) error {
	*t = text(v.String)
	return nil
}

type instant time.Time

func (i *instant) ScanTimestamptz(v pgtype.Timestamptz) error {
	*i = instant{}
	if v.Valid && v.InfinityModifier == pgtype.Finite {
		*i = instant(store.Instant(v.Time))
	}
	return nil
}

type millis store.Millis

func (m *millis) ScanInt64(v pgtype.Int8) error {
	*m = millis{}
	if v.Valid {
		*m = millis{MS: int32(min(max(v.Int64, -store.MaxMillis), store.MaxMillis)), Valid: true}
	}
	return nil
}

// ScanNumeric cuts a fraction off, as a mirror does; NaN is null.
func (m *millis) ScanNumeric(v pgtype.Numeric) error {
	*m = millis{}
	switch {
	case !v.Valid || v.NaN:
		return nil
	case v.InfinityModifier != pgtype.Finite:
		return m.ScanInt64(pgtype.Int8{Int64: int64(v.InfinityModifier) * math.MaxInt64, Valid: true})
	}
	ms, shift := new(big.Int).Set(v.Int), new(big.Int)
	if shift.Exp(big.NewInt(10), big.NewInt(int64(max(v.Exp, -v.Exp))), nil); v.Exp < 0 {
		ms.Div(ms, shift)
	} else {
		ms.Mul(ms, shift)
	}
	if !ms.IsInt64() {
		ms.SetInt64(int64(ms.Sign()) * math.MaxInt64)
	}
	return m.ScanInt64(pgtype.Int8{Int64: ms.Int64(), Valid: true})
}

// span is a time in seconds. What clocks that differ make negative is none.
type span time.Duration

func (s *span) ScanFloat64(v pgtype.Float8) error {
	*s = span(max(v.Float64, 0) * float64(time.Second))
	return nil
}

// The arguments of statements go as text, which any pooler and any mode of the
// protocol carries; the statement casts them.

// arg is an id for a column of a role: what is no value of its type is in no row,
// and so is null to a question, as the zero ID is.
func (h features) arg(role watched.Role, id store.ID) *string {
	if !h.holds(role, id) {
		return nil
	}
	plain := id.String()
	return &plain
}

// holds reports whether an id is one that the role's column can hold, as the
// database writes it.
func (h features) holds(role watched.Role, id store.ID) bool {
	if h.table.Absent(role) || id == store.Absent {
		return h.table.Absent(role) && id == store.Absent
	}
	text := id.String()
	switch typ := h.table.Type(role); typ {
	case "uuid":
		var u pgtype.UUID
		return len(text) == 36 && u.Scan(text) == nil && u.String() == text
	case "text":
		return text != ""
	default:
		n, err := strconv.ParseInt(text, 10, bitsOf[typ])
		return err == nil && strconv.FormatInt(n, 10) == text
	}
}

var bitsOf = map[string]int{"smallint": 16, "integer": 32, "bigint": 64}

// cursorArg is an id behind which a page begins, from before all others on.
func (h features) cursorArg(role watched.Role, id store.ID) *string {
	if !id.IsZero() {
		return h.arg(role, id)
	}
	first := ""
	switch typ := h.table.Type(role); typ {
	case "uuid":
		first = "00000000-0000-0000-0000-000000000000"
	case "text":
	default:
		first = strconv.FormatInt(math.MinInt64>>(64-bitsOf[typ]), 10)
	}
	return &first
}

// requireIDs refuses ids that their columns can't hold. Zero ones are none.
func (h features) requireIDs(ids map[watched.Role]store.ID) error {
	for role, given := range ids {
		if !given.IsZero() && !h.holds(role, given) {
			return store.Refuse("the table's column for the role %s is %s, and %q is none: send the id as the table has it", role, h.table.Type(role), given)
		}
	}
	return nil
}

func timeArg(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func textArg[T ~string](s T) *string {
	if s == "" {
		return nil
	}
	plain := string(s)
	return &plain
}

func millisArg(m store.Millis) *int32 {
	if !m.Valid {
		return nil
	}
	return &m.MS
}

func (h features) keyArgs(k store.Key) []any {
	return []any{h.arg(watched.User, k.User), string(k.Kind), h.arg(watched.Workflow, k.Ref)}
}

// requireKey refuses a key of a kind that the table does not have: to count it would
// say 0.
func (h features) requireKey(k store.Key) error {
	switch {
	case h.table.Absent(watched.User) && k.User != store.Absent:
		return store.Refuse("the table has no column that says whose a run is, and its runs are counted by workflow alone: leave the user out")
	case h.table.Absent(watched.Workflow) && k.Kind != store.KindAll:
		return store.Refuse("the table has no column that says what ran, and all runs of a user are one count: leave the workflow and the draft out")
	case k.User == store.Absent && !h.table.Absent(watched.User):
		return store.Refuse("runs are counted by user: name one")
	case k.Kind == store.KindAll && !h.table.Absent(watched.Workflow):
		return store.Refuse("runs are counted by workflow: name a workflow or a draft")
	}
	return nil
}

// cursorArgs are those of a key behind which a page begins, from before all others
// on.
func (h features) cursorArgs(k store.Key) []any {
	return []any{h.cursorArg(watched.User, k.User), string(k.Kind), h.cursorArg(watched.Workflow, k.Ref)}
}

// keyArrays are three arrays for unnest.
func (h features) keyArrays(keys []store.Key) []any {
	users, kinds, refs := make([]*string, len(keys)), make([]string, len(keys)), make([]*string, len(keys))
	for i, k := range keys {
		users[i], kinds[i], refs[i] = h.arg(watched.User, k.User), string(k.Kind), h.arg(watched.Workflow, k.Ref)
	}
	return []any{users, kinds, refs}
}

func scanKey(rows pgx.Row, key *store.Key, more ...any) error {
	return rows.Scan(append([]any{(*keyID)(&key.User), (*text)(&key.Kind), (*keyID)(&key.Ref)}, more...)...)
}

// ended is a row of counts as it is read.
type ended struct{ store.Ended }

func (e *ended) targets() []any { return []any{(*text)(&e.Status), &e.Presumed, &e.N} }

// addEnded reads one, and adds it up.
func addEnded(rows pgx.Rows, t *store.Tallies) error {
	var e ended
	err := rows.Scan(e.targets()...)
	e.AddTo(t)
	return err
}

func parsePolicy(name string) (store.Policy, error) {
	p, err := store.ParsePolicy(name)
	if err != nil {
		return p, fmt.Errorf("%w in run_counter.settings: %w", errScan, err)
	}
	return p, nil
}
