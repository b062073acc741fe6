package watched

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// A time of the table is a moment to us: it is read by [Table.Moment] and written
// by [Table.Written], whatever its column is. PostgreSQL's conversions raise on
// infinity and on values that are too far away, and a row of the application must
// never fail by us: so each stands inside a CASE that knows the bounds.

// bounds are the first and the last value of a column that are times, as SQL
// writes them; "" for a column that is not there.
func (c Column) bounds() (first, last string) {
	switch c.Kind {
	case TimestampTZ:
		return "'" + utc(store.FirstTime) + "'", "'" + utc(store.LastTime) + "'"
	case Timestamp:
		return "'" + clock(store.FirstTime) + "'", "'" + clock(store.LastTime) + "'"
	case Milliseconds:
		return strconv.FormatInt(store.FirstTime.UnixMilli(), 10), strconv.FormatInt(store.LastTime.UnixMilli(), 10)
	case Seconds:
		return strconv.FormatInt(store.FirstTime.Unix(), 10), strconv.FormatInt(store.LastTime.Unix(), 10)
	}
	return "", ""
}

// dated is the condition that a row has a time for the role, of one that a column
// plays. It is null or false where it has none.
func (t Table) dated(row string, role Role) string {
	c, _ := t.Column(role)
	first, last := c.bounds()
	return t.Col(row, role) + " between " + first + " and " + last
}

// Dated is the condition that a row says when its run ended.
func (t Table) Dated(row string) string { return t.dated(row, CompletedAt) }

// Undated is the contrary of Dated, and never null.
func (t Table) Undated(row string) string {
	c, _ := t.Column(CompletedAt)
	end := t.Col(row, CompletedAt)
	first, last := c.bounds()
	return "(" + end + " is null or " + end + " not between " + first + " and " + last + ")"
}

// Unsaid is Undated as the guard's WHEN has it, which is read anew at each
// statement: a timestamptz is compared with null alone, since two bounds cost an
// UPDATE 2 us. A sweep dates the rest, by what the row says beside it.
func (t Table) Unsaid(row string) string {
	if c, _ := t.Column(CompletedAt); c.Kind != TimestampTZ || !t.Has(UpdatedAt) && !t.Has(CreatedAt) {
		return t.Undated(row)
	}
	return t.Col(row, CompletedAt) + " is null"
}

// noTimes are the conditions that a row has no time when its run started or ended,
// but a value that can't be one. An index has them, and an ALTER of a column's type
// is stopped by them: those that nothing is counted or dated by are left out.
func (t Table) noTimes(row string) (conditions []string) {
	for _, role := range []Role{StartedAt, CompletedAt} {
		if c, there := t.Column(role); there {
			first, last := c.bounds()
			conditions = append(conditions, t.Col(row, role)+" not between "+first+" and "+last)
		}
	}
	return conditions
}

// moment returns the expression for a value of the column that is within its bounds.
func (t Table) moment(c Column, value string) string {
	const epoch = "(timestamp '1970-01-01' + "
	switch c.Kind {
	case Timestamp:
		return value + " at time zone " + Literal(t.Zone)
	case Milliseconds: // a product of all milliseconds would be rounded, as floats are
		return epoch + "(" + value + " / 1000) * interval '1 second' + (" + value + " % 1000) * interval '1 millisecond') at time zone 'UTC'"
	case Seconds:
		return epoch + value + " * interval '1 second') at time zone 'UTC'"
	}
	return value
}

// Moment is the role's time of a row, as timestamptz: null for what is none.
func (t Table) Moment(row string, role Role) string {
	c, there := t.Column(role)
	if !there {
		return t.Col(row, role)
	}
	return "(case when " + t.dated(row, role) + " then " + t.moment(c, t.Col(row, role)) + " end)" // PL/pgSQL's IF ends at a bare then
}

// Clamped is Moment with what lies before all times, and behind them, as
// infinities.
func (t Table) Clamped(row string, role Role) string {
	c, there := t.Column(role)
	first, last := c.bounds()
	if !there || c.Kind == TimestampTZ {
		return t.Col(row, role)
	}
	value := t.Col(row, role)
	return fmt.Sprintf("(case when %[1]s < %[2]s then '-infinity'::timestamptz when %[1]s > %[3]s then 'infinity' else %[4]s end)", value, first, last, t.moment(c, value))
}

// Step is the distance of two times of a role's column that are next to each
// other: a microsecond, or what they are rounded to.
func (t Table) Step(role Role) time.Duration {
	c, _ := t.Column(role)
	switch c.Kind {
	case Milliseconds:
		return time.Millisecond
	case Seconds:
		return time.Second
	}
	step := time.Microsecond
	if precision := precise.FindStringSubmatch(c.Type); precision != nil {
		for range 6 - int(precision[1][0]-'0') {
			step *= 10
		}
	}
	return step
}

// precise is a type of times with fewer digits than PostgreSQL keeps.
var precise = regexp.MustCompile(`^timestamp\(([0-5])\) `)

// Rounded is an expression of a moment as the role's column would keep it:
// the next one, so that what comes behind another moment stays behind it.
func (t Table) Rounded(role Role, moment string) string {
	step := t.Step(role).Microseconds()
	if step == 1 {
		return moment
	}
	return fmt.Sprintf("date_bin('%d microseconds', %s + interval '%d microseconds', timestamptz '0001-01-01 00:00:00+00')", step, moment, step-1)
}

// Kept is the moment that the role's column says when a moment was written: a
// later one where it is rounded, or in an hour that comes twice.
func (t Table) Kept(role Role, moment time.Time) time.Time {
	step := t.Step(role)
	if whole := moment.Truncate(step); whole.Before(moment) {
		moment = whole.Add(step)
	}
	if c, _ := t.Column(role); c.Kind == Timestamp {
		if zone, err := time.LoadLocation(t.Zone); err == nil { // else the database knows it, and we don't
			_, offset := moment.In(zone).Zone()
			return store.WallClock(moment.Add(time.Duration(offset)*time.Second), zone)
		}
	}
	return moment
}

// Written is an expression for the value of the role's column that means a
// moment, which another expression is; the expression itself for a role that is
// no time. It is null for a moment that the column can't hold.
func (t Table) Written(role Role, expression string) string {
	const moment = "w.moment"
	c, _ := t.Column(role)
	value := t.Rounded(role, moment)
	switch c.Kind {
	case TimestampTZ:
		if value == moment {
			return expression
		}
	case Timestamp:
		value += " at time zone " + Literal(t.Zone)
	case Milliseconds:
		value = "ceil(extract(epoch from " + moment + ") * 1000)::" + c.Type
	case Seconds:
		value = "ceil(extract(epoch from " + moment + "))::" + c.Type
	default:
		return expression
	}
	last := store.LastTime
	if c.Type == "integer" {
		last = time.Unix(1<<31-1, 0).UTC()
	}
	return fmt.Sprintf("(select case when %s between '%s' and '%s' then %s end from (select %s as moment) as w)",
		moment, utc(store.FirstTime), utc(last), value, strings.TrimSpace(expression))
}

func utc(at time.Time) string { return clock(at) + "+00" }

func clock(at time.Time) string { return at.Format("2006-01-02 15:04:05.999999") }
