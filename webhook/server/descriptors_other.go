//go:build !unix

package server

// descriptors returns how many files the process may have open: where there is
// no limit, more than there are connections.
func descriptors() uint64 { return 1 << 20 }
