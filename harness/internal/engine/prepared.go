package engine

import (
	"context"
	"database/sql/driver"
)

// A Runner is a connection that runs texts.
type Runner interface {
	driver.ExecerContext
	driver.QueryerContext
}

// Prepared is a text that its connection runs whenever it is asked to: nothing is kept
// of it elsewhere.
type Prepared struct {
	On     Runner
	Text   string
	Inputs int // how many arguments it takes; -1 where the connection tells when it runs
}

// Close does nothing.
func (p *Prepared) Close() error { return nil }

// NumInput returns the number of arguments.
func (p *Prepared) NumInput() int { return p.Inputs }

// Exec runs the text.
func (p *Prepared) Exec(args []driver.Value) (driver.Result, error) {
	return p.ExecContext(context.Background(), Named(args))
}

// Query runs the text, and returns its rows.
func (p *Prepared) Query(args []driver.Value) (driver.Rows, error) {
	return p.QueryContext(context.Background(), Named(args))
}

// ExecContext runs the text.
func (p *Prepared) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return p.On.ExecContext(ctx, p.Text, args)
}

// QueryContext runs the text, and returns its rows.
func (p *Prepared) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return p.On.QueryContext(ctx, p.Text, args)
}

// Named gives arguments their places.
func Named(args []driver.Value) []driver.NamedValue {
	list := make([]driver.NamedValue, len(args))
	for i, v := range args {
		list[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return list
}
