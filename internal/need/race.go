//go:build race

package need

// Raced says that the race detector is on, with which everything takes ten
// times as long.
const Raced = true
