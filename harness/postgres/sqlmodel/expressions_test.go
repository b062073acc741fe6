package sqlmodel

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness/internal/harnesstest"
)

const kindsSchema = `create table e (i2 smallint, i4 int primary key, i8 bigint, n numeric(8,3), t text, v varchar(5), b bool, d date, ts timestamp, tz timestamptz, u uuid, iv interval, j jsonb);`

const kindsRows = `
	insert into e values (1, 1, 1, 1.5, 'a', 'a', true, '2026-01-31', '2026-01-31 10:00', '2026-01-31 10:00:00+00', '11111111-1111-4111-8111-111111111111', '1 day', '{"b": 1, "aa": [1, 2.50, null, "x"]}');
	insert into e values (-7, 2, 3000000000, -2.25, 'Ab%', 'b_', false, '2025-12-31', '2025-12-31 23:59:59.5', '2025-12-31 23:59:59.5+02', '22222222-2222-4222-8222-222222222222', '1 month 2 hours', '[]');
	insert into e values (30000, 3, -9000000000000000000, 99999.999, '', 'ä', null, '2024-02-29', null, '2024-02-29 00:00:00Z', null, '3 minutes', 'true');
	insert into e (i4) values (4)`

// kindsOf are columns and constants of each type.
var kindsOf = map[string][]string{
	"int":      {"i2", "i4", "i8", "0", "1", "-3", "40000", "3000000000", "2::smallint", "i4 - 2", "'7'::int", "-i4"},
	"numeric":  {"n", "1.5", "-0.25", "100.00", "2::numeric", "n * 2", "7.0", "'1.10'::numeric(5,1)", "i4::numeric"},
	"text":     {"t", "v", "'a'", "'Ab%'", "'ä'", "i4::text", "n::text", "'x'::varchar(3)", "'abcdefg'::varchar(3)", "b::text", "d::text", "tz::text", "j::text", "iv::text"},
	"bool":     {"b", "true", "false", "'yes'::bool", "null", "i4::boolean"},
	"date":     {"d", "'2026-03-01'::date", "date '2024-02-29'", "tz::date"},
	"ts":       {"ts", "tz", "timestamp '2026-01-31 10:00'", "'2026-01-01 00:00:00+00'::timestamptz", "d::timestamp"},
	"interval": {"iv", "interval '1 day'", "'90 minutes'::interval", "interval '1 month'", "'-1 day 3 seconds'::interval"},
	"uuid":     {"u", "'11111111-1111-4111-8111-111111111111'::uuid"},
}

type expressions struct{ *rand.Rand }

func (g expressions) pick(list []string) string { return list[g.IntN(len(list))] }

// of draws an expression of a type, with no more parentheses than it must.
func (g expressions) of(kind string, depth int) string {
	if depth == 0 || g.IntN(6) == 0 {
		return g.pick(kindsOf[kind])
	}
	one := func(kind string) string { return g.of(kind, depth-1) }
	switch g.IntN(8) {
	case 0:
		return fmt.Sprintf("coalesce(%s, %s)", one(kind), one(kind))
	case 1:
		return fmt.Sprintf("case when %s then %s else %s end", one("bool"), one(kind), one(kind))
	case 2:
		return fmt.Sprintf("%s(%s, %s)", g.pick([]string{"nullif", "greatest", "least"}), one(kind), one(kind))
	case 3:
		return "(" + one(kind) + ")"
	}
	switch kind {
	case "int", "numeric":
		return g.arithmetic(kind, one)
	case "text":
		return g.pick([]string{one("text") + " || " + one(g.pick([]string{"text", "int", "numeric"})), "lower(" + one("text") + ")", "upper(" + one("text") + ")", "replace(" + one("text") + ", 'a', 'bc')", "concat(" + one("int") + ", " + one("text") + ")"})
	case "bool":
		return g.truth(one)
	case "date":
		return one("date") + g.pick([]string{" + ", " - "}) + "i4"
	case "ts":
		return one("ts") + g.pick([]string{" + ", " - "}) + one("interval")
	case "interval":
		return g.pick([]string{one("interval") + " + " + one("interval"), one("interval") + " * 2", "tz - '2026-01-01 00:00:00+00'::timestamptz"})
	}
	return g.pick(kindsOf[kind])
}

func (g expressions) arithmetic(kind string, one func(string) string) string {
	switch g.IntN(6) {
	case 0:
		if kind == "int" {
			return g.pick([]string{"length(" + one("text") + ")", "hashtext(" + one("text") + ")", one("date") + " - " + one("date"), "abs(" + one("int") + ")"})
		}
		return one("int") + g.pick([]string{" * ", " + "}) + one("numeric")
	case 1:
		return "- " + one(kind)
	}
	return one(kind) + g.pick([]string{" + ", " - ", " * ", " / ", " % "}) + one(kind)
}

func (g expressions) truth(one func(string) string) string {
	kind := g.pick([]string{"int", "numeric", "text", "date", "ts", "interval", "uuid", "bool"})
	switch g.IntN(9) {
	case 0:
		return one("bool") + " and " + one("bool")
	case 1:
		return one("bool") + " or " + one("bool")
	case 2:
		return "not " + one("bool")
	case 3:
		return one(kind) + g.pick([]string{" is null", " is not null"})
	case 4:
		return one("bool") + g.pick([]string{" is true", " is not false", " is unknown"})
	case 5:
		return fmt.Sprintf("%s %s (%s, %s)", one(kind), g.pick([]string{"in", "not in"}), one(kind), one(kind))
	case 6:
		return fmt.Sprintf("%s between %s and %s", one(kind), one(kind), one(kind))
	case 7:
		return one("text") + g.pick([]string{" like ", " not ilike "}) + one("text")
	}
	return one(kind) + g.pick([]string{" = ", " <> ", " < ", " >= ", " is distinct from "}) + one(kind)
}

// TestGeneratedExpressionsAsOnPostgreSQL compares types, operators, functions
// and precedence.
func TestGeneratedExpressionsAsOnPostgreSQL(t *testing.T) {
	t.Parallel()
	h := newTheatre(t, 1)
	h.must(kindsSchema + kindsRows)
	s, err := newStage(kindsSchema+kindsRows, 1)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := s.contents(), h.contents([]string{"e"}); !slices.Equal(a, b) {
		t.Errorf("contents:\nthe model:  %s\nPostgreSQL: %s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
	trials, refused, failures := harnesstest.Trials(t, 4000), 0, map[string]int{}
	wrong := 0
	for n := range trials {
		g := expressions{rand.New(rand.NewPCG(n, 7))}
		kind := g.pick([]string{"int", "numeric", "text", "bool", "bool", "date", "ts", "interval", "uuid"})
		sql := fmt.Sprintf("select %s from e order by i4", g.of(kind, 1+g.IntN(3)))
		if g.IntN(4) == 0 {
			column := g.pick([]string{"i2", "i8", "n", "t", "v", "b", "d", "ts", "tz", "u", "iv"})
			sql = fmt.Sprintf("update e set %s = %s where i4 = 1 returning %s", column, g.of(kind, 1), column)
		}
		mine, _ := s.send(move{sql: sql})
		if strings.HasPrefix(mine.state, "refused") {
			refused++
			continue
		}
		theirs := ask(h.sessions[0].conn, sql)
		if failures[theirs.state]++; mine.String() != theirs.String() {
			t.Errorf("seed %d: %s\nthe model:  %s\nPostgreSQL: %s", n, sql, mine, theirs)
			if wrong++; wrong == 15 {
				t.FailNow()
			}
		}
	}
	t.Logf("%d statements, %d of them refused; states %v", trials, refused, failures)
}
