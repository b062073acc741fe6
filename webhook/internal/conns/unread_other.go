//go:build !unix

package conns

import "net"

// unread can't be told here: what was sent counts once a handler has read it.
func unread(net.Conn) bool { return false }
