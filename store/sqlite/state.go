package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// tx is one write transaction with the prepared statements.
type tx struct {
	ctx    context.Context
	tx     *sql.Tx
	stmts  *statements
	rules  *hooks
	policy *store.Policy     // once it was read
	noted  map[counter]int64 // differences that are not yet in the counts
}

func (t *tx) exec(stmt *sql.Stmt, args ...any) error {
	_, err := t.tx.StmtContext(t.ctx, stmt).ExecContext(t.ctx, args...)
	return err
}

// execText runs a statement that was not prepared, and says what for where it fails.
func (t *tx) execText(what, text string, args ...any) error {
	if _, err := t.tx.ExecContext(t.ctx, text, args...); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (t *tx) row(stmt *sql.Stmt, args ...any) *sql.Row {
	return t.tx.StmtContext(t.ctx, stmt).QueryRowContext(t.ctx, args...)
}

// statements are the ones that every webhook runs, prepared once on the
// writer's connection.
type statements struct {
	load, insert, update            *sql.Stmt
	remove, insertTombstone, policy *sql.Stmt
	tallies                         *sql.Stmt
	add, addTotals                  *sql.Stmt
}

func (s *statements) texts() map[**sql.Stmt]string {
	return map[**sql.Stmt]string{
		&s.load: loadSQL, &s.insert: insertSQL, &s.update: updateSQL, &s.remove: removeSQL, &s.insertTombstone: insertTombstoneSQL, &s.policy: policySQL,
		&s.tallies: talliesSQL, &s.add: addSQL, &s.addTotals: addTotalsSQL,
	}
}

func (s *statements) prepare(ctx context.Context, db *sql.DB) (err error) {
	for stmt, text := range s.texts() {
		if *stmt, err = db.PrepareContext(ctx, text); err != nil {
			return err
		}
	}
	return nil
}

func (s *statements) close() (err error) {
	for stmt := range s.texts() {
		if *stmt != nil {
			err = errors.Join(err, (*stmt).Close())
		}
	}
	return err
}

const runColumns = `
       r.id, r.user_id, r.workflow_id, r.draft_id, r.status,
       r.created_at, r.started_at, r.updated_at, r.lease_at, r.completed_at,
       r.duration_ms, r.error_details, r.evidence, r.amended_at, r.reopened_at,
       r.version, r.as_of, r.views`

// loadSQL reads all that is known of runs, given as a JSON array of their ids:
// a tombstone or null, and a row or nulls.
const loadSQL = `
select k.key,
       (select deleted_at from tombstones where tombstones.id = k.value),` + runColumns + `
  from json_each(?1) as k
  left join workflow_runs as r on r.id = k.value`

const insertSQL = `
insert into workflow_runs (
       id, user_id, workflow_id, draft_id, status,
       created_at, started_at, updated_at, lease_at, completed_at,
       duration_ms, error_details, evidence, amended_at, reopened_at,
       version, as_of, views)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

const updateSQL = `
update workflow_runs
   set user_id = ?2, workflow_id = ?3, draft_id = ?4, status = ?5,
       created_at = ?6, started_at = ?7, updated_at = ?8, lease_at = ?9, completed_at = ?10,
       duration_ms = ?11, error_details = ?12, evidence = ?13, amended_at = ?14, reopened_at = ?15,
       version = ?16, as_of = ?17, views = ?18
 where id = ?1`

const removeSQL = `delete from workflow_runs where id = ?`

const insertTombstoneSQL = `
insert into tombstones (id, deleted_at) values (?, ?)
on conflict (id) do update set deleted_at = min(deleted_at, excluded.deleted_at)`

// jsonList is a JSON array of texts, which may hold any character.
func jsonList(texts ...string) string {
	list, err := json.Marshal(texts)
	if err != nil {
		panic(err) // strings have no reason to fail
	}
	return string(list)
}

func eachRow(rows *sql.Rows, err error, do func(rows *sql.Rows) error) error {
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := do(rows); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// each calls do for each row of a query, and says what for where it fails.
func each(ctx context.Context, q querier, what, text string, args []any, do func(rows *sql.Rows) error) error {
	rows, err := q.QueryContext(ctx, text, args...)
	if err = eachRow(rows, err, do); err != nil {
		return fmt.Errorf("%s: %w", what, translate(err))
	}
	return nil
}

// list returns what scan makes of the rows of a query.
func list[T any](ctx context.Context, q querier, what, text string, args []any, scan func(rows *sql.Rows, one *T) error) (all []T, err error) {
	err = each(ctx, q, what, text, args, func(rows *sql.Rows) error {
		var one T
		err := scan(rows, &one)
		all = append(all, one)
		return err
	})
	return all, err
}

// loadAll returns what is known of runs, in one statement.
func (t *tx) loadAll(ids []store.ID) ([]entry, error) {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	entries := make([]entry, len(ids))
	rows, err := t.tx.StmtContext(t.ctx, t.stmts.load).QueryContext(t.ctx, jsonList(texts...))
	err = eachRow(rows, err, func(rows *sql.Rows) error {
		i, e, err := scanEntry(rows)
		if err == nil {
			e.state.ID = ids[i]
			entries[i] = e
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("load %d runs: %w", len(ids), err)
	}
	return entries, nil
}

// load returns what is known of one run, and whether it has a row.
func (t *tx) load(id store.ID) (store.State, bool, error) {
	entries, err := t.loadAll([]store.ID{id})
	if err != nil {
		return store.State{}, false, err
	}
	return entries[0].state, entries[0].exists, nil
}

// scanEntry reads one row of loadSQL: the place in the list, and the run.
func scanEntry(rows interface{ Scan(...any) error }) (i int, e entry, err error) {
	var deleted sql.NullInt64
	e.state, err = scanState(rows, &i, &deleted)
	e.exists = !e.state.ID.IsZero()
	e.state.DeletedAt = timeOf(deleted)
	e.was = e.state
	return i, e, err
}

// saveAll writes what is known of runs, in the order of their ids.
func (t *tx) saveAll(entries []*entry) error {
	slices.SortFunc(entries, func(a, b *entry) int { return a.state.ID.Compare(b.state.ID) })
	for _, e := range entries {
		if err := t.save(e.was, e.state, e.exists); err != nil {
			return err
		}
	}
	return nil
}

// save writes what is known of one run, which was something else, and notes what
// that changes in the counts.
func (t *tx) save(was, s store.State, exists bool) error {
	t.note(was, s)
	id := s.ID.String()
	if !s.DeletedAt.IsZero() {
		if exists {
			if err := t.exec(t.stmts.remove, id); err != nil {
				return fmt.Errorf("delete run %s: %w", id, err)
			}
		}
		if err := t.exec(t.stmts.insertTombstone, id, s.DeletedAt.UnixMicro()); err != nil {
			return fmt.Errorf("keep tombstone of %s: %w", id, err)
		}
		return nil
	}
	stmt := t.stmts.insert
	if exists {
		stmt = t.stmts.update
	}
	r, o := s.Row(), s.Outcome
	views, err := encodeViews(s.Last, r)
	if err != nil {
		return fmt.Errorf("save run %s: %w", id, err)
	}
	err = t.exec(stmt, id, nullID(r.User), nullID(r.Workflow), nullID(r.Draft), string(r.Status),
		nullTime(r.CreatedAt), nullTime(r.StartedAt), nullTime(r.UpdatedAt), nullTime(r.LeaseAt), nullTime(r.CompletedAt),
		nullMillis(r.DurationMS), nullIf(r.ErrorDetails == "", string(r.ErrorDetails)), int(o.Evidence),
		nullTime(o.AmendedAt), nullTime(s.ReopenedAt), s.Last.Version, nullTime(s.Last.At), views)
	if err != nil {
		return fmt.Errorf("save run %s: %w", id, err)
	}
	return nil
}

// scanState reads what stands before, and runColumns behind it. A row of nulls
// gives the zero State.
func scanState(row interface{ Scan(...any) error }, before ...any) (store.State, error) {
	var (
		s                                                 store.State
		v                                                 store.View
		status, details                                   sql.NullString
		created, started, updated, lease, completed, asOf sql.NullInt64
		duration, amended, reopened, version, evidence    sql.NullInt64
		views                                             sql.NullString
	)
	columns := []any{&s.ID, &v.User, &v.Workflow, &v.Draft, &status, &created, &started, &updated, &lease, &completed,
		&duration, &details, &evidence, &amended, &reopened, &version, &asOf, &views}
	err := row.Scan(append(before, columns...)...)
	if err != nil || s.ID.IsZero() {
		return s, err
	}
	v.Status, s.Last.Version = store.Status(status.String), version.Int64
	s.CreatedAt, s.StartedAt, s.UpdatedAt, s.LeaseAt = timeOf(created), timeOf(started), timeOf(updated), timeOf(lease)
	s.ReopenedAt, s.Last.At = timeOf(reopened), timeOf(asOf)
	if evidence.Int64 > 0 {
		s.Outcome = store.Claim{Evidence: store.Evidence(evidence.Int64), AmendedAt: timeOf(amended)}
		s.Outcome.Outcome = store.Outcome{Status: v.Status, CompletedAt: timeOf(completed), ErrorDetails: store.JSON(details.String)}
		if duration.Valid {
			s.Outcome.Outcome.DurationMS = store.MillisOf(duration.Int64)
		}
	}
	if !views.Valid {
		s.Last.Heads = []store.View{v}
		return s, nil
	}
	s.Last.Heads, s.Last.Past, err = decodeViews(views.String)
	return s, err
}

// storedViews is the JSON of a register that isn't the plain one.
type storedViews struct {
	Heads []storedView `json:"heads,omitempty"`
	Past  []storedView `json:"past,omitempty"`
}

// storedView is user, workflow, draft and status, in this order.
type storedView [4]string

// encodeViews returns null for the common case: one view, which is the row's.
func encodeViews(r store.Register, row store.Row) (any, error) {
	plain := store.View{User: row.User, Workflow: row.Workflow, Draft: row.Draft, Status: row.Status}
	if len(r.Past) == 0 && len(r.Heads) == 1 && r.Heads[0] == plain {
		return nil, nil
	}
	encode := func(views []store.View) []storedView {
		out := make([]storedView, len(views))
		for i, v := range views {
			out[i] = storedView{storedID(v.User), storedID(v.Workflow), storedID(v.Draft), string(v.Status)}
		}
		return out
	}
	b, err := json.Marshal(storedViews{encode(r.Heads), encode(r.Past)})
	return string(b), err
}

func decodeViews(text string) (heads, past []store.View, err error) {
	var stored storedViews
	if err := json.Unmarshal([]byte(text), &stored); err != nil {
		return nil, nil, fmt.Errorf("the column views holds %q: %w", text, err)
	}
	decode := func(in []storedView) []store.View {
		var out []store.View
		for _, v := range in {
			view := store.View{Status: store.Status(v[3])}
			for i, id := range []*store.ID{&view.User, &view.Workflow, &view.Draft} {
				switch v[i] {
				case "":
				case absent:
					*id = store.Absent
				default:
					err = errors.Join(err, id.Scan(v[i]))
				}
			}
			out = append(out, view)
		}
		return out
	}
	heads, past = decode(stored.Heads), decode(stored.Past)
	return heads, past, err
}

// absent is [store.Absent] in a view, where "" is null.
const absent = "\x00"

func storedID(id store.ID) string {
	if id == store.Absent {
		return absent
	}
	return id.String()
}

// nullIf is the value, and null where a condition holds.
func nullIf(null bool, value any) any {
	if null {
		return nil
	}
	return value
}

func nullID(id store.ID) any        { return nullIf(id.IsZero(), id.String()) }
func nullTime(t time.Time) any      { return nullIf(t.IsZero(), t.UnixMicro()) }
func nullMillis(m store.Millis) any { return nullIf(!m.Valid, m.MS) }

func timeOf(us sql.NullInt64) time.Time {
	if !us.Valid {
		return time.Time{}
	}
	return time.UnixMicro(us.Int64).UTC()
}
