package postgres

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/internal/engine"
)

var flagPostgres = flag.String("harness.postgres", os.Getenv("HARNESS_POSTGRES"), "the address of a PostgreSQL, on which failures of the model are tried too, and where postgres.Start makes databases; by default $HARNESS_POSTGRES")

type serverKey struct{}
type verifyKey struct{}

// On runs the databases of [NewReadCommitted] on a real server, in a schema of
// their own in the database at the address, one backend for each session. A
// statement that waits for a lock is told by pg_blocking_pids.
//
// Which of two statements that one COMMIT lets go on comes first is
// PostgreSQL's choice, so that not every replay comes out the same.
func On(address string) harness.Option {
	return harness.EngineSetting(engine.Setting{Key: serverKey{}, Value: address})
}

// VerifyOn says where a real PostgreSQL is: the minimal schedule of a failure on
// the model of READ COMMITTED is run there too, and the report's ENGINES line
// tells what it came to. So does -harness.postgres=ADDRESS.
func VerifyOn(address string) harness.Option {
	return harness.EngineSetting(engine.Setting{Key: verifyKey{}, Value: address})
}

// Verify says on which engines a schedule fails.
func (d *ReadCommitted) Verify(again func(engine.Setting) (fails bool, verdict string)) string {
	if d.server != nil {
		return d.server.version() + " FAIL"
	}
	text := "model(read committed) FAIL · "
	address, _ := d.host.Setting(verifyKey{}).(string)
	if address == "" {
		address = *flagPostgres
	}
	if address == "" {
		return text + "postgres NOT RUN: -harness.postgres=ADDRESS tries it there"
	}
	outcome := "pass"
	fails, verdict := again(engine.Setting{Key: serverKey{}, Value: address})
	if fails {
		outcome = "FAIL"
	}
	return text + versionAt(address) + " " + outcome + ", " + verdict
}

// Traits is what reports need to know of the model and its server: what it
// wrote is noted, and not told.
func (d *ReadCommitted) Traits() engine.Traits {
	t := traits()
	t.Terse = true
	return t
}

// version is such as "postgres 15".
func (s *server) version() string { return majorOf(s.observer) }

func versionAt(address string) string {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, address)
	if err != nil {
		panic(fmt.Sprintf("harness: connect to PostgreSQL: %v", err))
	}
	defer func() { _ = conn.Close(ctx) }()
	return majorOf(conn)
}

func majorOf(conn *pgx.Conn) string {
	var text string
	if err := conn.QueryRow(context.Background(), "show server_version").Scan(&text); err != nil {
		panic(fmt.Sprintf("harness: ask PostgreSQL for its version: %v", err))
	}
	major, _, _ := strings.Cut(text, ".")
	return "postgres " + major
}
