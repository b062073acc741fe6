package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
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
	Fix    string `json:"fix"` // empty where there is nothing to mend
}

func passed(format string, args ...any) Finding {
	return Finding{Status: OK, Text: fmt.Sprintf(format, args...)}
}

func warn(fix, format string, args ...any) Finding {
	return Finding{Status: Warning, Text: fmt.Sprintf(format, args...), Fix: fix}
}

func fail(fix, format string, args ...any) Finding {
	return Finding{Status: Failure, Text: fmt.Sprintf(format, args...), Fix: fix}
}

// orOK returns the findings, or one that passed if there are none.
func orOK(found []Finding, format string, args ...any) []Finding {
	if len(found) == 0 {
		return []Finding{passed(format, args...)}
	}
	return found
}

// NotChecked returns the finding of a check that ended with err instead of an answer.
func NotChecked(check string, err error) Finding {
	f := notChecked(err)
	f.Check = check
	return f
}

func notChecked(err error) Finding {
	switch {
	case errors.Is(err, postgres.ErrForbidden):
		return warn("connect as the owner of workflow_runs, on Supabase postgres, or grant the privilege", "can't look: %v", err)
	case errors.Is(err, postgres.ErrSlow), errors.Is(err, context.DeadlineExceeded):
		return warn("try again when the database is less busy", "can't look: %v", postgres.ErrSlow)
	}
	return fail("", "can't look: %v", err)
}

// checkTimeout bounds one check, which may ask several times.
const checkTimeout = 15 * time.Second

// check is a named question. It returns a finding for each thing that is wrong, or
// one that says what is right.
type check struct {
	name string
	ask  func(ctx context.Context) ([]Finding, error)
}

// one makes a check's function of one that always returns one finding.
func one(ask func(ctx context.Context) (Finding, error)) func(ctx context.Context) ([]Finding, error) {
	return func(ctx context.Context) ([]Finding, error) {
		f, err := ask(ctx)
		return []Finding{f}, err
	}
}

// run runs checks in order. An error of one becomes its finding, and the others
// still run.
func run(ctx context.Context, checks []check) (all []Finding) {
	for _, c := range checks {
		limited, cancel := context.WithTimeout(ctx, checkTimeout)
		found, err := c.ask(limited)
		cancel()
		if err != nil {
			found = []Finding{notChecked(err)}
		}
		for _, f := range found {
			f.Check = c.name
			all = append(all, f)
		}
	}
	return all
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

// newReport counts the failures and warnings among the findings.
func newReport(database, kind string, found []Finding) Report {
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

// Print writes the report for a person. A check with several findings is named once.
func (r Report) Print(w io.Writer) error {
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
	_, err := io.WriteString(w, b.String())
	return err
}

// few lists the first four names, and the number of the others.
func few(names []string) string {
	const shown = 4
	if len(names) <= shown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
}

// roughly prints a length of time in its largest unit.
func roughly(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	case d >= 2*time.Second:
		return fmt.Sprintf("%d seconds", d/time.Second)
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}
