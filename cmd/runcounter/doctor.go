package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store/postgres"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:      "doctor",
		Category:  groupMend,
		Usage:     "looks at an installation, and says what is wrong and how to mend it",
		UsageText: "runcounter doctor [--strict] [flags]",
		Description: `It changes nothing, and works without a running server. Each line is ok, a WARNING
or a FAILURE with its fix: connection, role, migrations, functions, triggers and
the order in which they fire, the guard, webhooks and lost calls, counts, stuck
runs, the ledger, old snapshots, clocks, and the configuration that serve would
have with the same environment.

The exit code is 1 where something fails; warnings alone leave it at 0, or make
it 1 with --strict. What the role of DATABASE_URL may not look at is a warning.

Examples:
  runcounter doctor
  runcounter doctor --json | jq -r '.checks[] | select(.status != "ok") | .fix'`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "strict", Category: flagsWhat, Usage: "exit with 1 for warnings too"},
			databaseFlag(), listenFlag(), portFlag(), secretFlag(), keyFlag(), policyFlag(), leaseFlag(), stuckFlag(), jsonFlag(),
		},
		Action: action(runDoctor),
	}
}

// verdict is how a line is meant.
type verdict string

const (
	isFine   verdict = "ok"
	warns    verdict = "warning"
	fails    verdict = "failure"
	perCheck         = 15 * time.Second // for one check, which may ask several times
)

// line is one thing that a check found.
type line struct {
	Check   string  `json:"check"`
	Status  verdict `json:"status"`
	Finding string  `json:"finding"`
	Fix     string  `json:"fix"` // empty where there is nothing to mend
}

func fine(format string, args ...any) line {
	return line{Status: isFine, Finding: fmt.Sprintf(format, args...)}
}

func warning(fix, format string, args ...any) line {
	return line{Status: warns, Finding: fmt.Sprintf(format, args...), Fix: fix}
}

func failure(fix, format string, args ...any) line {
	return line{Status: fails, Finding: fmt.Sprintf(format, args...), Fix: fix}
}

// checkup is one thing to look at. A line for each thing that is wrong with it,
// or one that says what is right.
type checkup struct {
	name string
	look func(ctx context.Context) ([]line, error)
}

// one is a check that always has one thing to say.
func one(look func(ctx context.Context) (line, error)) func(ctx context.Context) ([]line, error) {
	return func(ctx context.Context) ([]line, error) {
		l, err := look(ctx)
		return []line{l}, err
	}
}

// examine looks at one thing after the other. One that can't be looked at keeps
// none of the others from it.
func examine(ctx context.Context, checks []checkup) (all []line) {
	for _, c := range checks {
		limited, cancel := context.WithTimeout(ctx, perCheck)
		lines, err := c.look(limited)
		cancel()
		if err != nil {
			lines = []line{cannotLook(err)}
		}
		for _, l := range lines {
			l.Check = c.name
			all = append(all, l)
		}
	}
	return all
}

func cannotLook(err error) line {
	switch {
	case errors.Is(err, postgres.ErrForbidden):
		return warning("connect as the owner of workflow_runs, on Supabase postgres, or grant the privilege", "can't look: %v", err)
	case errors.Is(err, postgres.ErrSlow), errors.Is(err, context.DeadlineExceeded):
		return warning("try again when the database is less busy", "can't look: %v", postgres.ErrSlow)
	}
	return failure("", "can't look: %v", err)
}

// perhaps returns the lines, or a fine one where there is none.
func perhaps(lines []line, format string, args ...any) []line {
	if len(lines) == 0 {
		return []line{fine(format, args...)}
	}
	return lines
}

// report is what doctor prints.
type report struct {
	Database string `json:"database"`
	Kind     string `json:"kind"` // source or mirror
	Healthy  bool   `json:"healthy"`
	Failures int    `json:"failures"`
	Warnings int    `json:"warnings"`
	Checks   []line `json:"checks"`
}

func reportOf(where, kind string, lines []line) report {
	r := report{Database: where, Kind: kind, Checks: lines}
	for _, l := range lines {
		switch l.Status {
		case fails:
			r.Failures++
		case warns:
			r.Warnings++
		case isFine:
		}
	}
	r.Healthy = r.Failures == 0
	return r
}

func runDoctor(ctx context.Context, cmd *cli.Command) error {
	if err := atMost(0, cmd); err != nil {
		return err
	}
	r, err := diagnose(ctx, cmd)
	if err != nil {
		return err
	}
	return conclude(cmd, r, cmd.Bool("strict"))
}

// diagnose looks at the installation that the flags name.
func diagnose(ctx context.Context, cmd *cli.Command) (r report, err error) {
	if isPostgres(cmd.String("database-url")) {
		patient, err := newPatient(ctx, cmd)
		if err != nil {
			return r, err
		}
		defer patient.db.Close()
		r = patient.examined(ctx)
	} else {
		path, err := sqlitePath(cmd.String("database-url"))
		if err != nil {
			return r, err
		}
		r = examineMirror(ctx, cmd, path)
	}
	return reportOf(r.Database, r.Kind, append(r.Checks, examine(ctx, configurationChecks(cmd, r.Kind == kindSource))...)), nil
}

// conclude prints a report, and answers no where something fails, or, when that
// is asked for, where something is only warned of.
func conclude(cmd *cli.Command, r report, strict bool) error {
	write := printReport
	if cmd.Bool("json") {
		write = func(w io.Writer, r report) error { return printJSON(w, r) }
	}
	if err := write(cmd.Root().Writer, r); err != nil {
		return err
	}
	if r.Failures > 0 || r.Warnings > 0 && strict {
		return answerNo(nil)
	}
	return nil
}

const (
	kindSource = "source"
	kindMirror = "mirror"
)

// printReport writes the screen. A check that has several lines names itself
// once.
func printReport(w io.Writer, r report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, a %s\n\n", r.Database, r.Kind)
	last := ""
	for _, l := range r.Checks {
		mark, name := string(l.Status), l.Check
		if l.Status != isFine {
			mark = strings.ToUpper(mark)
		}
		if name == last {
			name = ""
		}
		last = l.Check
		fmt.Fprintf(&b, "%-8s %-12s %s\n", mark, name, l.Finding)
		if l.Fix != "" {
			fmt.Fprintf(&b, "%21s fix: %s\n", "", l.Fix)
		}
	}
	switch {
	case r.Failures == 0 && r.Warnings == 0:
		b.WriteString("\nHealthy.\n")
	default:
		fmt.Fprintf(&b, "\n%s, %s.\n", quantity(int64(r.Failures), "failure", "failures"), quantity(int64(r.Warnings), "warning", "warnings"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// few lists names, and how many more there are.
func few(names []string) string {
	const shown = 4
	if len(names) <= shown {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), len(names)-shown)
}

// rough prints a length of time for a person.
func rough(d time.Duration) string {
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
