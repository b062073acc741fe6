package server

import (
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
	"github.com/edgaze-ai/runcounter/webhook/console"
)

// sourceRuns are runs of an application on Supabase: 60 that ended, some active, some odd.
const sourceRuns = `
insert into auth.users (id, email) values ('` + user + `', 'ada@example.com');
insert into workflow_runs (id, user_id, workflow_id, status, created_at, started_at, completed_at)
select ('00000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, '` + user + `', '` + workflow + `',
       case when i % 20 = 0 then 'on hold' when i % 10 = 0 then 'running' when i % 7 = 0 then 'cancelled' else 'completed' end,
       now() - i * interval '1 hour', now() - i * interval '1 hour', case when i % 10 > 0 then now() - i * interval '1 hour' + interval '1 minute' end
  from generate_series(1, 66) as i`

// TestTheConsoleOfASource: its lists, its run, its count and its search, of a database such
// as Supabase's.
func TestTheConsoleOfASource(t *testing.T) {
	t.Parallel()
	address := pgtest.Supabase(t)
	pgtest.Exec(t, pgtest.Admin(t, address), `alter table auth.users add column if not exists email varchar(255)`, `grant all on auth.users to owner`)
	sourcetest.Migrate(t, address, (*migrations.Migrator).Up)
	pgtest.Exec(t, address, sourceRuns)
	db, err := postgres.Open(t.Context(), address, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	r := serve(t, func(c *Config, _ *limits, g *gated) {
		g.Store, c.Reader, c.Letters, c.Grants = db, db, db, db
		c.Console = &console.Settings{Where: "a database", Source: true, Names: db}
	})
	b := newBrowser(t, r).signIn()
	for path, texts := range map[string][]string{
		"/runs":                          {`active <span class="tab-count">6</span>`, `odd <span class="tab-count">3</span>`},
		"/runs?state=ended&user=" + user: {`ended <span class="tab-count">60</span>`, `rel="next"`},
		"/runs?state=odd":                {"runcounter migrate up --status THEIRS=OURS"},
		"/runs?state=stuck":              {"What the next sweep"},
		"/runs?state=presumed":           {"There are none"},
		"/runs?state=superseded":         {"There are none"},
		"/runs/" + "00000000-0000-4000-8000-000000000001": {"What happened", "Ended completed", "counts the changes of a call"},
		keyPath:         {"By day", "Ended, and not counted", "51 counted of 60"},
		"/dead-letters": {"There are none"},
		"/search?q=ada": {"ada@example.com", "auth.users", `href="/counts?user=` + user + `"`},
		"/search?q=bob": {"no user, workflow or draft has an e-mail"},
	} {
		if b.get(path); b.status != 200 {
			t.Errorf("GET %s: %d", path, b.status)
		}
		b.has(texts...)
	}
	if log := r.log.String(); strings.Contains(log, "ada@example.com") {
		t.Error("an e-mail is in the log")
	}
	t.Run("in Chromium", func(t *testing.T) {
		axe := axeSource(t)
		tab := openTab(t, r)
		tab.signIn()
		for _, path := range []string{"/runs?state=ended&user=" + user, "/runs?state=odd", keyPath, "/search?q=ada", "/runs/00000000-0000-4000-8000-000000000001"} {
			tab.look(path, axe)
		}
	})
}
