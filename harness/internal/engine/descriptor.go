//go:build amd64 || arm64

package engine

// descriptor is the address of the runtime's descriptor of the calling goroutine.
func descriptor() uintptr
