package harness_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/harness"
	"github.com/edgaze-ai/runcounter/harness/postgres"
	"github.com/edgaze-ai/runcounter/harness/sqlite"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

// report replaces the time of a loop by what a benchmark is about.
func report(b *testing.B, metrics map[string]float64) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	for unit, value := range metrics {
		b.ReportMetric(value, unit)
	}
}

// bareSQLite is a database such as those of the harness, without its gate.
func bareSQLite(b *testing.B, setup string) *sql.DB {
	b.Helper()
	db, err := sql.Open("sqlite", fmt.Sprintf("file:/bare-%d?vfs=memdb&_pragma=busy_timeout(0)&_pragma=synchronous(off)", time.Now().UnixNano()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(setup); err != nil {
		b.Fatal(err)
	}
	return db
}

// BenchmarkGate has the same statements on a bare connection and on one of the
// harness, within a schedule, by turns. Where a context can be cancelled,
// database/sql and the driver each start a goroutine for a query; the gate saves
// the driver's.
func BenchmarkGate(b *testing.B) {
	const statements = 900
	setup := `create table t (id integer primary key, n integer not null); insert into t values (1, 0), (2, 0), (3, 0)`
	reads := func(ctx context.Context, conn *sql.Conn, id, n int) error {
		st, err := conn.PrepareContext(ctx, `select n from t where id = ?`)
		if err != nil {
			return err
		}
		defer st.Close()
		var v int
		for range n {
			if err := st.QueryRowContext(ctx, id).Scan(&v); err != nil {
				return err
			}
		}
		return nil
	}
	writes := func(ctx context.Context, conn *sql.Conn, id, n int) error {
		if _, err := conn.ExecContext(ctx, `begin immediate`); err != nil {
			return err
		}
		st, err := conn.PrepareContext(ctx, `update t set n = n + 1 where id = ?`)
		if err != nil {
			return err
		}
		defer st.Close()
		for range n - 2 {
			if _, err := st.ExecContext(ctx, id); err != nil {
				return err
			}
		}
		_, err = conn.ExecContext(ctx, `commit`)
		return err
	}
	for _, bench := range []struct {
		name        string
		actors      int
		do          func(ctx context.Context, conn *sql.Conn, id, n int) error
		cancellable bool
	}{
		{"select", 1, reads, false},
		{"select, 3 actors", 3, reads, false},
		{"select, context of the actor", 1, reads, true},
		{"update in a transaction", 1, writes, false},
	} {
		b.Run(bench.name, func(b *testing.B) {
			bare, shared := bareSQLite(b, setup), harness.Share(b)
			var took time.Duration
			schedule := func(s *harness.Sim) {
				db := sqlite.Open(s, setup)
				for id := range bench.actors {
					s.Go(fmt.Sprint("actor ", id+1), func(ctx context.Context) error {
						if !bench.cancellable {
							ctx = context.Background()
						}
						conn, err := db.Conn(ctx)
						if err != nil {
							return err
						}
						defer conn.Close()
						return bench.do(ctx, conn, id+1, statements/bench.actors)
					})
				}
				start := time.Now()
				s.Eventually("the time it took", func() error {
					if took == 0 {
						took = time.Since(start)
					}
					return nil
				})
			}
			var onBare, gated, added []float64
			for seed := uint64(0); b.Loop(); seed++ {
				took = 0
				if r := harness.Explore(b, schedule, harness.WithStrategies(harness.Random(1)), harness.Seed(seed), shared); r.Failure != nil {
					b.Fatal(r.Report)
				}
				ctx := context.Background()
				if bench.cancellable {
					var cancel context.CancelFunc
					ctx, cancel = context.WithCancel(ctx)
					defer cancel()
				}
				start := time.Now()
				conn, err := bare.Conn(ctx)
				if err != nil {
					b.Fatal(err)
				}
				if err := errors.Join(bench.do(ctx, conn, 1, statements), conn.Close()); err != nil {
					b.Fatal(err)
				}
				plain := time.Since(start)
				onBare = append(onBare, float64(plain)/statements)
				gated = append(gated, float64(took)/statements)
				added = append(added, float64(took-plain)/statements)
			}
			report(b, map[string]float64{"bare-ns/stmt": median(onBare), "gated-ns/stmt": median(gated), "added-ns/stmt": median(added)})
		})
	}
}

// A shape is what each actor of a benchmark does, a statement a step. Its
// letters are r for reading a row by its key and w for incrementing it, b for
// begin, i for begin immediate and c for commit.
type shape struct {
	name   string
	steps  string
	actors int
	own    bool // each actor has a table of its own
}

func (p shape) table(actor int) string {
	if p.own {
		return fmt.Sprint("t", actor)
	}
	return "t0"
}

func (p shape) tables() (names []string) {
	for actor := range p.actors {
		if name := p.table(actor); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func sqlOf(step rune, table string) string {
	switch step {
	case 'r':
		return `select n from ` + table + ` where id = 1`
	case 'w':
		return `update ` + table + ` set n = n + 1 where id = 1`
	}
	return map[rune]string{'b': `begin`, 'i': `begin immediate`, 'c': `commit`}[step]
}

// onSQLite is a scenario of that shape, each actor with a connection of its own.
// An error ends an actor, and is none of ours.
func (p shape) onSQLite(wal bool) func(*harness.Sim) {
	return func(s *harness.Sim) {
		db := sqlite.New(s, sqlite.Config{WAL: wal, Setup: func(_ string, db *sql.DB) error {
			for _, table := range p.tables() {
				if _, err := db.Exec(`create table ` + table + ` (id integer primary key, n integer not null); insert into ` + table + ` values (1, 0)`); err != nil {
					return err
				}
			}
			return nil
		}}).Open()
		for i := range p.actors {
			s.Go(fmt.Sprint("actor ", i+1), func(ctx context.Context) error {
				conn, err := db.Conn(ctx)
				if err != nil {
					return err
				}
				defer conn.Close()
				for _, step := range p.steps {
					text := sqlOf(step, p.table(i))
					if step == 'r' {
						var n int
						err = conn.QueryRowContext(ctx, text).Scan(&n)
					} else {
						_, err = conn.ExecContext(ctx, text)
					}
					if err != nil {
						return nil
					}
				}
				return nil
			})
		}
	}
}

func statementOf(step rune, table string) *postgres.Statement {
	if step == 'r' {
		return &postgres.Statement{SQL: sqlOf(step, table), Reads: []string{table}, Do: func(q *postgres.Query) error {
			for _, r := range q.Select(table, is(1)) {
				q.Return(r[1])
			}
			return nil
		}}
	}
	return &postgres.Statement{SQL: sqlOf(step, table), Writes: []string{table}, Do: func(q *postgres.Query) error {
		_, err := q.Update(table, is(1), func(r postgres.Row) postgres.Row { return postgres.Row{r[0], r[1].(int64) + 1} })
		return err
	}}
}

// onReadCommitted is the same at READ COMMITTED.
func (p shape) onReadCommitted(s *harness.Sim) {
	var tables []postgres.Table
	for _, name := range p.tables() {
		tables = append(tables, postgres.Table{Name: name, Columns: []string{"id", "n"}, Key: 1, Rows: []postgres.Row{{int64(1), int64(0)}}})
	}
	db := postgres.NewReadCommitted(s, tables)
	for i := range p.actors {
		session := db.Session()
		s.Go(fmt.Sprint("actor ", i+1), func(ctx context.Context) error {
			for _, step := range p.steps {
				var err error
				switch step {
				case 'b':
					err = session.Begin(ctx)
				case 'c':
					err = session.Commit(ctx)
				default:
					_, err = session.Exec(ctx, statementOf(step, p.table(i)))
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// explores counts what an exploration comes to, over and over. Its schedules
// are those that ran to their end, and those that were broken off.
func explores(b *testing.B, scenario func(*harness.Sim), strategy harness.Strategy, options ...harness.Option) {
	b.Helper()
	done, redundant, diverged := 0, 0, 0
	for seed := uint64(1); b.Loop(); seed++ {
		r := harness.Explore(b, scenario, append(options, harness.WithStrategies(strategy), harness.Seed(seed))...)
		if r.Failure != nil {
			b.Fatal(r.Report)
		}
		if c := r.Covered[0]; !c.Complete && strategy.Limit() == 0 && c.Diverged == 0 {
			b.Fatalf("not complete: %s", r)
		}
		done += r.Schedules()
		redundant += r.Covered[0].Redundant
		diverged += r.Covered[0].Diverged
	}
	n := float64(b.N)
	b.ReportMetric(float64(done)/n, "schedules/op")
	b.ReportMetric(float64(done+redundant)/b.Elapsed().Seconds(), "schedules/s")
	if redundant > 0 {
		b.ReportMetric(float64(redundant)/n, "broken-off/op")
	}
	if diverged > 0 {
		b.ReportMetric(float64(diverged)/n, "diverged/op")
	}
}

var (
	reading      = shape{"three reads and a write", "rrrw", 3, false}
	writing      = shape{"reads and writes by turns", "rwrw", 3, false}
	immediate    = shape{"begin immediate, read, write, commit", "irwc", 3, false}
	transactions = shape{"begin, read, write, commit", "brwc", 3, false}
	apart        = shape{"begin, read, write, commit, own tables", "brwc", 3, true}
)

// BenchmarkSQLite explores all orders of 3 actors with 4 statements each, from
// nothing: the database is made and thrown away too.
func BenchmarkSQLite(b *testing.B) {
	for _, bench := range []struct {
		shape
		wal bool
	}{{reading, false}, {reading, true}, {immediate, false}, {immediate, true}, {transactions, true}, {writing, false}, {writing, true}} {
		name := "memdb/"
		if bench.wal {
			name = "wal/"
		}
		b.Run(name+bench.name, func(b *testing.B) { explores(b, bench.onSQLite(bench.wal), harness.Exhaustive(0)) })
	}
}

// BenchmarkModel samples the model of READ COMMITTED.
func BenchmarkModel(b *testing.B) {
	for _, p := range []shape{transactions, apart, writing} {
		b.Run(p.name, func(b *testing.B) { explores(b, p.onReadCommitted, harness.Random(1000), harness.Share(b)) })
	}
}

// BenchmarkPostgres samples schedules on a real server: of sessions of
// [postgres.NewReadCommitted], and of code over pgx. bare is the time in which one
// connection runs as many statements and the same reset, one after the other,
// as a part of that of a schedule.
func BenchmarkPostgres(b *testing.B) {
	for _, p := range []shape{transactions, apart} {
		b.Run(p.name, func(b *testing.B) {
			address := pgtest.Database(b)
			explores(b, p.onReadCommitted, harness.Random(100), harness.Share(b), postgres.On(address))
			schedule := b.Elapsed().Seconds() / float64(100*b.N)
			b.ReportMetric(bareSchedule(b, address, p)/schedule, "bare/schedule")
		})
	}
	b.Run("pgx, "+transactions.name, func(b *testing.B) {
		explores(b, onPgx(b, transactions), harness.Random(100), harness.Share(b))
	})
}

// bareSchedule returns the seconds that the statements of a schedule take.
func bareSchedule(b *testing.B, address string, p shape) float64 {
	b.Helper()
	ctx := context.Background()
	config, err := pgx.ParseConfig(address)
	if err != nil {
		b.Fatal(err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(ctx)
	run := func(text string) {
		if _, err := conn.Exec(ctx, text); err != nil {
			b.Fatal(err)
		}
	}
	refill := ""
	for _, table := range p.tables() {
		run(`create table ` + table + ` (id bigint primary key, n bigint)`)
		refill += `delete from ` + table + `; insert into ` + table + ` values (1, 0);`
	}
	const rounds = 100
	start := time.Now()
	for range rounds {
		run(refill)
		for i := range p.actors {
			for _, step := range p.steps {
				run(sqlOf(step, p.table(i)))
			}
		}
	}
	return time.Since(start).Seconds() / rounds
}

// gatedPool is a pool whose connections lead through the gate.
func gatedPool(b *testing.B, db *postgres.Database) *pgxpool.Pool {
	b.Helper()
	pool, err := db.Pool(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return pool
}

// onPgx is that shape in code over pgx, with a pool for each actor.
func onPgx(b *testing.B, p shape) func(*harness.Sim) {
	b.Helper()
	config := postgres.Config{Address: pgtest.Database(b), Setup: func(address string) error {
		for _, table := range p.tables() {
			pgtest.Exec(b, address, `create table `+table+` (id bigint primary key, n bigint)`, `insert into `+table+` values (1, 0)`)
		}
		return nil
	}}
	var pools []*pgxpool.Pool
	return func(s *harness.Sim) {
		db := postgres.New(s, config)
		for len(pools) < p.actors {
			pool := gatedPool(b, db)
			b.Cleanup(pool.Close)
			pools = append(pools, pool)
		}
		for i := range p.actors {
			s.Go(fmt.Sprint("actor ", i+1), func(ctx context.Context) error {
				return pgx.BeginFunc(ctx, pools[i], func(tx pgx.Tx) error {
					var n int
					if err := tx.QueryRow(ctx, sqlOf('r', p.table(i))).Scan(&n); err != nil {
						return err
					}
					_, err := tx.Exec(ctx, sqlOf('w', p.table(i)))
					return err
				})
			})
		}
	}
}

// BenchmarkReduction is how many schedules each way to search comes to, and how
// long it takes, on the model, and for one shape on SQLite.
func BenchmarkReduction(b *testing.B) {
	strategies := []harness.Strategy{harness.Plain(0), harness.Exhaustive(0), harness.Preemptions(0, 0), harness.Preemptions(1, 0), harness.Preemptions(2, 0)}
	for _, p := range []shape{
		{"3×4, three reads and a write", "rrrw", 3, false},
		{"3×4, reads and writes by turns", "rwrw", 3, false},
		{"3×4, transactions", "brwc", 3, false},
		{"3×4, own tables", "rwrw", 3, true},
		{"2×4, reads and writes by turns", "rwrw", 2, false},
		{"4×3, two reads and a write", "rrw", 4, false},
		{"4×3, own tables", "rrw", 4, true},
	} {
		for _, strategy := range strategies {
			b.Run(p.name+"/"+strategy.String(), func(b *testing.B) { explores(b, p.onReadCommitted, strategy) })
		}
	}
	for _, strategy := range strategies {
		b.Run("on SQLite, 3×4, three reads and a write/"+strategy.String(), func(b *testing.B) { explores(b, reading.onSQLite(false), strategy) })
	}
}
