//go:build !race

package webhook

// raced: the race detector is on, with which everything takes longer.
const raced = false
