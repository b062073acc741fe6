// Package schema says which tables the code in package ent is generated for.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"
)

// Account holds the money of one person.
type Account struct{ ent.Schema }

// Fields of the account.
func (Account) Fields() []ent.Field {
	return []ent.Field{
		field.String("name").Unique(),
		field.Int("balance"),
	}
}
