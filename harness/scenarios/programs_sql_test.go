package scenarios

import (
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/postgres/sqlmodel"
)

// onSQLModel runs the program's own SQL, as it is for PostgreSQL, without a server.
func (p program) onSQLModel(actors []func(*client)) func(*harness.Sim) {
	return func(s *harness.Sim) {
		db := sqlmodel.New(s, sqlmodel.Config{Schema: strings.Join(p.setup, ";\n"), Faults: p.faults}).Open()
		p.scenario(s, actors, func(int) client { return client{db: db, now: db, postgres: true} })
	}
}

func TestProgramsOnTheSQLModel(t *testing.T) {
	t.Parallel()
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			anomaly := p.postgres
			if p.sqlite != absent { // the timeline has the values that were read, as SQLite's has, by which a name is certain
				anomaly = p.sqlite
			}
			found(t, p.name, p.kind, anomaly, p.onSQLModel(p.wrong), p.onSQLModel(p.right))
		})
	}
}
