package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// ImportMark is the position of an import that has not come to its end. It is kept
// with the runs, so that a mirror which is made anew is filled anew.
type ImportMark struct {
	BegunAt time.Time
	After   string // all rows up to this id were taken
	Taken   int64  // how many these are
	Bad     int64  // how many of them could not be read
}

// ImportMark returns where the import from a source stands, and false where
// none was begun or the last one has come to its end.
func (s *Store) ImportMark(ctx context.Context, source string) (m ImportMark, found bool, err error) {
	var begun int64
	err = s.reader.QueryRowContext(ctx, `select begun_at, after_id, taken, bad from imports where source = ?`, source).
		Scan(&begun, &m.After, &m.Taken, &m.Bad)
	if errors.Is(err, sql.ErrNoRows) {
		return ImportMark{}, false, nil
	}
	if err != nil {
		return ImportMark{}, false, fmt.Errorf("read where the import stands: %w", translate(err))
	}
	m.BegunAt = time.UnixMicro(begun).UTC()
	return m, true, nil
}

// KeepImportMark keeps where the import from a source stands.
func (s *Store) KeepImportMark(ctx context.Context, source string, m ImportMark) error {
	return s.write(ctx, func(t *tx) error {
		return t.execText("keep where the import stands", `
insert into imports (source, begun_at, after_id, taken, bad) values (?, ?, ?, ?, ?)
    on conflict (source) do update
   set begun_at = excluded.begun_at, after_id = excluded.after_id, taken = excluded.taken, bad = excluded.bad`,
			source, store.Instant(m.BegunAt).UnixMicro(), m.After, m.Taken, m.Bad)
	})
}

// DropImportMark forgets where the import from a source stands: the next one
// begins anew.
func (s *Store) DropImportMark(ctx context.Context, source string) error {
	return s.write(ctx, func(t *tx) error {
		return t.execText("forget where the import stands", `delete from imports where source = ?`, source)
	})
}
