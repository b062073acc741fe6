package main

import "github.com/edgaze-ai/runcounter/harness/internal/mutants"

// targets are what is mutated, and whose tests must notice after those of the package
// itself.
var targets = []mutants.Target{
	{Dir: "store", Then: []string{"store/sqlite", "webhook/server", "store/postgres", "store/postgres/anytable"}},
	{Dir: "store/watched", Then: []string{"migrations", "store/postgres/anytable", "store/postgres", "cmd/runcounter"}},
	{Dir: "store/backfill", Then: []string{"cmd/runcounter"}},
	{Dir: "store/doctor", Then: []string{"cmd/runcounter"}},
	{Dir: "store/sqlite", Then: []string{"webhook/server", "cmd/runcounter"}},
	{Dir: "store/postgres", Then: []string{"store/postgres", "store/postgres/anytable", "cmd/runcounter"}},
	{Dir: "migrations", Then: []string{"migrations", "store/postgres", "store/postgres/anytable", "cmd/runcounter"}},
	{Dir: "migrations/sqlite", Then: []string{"store/sqlite", "migrations", "cmd/runcounter"}},
	{Dir: "webhook", Then: []string{"webhook", "webhook/server", "cmd/runcounter"}},
}
