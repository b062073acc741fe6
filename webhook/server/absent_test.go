package server

import (
	"net/http"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/edgaze-ai/runcounter/webhook/users"
)

// tablesWithout have no column for what runs are counted by.
var tablesWithout = map[string]map[string]string{
	"workflows": {"id": "id", "user_id": "user_id", "status": "status", "completed_at": "completed_at"},
	"users":     {"id": "id", "workflow_id": "workflow_id", "status": "status", "completed_at": "completed_at"},
}

// TestCaseR9R14_TheWayOfARunWithoutAWorkflowOrAUser: heard, begun, counted, watched
// and shown, without either being named.
func TestCaseR9R14_TheWayOfARunWithoutAWorkflowOrAUser(t *testing.T) {
	t.Parallel()
	for without, c := range map[string]struct {
		query, wrong, body, wrongBody, want, path string
	}{
		"workflows": {"user_id=" + user, "user_id=" + user + "&workflow_id=" + workflow, `{"user_id":"` + user + `"}`, `{"user_id":"` + user + `","draft_id":"` + draft + `"}`,
			`"user_id":"` + user + `","workflow_id":null,"draft_id":null,"count":3`, "/counts/" + user + "/all/*"},
		"users": {"workflow_id=" + workflow, "workflow_id=" + workflow + "&user_id=" + user, `{"workflow_id":"` + workflow + `"}`, `{"workflow_id":"` + workflow + `","user_id":"` + user + `"}`,
			`"user_id":null,"workflow_id":"` + workflow + `","draft_id":null,"count":3`, "/counts/*/workflow/" + workflow},
	} {
		t.Run("without "+without, func(t *testing.T) {
			t.Parallel()
			r := withConsole(t, func(cfg *Config) {
				cfg.Decoder.Columns = tablesWithout[without]
				all := cfg.Store.(*gated).Store.(reader)
				cfg.Reader, cfg.Letters = all, all
			})
			r.deliver(completed(901))
			begun := r.api("POST", "/v1/runs", c.body)
			if begun.status != http.StatusCreated {
				t.Fatalf("begin: got %d %s", begun.status, begun.body)
			}
			if got := r.api("POST", begun.header.Get("Location")+"/complete", `{"status":"failed"}`); got.status != 200 || !strings.Contains(string(got.body), `"count":3`) {
				t.Errorf("complete: got %d %s, want the count 3", got.status, got.body)
			}
			if got := r.api("GET", "/v1/counts?"+c.query, ""); got.status != 200 || !strings.Contains(string(got.body), c.want) {
				t.Errorf("count: got %d %s, want %s", got.status, got.body, c.want)
			}
			if name, count := r.stream(apiKey, c.query).next(); name != "count" || count != 3 {
				t.Errorf("stream: got %q and %d, want a count of 3", name, count)
			}
			for what, got := range map[string]reply{
				"a count": r.api("GET", "/v1/counts?"+c.wrong, ""), "a stream": r.api("GET", "/v1/counts/stream?"+c.wrong, ""), "a run": r.api("POST", "/v1/runs", c.wrongBody),
			} {
				if got.status != 400 || !strings.Contains(got.problem(t).Detail, "The table has no column that says") {
					t.Errorf("%s of what the table does not have: got %d %s, want 400 and why", what, got.status, got.body)
				}
			}
			if without == "workflows" {
				page := r.api("GET", "/v1/users/"+user+"/counts?max=1", "")
				if !strings.Contains(string(page.body), c.want) {
					t.Errorf("the user's counts: got %s", page.body)
				}
			}
			b := newBrowser(t, r).signIn()
			b.get("/counts").has(c.path, `title="–"`)
			b.get(c.path).has("What is stored equals the runs", "–")
			b.get(c.path+"/recount").has("Recount?", "–")
		})
	}
}

// TestCaseLaw7_NoUserReadsTheCountsOfATableWithoutUsers by naming nobody.
func TestCaseLaw7_NoUserReadsTheCountsOfATableWithoutUsers(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	key, public := ecKey(t, "ec")
	p.publish(public)
	r := withUsers(t, p, users.Config{}, func(cfg *Config) { cfg.Decoder.Columns = tablesWithout["users"] })
	r.deliver(completed(1))
	token := signed(t, jwt.SigningMethodES256, key, good(p.issuer(), nil), map[string]any{"kid": "ec"})
	for _, path := range []string{ownCount, "/v1/counts/stream?workflow_id=" + workflow} {
		if got := r.as(token, path); got.status != http.StatusForbidden {
			t.Errorf("%s: got %d %s, want 403", path, got.status, got.body)
		}
	}
}
