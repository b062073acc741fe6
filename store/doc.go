// Package store holds the types, the rules and the contracts of Run Counter. It
// imports the standard library alone, and everything else may import it.
//
// The contracts stand in store.go: [Store] counts and completes, [Maintainer]
// keeps a store in order, [Source] is what only a watched database has,
// [Reader] lists and explains, [LetterBox] keeps dead letters. Requests and
// results are in requests.go, the other types in types.go and lists.go. A reader
// begins at [Store].
//
// The rules are pure functions: they read no clock, no database and no
// context. [Repair] and [Presume] decide about one row (rules.go), and
// [State.Join] merges two views of one run (merge.go). A backend carries them
// out: store/sqlite is a mirror, fed by changes and by our own API, and
// store/postgres a source, which is the watched database itself. store/storetest
// holds both to the contracts. The one thing here that runs by itself is
// [Sweeper], on any backend.
//
// Everything is held to eight laws:
//
//  1. Exact in every snapshot: in any committed snapshot, counts + ledger of a
//     key equals the number of its ended runs, per status.
//  2. First outcome wins: a run that has ended keeps status and completed_at,
//     except for a DELETE, a real outcome that supersedes a presumed one, and
//     an amendment.
//  3. Convergence: once faults stop, one full sweep leaves no run whose status
//     and completed_at disagree, none silent beyond its limit, and no drift.
//  4. Idempotence and commutativity: the same changes, in any order, any
//     number of times, batched in any way, lead to the same state.
//  5. Quiet: applying what is already true writes nothing.
//  6. Acked is durable: success is reported after the commit, never before.
//  7. No stranger: what is not authenticated never reaches the store, and a
//     user sees their own counts alone.
//  8. Harmless: a statement of the application that works without us works
//     with us, and leaves the same rows except for what the guard keeps. No
//     row, user or sender keeps another's from being counted, ended or heard.
package store
