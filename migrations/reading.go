package migrations

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/edgaze-ai/runcounter/store/watched"
)

// readOf lists the columns that triggers read of a row, each with its type in ours:
// one without a length, to which a cast would cut, and text for a status, since no
// type of the application's is held by ours.
func readOf(t watched.Table) []watched.Column {
	columns := slices.DeleteFunc(slices.Clone(t.Columns), func(c watched.Column) bool { return c.Role == watched.StateSnapshot })
	for _, name := range t.Heartbeats {
		if !slices.ContainsFunc(columns, func(c watched.Column) bool { return c.Name == name }) {
			columns = append(columns, watched.Column{Name: name, Type: "timestamp with time zone"})
		}
	}
	for i, c := range columns {
		typ := bounded.ReplaceAllString(c.Type, "$1$2")
		switch {
		case c.Role == watched.Status:
			typ = "text"
		case typ == "character":
			typ = "bpchar"
		}
		columns[i].Type = typ
	}
	return columns
}

// bounded matches a type of PostgreSQL's with a length or a precision.
var bounded = regexp.MustCompile(`^([a-z ]+)\(\d+(?:,-?\d+)?\)( [a-z ]+)?$`)

// counted lists the columns that decide a count; the ledger's triggers read no others.
func counted(t watched.Table) []watched.Column {
	roles := []watched.Role{watched.ID, watched.User, watched.Workflow, watched.Draft, watched.Status, watched.CompletedAt}
	return slices.DeleteFunc(readOf(t), func(c watched.Column) bool { return !slices.Contains(roles, c.Role) })
}

// reads returns the block that reads rows of a trigger's function into variables of
// their names and of a type of ours, and does otherwise where a name or a type is
// not what it was. A row that is called "ended old" is read where it has an end.
func reads(t watched.Table, typ, function, otherwise string, rows []string) string {
	columns := map[string][]watched.Column{"seen": readOf(t), "counted": counted(t)}[typ]
	read := func(row, from string) string {
		list := make([]string, len(columns))
		for i, c := range columns {
			list[i] = from + "." + watched.Ident(c.Name) + "::" + c.Type
		}
		return row + " := row(" + strings.Join(list, ", ") + ")::run_counter." + typ + ";"
	}
	var plain, again strings.Builder
	for _, row := range rows {
		row, ended := strings.CutPrefix(row, "ended ")
		from := function + "." + row
		if ended {
			fmt.Fprintf(&plain, "if %s is not null then %s end if; ", t.Col(from, watched.CompletedAt), read(row, from))
		} else {
			plain.WriteString(read(row, from) + " ")
		}
		fmt.Fprintf(&again, "execute run_counter.reading(tg_relid) into v_read using %s; %s ", from, read(row, "v_read"))
	}
	again.WriteString("end;")
	return "begin " + plain.String() + "exception when others then " + otherwise + "declare v_read record; begin " + again.String() + " end;"
}

// there returns the block that looks for a run of the id of a row new.
func there(t watched.Table) string {
	return "begin v_there := exists (select from " + t.SQL() + " as r where " + t.Col("r", watched.ID) + " = " + t.Col("new", watched.ID) +
		"); exception when others then execute run_counter.looking(tg_relid) into v_there using " + t.Col("new", watched.ID) + "; end;"
}
