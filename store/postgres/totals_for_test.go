package postgres

import (
	"errors"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
)

// TestWhoMayCountWhat asks for each kind of count as each caller, while totals are for
// the server, for users and for everyone. Nobody is told of another user.
func TestWhoMayCountWhat(t *testing.T) {
	t.Parallel()
	address := mustApp(t)
	windows(t, address)
	calls := []struct{ name, sql, who string }{
		{"all users' runs", `select get_workflow_run_count(p_workflow_id => '` + adaFlow + `')`, "totals"},
		{"all users' drafts", `select get_workflow_run_count(p_draft_id => '` + adaFlow + `')`, "server"},
		{"all users' runs in a window", `select get_workflow_run_count(p_workflow_id => '` + adaFlow + `', p_from => '2026-01-01')`, "server"},
		{"all users' runs until then", `select get_workflow_run_count(p_workflow_id => '` + adaFlow + `', p_to => '2026-01-01')`, "server"},
		{"bob's runs", `select get_workflow_run_count('` + bob + `')`, "bob"},
		{"bob's runs in a window", `select get_workflow_run_count('` + bob + `', p_from => '2026-01-01')`, "bob"},
		{"bob's runs of a workflow in a window", `select get_workflow_run_count('` + bob + `', '` + bobFlow + `', p_to => now())`, "bob"},
		{"ada's runs", `select get_workflow_run_count('` + ada + `')`, "server"},
		{"ada's runs of a workflow", `select get_workflow_run_count('` + ada + `', '` + adaFlow + `')`, "server"},
		{"bob's allowance", `select remaining from get_workflow_run_allowance('` + bob + `', '` + bobFlow + `', p_limit => 10, p_user_limit => 20)`, "bob"},
		{"ada's allowance", `select remaining from get_workflow_run_allowance('` + ada + `', '` + adaFlow + `', p_limit => 10)`, "server"},
		{"nobody's allowance", `select remaining from get_workflow_run_allowance(null, '` + adaFlow + `', p_limit => 10)`, "nobody"},
		{"a grant", `select grant_workflow_runs('` + bob + `', 5, 'me', 'I like it')`, "server"},
		{"a grant by the private function", `select run_counter.grant_runs('` + bob + `', 'workflow', '` + bobFlow + `', 5, 'me', 'I like it', null, null)`, "server"},
		{"a grant by hand", `insert into run_counter.grants (user_id, runs, who, why, granted_at) values ('` + bob + `', 5, 'me', 'I like it', now())`, "server"},
		{"a look at grants", `select count(*) from run_counter.grants`, "server"},
		{"the revocation of a grant", `select revoke_workflow_run_grant(1, 'me', 'I like it')`, "server"},
		{"a count by the private function", `select run_counter.counted_of('` + ada + `', ` + nulls(4) + `)`, "server"},
		{"a usage by the private function", `select run_counter.usage_of('` + ada + `', ` + nulls(4) + `, 1, null, now(), false)`, "server"},
		{"who may ask for totals", `select run_counter.settle_totals_for()`, "nobody"},
	}
	// A window over all users is for the server, whatever totals_for says.
	may := map[string]map[string][]string{ // by totals_for, then by what a call is about
		"keys":     {"totals": {"service_role"}},
		"users":    {"totals": {"service_role", "bob"}},
		"everyone": {"totals": {"service_role", "bob", "anon"}},
	}
	c := newCaller(t, address)
	for _, totals := range migrations.TotalsFor() {
		sourcetest.Migrate(t, address, func(m *migrations.Migrator) error {
			m.SetTotalsFor(totals)
			return m.Up()
		})
		allowed := may[totals]
		allowed["bob"], allowed["server"] = []string{"service_role", "bob"}, []string{"service_role"}
		for _, call := range calls {
			for _, role := range []string{"service_role", "bob", "anon"} {
				_, _, err := c.as(role, call.sql)
				var e *pgconn.PgError
				refused := errors.As(err, &e) && (e.Code == "42501" || call.who == "nobody" && e.Code == "22023")
				if want := !slices.Contains(allowed[call.who], role); refused != want || err != nil && !refused {
					t.Errorf("totals for %s: %s asks for %s: got %v, want it refused: %t", totals, role, call.name, err, want)
				}
			}
		}
		i, err := Inspect(t.Context(), address, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if g, err := i.Grants(t.Context()); err != nil || len(g.ToAnon)+len(g.ToUser) > 0 {
			t.Errorf("totals for %s: doctor finds privileges that are too wide: %+v, %v", totals, g, err)
		}
		i.Close()
	}
}
