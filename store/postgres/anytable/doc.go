// Package anytable has the tests of store/postgres on tables that are not as our
// migrations make them: other names, words, ids and types, columns that are not there,
// and tables that are altered later. Law 8 is held here, by statements that are drawn
// and run with us and without.
//
// There is nothing to import. The tables stand in variants_test.go; in
// store/watched/watchedtest, whose tables the matrix holds to the contract; and in
// harmless_shapes_test.go, which draws them. A reader begins at the test of law 8 in
// harmless_test.go.
package anytable
