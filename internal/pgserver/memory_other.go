//go:build unix && !linux

package pgserver

// memory is a directory in memory: only Linux has one at hand.
func memory() string { return "" }
