package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// reads takes a and b for functions that read.
func readsAB(name string) bool { return name == "a" || name == "b" }

// marked is a body with its gates as numbers.
func marked(body string) (text string, g gatedBody, err error) {
	g, err = gatePlpgsql(body, readsAB, func(n int) string { return fmt.Sprintf("@%d ", n) })
	return strings.NewReplacer(insertBegins, "", insertEnds, "").Replace(g.text), g, err
}

func TestGatesStandBeforeWhatQueries(t *testing.T) {
	for _, test := range []struct {
		name, body, want string
		left             []int
		runs             []string
	}{
		{"plain statements", `begin select 1 into x; x := x + 1; null; perform f(); raise notice 'select %', x; return x; end`,
			`begin @0 select 1 into x; x := x + 1; null; @1 perform f(); raise notice 'select %', x; return x; end`, nil, nil},
		{"assignments", `begin x := (select 1); y[2] = a(1); z.w := c(1); "select" := 3; n := count(*) from t; select := 1; d := extract(year from e) is distinct from 3; end;`,
			`begin @0 x := (select 1); @1 y[2] = a(1); z.w := c(1); "select" := 3; @2 n := count(*) from t; @3 select := 1; d := extract(year from e) is distinct from 3; end;`, nil, nil},
		{"an if", `begin if x then insert into t values (1); elsif (select true) then delete from t; else if exists (select from t) then null; end if; end if; end`,
			`begin @1 if x then @0 insert into t values (1); elsif (select true) then @2 delete from t; else @3 if exists (select from t) then null; end if; end if; end`, nil, nil},
		{"two conditions", "begin if a() then null;\nelseif b() then null; end if; end", "begin @0 if a() then null;\nelseif b() then null; end if; end", []int{2}, nil},
		{"a case", `begin case x when 1 then update t set n = 1; when a() then null; else null; end case; case when (case when true then true end) then null; end case; end`,
			`begin @1 case x when 1 then @0 update t set n = 1; when a() then null; else null; end case; case when (case when true then true end) then null; end case; end`, nil, nil},
		{"a while", `begin <<l>> while (select n from t) > 0 loop continue l when x; exit; end loop l; end`,
			`begin @0 <<l>> while (select n from t) > 0 loop @1 continue l when x; exit; @2 end loop l; end`, nil, nil},
		{"loops", `begin loop exit when not found; end loop; for i in 1..10 loop null; end loop; for i in reverse a(1)..2 by 3 loop null; end loop; foreach x slice 1 in array y loop null; end loop; end`,
			`begin loop exit when not found; end loop; for i in 1..10 loop null; end loop; @0 for i in reverse a(1)..2 by 3 loop null; end loop; foreach x slice 1 in array y loop null; end loop; end`, nil, nil},
		{"a call behind the dots", `begin for i in 1..a(1) loop null; end loop; end`, `begin @0 for i in 1..a(1) loop null; end loop; end`, nil, nil},
		{"two bounds", `begin for i in a(1)..b(1) loop null; end loop; end`, `begin @0 for i in a(1)..b(1) loop null; end loop; end`, []int{1}, nil},
		{"queries of loops", `begin for r in select * from t loop null; end loop; for r in select * from t for update loop null; end loop; for r in c loop null; end loop; end`,
			`begin @0 for r in select * from t loop null; end loop; @1 for r in select * from t for update loop null; @2 end loop; @3 for r in c loop null; @4 end loop; end`, nil, nil},
		{"blocks", `<<o>> declare x int := 1; begin <<i>> declare y int := (select 1); begin y := a(); exception when unique_violation or sqlstate '22000' then insert into t values (1); when others then raise; end i; end o;`,
			`<<o>> declare x int := 1; begin @0 <<i>> declare y int := (select 1); begin @1 y := a(); exception when unique_violation or sqlstate '22000' then @2 insert into t values (1); when others then raise; end i; end o;`, nil, nil},
		{"declared by queries", "#variable_conflict use_column\n<<o>>\ndeclare x int := a(); c cursor for select 1;\n y constant int not null default (select 1); begin return x; end o; -- over",
			"#variable_conflict use_column\nbegin@0 <<o>>\ndeclare x int := a(); c cursor for select 1;\n y constant int not null default (select 1); begin return x; end o; end; -- over", []int{4}, nil},
		{"what is executed", "begin execute 'delete from t' using x;\nexecute 'select ' || x into y;\nexecute $q$select 'a', \"b\"$q$;\nexecute 'select 1; select 2';\nfor r in execute 'select ''x''' loop null; end loop; return query execute f; open c for execute 'select 5'; end",
			"begin @0 execute 'delete from t' using x;\n@1 execute 'select ' || x into y;\n@2 execute $q$select 'a', \"b\"$q$;\n@3 execute 'select 1; select 2';\n@4 for r in execute 'select ''x''' loop null; @5 end loop; @6 return query execute f; @7 open c for execute 'select 5'; end",
			[]int{2, 4, 5}, []string{"delete from t", `select 'a', "b"`, "select 'x'", "select 5"}},
		{"several in one", "begin raise notice '% %', a(), b(); assert a(), 'no';\nraise exception using message = a(), hint = b(); do 'begin end'; return query select 1; return next a(); get diagnostics x = row_count; close c; fetch c into x; call a(); commit; set local x = 1; end",
			"begin @0 raise notice '% %', a(), b(); @1 assert a(), 'no';\n@2 raise exception using message = a(), hint = b(); @3 do 'begin end'; @4 return query select 1; @5 return next a(); get diagnostics x = row_count; close c; @6 fetch c into x; @7 call a(); @8 commit; set local x = 1; end",
			[]int{1, 2}, nil},
		{"comments and strings", "begin -- select 1;\n/* end; /* nested */ */ perform ';', $$;$$, e';', \"if;\"; x := 'a''b;'\n';'; end",
			"begin -- select 1;\n/* end; /* nested */ */ @0 perform ';', $$;$$, e';', \"if;\"; x := 'a''b;'\n';'; end", nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, g, err := marked(test.body)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("gates (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]any{test.left, test.runs}, []any{g.left, g.runs}); diff != "" {
				t.Errorf("left, and what runs (-want +got):\n%s", diff)
			}
			if back := withoutGates(g.text); back != test.body {
				t.Errorf("without its gates it is %q", back)
			}
		})
	}
}

func TestABodyThatIsNotUnderstoodIsRefused(t *testing.T) {
	for body, want := range map[string]string{
		``:                                     "line 1: neither declare nor begin",
		`select 1`:                             "line 1: neither declare nor begin",
		`begin end x y`:                        "line 1: more than a block",
		"begin\nselect (1;\n); end":            "line 2: a semicolon in parentheses",
		"begin select 1) ; end":                "line 1: a parenthesis too many",
		"begin if x; then end if; end":         "line 1: a semicolon before then",
		"begin loop select 1; end if; end":     "line 1: no loop where one is looked for",
		"begin select 1":                       "line 1: no semicolon",
		"begin null;":                          "line 1: no end",
		`begin x := 'a\'; y := 'b'; end`:       "line 1: a backslash in a string, which means two things",
		"begin /*harness:*/ end":               "line 1: it holds the words by which gates are known",
		"begin <<l>> x := 1; end":              "line 1: a label before neither a block nor a loop",
		"begin for i loop null; end loop; end": "line 1: a for without its in",
		"begin create function f() return 1 begin atomic select 1; end; end": "line 1: the body of a function in SQL",
	} {
		if _, _, err := marked(body); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %q", body, err, want)
		}
	}
}

// FuzzGates: no body is a panic, and without its gates a body is what it was.
func FuzzGates(f *testing.F) {
	f.Add(`<<o>> declare x int := a(); begin if x then perform 1; elsif b() then null; end if; for i in 1..a(1) loop continue; end loop; end o;`)
	f.Add("#option dump\nbegin execute $a$select 1$a$ using a(); case when b() then null; end case; exception when others then x := 'a''b'; end")
	f.Add(`begin <<l>> while (select 1) loop continue l; end loop l; open c for execute 'x'; "a" := e'\''; /* /* */ */ end --`)
	f.Fuzz(func(t *testing.T, body string) {
		_, g, err := marked(body)
		if err != nil {
			return
		}
		if back := withoutGates(g.text); back != body {
			t.Fatalf("%q with gates is %q, and without them %q", body, g.text, back)
		}
		for i, gate := range g.gates {
			if n := strings.Count(g.text, fmt.Sprintf("%s@%d %s", insertBegins, i, insertEnds)); n != 1 {
				t.Fatalf("%q has gate %d of %+v %d times", g.text, i, gate, n)
			}
		}
	})
}
