package migrations

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// A pooler in transaction mode on a port that is not Supabase's gives each
// statement another session, in which nothing of ours is prepared. To forget
// what is prepared leads to the same answer of a real server.
func TestCaseT25_APoolerInTransactionModeIsNamedByItsAnswer(t *testing.T) {
	m, err := Postgres(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	m.postgres.db.SetMaxOpenConns(1)
	if _, err := m.Status(); err != nil {
		t.Fatal(err)
	}
	conn, err := m.postgres.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = conn.Raw(func(driver any) error {
		_, err := driver.(*stdlib.Conn).Conn().PgConn().Exec(t.Context(), `deallocate all`).ReadAll()
		return err
	})
	if err := errors.Join(err, conn.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = m.Status()
	if !errors.Is(err, ErrAddress) || !strings.Contains(err.Error(), "a pooler in transaction mode") || !strings.Contains(err.Error(), "port 5432") {
		t.Errorf("Status: got %v, want the sentence of port 6543", err)
	}
}
