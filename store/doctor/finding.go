package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/store/postgres"
)

func passed(format string, args ...any) report.Finding {
	return report.Finding{Status: report.OK, Text: fmt.Sprintf(format, args...)}
}

func warn(fix, format string, args ...any) report.Finding {
	return report.Finding{Status: report.Warning, Text: fmt.Sprintf(format, args...), Fix: fix}
}

func fail(fix, format string, args ...any) report.Finding {
	return report.Finding{Status: report.Failure, Text: fmt.Sprintf(format, args...), Fix: fix}
}

// orOK returns the findings, or one that passed if there are none.
func orOK(found []report.Finding, format string, args ...any) []report.Finding {
	if len(found) == 0 {
		return []report.Finding{passed(format, args...)}
	}
	return found
}

// NotChecked returns the finding of a check that ended with err instead of an answer.
func NotChecked(check string, err error) report.Finding {
	f := notChecked(err)
	f.Check = check
	return f
}

func notChecked(err error) report.Finding {
	switch {
	case errors.Is(err, postgres.ErrForbidden):
		return warn("connect as the owner of workflow_runs, on Supabase postgres, or grant the privilege", "not checked: %v", err)
	case errors.Is(err, postgres.ErrSlow), errors.Is(err, context.DeadlineExceeded):
		return warn("try again when the database is less busy", "not checked: %v", postgres.ErrSlow)
	}
	return fail("", "not checked: %v", err)
}

// checkTimeout bounds one check, which may ask several times.
const checkTimeout = 15 * time.Second

// check is a named examination. It returns a finding for each thing that is wrong, or
// one that says what is right.
type check struct {
	name string
	find func(ctx context.Context) ([]report.Finding, error)
}

// one makes a check's function of one that always returns one finding.
func one(find func(ctx context.Context) (report.Finding, error)) func(ctx context.Context) ([]report.Finding, error) {
	return func(ctx context.Context) ([]report.Finding, error) {
		f, err := find(ctx)
		return []report.Finding{f}, err
	}
}

// run runs checks in order. An error of one becomes its finding, and the others
// still run.
func run(ctx context.Context, checks []check) (all []report.Finding) {
	for _, c := range checks {
		limited, cancel := context.WithTimeout(ctx, checkTimeout)
		found, err := c.find(limited)
		cancel()
		if err != nil {
			found = []report.Finding{notChecked(err)}
		}
		for _, f := range found {
			f.Check = c.name
			all = append(all, f)
		}
	}
	return all
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
