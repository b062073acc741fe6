package server

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/store"
)

const newGrant = "/grants/new?of=" + user + "%2Fworkflow%2F" + workflow

func TestGrantsInTheConsole(t *testing.T) {
	t.Parallel()
	r := withConsole(t, nil)
	b := newBrowser(t, r).signIn()
	b.get(newGrant)
	once := regexp.MustCompile(`name="once" value="([^"]+)"`).FindStringSubmatch(b.html)[1]
	for range 2 { // a form that is sent twice gives once
		b.get(newGrant).send("/grants", "of", user+"/workflow/"+workflow, "once", once, "runs", "7", "until", "9000-01-01T12:30", "why", "a  present")
		b.has("The runs are granted", "7 on top of the limit", "by Ada (API key): a present", "9000-01-01 12:30:00 UTC", "/grants/4/revoke")
	}
	b.get("/grants/4/revoke").send("/grants/4/revoke", "why", "too many")
	b.has("The grant is revoked", "by Ada (API key): too many")
	if strings.Contains(b.html, "/grants/4/revoke") || strings.Contains(b.html, "/grants/5/revoke") {
		t.Errorf("a revoked grant can be revoked, or there are two:\n%s", b.html)
	}
	b.get("/grants/new?of="+user).send("/grants", "of", user, "once", "2", "runs", "1", "why", "x")
	b.has("The runs are granted", "all runs")
	if b.do("POST", "/grants", url.Values{"csrf": {"x"}, "of": {user}, "once": {"2"}, "runs": {"2"}, "why": {"x"}}); b.status != 403 {
		t.Errorf("a form without its token: %d, want 403", b.status)
	}
	csrf := b.get("/sweep").csrf()
	for name, form := range map[string]url.Values{
		"no runs":       {"of": {user}, "runs": {"0"}, "why": {"x"}},
		"no reason":     {"of": {user}, "runs": {"1"}},
		"nobody":        {"of": {""}, "runs": {"1"}, "why": {"x"}},
		"expired":       {"of": {user}, "runs": {"1"}, "why": {"x"}, "until": {"2020-01-01T00:00"}},
		"until no time": {"of": {user}, "runs": {"1"}, "why": {"x"}, "until": {"soon"}},
	} {
		form.Set("csrf", csrf)
		form.Set("once", name)
		if b.do("POST", "/grants", form); b.status != 400 {
			t.Errorf("%s: got %d, want 400", name, b.status)
		}
	}
	for path, want := range map[string]int{"/grants/1/revoke": 400, "/grants/x/revoke": 400, "/grants/404/revoke": 404} {
		form := url.Values{"csrf": {csrf}}
		if want == 404 {
			form.Set("why", "x")
		}
		if b.do("POST", path, form); b.status != want {
			t.Errorf("POST %s: got %d, want %d", path, b.status, want)
		}
	}
	if b.do("POST", "/grants", url.Values{"csrf": {csrf}, "of": {user}, "once": {"2"}, "runs": {"9"}, "why": {"x"}}); b.status != 409 {
		t.Errorf("a form that was sent with other runs: %d, want 409", b.status)
	}
	for _, what := range []string{"runs were granted", "a grant was revoked"} {
		if !regexp.MustCompile(`console: ` + what + `".* who="Ada \(API key\)"`).MatchString(r.log.String()) {
			t.Errorf("the log doesn't say who: %s", what)
		}
	}
}

// The console gives what the API gives: in a table without workflows all runs of a user
// are one count, and in one without users there is no one to give to but all.
func TestTheConsoleGrantsWhatTheTableCounts(t *testing.T) {
	t.Parallel()
	for without, c := range map[string]struct {
		of, leads, body string
		refused         []string
	}{
		"workflows": {user, "/counts/" + user + "/all/*", `{"user_id":"` + user + `","runs":1,"who":"ada","why":"x"}`, []string{user + "/workflow/" + workflow, user + "/draft/" + draft}},
		"users":     {"*/workflow/" + workflow, "/counts/*/workflow/" + workflow, `{"workflow_id":"` + workflow + `","runs":1,"who":"ada","why":"x"}`, []string{user, user + "/workflow/" + workflow}},
		"nothing":   {user, "/grants?user=" + user, `{"user_id":"` + user + `","runs":1,"who":"ada","why":"x"}`, []string{user + "/all/*", "*/workflow/" + workflow, "*"}},
	} {
		t.Run("without "+without, func(t *testing.T) {
			t.Parallel()
			r := withConsole(t, func(cfg *Config) {
				cfg.Decoder.Columns = tablesWithout[without]
				all := cfg.Store.(*gated).Store.(reader)
				cfg.Reader, cfg.Letters = all, all
			})
			b := newBrowser(t, r).signIn()
			b.get("/grants/new?of="+url.QueryEscape(c.of)).send("/grants", "of", c.of, "once", "1", "runs", "1", "why", "x")
			b.has("The runs are granted")
			if at := strings.NewReplacer("?done=granted", "", "&done=granted", "").Replace(b.at); at != c.leads {
				t.Errorf("a grant of %s leads to %s, want %s", c.of, b.at, c.leads)
			}
			given := latestGrant(t, r)
			if got := r.api("POST", "/v1/grants", c.body); got.status != 201 {
				t.Fatalf("the API: got %d %s", got.status, got.body)
			}
			if want := latestGrant(t, r); given.Of != want.Of {
				t.Errorf("the console gives to %+v, the API to %+v", given.Of, want.Of)
			}
			csrf := b.get("/sweep").csrf()
			for _, of := range c.refused {
				if b.get("/grants/new?of=" + url.QueryEscape(of)); b.status != 400 {
					t.Errorf("the form for %s: got %d, want 400", of, b.status)
				}
				if b.do("POST", "/grants", url.Values{"csrf": {csrf}, "of": {of}, "once": {of}, "runs": {"1"}, "why": {"x"}}); b.status != 400 {
					t.Errorf("a grant of %s: got %d, want 400", of, b.status)
				}
			}
		})
	}
}

func latestGrant(t *testing.T, r *rig) store.Grant {
	t.Helper()
	grants, err := r.store.Store.(store.Granter).Grants(t.Context(), store.GrantQuery{Limit: 1})
	if err != nil || len(grants) != 1 {
		t.Fatalf("the grants: got %v, %v", grants, err)
	}
	return grants[0]
}
