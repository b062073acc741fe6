package api

import (
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/gofiber/fiber/v2"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
	"github.com/edgaze-ai/runcounter/webhook/internal/openapi"
	"github.com/edgaze-ai/runcounter/webhook/live"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// apiVersion stands in the paths of the API.
const apiVersion = "1"

// The names of the ways in which callers show who they are.
const (
	byAPIKey        = "apiKey"
	byUserToken     = "userToken"
	byWebhookToken  = "webhookToken"
	byWebhookSecret = "webhookSecret"
	bySignature     = "webhookSignature"
)

var securitySchemes = map[string]openapi.SecurityScheme{
	byAPIKey: {Type: "http", Scheme: "bearer", Description: "One of RUNCOUNTER_API_KEY. It may do everything, and belongs on a server, never in a browser. " +
		"A server without any listens on loopback alone, and asks for none."},
	byUserToken: {Type: "http", Scheme: "bearer", BearerFormat: "JWT",
		Description: "The access token of a signed-in user of the Supabase project, who may read their own counts."},
	byWebhookToken:  {Type: "http", Scheme: "bearer", Description: "A token of RUNCOUNTER_WEBHOOK_SECRET."},
	byWebhookSecret: {Type: "apiKey", In: "header", Name: "x-webhook-secret", Description: "The same token, in a header of its own."},
	bySignature: {Type: "apiKey", In: "header", Name: "webhook-signature",
		Description: "v1,BASE64 of the HMAC-SHA256 over ID.TIMESTAMP.BODY by a key whsec_… of RUNCOUNTER_WEBHOOK_SECRET, as Standard Webhooks has it; " +
			"several are separated by blanks. It needs the headers webhook-id and webhook-timestamp."},
}

// schemas returns what the types that write their own JSON write.
func schemas() *openapi.Schemas {
	return &openapi.Schemas{
		Written: map[reflect.Type]openapi.Schema{
			reflect.TypeFor[store.ID]():     {"type": []string{"string", "null"}, "maxLength": store.MaxID},
			reflect.TypeFor[store.Status](): {"type": "string", "description": "One of the seven statuses, or another word that the table has.", "examples": statuses},
			reflect.TypeFor[store.Millis](): {"type": []string{"integer", "null"}, "minimum": 0, "maximum": store.MaxMillis, "description": "Milliseconds."},
			reflect.TypeFor[store.JSON]():   {"description": "Any JSON, as it was sent."},
			reflect.TypeFor[Instant]():      {"type": []string{"string", "null"}, "format": "date-time", "description": "In UTC, with microseconds."},
		},
		Names: map[reflect.Type]string{
			reflect.TypeFor[webhook.Answer]():  "DeliveryAnswer",
			reflect.TypeFor[problem.Usage]():   "LimitUsage",
			reflect.TypeFor[live.End]():        "StreamEnd",
			reflect.TypeFor[Letter]():          "DeadLetter",
			reflect.TypeFor[LetterPage]():      "DeadLetterPage",
			reflect.TypeFor[LetterWithBody]():  "DeadLetterWithBody",
			reflect.TypeFor[LetterResult]():    "DeadLetterResult",
			reflect.TypeFor[LettersReplayed](): "DeadLettersReplayed",
			reflect.TypeFor[LettersDropped]():  "DeadLettersDropped",
		},
	}
}

// streamed are the events of a stream with what they say.
var streamed = map[string]reflect.Type{
	"count":     reflect.TypeFor[StreamedCount](),
	"expired":   reflect.TypeFor[live.End](),
	"displaced": reflect.TypeFor[live.End](),
}

// streamedAllowance are those of a stream of an allowance.
var streamedAllowance = map[string]reflect.Type{
	"allowance": reflect.TypeFor[Allowance](),
	"expired":   reflect.TypeFor[live.End](),
	"displaced": reflect.TypeFor[live.End](),
}

// OpenAPI returns the OpenAPI 3.1 document of the API and of the receiver of deliveries,
// as JSON. The caller must not change it.
func OpenAPI() []byte { return document() }

var document = sync.OnceValue(func() []byte {
	d := describer{schemas(), map[string]openapi.Schema{}}
	doc := openapi.Document{
		OpenAPI: openapi.Version,
		Info: openapi.Info{
			Title: "Run Counter", Version: apiVersion,
			Description: "Counts workflow runs exactly. An id is a JSON string or a whole number, as the table has it, and is answered as a string; in a path it is percent-encoded. " +
				"A query or an object with a name that is not described is refused. Any request may be sent again; one that begins a run needs an id or an idempotency_key for that, and one that grants runs an idempotency_key.",
		},
		Servers: []openapi.Server{{URL: "/"}},
		Tags: []openapi.Tag{
			{Name: "counts", Description: "How many runs a user has, and a workflow over all users."},
			{Name: "limits", Description: "What is left of limits, and runs that were granted on top of them."},
			{Name: "runs", Description: "Runs that begin and end through the API."},
			{Name: "dead letters", Description: "Changes of deliveries that could not be read."},
			{Name: "webhook", Description: "Deliveries of the database's webhooks."},
		},
		Paths: map[string]openapi.Path{},
	}
	add := func(path, method string, op *openapi.Operation) {
		if doc.Paths[path] == nil {
			doc.Paths[path] = openapi.Path{}
		}
		doc.Paths[path][strings.ToLower(method)] = op
	}
	both, keys := secured(byAPIKey, byUserToken), secured(byAPIKey)
	for _, e := range forUsers {
		ways := both
		if e.open {
			ways = append(slices.Clone(both), map[string][]string{})
		}
		add("/v1"+e.path, e.method, d.operation(e, ways))
	}
	for _, e := range slices.Concat(forKeys, forGrants, forLetters) {
		add("/v1"+e.path, e.method, d.operation(e, keys))
	}
	for i, path := range webhook.Paths {
		add(path, fiber.MethodPost, d.delivery(i > 0))
	}
	responses := map[string]*openapi.Response{"Error": d.problem("Any other error is the same document.", 0)}
	for status, one := range refusals {
		responses[one.name] = d.problem(one.about, status)
	}
	doc.Components = openapi.Components{Schemas: d.components(), Responses: responses, SecuritySchemes: securitySchemes}
	return answer.Encode(doc)
})

// secured says that any one of the ways is enough.
func secured(ways ...string) (all []map[string][]string) {
	for _, way := range ways {
		all = append(all, map[string][]string{way: {}})
	}
	return all
}

// describer makes operations, and the schemas to which they refer.
type describer struct {
	*openapi.Schemas
	requests map[string]openapi.Schema // of the bodies
}

func (d describer) components() map[string]openapi.Schema {
	all := map[string]openapi.Schema{}
	for _, some := range [...]map[string]openapi.Schema{deliverySchemas, d.requests, d.Components()} {
		maps.Copy(all, some)
	}
	return all
}

// operation describes an endpoint.
func (d describer) operation(e endpoint, security []map[string][]string) *openapi.Operation {
	op := &openapi.Operation{ID: e.id, Tags: []string{e.tag}, Summary: e.summary, Description: e.about, Security: security}
	for _, p := range inPath {
		if strings.Contains(e.path, "{"+p.name+"}") {
			op.Parameters = append(op.Parameters, openapi.Parameter{Name: p.name, In: "path", Description: p.about, Required: true, Schema: p.schema})
		}
	}
	for _, p := range e.query {
		schema := p.schema
		if p.several {
			schema = openapi.Schema{"type": "array", "items": schema}
		}
		op.Parameters = append(op.Parameters, openapi.Parameter{Name: p.name, In: "query", Description: p.about, Required: p.required, Schema: schema})
	}
	for _, p := range e.headers {
		op.Parameters = append(op.Parameters, openapi.Parameter{Name: p.name, In: "header", Description: p.about, Schema: p.schema})
	}
	op.Responses = commonly(400, 401, 403, 503)
	if e.method == fiber.MethodPost {
		op.RequestBody = d.object(e)
		op.Responses = commonly(400, 401, 403, 408, 413, 415, 503)
	}
	for status, about := range e.problems {
		op.Responses[strconv.Itoa(status)] = d.problem(about, status)
	}
	ok := &openapi.Response{Description: "Done.", Headers: map[string]openapi.Header{"X-Request-Id": requestID}}
	switch {
	case e.events != nil:
		events := map[string]openapi.Schema{}
		for name, t := range e.events {
			events[name] = d.Of(t)
		}
		ok.Content = map[string]openapi.Media{"text/event-stream": {Schema: openapi.Schema{"type": "string"}, Events: events}}
	default:
		ok.Content = map[string]openapi.Media{fiber.MIMEApplicationJSON: {Schema: d.Of(e.answer)}}
	}
	if e.located {
		ok.Headers[fiber.HeaderLocation] = openapi.Header{Description: "The address of the run.", Required: true, Schema: aText}
	}
	op.Responses[strconv.Itoa(max(e.status, fiber.StatusOK))] = ok
	return op
}

// refusals are the problems that many addresses answer.
var refusals = map[int]struct{ name, about string }{
	400: {"BadRequest", "Something is missing, unknown or wrong; detail names it."},
	401: {"Unauthorized", "There is no key or token, or a wrong one."},
	403: {"Forbidden", "A signed-in user may read their own counts alone; and a server without keys answers to this machine alone."},
	408: {"RequestTimeout", "The body arrived too slowly, and nothing of it was used."},
	413: {"ContentTooLarge", "The body is too large."},
	415: {"UnsupportedMediaType", "The body is not application/json, or it is compressed."},
	503: {"ServiceUnavailable", "The database is unavailable, or too many requests are under way: send it again after Retry-After."},
}

// commonly refers to the problems of some statuses, and of any other.
func commonly(statuses ...int) map[string]*openapi.Response {
	all := map[string]*openapi.Response{"default": {Ref: "#/components/responses/Error"}}
	for _, status := range statuses {
		all[strconv.Itoa(status)] = &openapi.Response{Ref: "#/components/responses/" + refusals[status].name}
	}
	return all
}

var requestID = openapi.Header{Description: "Stands in the server's log beside what went wrong.", Required: true, Schema: aText}

// problem describes the answer of a status that is an error, or of any where it is 0.
func (d describer) problem(about string, status int) *openapi.Response {
	r := &openapi.Response{
		Description: about, Headers: map[string]openapi.Header{"X-Request-Id": requestID},
		Content: map[string]openapi.Media{"application/problem+json": {Schema: d.Of(reflect.TypeFor[problem.Problem]())}},
	}
	switch status {
	case 0: // what is not HTTP gets no further than the server itself
		r.Headers = nil
	case fiber.StatusUnauthorized:
		r.Headers[fiber.HeaderWWWAuthenticate] = openapi.Header{Required: true, Schema: openapi.Schema{"type": "string", "const": "Bearer"}}
	case fiber.StatusServiceUnavailable:
		r.Headers[fiber.HeaderRetryAfter] = openapi.Header{Description: "Seconds.", Required: true, Schema: openapi.Schema{"type": "integer", "minimum": 1}}
	}
	return r
}

// object describes the JSON object of an endpoint, by a name of its own for generated
// clients. An absent body is an object without members, and a member that is null is as
// one that is left out.
func (d describer) object(e endpoint) *openapi.RequestBody {
	name := strings.ToUpper(e.id[:1]) + e.id[1:] + "Request"
	d.requests[name] = objectSchema(e.members)
	required := slices.ContainsFunc(e.members, func(p param) bool { return p.required })
	return &openapi.RequestBody{Required: required, Content: map[string]openapi.Media{fiber.MIMEApplicationJSON: {Schema: openapi.Ref(name)}}}
}

// objectSchema describes an object with these members and no others.
func objectSchema(members []param) openapi.Schema {
	properties, required := map[string]openapi.Schema{}, []string{}
	for _, p := range members {
		schema := p.schema.With(openapi.Schema{"description": p.about})
		if p.required {
			required = append(required, p.name)
		} else {
			schema = schema.OrNull()
		}
		properties[p.name] = schema
	}
	schema := openapi.Schema{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		schema["required"] = required
	}
	return schema
}
