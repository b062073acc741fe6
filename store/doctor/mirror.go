package doctor

import (
	"context"
	"os"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/store/sqlite"
)

// largeWAL is the size of a log that has outgrown what serve lets it become.
const largeWAL = 256 << 20

// Mirror examines a SQLite file, and what serve would be told. What needs the schema
// is left out where it is not the newest: a finding has said so.
func Mirror(ctx context.Context, path string, c Config) report.Report {
	found := append(mirrorFindings(ctx, path, c), run(ctx, c.checks())...)
	return report.New(path, report.KindMirror, found)
}

func mirrorFindings(ctx context.Context, path string, c Config) []report.Finding {
	file, found := inspectFile(ctx, path)
	if file.JournalMode == "" {
		return found
	}
	found = append(found, run(ctx, []check{
		{"durability", one(func(context.Context) (report.Finding, error) { return walFinding(file), nil })},
		{"migrations", one(func(context.Context) (report.Finding, error) {
			return migrationsFinding(file.Version, file.Latest, file.Dirty, "runcounter migrate up, or runcounter serve, which does it"), nil
		})},
	})...)
	if file.Version != file.Latest || file.Dirty {
		return found
	}
	s, err := sqlite.Open(ctx, path, sqlite.Options{KeepSchema: true, ReadOnly: true})
	if err != nil {
		return append(found, NotChecked("open", err))
	}
	found = append(found, run(ctx, mirrorChecks(s, c))...)
	if err := s.Close(); err != nil {
		found = append(found, NotChecked("close", err))
	}
	return found
}

// inspectFile looks at what needs no schema. The file's JournalMode is empty where it
// is no database, or can't be read.
func inspectFile(ctx context.Context, path string) (file sqlite.File, found []report.Finding) {
	found = run(ctx, []check{{"file", one(func(ctx context.Context) (_ report.Finding, err error) {
		if file, err = sqlite.Inspect(ctx, path); err != nil {
			return fileFinding(err), nil
		}
		if file.ReadOnly != "" {
			return fail("give the user of serve the right to write it", "can't be written: %s", file.ReadOnly), nil
		}
		return passed("%d KiB, written %s ago", file.Bytes>>10, roughly(time.Since(file.WrittenAt))), nil
	})}})
	return file, found
}

func fileFinding(err error) report.Finding {
	if os.IsNotExist(err) {
		return fail("name it with DATABASE_URL, or make one with runcounter serve or runcounter import", "there is no such file")
	}
	return fail("", "not checked: %v", err)
}

func walFinding(file sqlite.File) report.Finding {
	switch {
	case file.JournalMode != "wal":
		return fail("start serve, which sets it; on a network share it can't be had", "journal_mode is %s instead of wal", file.JournalMode)
	case file.WAL > largeWAL:
		return warn("another program keeps a read transaction open: find out which has the file open, or restart serve",
			"the write-ahead log has %d MiB", file.WAL>>20)
	}
	return passed("write-ahead log of %d KiB; serve writes with synchronous=full", file.WAL>>10)
}

// mirrorChecks returns the checks that read the runs and counts of a mirror.
func mirrorChecks(s *sqlite.Store, c Config) []check {
	return []check{
		{"policy", one(func(ctx context.Context) (report.Finding, error) {
			p, err := s.Policy(ctx)
			return c.policyFinding(p.String()), err
		})},
		{"counts", one(func(ctx context.Context) (report.Finding, error) {
			all, err := s.Audit(ctx, store.Audit{Max: sample})
			return driftFinding(all), err
		})},
		{"stuck runs", one(func(ctx context.Context) (report.Finding, error) {
			limits, err := store.ParseLimits(c.StuckAfter)
			if err != nil {
				return fail("write RUNCOUNTER_STUCK_AFTER=pending=5m,running=30m,cancelling=10m", "not checked: %v", err), nil
			}
			stuck, err := s.FailStuck(ctx, store.FailStuck{Now: time.Now(), Limits: limits, Max: maxStuck, DryRun: true})
			return c.stuckFinding(stuck), err
		})},
		{"runs", func(ctx context.Context) ([]report.Finding, error) {
			h, err := s.Health(ctx)
			return runFindings(h), err
		}},
		{"dead letters", one(func(ctx context.Context) (report.Finding, error) {
			h, err := s.Health(ctx)
			return deadLettersFinding(h), err
		})},
		{"changes", one(func(ctx context.Context) (report.Finding, error) {
			newest, tombstones, err := s.Latest(ctx)
			return changesFinding(newest, tombstones), err
		})},
	}
}

func changesFinding(newest time.Time, tombstones int64) report.Finding {
	if newest.IsZero() {
		return warn("point the webhook of workflow_runs here, and tell it of the runs before: runcounter import",
			"none was ever received, and a mirror knows what it receives alone")
	}
	return passed("the newest was made %s; %s remembered", newest.UTC().Format("2006-01-02T15:04:05.000000Z"), store.Quantity(tombstones, "deleted run is", "deleted runs are"))
}
