package migrations

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/edgaze-ai/runcounter/store/watched"
)

// ErrNoTable means that the database lacks the table that is asked for.
var ErrNoTable = errors.New("the database has no table")

// TableReport says how the watched table is understood, and whether Up takes it. Its
// JSON is that of runcounter table --json.
type TableReport struct {
	watched.Report
	Refused string `json:"refused,omitempty"` // why Up refuses it
}

// Text returns the report for a person.
func (r TableReport) Text() string {
	if r.Refused != "" {
		return r.Report.Text() + "\nmigrate up refuses it: " + r.Refused + "\n"
	}
	return r.Report.Text() + "\nmigrate up takes it as it is.\n"
}

// ReadTableReport reads what runcounter table --json printed, and reports false for
// another text.
func ReadTableReport(text []byte) (r TableReport, ok bool) {
	err := json.Unmarshal(text, &r)
	return r, err == nil && len(r.Table.Columns) > 0
}

// Report looks at the watched table, and changes nothing.
//
// Errors: [ErrNoTable].
func (m *Migrator) Report() (r TableReport, err error) {
	o, err := m.Overrides()
	if err != nil {
		return r, err
	}
	schema, name := o.SchemaAndName()
	catalog, there, err := m.Catalog(schema, name)
	if err != nil {
		return r, err
	}
	if !there {
		return r, fmt.Errorf("%w %s.%s: name another with --table SCHEMA.TABLE; runcounter migrate up makes %s where there is none", ErrNoTable, schema, name, watched.DefaultTable)
	}
	r.Report = watched.Describe(catalog, o)
	if err := m.Check(); errors.Is(err, ErrTable) {
		r.Refused = err.Error()
	} else if err != nil {
		return r, err
	}
	return r, nil
}
