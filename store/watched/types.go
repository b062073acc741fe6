package watched

import "slices"

// Kind says how a column's values are read and written.
type Kind string

// The kinds. The last four are of times.
const (
	UUID         Kind = "uuid"
	Integer      Kind = "integer"
	Text         Kind = "text"
	AnyCase      Kind = "text in any case" // of which A to Z are the same as a to z
	Enum         Kind = "enum"
	Numeric      Kind = "numeric"
	JSONB        Kind = "jsonb"
	JSON         Kind = "json"
	TimestampTZ  Kind = "timestamptz"
	Timestamp    Kind = "timestamp"    // without zone: read in Table.Zone
	Milliseconds Kind = "milliseconds" // since 1970, an integer
	Seconds      Kind = "seconds"      // since 1970, an integer
)

const (
	wantsID   = "uuid, an integer type or text"
	wantsTime = "timestamptz, timestamp, or an integer where --times says what it counts"
)

func isInteger(c CatalogColumn) bool {
	return slices.Contains([]string{"int2", "int4", "int8"}, c.Type)
}

func isText(c CatalogColumn) bool {
	return slices.Contains([]string{"text", "varchar", "bpchar", "citext"}, c.Type)
}

// The functions below return "" for a column that does not fit its role.

func fitsID(c CatalogColumn, _ Overrides) Kind {
	switch {
	case c.Nondeterministic:
		return ""
	case c.Type == "uuid":
		return UUID
	case isInteger(c):
		return Integer
	case isText(c):
		return Text
	}
	return ""
}

func fitsStatus(c CatalogColumn, o Overrides) Kind {
	switch {
	case len(c.Labels) > 0:
		return Enum
	case c.Type == "citext" || isText(c) && !c.Nondeterministic && o.AnyCase:
		return AnyCase
	case isText(c) && !c.Nondeterministic:
		return Text
	}
	return ""
}

func fitsTime(c CatalogColumn, o Overrides) Kind {
	switch {
	case c.Type == "timestamptz":
		return TimestampTZ
	case c.Type == "timestamp":
		return Timestamp
	case isInteger(c):
		return o.Times // "" where nothing says what it counts
	}
	return ""
}

// TimeOf returns how a column's values are read as times, and "" where they are
// none.
func TimeOf(c CatalogColumn, o Overrides) Kind { return fitsTime(c, o) }

func fitsNumber(c CatalogColumn, _ Overrides) Kind {
	switch {
	case isInteger(c):
		return Integer
	case c.Type == "numeric":
		return Numeric
	}
	return ""
}

func fitsJSON(c CatalogColumn, _ Overrides) Kind {
	switch {
	case c.Type == "jsonb":
		return JSONB
	case c.Type == "json":
		return JSON
	case isText(c):
		return Text
	}
	return ""
}
