package server

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
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
