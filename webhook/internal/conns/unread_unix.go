//go:build unix

package conns

import (
	"net"
	"syscall"
)

// unread reports whether the peer has sent something that no one has read yet, or
// has closed the connection.
func unread(conn net.Conn) (there bool) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Control(func(fd uintptr) {
		var first [1]byte
		_, _, err := syscall.Recvfrom(int(fd), first[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		there = err == nil
	})
	return there && err == nil
}
