// Package storetest holds a backend to the contract of package store: a
// behaviour that is not in here does not exist.
//
// A backend's own test is one line, and opens its store through the real
// migrations:
//
//	func TestContract(t *testing.T) { storetest.Run(t, open) }
//
// Each case is a script of calls and expectations in a list by subject: runs.go,
// changes.go, counts.go, scopes.go, limits.go, grants.go, lists.go, ids.go, tables.go. Beside them stand the
// suites that draw their histories: [MirrorChaos] and [SourceChaos] under a faulty
// network, [Windows] over days of histories, and [Mirror] and [Source], which are a second, independent
// implementation to compare with. The package imports store and no backend. A
// reader begins at [Backend] and [Run] in suite.go.
package storetest
