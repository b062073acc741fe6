//go:build unix

package server

import "syscall"

// descriptors returns how many files the process may have open.
func descriptors() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024 // the usual one
	}
	return uint64(limit.Cur) //nolint:unconvert // signed on some systems
}
