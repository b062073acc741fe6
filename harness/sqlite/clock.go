package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"modernc.org/sqlite"

	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

// clockFunctions are SQLite's functions of the time, and where their arguments
// name one: "now" is the virtual clock's there.
var clockFunctions = map[string][]int{
	"date": {0}, "time": {0}, "datetime": {0}, "julianday": {0}, "unixepoch": {0}, "strftime": {1}, "timediff": {0, 1},
	"current_date": nil, "current_time": nil, "current_timestamp": nil,
}

// currents are the functions that CURRENT_… stand for.
var currents = map[string]string{"current_date": "date", "current_time": "time", "current_timestamp": "datetime"}

// makeDriver makes the driver of a database: one of its own, since what is
// registered there must not reach others. What it registers computes nothing
// itself, but asks SQLite on another connection, the present in its place.
func (d *Database) makeDriver() error {
	d.driver = &sqlite.Driver{}
	asks, err := new(sqlite.Driver).Open(":memory:")
	if err != nil {
		return err
	}
	d.host.OnClose(func() { _ = asks.Close() })
	calculator := &physical{db: d, conn: asks, stmts: map[string]driver.Stmt{}}
	for name, places := range clockFunctions {
		err := d.driver.RegisterDeterministicScalarFunction(name, -1, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
			return calculator.time(name, places, args)
		})
		if err != nil {
			return fmt.Errorf("replace %s: %w", name, err)
		}
	}
	return nil
}

// time computes a function of the time.
func (p *physical) time(name string, places []int, args []driver.Value) (driver.Value, error) {
	present := driver.Value(p.db.host.Now().Format("2006-01-02 15:04:05.000"))
	args = slices.Clone(args)
	if current, ok := currents[name]; ok {
		name, args = current, append(args, present)
	}
	for _, place := range places {
		if place == len(args) && name != "timediff" {
			args = append(args, present)
		}
		if place >= len(args) {
			continue
		}
		switch text, _ := args[place].(string); strings.ToLower(text) {
		case "now":
			args[place] = present
		case "subsec", "subsecond":
			if name != "timediff" {
				args = slices.Insert(args, place, present)
			}
		}
	}
	marks := strings.TrimSuffix(strings.Repeat("?, ", len(args)), ", ")
	rows, err := p.queryRaw("select "+name+"("+marks+")", engine.Named(args))
	if err != nil {
		return nil, err
	}
	return rows.Values[0][0], nil
}

// opener opens connections by a driver that database/sql does not know by name:
// the name "sqlite" may be that of another library.
type opener struct {
	driver *sqlite.Driver
	dsn    string
}

func (o opener) Driver() driver.Driver                        { return o.driver }
func (o opener) Connect(context.Context) (driver.Conn, error) { return o.driver.Open(o.dsn) }

func (d *Database) openKeeper() *sql.DB { return sql.OpenDB(opener{d.driver, d.dsn("")}) }

// drawnPattern finds names that an ORM draws: an address, or a random number.
var drawnPattern = regexp.MustCompile(`(?i)^[a-z_]*(0x)?[0-9a-f-]{6,}$`)

// pointText is a statement of a savepoint as the report shows it, a drawn name
// replaced by one that is the same in each run.
func (d *Database) pointText(text string, plan *plan) string {
	if !drawnPattern.MatchString(plan.point) || !strings.ContainsAny(plan.point, "0123456789") {
		return text
	}
	name, ok := d.points[plan.point]
	if !ok {
		name = fmt.Sprintf("point%d", len(d.points)+1)
		d.points[plan.point] = name
	}
	return [...]string{setSavepoint: "savepoint ", releaseSavepoint: "release ", backToSavepoint: "rollback to "}[plan.savepoint] + name
}
