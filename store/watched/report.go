package watched

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// Text writes the report for an operator: what was found, what is not there and
// what is lost by that, what means nothing yet, and the whole command with every
// mapping that could be guessed.
func (r Report) Text() string {
	var b strings.Builder
	t := r.Table
	fmt.Fprintf(&b, "Table %s", t)
	if t.Partitioned {
		b.WriteString(", partitioned")
	}
	b.WriteString("\n")
	if len(t.Columns) > 0 {
		b.WriteString("\n")
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "  ROLE\tCOLUMN\tTYPE\tREAD AS")
		for _, c := range t.Columns {
			as := string(c.Kind)
			if c.Kind == Timestamp {
				as += " in " + t.Zone
			}
			if !c.Writable {
				as += ", never written: the database generates it"
			}
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", c.Role, c.Name, c.Declared(), as)
		}
		_ = w.Flush() // to a builder
	}
	if len(r.Missing) > 0 {
		b.WriteString("\nNot there, and what is lost by that:\n")
		w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		for _, m := range r.Missing {
			fmt.Fprintf(w, "  %s\t%s\n", m.Role, m.Lost)
		}
		_ = w.Flush() // to a builder
	}
	section(&b, "Statuses in other words", r.mapped())
	if len(r.Unmapped) > 0 {
		section(&b, "Statuses without a meaning: such runs are not counted, are never ended, and take a slot of a limit", r.unmapped())
	}
	section(&b, "To know", r.Notes)
	section(&b, "It can't be watched", r.Problems)
	if args := r.Guessed.Args(); len(args) > 0 {
		fmt.Fprintf(&b, "\nWith every mapping that could be guessed; check each:\n  %s\n", r.Command())
	}
	return b.String()
}

func section(b *strings.Builder, head string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n", head)
	for _, line := range lines {
		fmt.Fprintf(b, "  %s\n", line)
	}
}

func (r Report) mapped() (lines []string) {
	for _, w := range r.Table.Statuses {
		if w.Theirs != string(w.Ours) {
			lines = append(lines, fmt.Sprintf("%s means %s", w.Theirs, w.Ours))
		}
	}
	return lines
}

func (r Report) unmapped() (lines []string) {
	for _, word := range r.Unmapped {
		if guess, ok := r.Guessed.Statuses[word]; ok {
			lines = append(lines, fmt.Sprintf("%s  (--status %s?)", word, shell(word+"="+string(guess))))
		} else {
			lines = append(lines, fmt.Sprintf("%s  (--status %s with one of %s)", word, shell(word+"=…"), join(ours)))
		}
	}
	return lines
}

// Command is the command that watches the table with every mapping that could be
// guessed.
func (r Report) Command() string {
	return strings.Join(append([]string{"runcounter migrate up"}, r.Guessed.Args()...), " ")
}

// Args returns the flags that say the same, quoted for a shell.
func (o Overrides) Args() (args []string) {
	flag := func(name, value string) { args = append(args, "--"+name+" "+shell(value)) }
	if o.Table != "" && o.Table != DefaultTable {
		flag("table", o.Table)
	}
	for _, role := range Roles() {
		if name, ok := o.Columns[role]; ok {
			flag("column", string(role)+"="+name)
		}
	}
	for _, theirs := range slices.Sorted(maps.Keys(o.Statuses)) {
		flag("status", theirs+"="+string(o.Statuses[theirs]))
	}
	if o.AnyCase {
		args = append(args, "--any-case")
	}
	for _, one := range [][2]string{{"timezone", o.Zone}, {"times", string(o.Times)}, {"guard", string(o.Guard)}, {"claim", o.Claim}} {
		if one[1] != "" {
			flag(one[0], one[1])
		}
	}
	if asked(o.UserWindows) {
		args = append(args, "--user-windows")
	}
	if asked(o.WorkflowWindows) {
		args = append(args, "--workflow-windows")
	}
	return args
}

// shell quotes a word where a shell would read anything into it.
func shell(word string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("_-=./+:@%", c)
	}
	if word != "" && strings.IndexFunc(word, func(c rune) bool { return !plain(c) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
