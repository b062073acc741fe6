// Package mutants makes small wrong edits of Go and SQL, one at a time, and runs the
// tests that ought to fail with each. An edit that no test notices is a hole in the
// tests, or changes nothing.
//
// No file of the checkout is written: an edit is an overlay of the go command, which
// covers embedded files too.
//
// In Go a comparison is negated or shifted, && and || change places, ! is gone; an
// arithmetic operator is another one; 0 and 1, true and false, a duration and none
// change places; an if is never taken; a call, an assignment, a defer, a go, a send, a
// break or a continue is removed; an error is returned as nil; two neighbouring
// arguments that are names are swapped. In SQL, in files and in literals of Go, a
// comparison is negated or shifted, and IS [NOT] NULL and IS [NOT] DISTINCT FROM; AND
// and OR change places, and each side of an AND goes; NOT, DISTINCT, ON CONFLICT DO
// NOTHING, a lock of rows are gone; COALESCE is its first argument; + and -, 0 and 1,
// min and max, asc and desc change places; a statement that grants, or one of a body of
// PL/pgSQL, is removed; an IF of such a body is never taken.
//
// Left out are tests and the packages that serve them, generated files, and what is
// written for people alone: the arguments of loggers and of errors, methods Error, SQL's
// comments and the texts that it raises.
package mutants

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
)

// A Mutant is one edit of a file.
type Mutant struct {
	File       string // relative to the module's root, with slashes
	Line       int    // from 1
	Kind       string
	N          int    // its number among those of its kind in the line, from 1
	Start, End int    // the bytes that are replaced
	New        string // by this
	SQL        bool   // no compiler judges whether it is a program
	Key        string // what it does, without the line's number
}

// Name is File:Line:Kind, with .2 behind the second of its kind in the line.
func (m Mutant) Name() string {
	if m.N > 1 {
		return fmt.Sprintf("%s:%d:%s.%d", m.File, m.Line, m.Kind, m.N)
	}
	return fmt.Sprintf("%s:%d:%s", m.File, m.Line, m.Kind)
}

// Apply returns the file with the edit.
func (m Mutant) Apply(src []byte) []byte {
	return slices.Concat(src[:m.Start], []byte(m.New), src[m.End:])
}

// Diff is the edited lines, before and after.
func (m Mutant) Diff(src []byte) string {
	before, after := m.lines(src)
	var b strings.Builder
	for _, line := range strings.Split(before, "\n") {
		b.WriteString("  - " + line + "\n")
	}
	for _, line := range strings.Split(after, "\n") {
		b.WriteString("  + " + line + "\n")
	}
	return b.String()
}

// lines returns the whole lines that the edit touches, before and after.
func (m Mutant) lines(src []byte) (before, after string) {
	start := bytes.LastIndexByte(src[:m.Start], '\n') + 1
	end := len(src)
	if n := bytes.IndexByte(src[m.End:], '\n'); n >= 0 {
		end = m.End + n
	}
	return string(src[start:end]), string(src[start:m.Start]) + m.New + string(src[m.End:end])
}

// beside and inside are the lengths at which a Key is cut, in bytes: of the line on
// each side of the edit, and of what is replaced.
const beside, inside = 50, 120

// key tells the edit from others of the file, without the line's number.
func (m Mutant) key(src []byte) string {
	old := string(src[m.Start:m.End])
	before, _ := m.lines(src)
	lineStart := bytes.LastIndexByte(src[:m.Start], '\n') + 1
	head, tail := before[:m.Start-lineStart], before[m.End-lineStart:]
	if len(head) > beside {
		head = strings.ToValidUTF8(head[len(head)-beside:], "")
	}
	edit := fmt.Sprintf("{%s => %s}", cut(squeeze(old), inside), cut(squeeze(m.New), inside))
	return fmt.Sprintf("%s %s: %s", m.File, m.Kind, squeeze(head+edit+cut(tail, beside)))
}

func squeeze(text string) string { return strings.Join(strings.Fields(text), " ") }

func cut(text string, length int) string {
	if len(text) > length {
		return strings.ToValidUTF8(text[:length], "") + "…"
	}
	return text
}

// Of returns the mutants of a Go or SQL file, in the order of its text.
func Of(file string, src []byte) ([]Mutant, error) {
	var made []Mutant
	switch base := path.Base(file); {
	case strings.HasSuffix(base, "_test.go"), bytes.Contains(src, []byte("// Code generated ")):
		return nil, nil
	case strings.HasSuffix(base, ".go"):
		var err error
		if made, err = ofGo(file, src); err != nil {
			return nil, err
		}
	case strings.HasSuffix(base, ".sql"), strings.HasSuffix(base, ".sql.tmpl"):
		made = ofSQL(src, true)
	default:
		return nil, nil
	}
	slices.SortStableFunc(made, func(a, b Mutant) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.End, b.End), strings.Compare(a.Kind, b.Kind), strings.Compare(a.New, b.New))
	})
	made = slices.CompactFunc(made, func(a, b Mutant) bool { return a.Start == b.Start && a.End == b.End && a.New == b.New })
	names, keys := map[string]int{}, map[string]int{}
	for i := range made {
		m := &made[i]
		m.File = file
		m.Line = 1 + bytes.Count(src[:m.Start], []byte("\n"))
		name := m.Name()
		names[name]++
		m.N = names[name]
		m.Key = m.key(src)
		if keys[m.Key]++; keys[m.Key] > 1 {
			m.Key = fmt.Sprintf("%s #%d", m.Key, keys[m.Key])
		}
	}
	return made, nil
}

// Shuffle puts mutants into an order drawn by a seed: the first n are a sample, and
// the first of a larger one.
func Shuffle(all []Mutant, seed uint64) {
	draw := rand.New(rand.NewPCG(seed, 0))
	draw.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
}
