//go:build !amd64 && !arm64

package engine

// descriptor is 0 where it is not known.
func descriptor() uintptr { return 0 }
