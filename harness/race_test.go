//go:build race

package harness

// raced says that the race detector makes everything ten times slower here.
const raced = true
