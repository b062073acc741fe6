package server

import (
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/version"
)

func TestAServerSaysWhichBuildItIs(t *testing.T) {
	t.Parallel()
	r := serve(t, nil)
	build := version.This()
	if got := string(r.do("GET", "/livez", "").body); got != "ok\nruncounter "+build.String()+"\n" {
		t.Errorf("/livez says %q", got)
	}
	want := `runcounter_build_info{goversion="` + build.Go + `",revision="` + build.Revision + `",version="` + build.Version + `"} 1`
	if got := string(r.api("GET", "/metrics", "").body); !strings.Contains(got, want) {
		t.Errorf("/metrics lacks %s", want)
	}
}

func TestTheConsolesFootSaysWhichBuildItIs(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, withConsole(t, nil))
	b.get("/sign-in").send("/sign-in", "name", "Ada", "key", apiKey)
	b.get("/").has("<p>Run Counter " + version.This().String() + "</p>")
}
