package pgserver

import "os"

// Options say what is special about a server. Every one of them listens on
// 127.0.0.1 alone, has a superuser postgres, the encoding UTF8, the collation C
// and the time zone UTC.
type Options struct {
	// ThrowAway is for a server of which nothing has to survive a crash: it
	// doesn't wait for its disk.
	ThrowAway bool
	// InMemory puts the server's directory into memory, where $TMPDIR isn't set
	// and the machine has a file system there with two gigabytes to spare.
	InMemory bool
	// Password is asked of everyone, and is the superuser's. Without one everyone
	// on this machine is let in, as whom they like.
	Password string
	// Settings are further ones, each NAME=VALUE. Paths are relative to the
	// directory data beside Files.
	Settings []string
	// Files are put into the server's directory before it is started.
	Files []File
}

// A File belongs to the user whom servers run as.
type File struct {
	Name string // relative to the server's directory
	Mode os.FileMode
	Text []byte
}
