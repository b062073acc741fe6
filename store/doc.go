// Package store holds the words, the rules and the contract of Run Counter.
//
// The rules are pure functions: they read no clock, no database and no
// context. A backend carries them out: [github.com/edgaze-ai/runcounter/store/sqlite]
// is a mirror, fed by changes and by our own API, and
// store/postgres a source, which is the watched database itself. Both are held
// to the contract by store/storetest.
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
