package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/sqlite"
)

// largeWAL is where a log has outgrown what serve lets it become.
const largeWAL = 256 << 20

// examineMirror looks at a SQLite file: first at what needs no schema.
func examineMirror(ctx context.Context, cmd *cli.Command, path string) report {
	r := report{Database: path, Kind: kindMirror}
	var file sqlite.File
	r.Checks = examine(ctx, []checkup{
		{"file", one(func(ctx context.Context) (line, error) {
			var err error
			if file, err = sqlite.Inspect(ctx, path); err != nil {
				return fileError(err), nil
			}
			if file.ReadOnly != "" {
				return failure("give the user of serve the right to write it", "can't be written: %s", file.ReadOnly), nil
			}
			return fine("%d KiB, written %s ago", file.Bytes>>10, rough(time.Since(file.WrittenAt))), nil
		})},
	})
	if file.JournalMode == "" {
		return r
	}
	r.Checks = append(r.Checks, examine(ctx, []checkup{
		{"durability", one(func(context.Context) (line, error) { return walLine(file), nil })},
		{"migrations", one(func(context.Context) (line, error) {
			return migrationsLine(file.Version, file.Latest, file.Dirty, "runcounter migrate up, or runcounter serve, which does it"), nil
		})},
	})...)
	if file.Version != file.Latest || file.Dirty {
		return r
	}
	s, err := sqlite.Open(ctx, path, sqlite.Options{KeepSchema: true, ReadOnly: true})
	if err != nil {
		l := cannotLook(err)
		l.Check = "open"
		r.Checks = append(r.Checks, l)
		return r
	}
	r.Checks = append(r.Checks, examine(ctx, mirrorChecks(cmd, s))...)
	if err := s.Close(); err != nil {
		l := cannotLook(err)
		l.Check = "close"
		r.Checks = append(r.Checks, l)
	}
	return r
}

func walLine(file sqlite.File) line {
	switch {
	case file.JournalMode != "wal":
		return failure("start serve, which sets it; on a network share it can't be had", "journal_mode is %s instead of wal", file.JournalMode)
	case file.WAL > largeWAL:
		return warning("another program keeps a read transaction open: find out which has the file open, or restart serve",
			"the write-ahead log has %d MiB", file.WAL>>20)
	}
	return fine("write-ahead log of %d KiB; serve writes with synchronous=full", file.WAL>>10)
}

func migrationsLine(version, latest uint, dirty bool, fix string) line {
	switch {
	case dirty:
		return failure(fix, "migration %d was interrupted", version)
	case version == 0:
		return failure(fix, "none is applied")
	case version > latest:
		return failure("run the newer runcounter", "the schema has version %d, made by a newer program: this one knows %d", version, latest)
	case version < latest:
		return failure(fix, "the schema has version %d of %d", version, latest)
	}
	return fine("version %d of %d", version, latest)
}

func mirrorChecks(cmd *cli.Command, s *sqlite.Store) []checkup {
	return []checkup{
		{"policy", one(func(ctx context.Context) (line, error) {
			p, err := s.Policy(ctx)
			return policyLine(cmd, p.String()), err
		})},
		{"counts", one(func(ctx context.Context) (line, error) {
			all, err := s.Audit(ctx, store.Audit{Max: sample})
			return driftLine(all), err
		})},
		{"stuck runs", one(func(ctx context.Context) (line, error) {
			limits, err := store.ParseLimits(cmd.String("stuck-after"))
			if err != nil {
				return failure("write RUNCOUNTER_STUCK_AFTER=pending=5m,running=30m,cancelling=10m", "can't look: %v", err), nil
			}
			stuck, err := s.FailStuck(ctx, store.FailStuck{Now: time.Now(), Limits: limits, Max: maxStuck, DryRun: true})
			return stuckLine(cmd, false, stuck), err
		})},
		{"runs", func(ctx context.Context) ([]line, error) {
			h, err := s.Health(ctx)
			return runLines(h), err
		}},
		{"dead letters", one(func(ctx context.Context) (line, error) {
			h, err := s.Health(ctx)
			return deadLettersLine(h), err
		})},
		{"changes", one(func(ctx context.Context) (line, error) {
			newest, tombstones, err := s.Latest(ctx)
			return changesLine(newest, tombstones), err
		})},
	}
}

func changesLine(newest time.Time, tombstones int64) line {
	if newest.IsZero() {
		return warning("point the webhook of workflow_runs here, and tell it of the runs before: runcounter import",
			"none was ever received, and a mirror knows what it receives alone")
	}
	return fine("the newest was made %s; %s remembered", instant(newest), quantity(tombstones, "deleted run is", "deleted runs are"))
}

// What a look at either kind of database takes.
const (
	sample   = 500  // counts are compared with the runs behind them
	maxStuck = 1000 // stuck runs are counted
)

func driftLine(all store.AuditResult) line {
	if n := len(all.Drifts); n > 0 {
		return failure("runcounter audit shows them and their likely cause, runcounter recount --all-drifting mends them",
			"%d of %s compared with the runs behind them are wrong, such as that of %s", n, quantity(int64(all.Keys), "count", "counts"), all.Drifts[0].Key)
	}
	return fine("%s compared with the runs behind them: exact", quantity(int64(all.Keys), "count", "counts"))
}

func stuckLine(cmd *cli.Command, source bool, stuck []store.Repaired) line {
	n := len(stuck)
	if n == 0 {
		return fine("none")
	}
	many := quantity(int64(n), "run", "runs")
	if n == maxStuck {
		many = "at least " + many
	}
	fix := "runcounter serve ends them within a minute: is it running? runcounter sweep --dry-run shows them, and runcounter sweep names those that the database refuses to write"
	if !presumes(cmd, source) {
		fix = "say how long a run may be silent with RUNCOUNTER_STUCK_AFTER, since nothing ends them without it; runcounter sweep --dry-run shows them"
	}
	return warning(fix,
		"%s silent for longer than the limit, or at odds with their completed_at, such as %s", many, stuck[0].Before.ID.Shown())
}

func runLines(h store.Health) []line {
	var lines []line
	for _, odd := range []struct {
		n         int64
		what, fix string
	}{
		{h.NoKey, "with neither a workflow nor a draft, or without a user: not counted", "give each a user_id, and a workflow_id or a draft_id; a guest's run may stay so; the console lists them under Runs, odd"},
		{h.UnknownStatus, "with an unknown status: not counted, never ended, and each takes a slot of a limit", "use pending, running, cancelling, completed, failed, cancelled or timeout, or give it a meaning with --status THEIRS=OURS: a source by migrate up, a mirror by serve"},
		{h.EndedTooSoon, "that ended before they started: counted, but their times are wrong", "look which clock the application writes"},
	} {
		if odd.n > 0 {
			lines = append(lines, warning(odd.fix, "%s %s", quantity(odd.n, "run", "runs"), odd.what))
		}
	}
	return perhaps(lines, "%d active, none that is odd", h.Active)
}

func deadLettersLine(h store.Health) line {
	if h.DeadLetters == 0 {
		return fine("none")
	}
	return warning("runcounter dead-letters list says what was wrong with them; correct the sender, then runcounter dead-letters replay --all, or drop", "%s authenticated and could not be read", quantity(h.DeadLetters, "change or delivery was", "changes or deliveries were"))
}
