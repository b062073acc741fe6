package sqlmodel

import "strings"

// unknown are the words that stand where the model expects something else, by
// what PostgreSQL calls them.
var unknown = map[string]string{
	"over": "window functions", "window": "window functions", "lateral": "lateral joins", "right": "right joins", "full": "full joins",
	"natural": "natural joins", "tablesample": "tablesample", "grouping": "grouping sets", "rollup": "grouping sets", "cube": "grouping sets",
	"array": "arrays", "row": "row constructors", "within": "ordered-set aggregates", "fetch": "fetch first", "collate": "collations",
	"similar": "similar to", "overlaps": "overlaps", "at": "at time zone", "symmetric": "between symmetric", "only": "inheritance",
	"interval": "intervals written this way", "partition": "partitions", "inherits": "inheritance", "exclude": "exclusion constraints",
	"deferrable": "deferrable constraints", "initially": "deferrable constraints", "recursive": "recursive queries", "merge": "merge",
	"truncate": "truncate", "copy": "copy", "lock": "lock table", "listen": "listen", "notify": "notify", "call": "procedures", "do": "do blocks",
	"declare": "cursors", "explain": "explain", "analyze": "analyze", "vacuum": "vacuum", "set": "set", "show": "show", "reset": "reset",
	"prepare": "prepare", "execute": "execute", "deallocate": "deallocate", "grant": "grant", "revoke": "revoke", "drop": "drop",
	"comment": "comment", "table": "the command table", "escape": "like with escape", "discard": "discard",
}

// reserved are the keywords that PostgreSQL takes for no name of a column.
var reserved = words(`all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create
	current_date current_role current_time current_timestamp current_user default deferrable desc distinct do else end except false fetch for
	foreign from grant group having in initially intersect into lateral leading limit localtime localtimestamp not null offset on only or order
	placing primary references returning select session_user some symmetric table then to trailing true union unique user using variadic when
	where window with`)

// typeWords are names of functions or types alone, and no names of tables.
var typeWords = words(`authorization binary collation concurrently cross current_schema freeze full ilike inner is isnull join left like
	natural notnull outer overlaps right similar tablesample verbose`)

func words(text string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(text) {
		m[w] = true
	}
	return m
}

// clauseWords are no keywords that are reserved, and begin a clause behind a table.
var clauseWords = words(`set values over filter nothing`)
