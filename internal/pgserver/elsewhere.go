//go:build !unix

package pgserver

import (
	"fmt"
	"runtime"
)

// Server is a PostgreSQL server. Here there is none.
type Server struct{}

// New refuses: the guard that ends a server with its process is a shell.
func New(string, Options) (*Server, error) {
	return nil, fmt.Errorf("PostgreSQL is %w so that it could be started by itself: that is for Unix, and this is %s", ErrMissing, runtime.GOOS)
}

// Port is that of a server.
func (*Server) Port() int { return 0 }

// Close ends a server.
func (*Server) Close() {}
