package openapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type moment string

func (moment) MarshalJSON() ([]byte, error) { return []byte("0"), nil }

type inner struct {
	Shown  int    `json:"shown"`
	Hidden string `json:"hidden"`
}

type outer struct {
	inner
	Hidden   *string `json:"hidden" doc:"The outer one."`
	At       moment  `json:"at" openapi:"notnull"`
	May      moment  `json:"may"`
	Left     []inner `json:"left,omitempty"`
	Optional bool    `json:"optional" openapi:"optional"`
	One      *inner  `json:"one"`
	Zero     moment  `json:"zero,omitzero" openapi:"notnull"`
	Not      int     `json:"-"`
	private  int
}

func TestASchemaIsThatOfWhatIsWritten(t *testing.T) {
	s := &Schemas{
		Written: map[reflect.Type]Schema{reflect.TypeFor[moment](): {"type": []string{"integer", "null"}}},
		Names:   map[reflect.Type]string{reflect.TypeFor[outer](): "Outer"},
	}
	if d := cmp.Diff(Ref("Outer"), s.Of(reflect.TypeFor[outer]())); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	text, err := json.MarshalIndent(s.Components(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
  "Outer": {
    "properties": {
      "at": {
        "type": "integer"
      },
      "hidden": {
        "description": "The outer one.",
        "type": [
          "string",
          "null"
        ]
      },
      "left": {
        "items": {
          "$ref": "#/components/schemas/inner"
        },
        "type": "array"
      },
      "may": {
        "type": [
          "integer",
          "null"
        ]
      },
      "one": {
        "anyOf": [
          {
            "$ref": "#/components/schemas/inner"
          },
          {
            "type": "null"
          }
        ]
      },
      "optional": {
        "type": "boolean"
      },
      "shown": {
        "format": "int64",
        "type": "integer"
      },
      "zero": {
        "type": "integer"
      }
    },
    "required": [
      "hidden",
      "at",
      "may",
      "one",
      "shown"
    ],
    "type": "object"
  },
  "inner": {
    "properties": {
      "hidden": {
        "type": "string"
      },
      "shown": {
        "format": "int64",
        "type": "integer"
      }
    },
    "required": [
      "shown",
      "hidden"
    ],
    "type": "object"
  }
}`
	if d := cmp.Diff(want, string(text)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	// encoding/json writes the same names.
	written, err := json.Marshal(outer{private: 1, Left: []inner{{}}, Zero: "0"})
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(written, &members); err != nil {
		t.Fatal(err)
	}
	for name := range members {
		if _, ok := s.Components()["Outer"]["properties"].(map[string]Schema)[name]; !ok {
			t.Errorf("%s is written and not described", name)
		}
	}
}

func TestWhatNullFits(t *testing.T) {
	for want, schema := range map[string]Schema{
		`{"type":["string","null"]}`:                                    {"type": "string"},
		`{"type":["string","integer","null"]}`:                          {"type": []string{"string", "integer"}},
		`{"anyOf":[{"enum":["a"],"type":"string"},{"type":"null"}]}`:    {"type": "string", "enum": []string{"a"}},
		`{"anyOf":[{"$ref":"#/components/schemas/A"},{"type":"null"}]}`: Ref("A"),
		`{"description":"any"}`:                                         {"description": "any"},
	} {
		got, err := json.Marshal(schema.OrNull())
		if err != nil || string(got) != want {
			t.Errorf("got %s %v, want %s", got, err, want)
		}
	}
	if got := (Schema{"type": []string{"string", "integer", "null"}}).NotNull()["type"]; !reflect.DeepEqual(got, []string{"string", "integer"}) {
		t.Errorf("without null: got %v", got)
	}
}

func TestWhatHasNoSchemaIsRefused(t *testing.T) {
	type inner struct{ Other int } // as called as the one above
	for want, kind := range map[string]reflect.Type{
		"say its schema": reflect.TypeFor[moment](),
		"both":           reflect.TypeFor[inner](),
		"no schema":      reflect.TypeFor[chan int](),
	} {
		func() {
			defer func() {
				if said := fmt.Sprint(recover()); !strings.Contains(said, want) {
					t.Errorf("%s: got %s, want %q", kind, said, want)
				}
			}()
			s := &Schemas{Written: map[reflect.Type]Schema{}}
			if want == "both" {
				s.Written[reflect.TypeFor[moment]()] = Schema{}
				s.Of(reflect.TypeFor[outer]())
			}
			s.Of(kind)
		}()
	}
}
