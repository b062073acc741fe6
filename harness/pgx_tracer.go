package harness

import (
	"context"
	"database/sql/driver"
	"strings"

	"github.com/jackc/pgx/v5"
)

// tracer is the gate: pgx calls it before and after each statement.
type tracer struct{ db *PostgresDatabase }

var (
	_ pgx.QueryTracer = tracer{}
	_ pgx.BatchTracer = tracer{}
)

// The flight of a statement.
const (
	grounded int32 = iota // none is under way
	sent                  // the scheduler waits for its answer
	blocked               // the scheduler has found that it waits for a lock
)

func (t tracer) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	return t.start(ctx, conn, data.SQL, data.SQL, data.Args)
}

func (t tracer) TraceQueryEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryEndData) {
	t.end(ctx, conn, data.CommandTag.String(), data.Err)
}

func (t tracer) TraceBatchStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	texts := make([]string, len(data.Batch.QueuedQueries))
	for i, q := range data.Batch.QueuedQueries {
		texts[i] = q.SQL
	}
	return t.start(ctx, conn, strings.Join(texts, "; "), texts[len(texts)-1], nil)
}

func (t tracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (t tracer) TraceBatchEnd(ctx context.Context, conn *pgx.Conn, data pgx.TraceBatchEndData) {
	t.end(ctx, conn, "", data.Err)
}

// start is the gate before a step, of one statement or of a batch that ends with
// one.
func (t tracer) start(ctx context.Context, conn *pgx.Conn, text, end string, args []any) context.Context {
	a, ok := ctx.Value(actorKey{}).(*actor)
	if !ok {
		return ctx
	}
	commits := commandOf(end) == "commit"
	o := op{text: text, foot: footprint{everything: true}, last: commits || conn.PgConn().TxStatus() == 'I' && commandOf(text) != "begin"}
	if len(args) > 0 && t.db.x.detailed() {
		o.text += "  [" + t.db.x.rename(showArgs(args)) + "]"
	}
	for _, f := range t.db.config.Faults {
		if commits && (f == LostBefore || f == LostAfter) {
			o.faults = append(o.faults, f)
		}
	}
	fault, err := a.gate(o)
	if err != nil {
		ctx, cancel := context.WithCancelCause(ctx)
		cancel(err)
		return ctx
	}
	t.db.mu.Lock()
	t.db.users[conn.PgConn().PID()] = a
	t.db.mu.Unlock()
	a.pid, a.server, a.fault, a.arrived = conn.PgConn().PID(), t.db, fault, false
	a.looked.Store(false)
	w := wireOf(conn)
	w.user.Store(a)
	switch fault {
	case LostBefore:
		t.db.observer.end(a.pid)
		w.lost.Store(int32(LostBefore))
	case LostAfter, CrashAfter: // neither gets its answer
		w.lost.Store(int32(LostAfter))
	}
	a.flight.Store(sent) // from here on the scheduler looks
	return ctx
}

// end is where the answer has arrived. A statement that had waited for a lock
// waits here until its actor is chosen again.
func (t tracer) end(ctx context.Context, conn *pgx.Conn, tag string, err error) {
	a, ok := ctx.Value(actorKey{}).(*actor)
	if !ok || a.flight.Load() == grounded {
		return
	}
	if !a.flight.CompareAndSwap(sent, grounded) {
		if !a.yield(struct{}{}) {
			a.dead = errStopped
		}
		a.flight.Store(grounded)
	}
	switch {
	case a.fault == LostBefore:
		a.tell("fails, and took no effect")
	case a.fault == LostAfter, a.fault == CrashAfter:
		a.tell("fails, but took effect")
	case err != nil:
		a.tell(describeRows(nil, stateOf(err)))
	default:
		a.tell(strings.ToLower(tag))
	}
	if a.event != nil {
		idle := conn.PgConn().IsClosed() || conn.PgConn().TxStatus() == 'I'
		a.event.ends = idle
		run := a.sim.run
		run.progress, run.publish = true, run.publish || idle
	}
	if a.fault == CrashAfter && a.dead == nil {
		a.dead = errCrashed
	}
}

func commandOf(text string) string {
	word, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(text)), " ")
	return strings.TrimSuffix(word, ";")
}

func showArgs(args []any) string {
	list := make([]string, 0, len(args))
	for _, v := range args {
		if valuer, ok := v.(driver.Valuer); ok {
			if plain, err := valuer.Value(); err == nil {
				v = plain
			}
		}
		switch v.(type) {
		case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
			continue
		}
		list = append(list, show1(v))
	}
	return strings.Join(list, ", ")
}
