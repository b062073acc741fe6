// Package openapi has the parts of an OpenAPI 3.1 document that Run Counter's has, and
// makes the schemas of Go types as encoding/json writes them. It imports the standard
// library alone, and knows nothing of what is described. Begin reading at [Schemas.Of].
package openapi

// Version is the version of the specification.
const Version = "3.1.1"

// Document is an OpenAPI document.
type Document struct {
	OpenAPI    string          `json:"openapi"`
	Info       Info            `json:"info"`
	Servers    []Server        `json:"servers,omitempty"`
	Tags       []Tag           `json:"tags,omitempty"`
	Paths      map[string]Path `json:"paths"`
	Components Components      `json:"components"`
}

// Info is the head of a document.
type Info struct {
	Title       string `json:"title"`
	Description string `json:"description,omitempty"`
	Version     string `json:"version"` // of the API
}

// Server is where an API is.
type Server struct {
	URL         string `json:"url"`
	Description string `json:"description,omitempty"`
}

// Tag groups operations.
type Tag struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

// Path holds the operations of an address by their method in small letters.
type Path map[string]*Operation

// Operation is one method of an address.
type Operation struct {
	ID          string                `json:"operationId"`
	Tags        []string              `json:"tags,omitempty"`
	Summary     string                `json:"summary"`
	Description string                `json:"description,omitempty"`
	Parameters  []Parameter           `json:"parameters,omitempty"`
	RequestBody *RequestBody          `json:"requestBody,omitempty"`
	Responses   map[string]*Response  `json:"responses"` // by status, or default
	Security    []map[string][]string `json:"security"`  // any one is enough
}

// Parameter is a part of the path or the query, or a header.
type Parameter struct {
	Name        string `json:"name"`
	In          string `json:"in"` // path, query or header
	Description string `json:"description,omitempty"`
	Required    bool   `json:"required,omitempty"`
	Schema      Schema `json:"schema"`
}

// RequestBody is what a request holds.
type RequestBody struct {
	Description string           `json:"description,omitempty"`
	Required    bool             `json:"required,omitempty"`
	Content     map[string]Media `json:"content"` // by media type
}

// Response is an answer, or refers to one among the components.
type Response struct {
	Ref         string            `json:"$ref,omitempty"`
	Description string            `json:"description,omitempty"` // none where it refers
	Headers     map[string]Header `json:"headers,omitempty"`
	Content     map[string]Media  `json:"content,omitempty"`
}

// Header is a header of an answer.
type Header struct {
	Description string `json:"description,omitempty"`
	Required    bool   `json:"required,omitempty"`
	Schema      Schema `json:"schema"`
}

// Media is a body of one media type.
type Media struct {
	Schema  Schema `json:"schema"`
	Example any    `json:"example,omitempty"`
	// Events are the schemas of the data of server-sent events by their names. OpenAPI 3.1
	// has no word for them, so this is an extension of ours.
	Events map[string]Schema `json:"x-events,omitempty"`
}

// Components are what the rest of a document refers to.
type Components struct {
	Schemas         map[string]Schema         `json:"schemas"`
	Responses       map[string]*Response      `json:"responses,omitempty"`
	SecuritySchemes map[string]SecurityScheme `json:"securitySchemes"`
}

// SecurityScheme is a way for a caller to show who they are.
type SecurityScheme struct {
	Type         string `json:"type"` // http or apiKey
	Description  string `json:"description"`
	Scheme       string `json:"scheme,omitempty"`       // of http
	BearerFormat string `json:"bearerFormat,omitempty"` // of the scheme bearer
	In           string `json:"in,omitempty"`           // of apiKey
	Name         string `json:"name,omitempty"`         // of the header, of apiKey
}
