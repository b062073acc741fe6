//go:build !race

package sqlite

// raced: the race detector is on, with which everything takes longer.
const raced = false
