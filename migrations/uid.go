package migrations

import (
	"fmt"
	"strings"

	"github.com/edgaze-ai/runcounter/store/watched"
)

// uid returns the expression for the signed-in user: the claim of their token, in the
// type of the table's column. What is neither text nor a whole number, or can't be of the
// column's type, is no user's.
func uid(t watched.Table) string {
	typ := t.Type(watched.User)
	if t.Claim == "" {
		return "null::" + typ
	}
	var path []string
	for _, name := range watched.ClaimPath(t.Claim) {
		path = append(path, watched.Literal(name))
	}
	value := "v"
	switch typ {
	case "uuid":
		value = "case when v ~ '^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$' then v::uuid end"
	case "bigint", "integer", "smallint":
		most := map[string]string{"bigint": "9223372036854775807", "integer": "2147483647", "smallint": "32767"}[typ]
		value = fmt.Sprintf("case when v !~ '^(0|-?[1-9][0-9]{0,18})$' then null when abs(v::numeric) <= %s then v::%s end", most, typ)
	}
	return fmt.Sprintf("(select %s from (select c #>> '{}' as v, jsonb_typeof(c) as kind from (select nullif(current_setting('request.jwt.claims', true), '')::jsonb #> array[%s] as c) as t) as t"+
		" where v <> '' and (kind = 'string' or v ~ '^-?[0-9]+$'))", value, strings.Join(path, ", "))
}
