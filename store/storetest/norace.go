//go:build !race

package storetest

// raced: the race detector is on, with which everything takes longer.
const raced = false
