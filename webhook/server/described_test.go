package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/edgaze-ai/runcounter/webhook/api"
)

// description is the OpenAPI document as its reader has it. Every answer that the tests of
// this package get is held against it, and every request that was accepted.
type description struct {
	doc map[string]any

	mu       sync.Mutex
	compiled map[string]*jsonschema.Schema
	open     *jsonschema.Compiler
	closed   *jsonschema.Compiler // takes no member that is not described
}

const documentURL = "mem:///openapi.json"

var readDescription = sync.OnceValue(func() *description {
	d := &description{compiled: map[string]*jsonschema.Schema{}}
	d.open, d.doc = compilerOf(api.OpenAPI(), false)
	d.closed, _ = compilerOf(api.OpenAPI(), true)
	return d
})

func compilerOf(document []byte, closed bool) (*jsonschema.Compiler, map[string]any) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		panic(err)
	}
	if closed {
		closeObjects(doc)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(documentURL, doc); err != nil {
		panic(err)
	}
	return c, doc.(map[string]any)
}

// closeObjects makes each schema with properties take no others. A client's copy stays
// open: a later version may answer with more.
func closeObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, object := v["properties"]; object {
			v["additionalProperties"] = false
		}
		for _, member := range v {
			closeObjects(member)
		}
	case []any:
		for _, element := range v {
			closeObjects(element)
		}
	}
}

// at returns what stands at a place of the document, and the place with all references
// followed.
func (d *description) at(place ...string) (any, []string) {
	var v any = d.doc
	for i, name := range place {
		object, _ := v.(map[string]any)
		v = object[name]
		if next, ok := v.(map[string]any); ok {
			if ref, refers := next["$ref"].(string); refers {
				return d.at(append(strings.Split(strings.TrimPrefix(ref, "#/"), "/"), place[i+1:]...)...)
			}
		}
	}
	return v, place
}

// valid reports how a value differs from the schema at a place.
func (d *description) valid(value any, closed bool, place ...string) error {
	d.mu.Lock()
	escaped := ""
	for _, name := range place {
		escaped += "/" + url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(name))
	}
	compiler, key := d.open, escaped
	if closed {
		compiler, key = d.closed, "closed "+escaped
	}
	schema := d.compiled[key]
	if schema == nil {
		var err error
		if schema, err = compiler.Compile(documentURL + "#" + escaped); err != nil {
			d.mu.Unlock()
			return fmt.Errorf("the schema itself: %w", err)
		}
		d.compiled[key] = schema
	}
	d.mu.Unlock()
	return schema.Validate(value)
}

// validJSON is valid for a text.
func (d *description) validJSON(text []byte, closed bool, place ...string) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return d.valid(value, closed, place...)
}

// operation returns the place of the operation that an address is of, and the values of
// its path; nil where none is described.
func (d *description) operation(method, path string) (place []string, values map[string]string) {
	paths := d.doc["paths"].(map[string]any)
	for _, literally := range [...]bool{true, false} {
		for template, item := range paths {
			if _, ok := item.(map[string]any)[strings.ToLower(method)]; !ok || literally != (template == path) {
				continue
			}
			names := regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(template, -1)
			pattern := regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(template), `([^/]+)`)
			if found := regexp.MustCompile("^" + pattern + "$").FindStringSubmatch(path); found != nil {
				values = map[string]string{}
				for i, name := range names {
					values[name[1]], _ = url.PathUnescape(found[i+1])
				}
				return []string{"paths", template, strings.ToLower(method)}, values
			}
		}
	}
	return nil, nil
}

// undescribed are the statuses that the default describes, with what causes them.
var undescribed = map[int]string{
	http.StatusMethodNotAllowed:            "the method is another operation, or none",
	http.StatusRequestHeaderFieldsTooLarge: "the HTTP server answers before it knows the address",
	http.StatusInternalServerError:         "a fault of ours",
	http.StatusNotImplemented:              "a method that HTTP does not have",
}

// largestChecked bounds what is read again to be held against the document, in bytes:
// some tests measure what a delivery of many megabytes costs.
const largestChecked = 1 << 20

// check holds one exchange against the document. It is called for all that the tests of
// this package send; what is not of /v1 and no delivery is not described.
func (d *description) check(method, target, body string, got reply) error {
	path, query, _ := strings.Cut(target, "?")
	place, values := d.operation(method, path)
	if place == nil {
		if strings.HasPrefix(path, "/v1/") && got.status < 300 && method != http.MethodHead && method != http.MethodOptions {
			return fmt.Errorf("%s %s is served and not described", method, path)
		}
		return nil
	}
	if err := d.checkAnswer(place, got); err != nil {
		return fmt.Errorf("%s %s answered %d %s\nwhich differs from the OpenAPI document: %w", method, target, got.status, got.body, err)
	}
	if got.status >= 300 || bytes.Contains(got.body, []byte(`"refused":`)) {
		return nil
	}
	if err := d.checkRequest(place, values, query, body); err != nil {
		return fmt.Errorf("%s %s with %.2000s was accepted, and differs from the OpenAPI document: %w", method, target, body, err)
	}
	return nil
}

func (d *description) checkAnswer(operation []string, got reply) error {
	status := strconv.Itoa(got.status)
	response, place := d.at(append(operation, "responses", status)...)
	if response == nil {
		if _, excused := undescribed[got.status]; !excused {
			return fmt.Errorf("the status is not described")
		}
		response, place = d.at(append(operation, "responses", "default")...)
	}
	headers, _ := response.(map[string]any)["headers"].(map[string]any)
	for name := range headers {
		if got.header.Get(name) == "" {
			return fmt.Errorf("the header %s is missing", name)
		}
		err := asText(got.header.Get(name), func(v any) error { return d.valid(v, true, append(place, "headers", name, "schema")...) })
		if err != nil {
			return fmt.Errorf("the header %s: %w", name, err)
		}
	}
	kind := got.header.Get("Content-Type")
	if content, _ := d.at(append(place, "content", kind)...); content == nil {
		return fmt.Errorf("the media type %q is not described", kind)
	}
	if kind == "text/event-stream" || len(got.body) > largestChecked {
		return nil
	}
	return d.validJSON(got.body, true, append(place, "content", kind, "schema")...)
}

func (d *description) checkRequest(operation []string, values map[string]string, query, body string) error {
	given, err := url.ParseQuery(query)
	if err != nil {
		return err
	}
	listed, place := d.at(append(operation, "parameters")...)
	parameters, _ := listed.([]any)
	known := map[string]bool{}
	for _, one := range parameters {
		p := one.(map[string]any)
		name, _ := p["name"].(string)
		known[name] = known[name] || p["in"] == "query"
		if err := d.checkParameter(p, values, given); err != nil {
			return fmt.Errorf("%v %s: %w", place, name, err)
		}
	}
	for name := range given {
		if !known[name] && operation[2] != "post" {
			return fmt.Errorf("the parameter %s is not described", name)
		}
	}
	if asked, _ := d.at(append(operation, "requestBody")...); asked != nil && len(body) <= largestChecked {
		if required, _ := asked.(map[string]any)["required"].(bool); body == "" && !required {
			return nil
		}
		return d.validJSON([]byte(body), false, append(operation, "requestBody", "content", "application/json", "schema")...)
	}
	return nil
}

// checkParameter validates the values of a parameter of the path or the query.
func (d *description) checkParameter(p map[string]any, values map[string]string, query url.Values) error {
	name, _ := p["name"].(string)
	texts := query[name]
	switch p["in"] {
	case "header":
		return nil
	case "path":
		texts = []string{values[name]}
	}
	if required, _ := p["required"].(bool); len(texts) == 0 {
		if required {
			return fmt.Errorf("it is missing")
		}
		return nil
	}
	schema := maps.Clone(p["schema"].(map[string]any))
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("mem:///parameter.json", schema); err != nil {
		return err
	}
	compiled, err := c.Compile("mem:///parameter.json")
	if err != nil {
		return err
	}
	// A text of digits may be meant as a number.
	if schema["type"] == "array" {
		all := []any{}
		for _, text := range texts {
			all = append(all, text)
		}
		return compiled.Validate(all)
	}
	if len(texts) > 1 {
		return fmt.Errorf("it is given more than once")
	}
	return asText(texts[0], compiled.Validate)
}

// asText validates what a query or a header holds: a text, which may be meant as a number.
func asText(text string, validate func(any) error) error {
	err := validate(text)
	if _, number := strconv.ParseInt(text, 10, 64); err != nil && number == nil {
		return validate(json.Number(text))
	}
	return err
}

// described fails the test where an exchange differs from the document. A rig without
// a server asks a listener that serves no API.
func (r *rig) described(method, target, body string, got reply) {
	r.t.Helper()
	if r.server == nil {
		return
	}
	if err := readDescription().check(method, target, body, got); err != nil {
		r.t.Error(err)
	}
}
