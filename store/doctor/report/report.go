package report

import (
	"fmt"
	"strings"

	"github.com/edgaze-ai/runcounter/store"
)

// Status is the severity of a finding.
type Status string

// The statuses of a finding.
const (
	OK      Status = "ok"
	Warning Status = "warning"
	Failure Status = "failure"
)

// Finding is one result of a check.
type Finding struct {
	Check  string `json:"check"`
	Status Status `json:"status"`
	Text   string `json:"finding"`
	Fix    string `json:"fix"` // empty where nothing needs one
}

// The kinds of database that are examined.
const (
	KindSource = "source" // PostgreSQL
	KindMirror = "mirror" // SQLite
)

// Report holds the findings about one database. Its JSON is that of doctor --json.
type Report struct {
	Database string    `json:"database"`
	Kind     string    `json:"kind"`    // source or mirror
	Healthy  bool      `json:"healthy"` // no check failed
	Failures int       `json:"failures"`
	Warnings int       `json:"warnings"`
	Checks   []Finding `json:"checks"`
}

// New makes a report, and counts the failures and warnings among the findings.
func New(database, kind string, found []Finding) Report {
	r := Report{Database: database, Kind: kind, Checks: found}
	for _, f := range found {
		switch f.Status {
		case Failure:
			r.Failures++
		case Warning:
			r.Warnings++
		case OK:
		}
	}
	r.Healthy = r.Failures == 0
	return r
}

// Text returns the report for a person. A check with several findings is named once.
func (r Report) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, a %s\n\n", r.Database, r.Kind)
	last := ""
	for _, f := range r.Checks {
		mark, name := string(f.Status), f.Check
		if f.Status != OK {
			mark = strings.ToUpper(mark)
		}
		if name == last {
			name = ""
		}
		last = f.Check
		fmt.Fprintf(&b, "%-8s %-12s %s\n", mark, name, f.Text)
		if f.Fix != "" {
			fmt.Fprintf(&b, "%21s fix: %s\n", "", f.Fix)
		}
	}
	if r.Failures == 0 && r.Warnings == 0 {
		b.WriteString("\nHealthy.\n")
	} else {
		fmt.Fprintf(&b, "\n%s, %s.\n", store.Quantity(int64(r.Failures), "failure", "failures"), store.Quantity(int64(r.Warnings), "warning", "warnings"))
	}
	return b.String()
}
