package watched

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/edgaze-ai/runcounter/store"
)

// Overrides describe the table in an operator's words, in place of what would be
// found.
type Overrides struct {
	// Table is schema.table; "" is public.workflow_runs.
	Table string `json:"table,omitempty"`
	// Columns are the names of the columns that play a role. An empty name says
	// that the table has none for it.
	Columns map[Role]string `json:"columns,omitempty"`
	// Statuses give the table's words a meaning.
	Statuses map[string]store.Status `json:"statuses,omitempty"`
	// AnyCase says that a status is the same in capitals and in small letters, as
	// one of citext is.
	AnyCase bool `json:"any_case,omitempty"`
	// Zone is the one that timestamps without zone are in; "" is UTC.
	Zone string `json:"timezone,omitempty"`
	// Times says what integers count where they stand for times: Milliseconds or
	// Seconds since 1970.
	Times Kind `json:"times,omitempty"`
	// Guard says how the guard treats an outcome that is overwritten.
	Guard Guard `json:"guard,omitempty"`
	// Claim names the claim of a signed-in user's token that says whose counts they may
	// read, such as sub or org_id.
	Claim string `json:"claim,omitempty"`
	// UserWindows and WorkflowWindows say whether the runs of a user, and those of a
	// workflow or draft over all its users, have an index by which they are counted in a
	// window; nil is no.
	UserWindows     *bool `json:"user_windows,omitempty"`
	WorkflowWindows *bool `json:"workflow_windows,omitempty"`
}

// Guard is a mode of the guard.
type Guard string

// What the guard may do.
const (
	GuardOn      Guard = "on"     // it keeps the first outcome, for every writer
	GuardReports Guard = "report" // it lists what it would have kept: a retry may reuse its row
	GuardOff     Guard = "off"
)

// DefaultTable is watched where nothing else is named.
const DefaultTable = "public.workflow_runs"

// SetColumn takes ROLE=NAME.
func (o *Overrides) SetColumn(s string) error {
	if err := mustBeText(s); err != nil {
		return err
	}
	role, name, found := strings.Cut(s, "=")
	if !found {
		return fmt.Errorf("write ROLE=NAME, such as user=owner_id; %q has no =", s)
	}
	if factsOf(Role(role)) == nil {
		return fmt.Errorf("%q is no role: the roles are %s", role, join(Roles()))
	}
	if other, twice := o.Columns[Role(role)]; twice {
		return fmt.Errorf("the role %s is given to %s and to %s: give it to one", role, other, name)
	}
	if o.Columns == nil {
		o.Columns = map[Role]string{}
	}
	o.Columns[Role(role)] = name
	return nil
}

// SetStatus takes THEIRS=OURS.
func (o *Overrides) SetStatus(s string) error {
	if err := mustBeText(s); err != nil {
		return err
	}
	// From the end: theirs may hold any character, ours has no =.
	i := strings.LastIndexByte(s, '=')
	if i < 0 {
		return fmt.Errorf("write THEIRS=OURS, such as canceled=cancelled; %q has no =", s)
	}
	theirs, meaning := s[:i], store.Status(s[i+1:])
	if !meaning.Known() {
		return fmt.Errorf("%q is no status of ours: they are %s", meaning, join(ours))
	}
	if other, twice := o.Statuses[theirs]; twice && other != meaning {
		return fmt.Errorf("the status %q is given two meanings, %s and %s: give it one", theirs, other, meaning)
	}
	if o.Statuses == nil {
		o.Statuses = map[string]store.Status{}
	}
	o.Statuses[theirs] = meaning
	return nil
}

// mustBeText refuses what no database holds as text.
func mustBeText(s string) error {
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return fmt.Errorf("%q is no text in UTF-8", s)
	}
	return nil
}

// SetTimes takes milliseconds or seconds.
func (o *Overrides) SetTimes(s string) error {
	if k := Kind(s); k == Milliseconds || k == Seconds {
		o.Times = k
		return nil
	}
	return fmt.Errorf("%q is not what an integer counts since 1970: write %s or %s", s, Milliseconds, Seconds)
}

// SetGuard takes on, report or off.
func (o *Overrides) SetGuard(s string) error {
	if g := Guard(s); g == GuardOn || g == GuardReports || g == GuardOff {
		o.Guard = g
		return nil
	}
	return fmt.Errorf("%q is not what the guard can do: write %s, %s or %s", s, GuardOn, GuardReports, GuardOff)
}

// SetZone takes a name of the IANA time zone database, such as Europe/Berlin.
func (o *Overrides) SetZone(s string) error {
	if _, err := time.LoadLocation(s); err != nil || s == "" || s == "Local" {
		return fmt.Errorf("%q is no time zone: write a name such as UTC or Europe/Berlin", s)
	}
	o.Zone = s
	return nil
}

// SetTable takes SCHEMA.TABLE, or a table of schema public.
func (o *Overrides) SetTable(s string) error {
	schema, name := splitTable(s)
	if schema == "" || name == "" || strings.Contains(name, ".") {
		return fmt.Errorf("%q is no table: write SCHEMA.TABLE, such as public.workflow_runs", s)
	}
	o.Table = schema + "." + name
	return nil
}

// Over returns what is said here, and where nothing is, what the other says.
func (o Overrides) Over(other Overrides) Overrides {
	o.Table, o.Zone = cmp.Or(o.Table, other.Table), cmp.Or(o.Zone, other.Zone)
	o.AnyCase = o.AnyCase || other.AnyCase
	o.Times, o.Guard, o.Claim = cmp.Or(o.Times, other.Times), cmp.Or(o.Guard, other.Guard), cmp.Or(o.Claim, other.Claim)
	o.UserWindows, o.WorkflowWindows = cmp.Or(o.UserWindows, other.UserWindows), cmp.Or(o.WorkflowWindows, other.WorkflowWindows)
	columns, statuses := map[Role]string{}, map[string]store.Status{}
	for _, said := range []Overrides{other, o} {
		maps.Copy(columns, said.Columns)
		maps.Copy(statuses, said.Statuses)
	}
	o.Columns, o.Statuses = columns, statuses
	return o
}

// Still returns what is said without the statuses that have gone since: labels of
// an enum that it has no longer.
func (o Overrides) Still(c Catalog) Overrides {
	o = o.Over(Overrides{}) // a copy
	status, _ := c.Column(cmp.Or(o.Columns[Status], Found(c, Status)))
	maps.DeleteFunc(o.Statuses, func(theirs string, _ store.Status) bool {
		return len(status.Labels) > 0 && !slices.Contains(status.Labels, theirs)
	})
	return o
}

// Role returns the role that a column is named for.
func (o Overrides) Role(column string) (Role, bool) {
	for role, name := range o.Columns {
		if name == column {
			return role, true
		}
	}
	return "", false
}

// SchemaAndName returns the table's schema and name.
func (o Overrides) SchemaAndName() (schema, name string) {
	if o.Table == "" {
		return splitTable(DefaultTable)
	}
	return splitTable(o.Table)
}

func splitTable(s string) (schema, name string) {
	schema, name, found := strings.Cut(s, ".")
	if !found {
		return "public", s
	}
	return schema, name
}

// ReadOverrides reads the JSON of Overrides. A field that it does not know, and
// a role or a status that there is not, are errors.
func ReadOverrides(r io.Reader) (Overrides, error) {
	text, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return Overrides{}, err
	}
	var read, o Overrides
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&read); err != nil {
		return Overrides{}, fmt.Errorf("read the table's description: %w", err)
	}
	if d.More() {
		return Overrides{}, errors.New("read the table's description: there is more than one JSON value")
	}
	for role, name := range read.Columns {
		if err := o.SetColumn(string(role) + "=" + name); err != nil {
			return Overrides{}, err
		}
	}
	for theirs, meaning := range read.Statuses {
		if err := o.SetStatus(theirs + "=" + string(meaning)); err != nil {
			return Overrides{}, err
		}
	}
	o.AnyCase, o.UserWindows, o.WorkflowWindows = read.AnyCase, read.UserWindows, read.WorkflowWindows
	for _, one := range []struct {
		value string
		set   func(string) error
	}{{read.Table, o.SetTable}, {read.Zone, o.SetZone}, {string(read.Times), o.SetTimes}, {string(read.Guard), o.SetGuard}, {read.Claim, o.SetClaim}} {
		if one.value != "" {
			if err := one.set(one.value); err != nil {
				return Overrides{}, err
			}
		}
	}
	return o, nil
}

func join[T ~string](all []T) string {
	words := make([]string, len(all))
	for i, one := range all {
		words[i] = string(one)
	}
	return strings.Join(words, ", ")
}
