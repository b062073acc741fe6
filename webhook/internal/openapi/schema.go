package openapi

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Schema is a JSON Schema 2020-12 by its keywords.
type Schema map[string]any

// refPrefix stands before the name of a schema among the components.
const refPrefix = "#/components/schemas/"

// Ref returns a schema that refers to one among the components.
func Ref(name string) Schema { return Schema{"$ref": refPrefix + name} }

// With returns the schema with more keywords.
func (s Schema) With(more Schema) Schema {
	all := maps.Clone(s)
	maps.Copy(all, more)
	return all
}

// NotNull returns the schema without null among its types.
func (s Schema) NotNull() Schema {
	types, _ := s["type"].([]string)
	left := slices.DeleteFunc(slices.Clone(types), func(t string) bool { return t == "null" })
	switch len(left) {
	case 0: // it has no list of types
		return s
	case 1:
		return s.With(Schema{"type": left[0]})
	}
	return s.With(Schema{"type": left})
}

// OrNull returns the schema with null among what fits it.
func (s Schema) OrNull() Schema {
	switch t := s["type"].(type) {
	case string:
		if _, listed := s["enum"]; !listed {
			return s.With(Schema{"type": []string{t, "null"}})
		}
	case []string:
		return s.With(Schema{"type": append(slices.Clone(t), "null")})
	}
	if _, refers := s["$ref"]; !refers && s["type"] == nil {
		return s // any value fits
	}
	return Schema{"anyOf": []Schema{s, {"type": "null"}}}
}

// Schemas makes the schemas of Go types as encoding/json writes them. A struct becomes a
// component of its name, and is referred to.
//
// Two tags of a field are read beside json: doc is its description, and openapi holds
// notnull, for a value that is never null though its type has a null, and optional, for
// one that may be left out.
type Schemas struct {
	// Written are the schemas of types that write their JSON themselves.
	Written map[reflect.Type]Schema
	// Names are the names of structs whose own would not tell what they are.
	Names map[reflect.Type]string

	components map[string]Schema
	types      map[string]reflect.Type // of the components
}

// Components returns the schemas of all structs that were met.
func (s *Schemas) Components() map[string]Schema { return s.components }

// Of returns the schema of a type. It panics where the type writes its own JSON and is not
// among Written, where two structs have the same name, and for what no JSON of ours holds.
func (s *Schemas) Of(t reflect.Type) Schema {
	if written, ok := s.Written[t]; ok {
		return written
	}
	if t.Implements(reflect.TypeFor[json.Marshaler]()) || t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		panic(fmt.Sprintf("openapi: %s writes its own JSON: say its schema in Written", t))
	}
	switch t.Kind() {
	case reflect.Bool:
		return Schema{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return Schema{"type": "integer", "format": "int64"}
	case reflect.Float64:
		return Schema{"type": "number"}
	case reflect.String:
		return Schema{"type": "string"}
	case reflect.Slice:
		return Schema{"type": "array", "items": s.Of(t.Elem())}
	case reflect.Pointer:
		return s.Of(t.Elem()).OrNull()
	case reflect.Struct:
		return s.component(t)
	}
	panic(fmt.Sprintf("openapi: %s has no schema: use another type", t))
}

// component makes the schema of a struct, once, and returns a reference to it.
func (s *Schemas) component(t reflect.Type) Schema {
	name := s.Names[t]
	if name == "" {
		name = t.Name()
	}
	if other, ok := s.types[name]; ok {
		if other != t {
			panic(fmt.Sprintf("openapi: both %s and %s are called %s: name one of them in Names", other, t, name))
		}
		return Ref(name)
	}
	if s.types == nil {
		s.types, s.components = map[string]reflect.Type{}, map[string]Schema{}
	}
	s.types[name] = t
	properties, required := map[string]Schema{}, []string{}
	for _, f := range fieldsOf(t) {
		said := strings.Split(f.Tag.Get("openapi"), ",")
		schema := s.Of(f.Type)
		if slices.Contains(said, "notnull") {
			schema = schema.NotNull()
		}
		if doc := f.Tag.Get("doc"); doc != "" {
			schema = schema.With(Schema{"description": doc})
		}
		properties[f.Name] = schema
		if !f.omitted && !slices.Contains(said, "optional") {
			required = append(required, f.Name)
		}
	}
	schema := Schema{"type": "object", "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	s.components[name] = schema
	return Ref(name)
}

// field is a field of a struct or of one embedded in it, by its name in JSON.
type field struct {
	reflect.StructField
	Name    string
	omitted bool // where empty or zero
}

// fieldsOf returns the fields of a struct as encoding/json sees them: an embedded struct's
// are its own, and those nearer to the top hide others of the same name.
func fieldsOf(t reflect.Type) []field {
	var all []field
	seen := map[string]bool{}
	for level := []reflect.Type{t}; len(level) > 0; {
		var next []reflect.Type
		here := map[string]bool{}
		for _, one := range level {
			for f := range one.Fields() {
				tag, tagged := f.Tag.Lookup("json")
				name, options, _ := strings.Cut(tag, ",")
				switch {
				case tag == "-", !f.IsExported() && !f.Anonymous:
				case f.Anonymous && !tagged && f.Type.Kind() == reflect.Struct:
					next = append(next, f.Type)
				case !f.IsExported():
				default:
					if name == "" {
						name = f.Name
					}
					if !seen[name] {
						all = append(all, field{f, name, strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")})
					}
					here[name] = true
				}
			}
		}
		maps.Copy(seen, here)
		level = next
	}
	return all
}
