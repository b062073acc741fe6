// Package examples has the same small bank five times, as code over gorm, bun,
// sqlx, ent and sqlc is written, each wrong and right, each explored by the
// harness. It is a module of its own, that imports the harness as any other does:
// what it needs is in its own go.mod alone.
//
//	go generate ./... && go test ./...
//
// The wrong code looks at a balance and writes what remains: two who withdraw at
// once both see the whole balance. The right code leaves the comparison to the
// statement that writes.
package examples
