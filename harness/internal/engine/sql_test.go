package engine

import "testing"

func TestTheVerbOfAStatement(t *testing.T) {
	for sql, want := range map[string]string{
		"select 1":                         "select",
		"\n\t( (SELECT 1))":                "select",
		"-- why\n  with x as (select 1)":   "with",
		"/* a /* b */ * / c */ /**/insert": "insert",
		"/* never ends":                    "",
		"/* never /* ends */":              "",
		"/*/ values":                       "",
		"--":                               "",
		"1":                                "",
		"values(1)":                        "values",
	} {
		if got := Verb(sql); got != want {
			t.Errorf("%q begins with %q, want %q", sql, got, want)
		}
	}
}
