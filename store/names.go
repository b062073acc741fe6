package store

import "context"

// Named is a user, a workflow or a draft that a table of the application names, such as
// auth.users by its e-mail.
type Named struct {
	What string // user, workflow or draft
	ID   ID
	Name string
	In   string // the table
}

// Names is what was found by name.
type Names struct {
	Found []Named
	// Partly says that some tables took too long, or that more fit than were asked for.
	Partly bool
}

// Namer finds by name. A source alone has one: a mirror is told ids and no more. Only
// operators may be shown what it returns (law 7).
type Namer interface {
	// FindNamed returns at most limit users, workflows and drafts whose e-mail, title, name
	// or slug begins with a text, whatever its case, in auth.users and in the tables that
	// foreign keys of the watched one refer to. A table or column that the role may not
	// read is left out. It writes nothing, and takes a few seconds at most.
	FindNamed(ctx context.Context, begins string, limit int) (Names, error)
}
