package server

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/wait"
	"github.com/edgaze-ai/runcounter/store"
)

func TestTheConsoleSaysThatTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	var away atomic.Bool
	r := withConsole(t, func(c *Config) {
		c.Store.(*gated).pings = func() error {
			if away.Load() {
				return store.ErrUnavailable
			}
			return nil
		}
	})
	b := newBrowser(t, r).signIn()
	away.Store(true)
	wait.Until(t, "it is noticed", func() bool { return strings.Contains(b.get("/").html, "Not ready") })
}

func TestEventsOfTheConsole(t *testing.T) {
	t.Parallel()
	r := withConsole(t, nil)
	b := newBrowser(t, r).signIn()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.base+"/console/events?key="+user+"/workflow/"+workflow, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := b.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	next := func() (n struct{ Count int64 }) {
		buffer := make([]byte, 4096)
		for text := ""; ; {
			k, err := res.Body.Read(buffer)
			text += string(buffer[:k])
			if _, data, ok := strings.Cut(text, "data: "); ok {
				var event struct{ Count *int64 }
				line, rest, _ := strings.Cut(data, "\n")
				if err := json.Unmarshal([]byte(line), &event); err != nil {
					t.Fatal(err)
				}
				if event.Count != nil {
					n.Count = *event.Count
					return n
				}
				text = rest // a sign of life
				continue
			}
			if err != nil {
				t.Fatalf("%v after %q", err, text)
			}
		}
	}
	before := next().Count
	r.deliver(completed(777))
	if got := next().Count; got != before+1 {
		t.Errorf("got %d, want %d", got, before+1)
	}
}

func TestARefusedVisitorIsShownNothing(t *testing.T) {
	t.Parallel()
	r := withConsole(t, func(c *Config) { c.APIKeys, c.Loopback = nil, true })
	got := r.bare("GET", "/counts", "Origin: https://evil.example.com", "Accept: text/html")
	if got.status != http.StatusForbidden || strings.Contains(got.body, "runcounter.db") || strings.Contains(got.body, "csrf") {
		t.Errorf("got %d %s", got.status, got.body)
	}
}
