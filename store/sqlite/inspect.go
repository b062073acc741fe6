package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/edgaze-ai/runcounter/migrations"
)

// File describes a database's file, which was read and not changed.
type File struct {
	Version, Latest uint // of the schema; Version 0: it is empty
	Dirty           bool // a migration was interrupted
	JournalMode     string
	Bytes, WAL      int64     // the lengths of the file, and of the log beside it
	WrittenAt       time.Time // the later of the two
	ReadOnly        string    // why it can't be written; empty where it can
}

// Inspect looks at the file at path.
func Inspect(ctx context.Context, path string) (f File, err error) {
	f.Latest = migrations.LatestSQLite()
	abs, err := filepath.Abs(path)
	if err != nil {
		return f, err
	}
	for _, part := range []struct {
		name  string
		bytes *int64
	}{{abs, &f.Bytes}, {abs + "-wal", &f.WAL}} {
		info, err := os.Stat(part.name)
		if errors.Is(err, os.ErrNotExist) && part.name != abs {
			continue
		}
		if err != nil {
			return f, err
		}
		*part.bytes = info.Size()
		if info.ModTime().After(f.WrittenAt) {
			f.WrittenAt = info.ModTime()
		}
	}
	opened, err := os.OpenFile(abs, os.O_RDWR, 0)
	if err != nil {
		f.ReadOnly = err.Error()
	} else if err := opened.Close(); err != nil {
		return f, err
	}
	address := url.URL{Scheme: "file", Path: abs, RawQuery: "mode=ro&_pragma=busy_timeout(5000)"}
	db, err := sql.Open("sqlite", address.String())
	if err != nil {
		return f, err
	}
	err = db.QueryRowContext(ctx, `pragma journal_mode`).Scan(&f.JournalMode)
	var there bool
	if err == nil {
		err = db.QueryRowContext(ctx, `select exists (select 1 from sqlite_master where type = 'table' and name = 'schema_migrations')`).Scan(&there)
	}
	if err == nil && there {
		err = db.QueryRowContext(ctx, `select version, dirty from schema_migrations`).Scan(&f.Version, &f.Dirty)
	}
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return f, fmt.Errorf("read %s: %w", abs, translate(err))
	}
	return f, nil
}

// Latest returns when the newest change that the mirror knows was made, by its
// own account, and how many deleted runs it remembers.
func (s *Store) Latest(ctx context.Context) (change time.Time, tombstones int64, err error) {
	var micros sql.NullInt64
	err = s.reader.QueryRowContext(ctx, `select (select max(as_of) from workflow_runs), (select count(*) from tombstones)`).Scan(&micros, &tombstones)
	if micros.Valid {
		change = time.UnixMicro(micros.Int64)
	}
	return change, tombstones, translate(err)
}

// Heard reports whether a webhook of our own has ever told of a run: its changes
// alone have versions.
func (s *Store) Heard(ctx context.Context) (heard bool, err error) {
	err = s.reader.QueryRowContext(ctx, `select exists (select 1 from workflow_runs where version > 0)`).Scan(&heard)
	return heard, translate(err)
}
