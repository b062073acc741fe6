package migrations

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/edgaze-ai/runcounter/store/watched"
)

// readOf are the columns that triggers read of a row, each with its type as a
// value is cast to it: without a length, to which a cast would cut.
func readOf(t watched.Table) []watched.Column {
	columns := slices.DeleteFunc(slices.Clone(t.Columns), func(c watched.Column) bool { return c.Role == watched.StateSnapshot })
	for _, name := range t.Heartbeats {
		if !slices.ContainsFunc(columns, func(c watched.Column) bool { return c.Name == name }) {
			columns = append(columns, watched.Column{Name: name, Type: "timestamp with time zone"})
		}
	}
	for i, c := range columns {
		typ := bounded.ReplaceAllString(c.Type, "$1$2")
		if typ == "character" {
			typ = "bpchar"
		}
		columns[i].Type = typ
	}
	return columns
}

// bounded is a type of PostgreSQL's with a length or a precision.
var bounded = regexp.MustCompile(`^([a-z ]+)\(\d+(?:,-?\d+)?\)( [a-z ]+)?$`)

// counted are the columns of which a count is made, and all that the triggers of
// the ledger read: they fire at each end, and have a type for it, since a row of a
// known type costs half of a SELECT into a record. A status is text there: no type
// of the application's is held by ours.
func counted(t watched.Table) []watched.Column {
	roles := []watched.Role{watched.ID, watched.User, watched.Workflow, watched.Draft, watched.Status, watched.CompletedAt}
	columns := slices.DeleteFunc(readOf(t), func(c watched.Column) bool { return !slices.Contains(roles, c.Role) })
	for i, c := range columns {
		if c.Role == watched.Status {
			columns[i].Type = "text"
		}
	}
	return columns
}

// reads is the block that reads rows of a trigger's function into records of
// theirs, and does otherwise where a name or a type is not what it was.
func reads(t watched.Table, function, otherwise string, rows []string) string {
	var plain, again strings.Builder
	for _, row := range rows {
		dynamically := fmt.Sprintf("execute run_counter.reading(tg_relid) into %%s using %s.%s;", function, row)
		if strings.HasPrefix(function, "ledger_") {
			fmt.Fprintf(&plain, "%s := %s; ", row, countedRow(t, function+"."+row))
			fmt.Fprintf(&again, " declare v_read record; begin "+dynamically+" %s := %s; end;", "v_read", row, countedRow(t, "v_read"))
			continue
		}
		var list []string
		for _, c := range readOf(t) {
			list = append(list, fmt.Sprintf("%s.%s.%s::%s as %[3]s", function, row, watched.Ident(c.Name), c.Type))
		}
		fmt.Fprintf(&plain, "select %s into %s; ", strings.Join(list, ", "), row)
		fmt.Fprintf(&again, " "+dynamically, row)
	}
	return "begin " + plain.String() + "exception when others then " + otherwise + strings.TrimSpace(again.String()) + " end;"
}

func countedRow(t watched.Table, from string) string {
	var list []string
	for _, c := range counted(t) {
		list = append(list, fmt.Sprintf("%s.%s::%s", from, watched.Ident(c.Name), c.Type))
	}
	return "row(" + strings.Join(list, ", ") + ")::run_counter.counted"
}

// nothing makes a row's record one of nulls.
func nothing(t watched.Table, row string) string {
	var list []string
	for _, c := range readOf(t) {
		list = append(list, "null::"+c.Type+" as "+watched.Ident(c.Name))
	}
	return "select " + strings.Join(list, ", ") + " into " + row + ";"
}

// there is the block that looks for a run of the id of a row new.
func there(t watched.Table) string {
	return "begin v_there := exists (select from " + t.SQL() + " as r where " + t.Col("r", watched.ID) + " = " + t.Col("new", watched.ID) +
		"); exception when others then execute run_counter.looking(tg_relid) into v_there using " + t.Col("new", watched.ID) + "; end;"
}
