// Package server puts the rooms of webhook together in one Fiber app: routes, limits,
// metrics and health. It is the only package that knows them all: the receiver of
// deliveries (webhook), the API (webhook/api), live counts (webhook/live) and the
// console (webhook/console). It hands each a store that tries again what failed for a
// moment, and may import all of webhook and store, but no backend. Begin reading at
// [New] and at the routes behind it.
package server
