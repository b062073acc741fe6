package watched

import "cmp"

// Catalog holds what a database says of one table.
type Catalog struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
	// Kind is pg_class.relkind: r for a table, p for a partitioned one, v for a
	// view, m for a materialized view, f for a foreign table.
	Kind    string          `json:"kind"`
	Columns []CatalogColumn `json:"columns"`
	// Checks are the table's CHECK constraints as pg_get_constraintdef writes
	// them, with their columns, and those of its columns' domains.
	Checks []Check `json:"checks,omitempty"`
	// Unique are the columns of each unique index that is valid, immediate, not
	// partial, and of columns alone.
	Unique [][]string `json:"unique,omitempty"`
	// PartitionKey are the columns that choose a row's partition; "" stands for
	// an expression.
	PartitionKey []string `json:"partition_key,omitempty"`
	// ForcedRowSecurity says that row security holds for the table's owner too.
	ForcedRowSecurity bool `json:"forced_row_security,omitempty"`
	// Zone is the time zone of the database's sessions.
	Zone string `json:"zone,omitempty"`
}

// Check is one CHECK constraint.
type Check struct {
	Columns    []string `json:"columns"`
	Definition string   `json:"definition"`
}

// CatalogColumn holds what a database says of one column.
type CatalogColumn struct {
	Name string `json:"name"`
	// Type is the name of the base type, of what a domain is over: uuid, int8,
	// varchar. It says nothing of a length or a precision.
	Type string `json:"type"`
	// Declared is the type as format_type writes it, with its schema outside
	// pg_catalog: bigint, character varying(20), public.run_status.
	Declared string `json:"declared"`
	Domain   bool   `json:"domain,omitempty"`
	// Base is the type below a domain, through domains over domains, as Declared
	// writes it: character varying(20). It is "" for a column in no domain.
	Base string `json:"base,omitempty"`
	// Labels are those of an enum, in its order.
	Labels  []string `json:"labels,omitempty"`
	NotNull bool     `json:"not_null,omitempty"`
	// Default is the expression, as pg_get_expr writes it.
	Default string `json:"default,omitempty"`
	// Generated says that the database alone writes the column: GENERATED
	// ALWAYS AS, or GENERATED ALWAYS AS IDENTITY.
	Generated bool `json:"generated,omitempty"`
	// Nondeterministic says that values which differ can be equal under the
	// column's collation.
	Nondeterministic bool `json:"nondeterministic,omitempty"`
	// References is the table that a foreign key of this column alone refers
	// to, such as auth.users.
	References string `json:"references,omitempty"`
}

// Stored is the type of the column's values, as format_type writes it: a domain
// has those of its base.
func (c CatalogColumn) Stored() string { return cmp.Or(c.Base, c.Declared) }

// Column returns the column of that name.
func (c Catalog) Column(name string) (CatalogColumn, bool) {
	for _, column := range c.Columns {
		if column.Name == name {
			return column, true
		}
	}
	return CatalogColumn{}, false
}
