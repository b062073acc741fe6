package api

import (
	"fmt"
	"strings"
	"testing"
)

// What is read and not described would never be there: a request that brings it is refused.
func TestAHandlerReadsWhatIsDescribedAlone(t *testing.T) {
	f := objectOf([]byte(`{"limit":3}`), []param{{name: "limit", schema: aNumber}})
	if n := f.number("limit"); f.err != nil || n == nil || *n != 3 {
		t.Errorf("got %v, %v; want 3", n, f.err)
	}
	defer func() {
		if said := fmt.Sprint(recover()); !strings.Contains(said, "limits is read and not described") {
			t.Errorf("got %s, want the name", said)
		}
	}()
	f.number("limits")
}

// Every described address can be asked: no two are one to the router.
func TestEachAddressIsDescribedOnce(t *testing.T) {
	seen := map[string]string{}
	for _, endpoints := range [][]endpoint{forUsers, forKeys, forLetters} {
		for _, e := range endpoints {
			at := e.method + " " + e.route()
			if other := seen[at]; other != "" {
				t.Errorf("%s and %s are both %s", other, e.id, at)
			}
			seen[at] = e.id
			if e.answer == nil && e.events == nil || e.summary == "" || e.handle == nil {
				t.Errorf("%s lacks its answer, its summary or its handler", e.id)
			}
		}
	}
}
