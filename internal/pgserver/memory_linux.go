package pgserver

import "syscall"

// memory is a directory in memory with two gigabytes to spare, or "".
func memory() string {
	const dir = "/dev/shm"
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil || fs.Bavail*uint64(fs.Bsize) < 2<<30 || syscall.Access(dir, 2|1) != nil {
		return ""
	}
	return dir
}
