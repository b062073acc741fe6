package server

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/store"
)

// namer knows one user and one workflow, as an application's tables do.
type namer struct {
	t              *testing.T
	partly, broken bool
}

func (n namer) FindNamed(_ context.Context, begins string, limit int) (store.Names, error) {
	if n.broken {
		return store.Names{}, errors.New("broken")
	}
	var all store.Names
	for _, one := range []store.Named{{What: "user", Name: "ada@example.com <b>", In: "auth.users"}, {What: "workflow", Name: "Ad hoc", In: "public.flows"}} {
		one.ID = mustID(n.t, map[string]string{"user": user, "workflow": workflow}[one.What])
		if strings.HasPrefix(strings.ToLower(one.Name), strings.ToLower(begins)) && len(all.Found) < limit {
			all.Found = append(all.Found, one)
		}
	}
	all.Partly = n.partly
	return all, nil
}

func TestSearchFindsIDs(t *testing.T) {
	t.Parallel()
	r := withConsole(t, nil)
	b := newBrowser(t, r).signIn()
	idle := "33333333-3333-4333-8333-333333333333"
	r.deliver(inserted(row(700, "running", map[string]any{"user_id": idle, "workflow_id": "cccccccc-cccc-4ccc-8ccc-cccccccccccc"})))
	r.deliver(inserted(row(701, "completed", map[string]any{"id": user}))) // an id of two things
	for asked, want := range map[string]string{
		runID(4):              "/runs/" + runID(4),
		"  " + runID(4) + " ": "/runs/" + runID(4),
		workflow:              "/counts?ref=" + workflow,
		idle:                  "/counts?user=" + idle, // by an active run: no count has it yet
		otherUser:             "/search?q=" + otherUser,
	} {
		if b.get("/search?q=" + url.QueryEscape(asked)); b.at != want {
			t.Errorf("%q: got to %s, want %s\n%s", asked, b.at, want, b.html)
		}
	}
	b.get("/search?q=" + otherUser).has("A mirror knows ids alone")
	b.get("/search?q=" + user)
	b.has(`href="/runs/`+user+`"`, `href="/counts?user=`+user+`"`)
	b.get("/counts")
	b.has(`action="/search"`)
}

// Names are for operators alone (law 7).
func TestSearchFindsNamesForOperatorsAlone(t *testing.T) {
	t.Parallel()
	names := &namer{t: t}
	r := withConsole(t, func(c *Config) { c.Console.Names = names })
	b := newBrowser(t, r).signIn()
	b.get("/search?q=AD")
	b.has("ada@example.com &lt;b&gt;", "auth.users", `href="/counts?user=`+user+`"`, "Ad hoc", `href="/counts?ref=`+workflow+`"`)
	if b.get("/search?q=ada"); b.at != "/search?q=ada" {
		t.Errorf("one name led to %s: a beginning may be that of another, too", b.at)
	}
	b.get("/search?q=nobody")
	b.has("no user, workflow or draft has an e-mail")
	names.partly = true
	b.get("/search?q=AD")
	b.has("There may be more", "Ad hoc")
	names.broken = true
	if b.get("/search?q=AD"); b.status != 500 || strings.Contains(b.html, "broken") {
		t.Errorf("got %d\n%s", b.status, b.html)
	}
	names.broken = false
	if stranger := newBrowser(t, r).get("/search?q=AD"); stranger.at != "/sign-in" || strings.Contains(stranger.html, "example.com") {
		t.Errorf("a stranger got to %s:\n%s", stranger.at, stranger.html)
	}
	if strings.Contains(r.log.String(), "example.com") {
		t.Error("an e-mail is in the log")
	}
}
