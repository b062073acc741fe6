// Package doctor checks an installation: what can be wrong with it, and the fix.
// The command doctor and the console's page print the same findings.
//
// [Source.Examine] checks a PostgreSQL database and what surrounds it, [Mirror] a
// SQLite file; both then check the [Config] that serve would have. Each returns a
// [report.Report] of findings. Nothing is changed, and no secret is repeated: the command
// says of each secret whether it is set and whether it can be read.
//
// A check asks a backend for facts and hands them to a pure function, which makes
// findings of them. To add one, write that function, test it with facts made by hand,
// and put a check into the list of its kind: [Source.Examine] names these lists. Then
// describe it in docs/operations.md.
//
// The package imports store, store/watched, the backends and migrations. It knows
// neither the webhook's rooms nor the command, which hands it an address, a path and
// strings from the environment.
package doctor
