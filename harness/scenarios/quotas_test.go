package scenarios

import (
	"context"
	"fmt"
	"math"

	"github.com/edgaze-ai/runcounter/harness"
	pg "github.com/edgaze-ai/runcounter/harness/postgres"
)

// flow is the column of runs that says which workflow ran; the others are those of the
// world without workflows.
const flow = updatedAt + 1

// november begins a month: what ended before it did so in October.
const november int64 = 97

var (
	key11 = whose{1, 1}
	key12 = whose{1, 2}
	user1 = whose{user: 1}
	user2 = whose{user: 2}
	flow1 = whose{flow: 1}
)

// quotaWorld is what each scenario of limits begins with. Run 1 has been silent since
// October, run 2 has not; run 3 ended in October, run 4 in November.
func quotaWorld() []pg.Table {
	return []pg.Table{
		{Name: "runs", Columns: []string{"id", "user_id", "status", "completed_at", "updated_at", "flow"}, Key: 1, Rows: []row{
			{int64(1), int64(1), running, nil, int64(90), int64(1)},
			{int64(2), int64(1), pending, nil, int64(99), int64(2)},
			{int64(3), int64(1), completed, int64(50), int64(50), int64(1)},
			{int64(4), int64(2), completed, int64(98), int64(98), int64(1)},
		}},
		{Name: "keys", Columns: []string{"user_id", "flow"}, Key: 2, Rows: []row{{int64(1), int64(0)}, {int64(1), int64(1)}, {int64(1), int64(2)}, {int64(2), int64(1)}}},
		{Name: "counts", Columns: []string{"user_id", "flow", "n"}, Key: 2, Rows: []row{{int64(1), int64(1), int64(0)}, {int64(1), int64(2), int64(0)}, {int64(2), int64(1), int64(0)}}},
		{Name: "ledger", Columns: []string{"user_id", "flow", "d"}, Rows: []row{{int64(1), int64(1), int64(1)}, {int64(2), int64(1), int64(1)}}},
		{Name: "totals", Columns: []string{"flow", "n"}, Key: 1, Rows: []row{{int64(1), int64(0)}, {int64(2), int64(0)}}},
		{Name: "presumed", Columns: []string{"run_id", "ended_at"}, Key: 1},
		{Name: "grants", Columns: []string{"user_id", "k", "flow", "runs", "granted_at", "revoked"}, Types: []string{"bigint", "bigint", "bigint", "bigint", "bigint", "boolean"}, Key: 2},
		{Name: "months", Columns: []string{"user_id", "flow", "month", "n"}, Rows: []row{{int64(1), int64(1), int64(0), int64(1)}, {int64(2), int64(1), int64(1), int64(1)}}},
	}
}

// Columns of grants.
const (
	grantUser = iota
	grantKey
	grantFlow
	grantRuns
	grantAt
	grantRevoked
)

// quotas is what the product does of scopes, windows, limits and grants, statement by
// statement. Windows are counted from the runs: the table months is for those who don't.
type quotas struct {
	begin     func(ctx context.Context, s *session, run int64, of whose, key, user, from int64) (began bool, err error)
	complete  func(ctx context.Context, s *session, run, as, at int64) error
	sweep     func(ctx context.Context, s *session) error
	handOver  func(ctx context.Context, s *session, run, to int64) error
	remove    func(ctx context.Context, s *session, run int64) error
	reopen    func(ctx context.Context, s *session, run int64) error
	fold      func(ctx context.Context, s *session, of whose) error
	recount   func(ctx context.Context, s *session, of whose) error
	grant     func(ctx context.Context, s *session, k int64, of whose, runs int64) error
	revoke    func(ctx context.Context, s *session, by, k int64) error
	count     func(ctx context.Context, s *session, of whose) (int64, error)
	window    func(ctx context.Context, s *session, of whose, from, to int64) (int64, error)
	allowance func(ctx context.Context, s *session, b bound) (used, granted int64, err error)

	grantedTwice bool // nothing keeps grants with one idempotency key apart
}

func ourQuotas() quotas {
	return quotas{
		begin: beginUnder, complete: completeOf, sweep: sweepOf, handOver: handOverOf, remove: removeOf, reopen: reopenOf,
		fold: foldOf, recount: recountOf, grant: grantOnce, revoke: revokeGrant, count: countOf, window: windowOf, allowance: allowanceOf,
	}
}

func (y quotas) world(grants ...row) []pg.Table {
	w := quotaWorld()
	for i := range w {
		if w[i].Name == "grants" {
			w[i].Rows = grants
			if y.grantedTwice {
				w[i].Key = 0
			}
		}
	}
	return w
}

// The parts of statements: what they say and mean.

func (w whose) sql() string {
	switch {
	case w.flow == 0:
		return fmt.Sprintf("user_id = %d", w.user)
	case w.user == 0:
		return fmt.Sprintf("flow = %d", w.flow)
	}
	return fmt.Sprintf("user_id = %d and flow = %d", w.user, w.flow)
}

func (w whose) ran(r row) bool   { return w.has(r[user].(int64), r[flow].(int64)) }
func (w whose) keyed(r row) bool { return w.has(r[0].(int64), r[1].(int64)) } // of keys, counts and ledger

// storedSQL is what the counts and the ledger say.
func (w whose) storedSQL() string {
	return `(coalesce((select sum(n) from counts where ` + w.sql() + `), 0) + coalesce((select sum(d) from ledger where ` + w.sql() + `), 0))::bigint`
}

func (w whose) stored(q *query) int64 {
	return sumOf(q.Select("counts", w.keyed)) + sumOf(q.Select("ledger", w.keyed))
}

func sumOf(rows []row) (n int64) {
	for _, r := range rows {
		n += r[2].(int64)
	}
	return n
}

func (w whose) windowSQL(from, to int64) string {
	return fmt.Sprintf(`(select count(*) from runs where %s and status >= 2 and completed_at >= %d and completed_at < %d)`, w.sql(), from, to)
}

func (w whose) windowed(q *query, from, to int64) int64 {
	return q.Count("runs", func(r row) bool {
		return w.ran(r) && ended(r) && r[completedAt].(int64) >= from && r[completedAt].(int64) < to
	})
}

func (w whose) activeSQL() string {
	return `(select count(*) from runs where ` + w.sql() + ` and completed_at is null)`
}

func (w whose) active(q *query) int64 {
	return q.Count("runs", func(r row) bool { return w.ran(r) && r[completedAt] == nil })
}

func (b bound) countedSQL() string {
	if b.from == 0 {
		return b.of.storedSQL()
	}
	return b.of.windowSQL(b.from, math.MaxInt64)
}

func (b bound) counted(q *query) int64 {
	if b.from == 0 {
		return b.of.stored(q)
	}
	return b.of.windowed(q, b.from, math.MaxInt64)
}

func (b bound) grantedSQL() string {
	return fmt.Sprintf(`(select coalesce(sum(runs), 0)::bigint from grants where %s and not revoked and granted_at >= %d)`, b.of.sql(), b.from)
}

func (b bound) granted(q *query) (n int64) {
	for _, g := range q.Select("grants", func(g row) bool {
		return b.of.has(g[grantUser].(int64), g[grantFlow].(int64)) && !g[grantRevoked].(bool) && g[grantAt].(int64) >= b.from
	}) {
		n += g[grantRuns].(int64)
	}
	return n
}

// moment is what the model has, as the oracles see it.
func (y quotas) moment(db *pg.ReadCommitted) (m moment) {
	all := db.Contents()
	for _, r := range all["runs"] {
		at, _ := r[completedAt].(int64)
		m.runs = append(m.runs, ran{r[id].(int64), r[user].(int64), r[flow].(int64), ended(r), at})
	}
	for _, g := range all["grants"] {
		m.grants = append(m.grants, gave{whose{g[grantUser].(int64), g[grantFlow].(int64)}, g[grantRuns].(int64), g[grantAt].(int64), g[grantRevoked].(bool)})
	}
	return m
}

// laws are the oracles of every scenario of limits.
func (y quotas) laws(s *harness.Sim, db *pg.ReadCommitted) *moments {
	s.Always("law 1: the counts of all scopes equal the ended runs", func() error { return exactScopes(db.Contents()) })
	s.Show("used", func() string {
		m := y.moment(db)
		return fmt.Sprintf("%d of user 1 · %d in November", m.used(bound{of: user1}, anyRun), m.used(bound{of: user1, from: november}, anyRun))
	})
	return watch(s, true, func() (moment, error) { return y.moment(db), nil })
}

// exactScopes compares each key, and each workflow's total, with the runs.
func exactScopes(all map[string][]row) error {
	for _, k := range all["keys"] {
		of, stored, actual := whose{k[0].(int64), k[1].(int64)}, int64(0), int64(0)
		if of.flow == 0 {
			continue
		}
		for _, table := range []string{"counts", "ledger"} {
			for _, r := range all[table] {
				if of.keyed(r) {
					stored += r[2].(int64)
				}
			}
		}
		for _, r := range all["runs"] {
			if of.ran(r) && ended(r) {
				actual++
			}
		}
		if stored != actual {
			return fmt.Errorf("workflow %d of user %d: count %d, runs %d", of.flow, of.user, stored, actual)
		}
	}
	for _, t := range all["totals"] {
		folded := int64(0)
		for _, r := range all["counts"] {
			if r[1] == t[0] {
				folded += r[2].(int64)
			}
		}
		if t[1] != folded {
			return fmt.Errorf("workflow %d has a total of %d, and its counts are %d", t[0], t[1], folded)
		}
	}
	return nil
}
