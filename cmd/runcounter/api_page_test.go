package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/webhook/api"
)

// docs/api.md names each request of the OpenAPI document, and no other below /v1.
func TestTheAPIPageNamesEveryRequest(t *testing.T) {
	t.Parallel()
	var doc struct {
		Paths map[string]map[string]struct{}
	}
	if err := json.Unmarshal(api.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	// The row of dead letters writes its address once.
	page := regexp.MustCompile("(`[A-Z]+ )…").ReplaceAllString(mustReadFile(t, top+"/docs/api.md"), "$1/v1/dead-letters")
	page = strings.ReplaceAll(page, "or `/functions", "or `POST /functions")
	named := map[string]bool{}
	for _, found := range regexp.MustCompile("`((?:GET|POST|DELETE) /(?:v1|webhooks|functions)[^?` ]*)").FindAllStringSubmatch(page, -1) {
		named[found[1]] = true
	}
	for path, methods := range doc.Paths {
		for method := range methods {
			request := strings.ToUpper(method) + " " + path
			if !named[request] {
				t.Errorf("docs/api.md does not name %s", request)
			}
			delete(named, request)
		}
	}
	for request := range named {
		t.Errorf("docs/api.md names %s, which is not described", request)
	}
}
