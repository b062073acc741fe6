package harness

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// gateStmt is a prepared statement.
type gateStmt struct {
	conn *gateConn
	raw  driver.Stmt
	text string
}

// convertingStmt is one that converts its arguments itself, as old drivers' do.
type convertingStmt struct {
	*gateStmt
	converter driver.ColumnConverter //nolint:staticcheck // an old driver's only way
}

func (s *convertingStmt) ColumnConverter(i int) driver.ValueConverter {
	return s.converter.ColumnConverter(i)
}

func newGateStmt(c *gateConn, raw driver.Stmt, text string) driver.Stmt {
	s := &gateStmt{c, raw, text}
	if converter, ok := raw.(driver.ColumnConverter); ok { //nolint:staticcheck // the same
		return &convertingStmt{s, converter}
	}
	return s
}

func (s *gateStmt) Close() error  { return s.raw.Close() }
func (s *gateStmt) NumInput() int { return s.raw.NumInput() }

func (s *gateStmt) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := s.raw.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return s.conn.CheckNamedValue(v)
}

func (s *gateStmt) Exec(args []driver.Value) (driver.Result, error) {
	return s.ExecContext(context.Background(), engine.Named(args))
}

func (s *gateStmt) Query(args []driver.Value) (driver.Rows, error) {
	return s.QueryContext(context.Background(), engine.Named(args))
}

func (s *gateStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	var result driver.Result
	err := s.conn.statement(ctx, s.text, args, true, func(ctx context.Context) (string, error) {
		var err error
		result, err = execStmt(ctx, s.raw, args)
		return wrote(result, err), err
	})
	return result, err
}

func (s *gateStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	var rows *gateRows
	err := s.conn.statement(ctx, s.text, args, true, func(ctx context.Context) (string, error) {
		var err error
		rows, err = queryStmt(ctx, s.raw, args)
		return rows.describe(err), err
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

func execStmt(ctx context.Context, st driver.Stmt, args []driver.NamedValue) (driver.Result, error) {
	if e, ok := st.(driver.StmtExecContext); ok {
		return e.ExecContext(ctx, args)
	}
	values, err := positional(args)
	if err != nil {
		return nil, err
	}
	return st.Exec(values) //nolint:staticcheck // an old driver's only way
}

func queryStmt(ctx context.Context, st driver.Stmt, args []driver.NamedValue) (*gateRows, error) {
	if q, ok := st.(driver.StmtQueryContext); ok {
		rows, err := q.QueryContext(ctx, args)
		if err != nil {
			return nil, err
		}
		return readRows(rows)
	}
	values, err := positional(args)
	if err != nil {
		return nil, err
	}
	rows, err := st.Query(values) //nolint:staticcheck // an old driver's only way
	if err != nil {
		return nil, err
	}
	return readRows(rows)
}

func positional(args []driver.NamedValue) ([]driver.Value, error) {
	list := make([]driver.Value, len(args))
	for i, v := range args {
		if v.Name != "" {
			return nil, errors.New("sql: driver does not support the use of Named Parameters")
		}
		list[i] = v.Value
	}
	return list, nil
}

func showArgs(args []driver.NamedValue) string {
	list := make([]string, len(args))
	for i, v := range args {
		list[i] = engine.Show(v.Value)
	}
	return "[" + strings.Join(list, ", ") + "]"
}

// wrote is an answer in words.
func wrote(result driver.Result, err error) string {
	if err == nil && result != nil {
		if n, err := result.RowsAffected(); err == nil && n > 0 {
			return fmt.Sprintf("wrote %d", n)
		}
	}
	return "ok"
}

// gateRows are the rows of a query, all of them, and of the queries behind it.
type gateRows struct {
	engine.Rows
	types []columnType
	err   error // that came instead of the next row
	more  []*gateRows
}

// columnType is what a driver tells of a column.
type columnType struct {
	name                             string
	scan                             reflect.Type
	length, precision, scale         int64
	nullable                         bool
	hasLength, hasNullable, hasScale bool
}

var (
	_ driver.RowsNextResultSet              = (*gateRows)(nil)
	_ driver.RowsColumnTypeDatabaseTypeName = (*gateRows)(nil)
	_ driver.RowsColumnTypeScanType         = (*gateRows)(nil)
	_ driver.RowsColumnTypeLength           = (*gateRows)(nil)
	_ driver.RowsColumnTypeNullable         = (*gateRows)(nil)
	_ driver.RowsColumnTypePrecisionScale   = (*gateRows)(nil)
)

// readRows reads all of a driver's rows. An error between them is the reader's
// to see, behind the rows that came before it.
func readRows(raw driver.Rows) (*gateRows, error) {
	first := readSet(raw)
	if next, ok := raw.(driver.RowsNextResultSet); ok {
		for first.err == nil && next.HasNextResultSet() {
			if err := next.NextResultSet(); err != nil {
				break
			}
			first.more = append(first.more, readSet(raw))
		}
	}
	return first, raw.Close()
}

func readSet(raw driver.Rows) *gateRows {
	r := &gateRows{Rows: engine.Rows{Names: slices.Clone(raw.Columns())}}
	for i := range r.Names {
		r.types = append(r.types, typeOf(raw, i))
	}
	for {
		row := make([]driver.Value, len(r.Names))
		if err := raw.Next(row); err != nil {
			if !errors.Is(err, io.EOF) {
				r.err = err
			}
			return r
		}
		for i, v := range row {
			if b, ok := v.([]byte); ok && b != nil {
				row[i] = append([]byte{}, b...) // the driver's own, until the next row
			}
		}
		r.Values = append(r.Values, row)
	}
}

func typeOf(raw driver.Rows, i int) (t columnType) {
	t.scan = reflect.TypeFor[any]()
	if r, ok := raw.(driver.RowsColumnTypeDatabaseTypeName); ok {
		t.name = r.ColumnTypeDatabaseTypeName(i)
	}
	if r, ok := raw.(driver.RowsColumnTypeScanType); ok {
		t.scan = r.ColumnTypeScanType(i)
	}
	if r, ok := raw.(driver.RowsColumnTypeLength); ok {
		t.length, t.hasLength = r.ColumnTypeLength(i)
	}
	if r, ok := raw.(driver.RowsColumnTypeNullable); ok {
		t.nullable, t.hasNullable = r.ColumnTypeNullable(i)
	}
	if r, ok := raw.(driver.RowsColumnTypePrecisionScale); ok {
		t.precision, t.scale, t.hasScale = r.ColumnTypePrecisionScale(i)
	}
	return t
}

func (r *gateRows) describe(err error) string {
	if err != nil || r == nil {
		return ""
	}
	return r.Describe()
}

func (r *gateRows) Next(dest []driver.Value) error {
	err := r.Rows.Next(dest)
	if errors.Is(err, io.EOF) && r.err != nil {
		return r.err
	}
	return err
}

func (r *gateRows) HasNextResultSet() bool { return len(r.more) > 0 }

func (r *gateRows) NextResultSet() error {
	if len(r.more) == 0 {
		return io.EOF
	}
	next, more := r.more[0], r.more[1:]
	*r = *next
	r.more = more
	return nil
}

func (r *gateRows) ColumnTypeDatabaseTypeName(i int) string { return r.types[i].name }
func (r *gateRows) ColumnTypeScanType(i int) reflect.Type   { return r.types[i].scan }
func (r *gateRows) ColumnTypeLength(i int) (int64, bool) {
	return r.types[i].length, r.types[i].hasLength
}
func (r *gateRows) ColumnTypeNullable(i int) (bool, bool) {
	return r.types[i].nullable, r.types[i].hasNullable
}
func (r *gateRows) ColumnTypePrecisionScale(i int) (int64, int64, bool) {
	return r.types[i].precision, r.types[i].scale, r.types[i].hasScale
}
