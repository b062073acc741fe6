// Package webhooktest has the deliveries that the tests of webhook's rooms share. It
// imports store and webhook/internal/answer, and only tests import it.
package webhooktest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
)

// The user, workflow and draft of the runs.
const (
	User     = "11111111-1111-4111-8111-111111111111"
	Workflow = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	Draft    = "dddddddd-dddd-4ddd-8ddd-dddddddddddd"
)

// Log is a log that tests can read while it is written.
type Log struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (j *Log) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.out.Write(p)
}

func (j *Log) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.out.String()
}

// RunID returns the nth run's id.
func RunID(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

// Row returns a record as a webhook brings it, with some columns replaced.
func Row(n int, status string, more map[string]any) map[string]any {
	r := map[string]any{
		"id": RunID(n), "status": status, "user_id": User, "workflow_id": Workflow, "draft_id": nil,
		"created_at": "2026-11-22T20:10:37.200738+00:00", "started_at": "2026-11-22T20:10:37.200738+00:00",
		"updated_at": "2026-11-22T20:10:37.200738+00:00", "completed_at": nil, "duration_ms": nil, "error_details": nil,
	}
	if store.Status(status).Terminal() {
		r["updated_at"], r["completed_at"] = "2026-11-22T20:10:38.209569+00:00", "2026-11-22T20:10:38.209569+00:00"
	}
	for name, value := range more {
		r[name] = value
	}
	return r
}

// Inserted returns the delivery of a new row.
func Inserted(record map[string]any) string {
	return string(answer.Encode(map[string]any{"type": "INSERT", "schema": "public", "table": "workflow_runs", "record": record, "old_record": nil}))
}

// Completed returns the delivery of the nth run, inserted with its outcome.
func Completed(n int) string { return Inserted(Row(n, "completed", nil)) }

// Updated returns the delivery of a row that was changed.
func Updated(before, after map[string]any) string {
	return string(answer.Encode(map[string]any{"type": "UPDATE", "schema": "public", "table": "workflow_runs", "record": after, "old_record": before}))
}

// Chunked hands out its text in pieces of at most n bytes.
type Chunked struct {
	Text string
	N    int
}

// Read implements io.Reader.
func (c *Chunked) Read(p []byte) (int, error) {
	if c.Text == "" {
		return 0, io.EOF
	}
	n := copy(p[:min(c.N, len(p))], c.Text)
	c.Text = c.Text[n:]
	return n, nil
}

// DepthOf returns how deep a valid text nests.
func DepthOf(text []byte) (deepest int) {
	depth, inString := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case !inString && (c == '{' || c == '['):
			depth++
			deepest = max(deepest, depth)
		case !inString && (c == '}' || c == ']'):
			depth--
		}
	}
	return deepest
}

// Captures returns the bodies that were captured from a real project, by name.
func Captures(tb testing.TB) map[string][]byte {
	tb.Helper()
	root := "."
	for range 4 { // from a package of webhook to the top
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		root = filepath.Join(root, "..")
	}
	names, err := filepath.Glob(filepath.Join(root, "testdata/webhooks/[0-9]*.json"))
	if err != nil || len(names) == 0 {
		tb.Fatalf("no captured webhooks: %v", err)
	}
	bodies := map[string][]byte{}
	for _, name := range names {
		body, err := os.ReadFile(name)
		if err != nil {
			tb.Fatal(err)
		}
		bodies[filepath.Base(name)] = body
	}
	return bodies
}

// Unreadable are changes that can't be read, each in another way, of the runs
// 9001 and up, with the beginning or a part of what their letters say of them.
// The last can be read where no lease is configured.
func Unreadable() (changes, reasons []string) {
	ended := func(n int, column string, value any) string {
		return Inserted(Row(9000+n, "completed", map[string]any{column: value}))
	}
	for _, c := range [][2]string{
		{ended(1, "id", nil), "record.id is missing or null"},
		{ended(2, "status", ""), "record.status is \"\", an empty string"},
		{ended(3, "status", strings.Repeat("s", 300)), "longer than 256 bytes"},
		{ended(4, "completed_at", "2026-11-22"), "record.completed_at is \"2026-"},
		{ended(5, "created_at", "2026-02-30T00:00:00+00:00"), "record.created_at is \"2026-"},
		{ended(6, "status", nil), "record.status is missing or null"},
		{ended(7, "lease_until", "soon"), "record.lease_until is \"soon\", not a time"},
	} {
		changes, reasons = append(changes, c[0]), append(reasons, c[1])
	}
	return changes, reasons
}

// The id of a run, and a time as PostgreSQL prints it.
const (
	AnID  = "00000000-0000-4000-8000-000000000001"
	ATime = "2026-11-22T20:10:37.200738+00:00"
)

// Columns returns the text of a row that can be read, with more columns behind.
func Columns(more string) string {
	return fmt.Sprintf(`{"id":%q,"user_id":%q,"status":"running"%s}`, AnID, User, more)
}

// ChangeOf returns the text of a change of the watched table.
func ChangeOf(op, record, old string) string {
	return fmt.Sprintf(`{"type":%q,"table":"workflow_runs","record":%s,"schema":"public","old_record":%s}`, op, record, old)
}
