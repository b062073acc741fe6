// Package ent explores code over ent, on SQLite. The client is made by go generate.
package ent

//go:generate go run entgo.io/ent/cmd/ent@v0.14.5 generate ./schema
