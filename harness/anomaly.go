package harness

import "github.com/edgaze-ai/runcounter/harness/internal/engine"

// The names of anomalies (Berenson and others, 1995), each given where the
// reads and writes and the texts of the statements leave no doubt:
//
//   - lost update: one read a row, the other wrote it, and the one wrote over it
//     what has nothing to do with what the other had written.
//   - write skew: each read what the other wrote afterwards, and they wrote
//     different rows.
//   - phantom: one read, the other inserted into what was read, and the one
//     wrote something.
//   - stale read: one read a table, the other wrote it, and the one wrote
//     something afterwards. It is the name where none of the others is certain,
//     and goes by tables.
//   - non-repeatable read: within a transaction the same query had two answers, or
//     the same row was read twice, with the other's write in between.
//   - read skew: within a transaction one read what the other then wrote, and after
//     that something else that the other wrote: it has seen the one as it was before
//     and the other as it was afterwards. It goes by tables, as a stale read does.
//
// A dirty read has no name here, since none of the engines allows one.
const (
	aLostUpdate    = "lost update"
	aWriteSkew     = "write skew"
	aPhantom       = "phantom"
	aStaleRead     = "stale read"
	aNonRepeatable = "non-repeatable read"
	aReadSkew      = "read skew"
)

// fix says what usually helps against an anomaly, in words of the engine.
func fix(anomaly string, t engine.Traits) string {
	switch anomaly {
	case aLostUpdate:
		return "write by what is there (set n = n + 1), " + t.KeepRow + ", or compare a version in the update"
	case aWriteSkew:
		return t.ComeFirst
	case aPhantom:
		return "let a unique index decide (on conflict); or " + t.ComeFirst
	case aStaleRead:
		return t.ReadAfresh
	case aNonRepeatable:
		return "read once, or use repeatable read"
	case aReadSkew:
		return "read both in one statement, or in a transaction of repeatable read; where it writes by what it read, " + t.ComeFirst
	}
	return ""
}

// lostUpdate looks for a row that a read, b wrote, and a wrote over.
func lostUpdate(a, b *stretch) (name string, first, second edge, ok bool) {
	for _, mine := range a.statements {
		if mine.verb != "update" || !mine.blind || mine.idle {
			continue
		}
		for _, theirs := range b.statements {
			if theirs.verb != "update" || theirs.idle || !theirs.together(mine.wording) {
				continue
			}
			from := 0 // the last read of the row
			for _, read := range a.statements {
				switch {
				case read.step >= mine.step:
				case read.covers(mine.wording, read.answer):
					from = read.step
				case read.obscure: // perhaps another
					from = 0
				}
			}
			table := mine.table
			first, ok = before(a, b, func(e edge) bool { return staleRead(e) && plain(e.what) == table && e.from == from })
			if !ok {
				continue
			}
			second, ok = before(b, a, func(e edge) bool {
				return e.fromWrite && e.toWrite && plain(e.what) == table && e.from == first.to
			})
			if ok {
				return aLostUpdate, first, second, true
			}
		}
	}
	return "", first, second, false
}

// skew looks for two stretches of which each read what the other then wrote.
func skew(a, b *stretch) (name string, first, second edge, ok bool) {
	if first, ok = before(a, b, decides(a, b)); !ok {
		return "", first, second, false
	}
	// What a wrote after it had read is what b had read before.
	if second, ok = before(b, a, func(e edge) bool { return decides(b, a)(e) && e.to > first.from && e.from < first.to }); !ok {
		return "", first, second, false
	}
	if inserted(b, first.what) && inserted(a, second.what) {
		return aPhantom, first, second, true
	}
	if !disjoint(a, b) {
		return "", first, second, false
	}
	return aWriteSkew, first, second, true
}

// decides is a read on which more than its own statement can rest, of rows that
// are not certainly others than those that were written.
func decides(reader, writer *stretch) func(edge) bool {
	return func(e edge) bool {
		return staleRead(e) && !e.own && !elsewhere(reader, writer, e)
	}
}

// elsewhere reports whether all that one wrote into a table is certainly apart
// from what the other read of it there.
func elsewhere(reader, writer *stretch, e edge) bool {
	for _, read := range reader.statements {
		if read.step != e.from || read.table != plain(e.what) {
			continue
		}
		writes := 0
		for _, w := range writer.statements {
			if w.obscure {
				return false
			}
			if w.writes(e.what) {
				if writes++; !read.apart(w.wording) {
					return false
				}
			}
		}
		return writes > 0
	}
	return false
}

func (s *stretch) wroteAfter(step int) bool {
	for _, t := range s.accesses {
		if t.write && t.step > step {
			return true
		}
	}
	return false
}

func (s said) writes(what string) bool {
	return s.table == plain(what) && s.verb != "" && s.verb != "select"
}

// inserted reports whether all that a stretch wrote into a table were new rows.
func inserted(s *stretch, what string) bool {
	n := 0
	for _, w := range s.statements {
		if w.obscure {
			return false
		}
		if w.writes(what) {
			if n++; w.verb != "insert" || w.upsert {
				return false
			}
		}
	}
	return n > 0
}

// disjoint reports whether two stretches have certainly written different rows.
func disjoint(a, b *stretch) bool {
	for _, x := range a.accesses {
		for _, y := range b.accesses {
			if !x.write || !y.write || x.what != y.what {
				continue
			}
			if inserted(a, x.what) && inserted(b, x.what) {
				continue
			}
			mine, theirs := 0, 0
			for _, v := range a.statements {
				if v.obscure {
					return false
				}
				if !v.writes(x.what) {
					continue
				}
				mine++
				theirs = 0
				for _, w := range b.statements {
					if w.obscure {
						return false
					}
					if w.writes(x.what) {
						if theirs++; !v.apart(w.wording) {
							return false
						}
					}
				}
			}
			if mine == 0 || theirs == 0 {
				return false // by something that no text tells of
			}
		}
	}
	return true
}

// stale looks for a read of a that b's write made old, by which a then wrote.
func stale(a, b *stretch) (name string, first, second edge, ok bool) {
	if first, ok = before(a, b, decides(a, b)); !ok {
		return "", first, second, false
	}
	second, ok = before(b, a, func(e edge) bool { return e.toWrite && e.to > first.to })
	switch {
	case ok && inserted(b, first.what):
		return aPhantom, first, second, true
	case ok:
		return aStaleRead, first, second, true
	}
	if inserted(b, first.what) && a.wroteAfter(first.from) {
		if second, ok = before(b, a, func(e edge) bool { return e.to > first.to }); ok {
			return aPhantom, first, second, true
		}
	}
	if a.whole {
		return "", first, second, false
	}
	for _, one := range a.statements {
		for _, again := range a.statements {
			if one.verb == "select" && one.table == plain(first.what) && one.step == first.from && again.step > first.to &&
				again.text == one.text && again.answer != one.answer {
				second, ok = before(b, a, func(e edge) bool { return e.fromWrite && e.to == again.step && e.what == first.what })
				if ok {
					return aNonRepeatable, first, second, true
				}
			}
		}
	}
	return readSkew(a, b, first)
}

// readSkew looks for something of b's that a read after its first read was old.
func readSkew(a, b *stretch, first edge) (name string, _, second edge, ok bool) {
	second, ok = before(b, a, func(e edge) bool {
		return e.fromWrite && !e.toWrite && !e.own && e.to > first.to && !elsewhere(a, b, edge{what: e.what, from: e.to})
	})
	if !ok {
		return "", first, second, false
	}
	for _, one := range a.statements {
		for _, again := range a.statements {
			if one.step == first.from && again.step == second.to && one.table == again.table && one.together(again.wording) {
				return aNonRepeatable, first, second, true
			}
		}
	}
	return aReadSkew, first, second, true
}
