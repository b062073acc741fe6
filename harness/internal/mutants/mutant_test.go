package mutants

import (
	"fmt"
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// edits are mutants in short: the kind, and what becomes what.
func edits(src []byte, all []Mutant) []string {
	var short []string
	for _, m := range all {
		short = append(short, fmt.Sprintf("%s: %s => %s", m.Kind, squeeze(string(src[m.Start:m.End])), squeeze(m.New)))
	}
	return short
}

func TestMutantsOfGo(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		body string
		want []string
	}{
		"conditions": {`if a < b && !c { return nil }`, []string{
			"never: a < b && !c => false && (a < b && !c)", "negated: < => >=", "shifted: < => <=", "joined: && => ||", "negated: ! => "}},
		"an error that is passed on": {`if err := f(); err != nil { return err }`, []string{
			"never: err != nil => false && (err != nil)", "no-error: err => nil"}},
		"statements": {"x = f(\n1)\nf(2)\ny := 3\ndefer f(4)\n_ = y", []string{
			"removed: x = f( 1) => ", "constant: 1 => 0", "removed: f(2) => ", "removed: defer f(4) => "}},
		"numbers":        {`x = x + 1*time.Second; x++; x -= 7`, []string{"removed: x = x + 1*time.Second => ", "arithmetic: + => -", "constant: 1 => 0", "removed: x++ => ", "arithmetic: ++ => --", "removed: x -= 7 => ", "arithmetic: -= => +="}},
		"texts":          {`x = "a" + "b" + c`, []string{`removed: x = "a" + "b" + c => `}},
		"arguments":      {`return f(ctx, from, to.x, nil, 2)`, []string{"no-error: f(ctx, from, to.x, nil, 2) => nil", "swapped: from, to.x => to.x, from"}},
		"for people":     {`slog.Info("x", "n", 1); s.log.Warn("x", 1 < 2); return fmt.Errorf("%d", 1)`, []string{`no-error: fmt.Errorf("%d", 1) => nil`}},
		"SQL":            {"x = `select 1 from t where a = 0`", []string{"removed: x = `select 1 from t where a = 0` => ", "sql-negated: = => <>", "sql-constant: 0 => 1"}},
		"English":        {`x = "with one or the other, and not from here"`, []string{`removed: x = "with one or the other, and not from here" => `}},
		"a nested error": {`g(func() (int, error) { return 7, err })`, []string{"removed: g(func() (int, error) { return 7, err }) => ", "no-error: err => nil"}},
		"no error":       {`g(func() int { return 7 })`, []string{"removed: g(func() int { return 7 }) => "}},
	} {
		src := []byte("package p\n\nfunc f() error {\n" + tt.body + "\n}\n")
		all, err := Of("p.go", src)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, edits(src, all)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
		for _, m := range all {
			edited := m.Apply(src)
			if _, err := parser.ParseFile(token.NewFileSet(), "p.go", edited, 0); err != nil {
				t.Errorf("%s: %s: %v", name, m.Name(), err)
			}
			if strings.Count(string(edited), "\n") != strings.Count(string(src), "\n") {
				t.Errorf("%s: %s moves other lines", name, m.Name())
			}
		}
	}
}

func TestMutantsOfSQL(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		sql  string
		want []string
	}{
		"conjuncts": {`select a from t where a > 2 and (b or c) and d between x and y`, []string{
			"sql-dropped: a > 2 and => ", "sql-shifted: > => >=", "sql-joined: and => or", "sql-dropped: and (b or c) => ",
			"sql-joined: or => and", "sql-joined: and => or", "sql-dropped: and d between x and y => "}},
		"assignments": {`update t set a = 1, b = (c = d) where e = f`, []string{
			"sql-constant: 1 => 0", "sql-negated: = => <>", "sql-negated: = => <>"}},
		"null":      {`select x where a is not distinct from b or c is distinct from d or e is null or f is not null`, []string{"sql-negated: is not distinct from => is distinct from", "sql-joined: or => and", "sql-negated: is distinct from => is not distinct from", "sql-joined: or => and", "sql-negated: is null => is not null", "sql-joined: or => and", "sql-negated: is not null => is null"}},
		"locks":     {`select a from t for update of t skip locked`, []string{"sql-unlocked: for update of t skip locked => "}},
		"a weaker":  {`select a from t for no key update`, []string{"sql-unlocked: for no key update => "}},
		"conflicts": {`insert into t values (1) on conflict (a, b) do nothing`, []string{"sql-removed: on conflict (a, b) do nothing => "}},
		"coalesce":  {`select coalesce(max(a), b) from t`, []string{"sql-coalesce: coalesce(max(a), b => (max(a)", "sql-swapped: max => min"}},
		"numbers":   {`set n = n + 1 where a - 1 > 0`, []string{"sql-arithmetic: + => -", "sql-constant: 1 => 0", "sql-arithmetic: - => +", "sql-constant: 1 => 0", "sql-shifted: > => >=", "sql-constant: 0 => 1"}},
		"a comment": {"select a -- b and c\n/* d = e */ from t", nil},
		"a text":    {`select 'a and b''s = c', "d or e" from t`, nil},
		"triggers":  {`create or replace trigger x after insert or update on t`, nil},
		"plpgsql": {`create function f() as $fn$
declare n integer := 2;
begin
    perform g();
    if n = 2 and not {{x "y"}} then
        n := 3;
    end if;
    raise exception 'a and b' using hint = 'c';
end
$fn$;`, []string{
			"sql-removed: perform g() => null", "sql-dropped: n = 2 and => ", `sql-never: n = 2 and not {{x "y"}} => false and (n = 2 and not {{x "y"}})`,
			"sql-negated: = => <>", "sql-joined: and => or", `sql-dropped: and not {{x "y"}} => `, "sql-negated: not => ",
			"sql-removed: n := 3 => null", "sql-removed: raise exception 'a and b' using hint = 'c' => null"}},
		"branches of the template": {"select a from t where a > 2 and {{if .X}} b {{else}} c {{end}}", []string{"sql-dropped: a > 2 and => ", "sql-shifted: > => >=", "sql-joined: and => or"}},
		"privileges":               {"revoke all on t from public;\ncomment on table t is 'x and y';\nselect 1 where a <> b", []string{"sql-removed: revoke all on t from public => ", "sql-negated: <> => ="}},
	} {
		src := []byte(tt.sql)
		all, err := Of("x.sql", src)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, edits(src, all)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

func TestASampleIsTheFirstOfALargerOne(t *testing.T) {
	t.Parallel()
	draw := func(seed uint64) []Mutant {
		all := make([]Mutant, 50)
		for i := range all {
			all[i].Line = i
		}
		Shuffle(all, seed)
		return all
	}
	if diff := cmp.Diff(draw(7), draw(7)); diff != "" {
		t.Errorf("one seed gives two orders:\n%s", diff)
	}
	if cmp.Equal(draw(7), draw(8)) {
		t.Error("two seeds give one order")
	}
}

func TestTwoMutantsNeverHaveOneKey(t *testing.T) {
	t.Parallel()
	src := []byte("package p\n\nfunc f() {\nx = 1\nx = 1\n}\n")
	all, err := Of("p.go", src)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, m := range all {
		if seen[m.Key] {
			t.Errorf("%s: twice", m.Key)
		}
		seen[m.Key] = true
	}
	if len(seen) != 4 {
		t.Errorf("got %d keys, want 4", len(seen))
	}
}

func TestAcceptedSurvivorsHaveAReason(t *testing.T) {
	t.Parallel()
	got, err := ParseAccepted("# a comment\na.go negated: x\n    either will do:\n    they are equal\n\nb.go never: y\n\tlogged alone\n")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Accepted{"a.go negated: x": "either will do: they are equal", "b.go never: y": "logged alone"}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for text, want := range map[string]string{
		"a\nb\n  r\n":     "no reason",
		"a\n":             "no reason",
		"  r\n":           "without a survivor",
		"a\n r\na\n r2\n": "twice",
	} {
		if _, err := ParseAccepted(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}
