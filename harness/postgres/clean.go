package postgres

import "github.com/jackc/pgx/v5/pgproto3"

// letGo gives back what a session holds beyond its transactions.
const letGo = "select pg_advisory_unlock_all(); unlisten *"

// cleans has an idle session let go what it holds, and reports whether it was
// idle.
func (w *wire) cleans() bool {
	w.mu.Lock()
	if !w.ready || w.status != 'I' || w.implicit || len(w.expected) > 0 || w.lost != nil || w.closed {
		w.mu.Unlock()
		return false
	}
	w.own, w.code = true, ""
	w.mu.Unlock()
	raw, err := (&pgproto3.Query{String: letGo}).Encode(nil)
	if err == nil {
		err = w.send(message{'Q', raw})
	}
	if err == nil {
		err = w.pump()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return err == nil && w.code == ""
}
