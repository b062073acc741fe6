package engine

import (
	"database/sql/driver"
	"fmt"
	"io"
	"strings"
)

// Rows are read from memory: a statement is one step, and has read all of them.
type Rows struct {
	Names  []string
	Values [][]driver.Value
	at     int
}

// Columns are the names.
func (r *Rows) Columns() []string { return r.Names }

// Close does nothing.
func (r *Rows) Close() error { return nil }

// Next copies the next row, or returns [io.EOF].
func (r *Rows) Next(dest []driver.Value) error {
	if r.at == len(r.Values) {
		return io.EOF
	}
	copy(dest, r.Values[r.at])
	r.at++
	return nil
}

// Describe shows the values that were read.
func (r *Rows) Describe() string {
	switch {
	case len(r.Values) == 0:
		return "no rows"
	case len(r.Values) > 1:
		return fmt.Sprintf("%d rows", len(r.Values))
	}
	var parts []string
	for i, v := range r.Values[0] {
		if i == 4 {
			parts = append(parts, "…")
			break
		}
		name := r.Names[i]
		if len(name) > 20 || strings.ContainsAny(name, " (") {
			parts = append(parts, Show(v))
			continue
		}
		parts = append(parts, name+"="+Show(v))
	}
	return "reads " + strings.Join(parts, " ")
}
