package migrations

// Windows says which of the optional indexes Up makes, by which the runs in a window
// are counted: those of a user, and those of a workflow or draft over all its users.
// True makes one, false drops it, and nil leaves what is there. A window of one key
// needs neither.
type Windows struct{ User, Workflow *bool }

// SetWindows has Up make or drop the indexes of windows.
func (m *Migrator) SetWindows(w Windows) { m.windows = w }
