package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/webhooktest"
)

// The rows and changes that the tests of all rooms share.
const (
	anID, aTime          = webhooktest.AnID, webhooktest.ATime
	aUser, aFlow, aDraft = webhooktest.User, webhooktest.Workflow, webhooktest.Draft
)

var columns, changeOf = webhooktest.Columns, webhooktest.ChangeOf

var runs = Decoder{Schema: "public", Table: "workflow_runs", LeaseColumn: "lease_until"}

func parsedID(t testing.TB, s string) store.ID {
	t.Helper()
	id, err := store.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func at(t testing.TB, rfc3339 string) time.Time {
	t.Helper()
	parsed, err := time.Parse(time.RFC3339Nano, rfc3339)
	if err != nil {
		t.Fatal(err)
	}
	return store.Instant(parsed)
}

// reference reads a change whole, by encoding/json.
type reference struct {
	Type      store.Op      `json:"type"`
	Record    *referenceRow `json:"record"`
	OldRecord *referenceRow `json:"old_record"`
}

type referenceRow struct {
	ID        store.ID     `json:"id"`
	User      store.ID     `json:"user_id"`
	Workflow  store.ID     `json:"workflow_id"`
	Draft     store.ID     `json:"draft_id"`
	Status    store.Status `json:"status"`
	Created   time.Time    `json:"created_at"`
	Started   time.Time    `json:"started_at"`
	Completed time.Time    `json:"completed_at"`
	Updated   time.Time    `json:"updated_at"`
	Duration  *int64       `json:"duration_ms"`
	Details   store.JSON   `json:"error_details"`
}

func (r *referenceRow) row() store.Row {
	if r == nil {
		return store.Row{}
	}
	row := store.Row{
		ID: r.ID, User: r.User, Workflow: r.Workflow, Draft: r.Draft, Status: r.Status,
		CreatedAt: store.Instant(r.Created), StartedAt: store.Instant(r.Started),
		CompletedAt: store.Instant(r.Completed), UpdatedAt: store.Instant(r.Updated), ErrorDetails: r.Details,
	}
	if r.Duration != nil {
		row.DurationMS = store.MillisOf(*r.Duration)
	}
	return row
}

func TestCapturedWebhooksDecode(t *testing.T) {
	for name, body := range webhooktest.Captures(t) {
		t.Run(name, func(t *testing.T) {
			got, err := runs.Decode(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			want := Delivery{Received: 1}
			if strings.HasPrefix(name, "024-") {
				want.Ignored = 1
			} else {
				var r reference
				if err := json.Unmarshal(body, &r); err != nil {
					t.Fatal(err)
				}
				want.Changes = []store.Change{{Op: r.Type, Record: r.Record.row(), Old: r.OldRecord.row(), HasOld: r.OldRecord != nil}}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestARowIsReadWhole(t *testing.T) {
	got, err := runs.Row(strings.NewReader(columns(`, "workflow_id": "AAAAAAAA-AAAA-4AAA-8AAA-AAAAAAAAAAAA", "draft_id": "` + aDraft + `",
		"created_at": "2026-11-22 20:10:37+00", "started_at": "2026-11-22T20:10:37.2Z", "completed_at": null,
		"updated_at": "2026-11-22T23:10:37.1234567+03", "lease_until": "2026-11-22T16:40:37-03:30",
		"duration_ms": 12.9, "error_details": {"n": 1.50, "n": 1e400, "s": "\u00e9"}, "\u0073tate_snapshot": {"id": 5}, "metadata": [1]`)))
	if err != nil {
		t.Fatal(err)
	}
	want := store.Row{
		ID: parsedID(t, anID), User: parsedID(t, aUser), Workflow: parsedID(t, aFlow), Draft: parsedID(t, aDraft), Status: store.Running,
		CreatedAt: at(t, "2026-11-22T20:10:37Z"), StartedAt: at(t, "2026-11-22T20:10:37.2Z"),
		UpdatedAt: at(t, "2026-11-22T20:10:37.123456Z"), LeaseAt: at(t, "2026-11-22T20:10:37Z"),
		DurationMS: store.MillisOf(12), ErrorDetails: `{"n": 1.50, "n": 1e400, "s": "\u00e9"}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestDeliveriesThatAreRead(t *testing.T) {
	update := changeOf("UPDATE", columns(""), columns(""))
	odd := `{"id": 7, "user_id": [], "status": {}, "id": 8}`
	for _, c := range []struct {
		name, body        string
		received, ignored int
	}{
		{"one change", update, 1, 0},
		{"an array", "[" + update + "," + changeOf("INSERT", columns(""), "null") + "]", 2, 0},
		{"an empty array", " [ ] ", 0, 0},
		{"an update without its old_record", changeOf("UPDATE", columns(""), "null"), 1, 0},
		{"a delete that knows the id alone", changeOf("DELETE", "null", `{"id":"`+anID+`"}`), 1, 0},
		{"an unknown status", changeOf("INSERT", strings.Replace(columns(""), "running", "paused", 1), "null"), 1, 0},
		{"a version", strings.Replace(update, "{", `{"version": 9223372036854775807,`, 1), 1, 0},
		{"a version of null", strings.Replace(update, "{", `{"version": null,`, 1), 1, 0},
		{"an evidence", strings.Replace(update, "{", `{"evidence": "presumed",`, 1), 1, 0},
		{"an evidence of null", strings.Replace(update, "{", `{"evidence": null,`, 1), 1, 0},
		{"an evidence that is no string, of another table named after it", strings.Replace(strings.Replace(update, "{", `{"evidence": 5,`, 1), "workflow_runs", "others", 1), 1, 1},
		{"unknown keys, even twice", strings.Replace(update, "{", `{"commit": 1, "commit": [2], "": 3,`, 1), 1, 0},
		{"rows of any shape, of another table named after them", strings.Replace(changeOf("UPDATE", odd, "5"), "workflow_runs", "others", 1), 1, 1},
		{"rows of any shape, of another schema named after them", strings.Replace(changeOf("INSERT", odd, odd), "public", "lab", 1), 1, 1},
		{"a truncate", changeOf("TRUNCATE", "null", "null"), 1, 1},
		{"a type in small letters", changeOf("insert", odd, "null"), 1, 1},
		{"another table's change among ours", "[" + update + "," + strings.Replace(update, "public", "lab", 1) + "]", 2, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := runs.Decode(strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if got.Received != c.received || got.Ignored != c.ignored || len(got.Changes) != c.received-c.ignored {
				t.Errorf("got %d received, %d ignored, %d changes; want %d, %d and the rest",
					got.Received, got.Ignored, len(got.Changes), c.received, c.ignored)
			}
		})
	}
}

func TestTheOrderOfKeysDoesNotMatter(t *testing.T) {
	members := []string{
		`"type":"UPDATE"`, `"table":"workflow_runs"`, `"schema":"public"`, `"version":3`, `"evidence":"amended"`,
		`"record":` + columns(`,"updated_at":"`+aTime+`"`), `"old_record":` + columns(""),
	}
	want, err := runs.Decode(strings.NewReader("{" + strings.Join(members, ",") + "}"))
	if err != nil || len(want.Changes) != 1 || want.Changes[0].Version != 3 || want.Changes[0].Mark != store.MarkAmended {
		t.Fatalf("got %+v, %v", want, err)
	}
	permute(members, func(members []string) {
		got, err := runs.Decode(strings.NewReader("{" + strings.Join(members, ",") + "}"))
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v: %v\n%s", members, err, diff)
		}
	})
}

func TestMarks(t *testing.T) {
	update := changeOf("UPDATE", columns(""), columns(""))
	for _, c := range []struct {
		name, evidence string
		want           store.Mark
	}{
		{"presumed", `"presumed"`, store.MarkPresumed},
		{"superseding", `"superseding"`, store.MarkSuperseding},
		{"amended", `"amended"`, store.MarkAmended},
		{"escaped", `"` + strings.ReplaceAll(" 0073 0075 0070 0065 0072 0073 0065 0064 0069 006e 0067", " ", `\u`) + `"`, store.MarkSuperseding},
		{"null", `null`, store.NoMark},
		{"empty", `""`, store.NoMark},
		{"in capitals", `"Presumed"`, store.NoMark},
		{"one that a newer trigger sends", `"disputed"`, store.NoMark},
		{"one that begins like a mark", `"presumed` + strings.Repeat(" ", 1000) + `"`, store.NoMark},
		{"one that is cut within an escape", `"` + strings.Repeat("x", 507) + `\u0061mended"`, store.NoMark},
		{"half a surrogate pair", `"\ud800"`, store.NoMark},
		{"broken bytes", "\"presumed\xff\"", store.NoMark},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := runs.Decode(strings.NewReader(strings.Replace(update, "{", `{"evidence":`+c.evidence+`,`, 1)))
			if err != nil || len(got.Changes) != 1 {
				t.Fatalf("got %+v, %v; want one change", got, err)
			}
			if mark := got.Changes[0].Mark; mark != c.want {
				t.Errorf("got %q, want %q", mark, c.want)
			}
		})
	}
}

// permute calls f with every order of s.
func permute(s []string, f func([]string)) {
	var from func(int)
	from = func(n int) {
		if n == len(s) {
			f(s)
			return
		}
		for i := n; i < len(s); i++ {
			s[n], s[i] = s[i], s[n]
			from(n + 1)
			s[n], s[i] = s[i], s[n]
		}
	}
	from(0)
}

func TestBadDeliveriesSayWhatToDo(t *testing.T) {
	insert := func(more string) string { return changeOf("INSERT", columns(more), "null") }
	status := func(s string) string {
		return changeOf("INSERT", strings.Replace(columns(""), `"running"`, s, 1), "null")
	}
	update := changeOf("UPDATE", columns(""), columns(""))
	for _, c := range []struct{ name, body, want string }{
		{"an empty body", "", "the JSON is broken at byte 0: the text is empty"},
		{"a byte order mark", "\xef\xbb\xbf" + update, "the JSON is broken at byte 0: the text begins with a byte order mark; send UTF-8 without one"},
		{"a body cut off", update[:100], "the JSON is broken at byte 100: the text ends before it is complete; was it cut off on the way?"},
		{"a broken change in an array", "[" + update + ",{]", fmt.Sprintf(`change 1: the JSON is broken at byte %d: a key in double quotes must stand here`, len(update)+3)},
		{"text behind the array", "[" + update + "]]", fmt.Sprintf("the JSON is broken at byte %d: the value is complete, yet the text goes on", len(update)+2)},
		{"a number", "42", `the change is 42, not an object; send {"type", "schema", "table", "record", "old_record"}, or an array of those`},
		{"an array in the array", "[[]]", `change 0: the change is an array, not an object; send {"type", "schema", "table", "record", "old_record"}, or an array of those`},
		{"an empty object", "{}", "type is missing; send type, schema and table with every change"},
		{"no table", `{"type":"INSERT","schema":"public"}`, "table is missing; send type, schema and table with every change"},
		{"a table that is a number", strings.Replace(update, `"workflow_runs"`, `5`, 1), "table is 5, not a string of valid Unicode; send it as the database's webhooks do"},
		{"a schema without end", strings.Replace(update, "public", strings.Repeat("p", 600), 1), "schema is longer than 512 bytes; send a name such as PostgreSQL allows"},
		{"two records", strings.Replace(update, "{", `{"record":null,`, 1), "record stands in the change object twice; send it once"},
		{"a version of 0", strings.Replace(update, "{", `{"version":0,`, 1), "version is 0, not a whole number above 0; send what the sequence gave, or leave it out"},
		{"a version with a fraction", strings.Replace(update, "{", `{"version":1.0,`, 1), "version is 1.0, not a whole number above 0; send what the sequence gave, or leave it out"},
		{"a version beyond 64 bits", strings.Replace(update, "{", `{"version":9223372036854775808,`, 1), "version is 9223372036854775808, not a whole number above 0; send what the sequence gave, or leave it out"},
		{"an evidence that is a number", strings.Replace(update, "{", `{"evidence":4,`, 1), `evidence is 4, not a string; send "presumed", "superseding" or "amended", or leave it out`},
		{"an evidence that is an object", strings.Replace(update, "{", `{"evidence":{"presumed":true},`, 1), `evidence is an object, not a string; send "presumed", "superseding" or "amended", or leave it out`},
		{"two evidences", strings.Replace(update, "{", `{"evidence":null,"evidence":"amended",`, 1), "evidence stands in the change object twice; send it once"},
		{"a bad version before a bad evidence", strings.Replace(update, "{", `{"version":0,"evidence":4,`, 1), "version is 0, not a whole number above 0; send what the sequence gave, or leave it out"},
		{"a record that is a string", changeOf("INSERT", `"x"`, "null"), `record is "x", not an object; send the row's columns as one`},
		{"an insert without a record", changeOf("INSERT", "null", "null"), "record is missing or null; send the row as the change left it"},
		{"an insert with an old_record", changeOf("INSERT", columns(""), columns("")), "old_record is a row, but nothing stands before an INSERT; send null"},
		{"a delete with a record", changeOf("DELETE", columns(""), columns("")), "record is a row, but nothing is left by a DELETE; send null"},
		{"a delete without an old_record", changeOf("DELETE", "null", "null"), "old_record is missing or null; send the row that was deleted, or its id alone"},
		{"a delete without an id", changeOf("DELETE", "null", "{}"), "old_record.id is missing or null; send the row's id"},
		{"another id before", changeOf("UPDATE", columns(""), strings.Replace(columns(""), anID, aUser, 1)), "old_record.id is " + aUser + ", while record.id is " + anID + ", another than record.id; a run keeps its id: delete the one and insert the other"},

		{"case T4: an id that is empty", "[" + strings.Replace(update, anID, "", 1) + "]", `change 0: record.id is "", empty; send the row's id, which has 1 to 255 bytes`},
		{"case T4: an id that is too long", strings.Replace(update, anID, strings.Repeat("7", 256), 1), `record.id is "` + strings.Repeat("7", 63) + `…, longer than 255 bytes; send the row's id, which has 1 to 255 bytes`},
		{"case T4: an id longer than any column", strings.Replace(update, anID, strings.Repeat("7", 9000), 1), `record.id is "` + strings.Repeat("7", 63) + `…, longer than 255 bytes; send the row's id, which has 1 to 255 bytes`},
		{"case T4: an id of 256 digits", strings.Replace(update, `"`+anID+`"`, strings.Repeat("7", 256), 1), `record.id is ` + strings.Repeat("7", 64) + `…, longer than 255 bytes; send the row's id, which has 1 to 255 bytes`},
		{"case T4: an id with a NUL", strings.Replace(update, anID, `a\u0000`, 1), `record.id is "a\u0000", text with a NUL in it, which no database keeps; send the row's id, which has 1 to 255 bytes`},
		{"case T4: an id of half a surrogate pair", strings.Replace(update, anID, `\ud800`, 1), "record.id is not valid Unicode: it holds a broken byte or half a surrogate pair; send UTF-8"},
		{"case T4: an id with a fraction", strings.Replace(update, `"`+anID+`"`, "7.0", 1), "record.id is 7.0, neither a string nor a whole number; send what the database's webhooks send"},
		{"case T4: an id with an exponent", strings.Replace(update, `"`+anID+`"`, "7e0", 1), "record.id is 7e0, neither a string nor a whole number; send what the database's webhooks send"},
		{"a workflow that is true", insert(`,"workflow_id":true`), "record.workflow_id is true, neither a string nor a whole number; send what the database's webhooks send"},
		{"no status", changeOf("INSERT", `{"id":"`+anID+`","user_id":"`+aUser+`"}`, "null"), "record.status is missing or null; send the row's status"},
		{"an empty status", status(`""`), `record.status is "", an empty string; send the row's status`},
		{"a status with a NUL", status(`"a\u0000"`), `record.status is "a\u0000", text with a NUL in it, which no database keeps; send the row's status`},
		{"a status of half a surrogate pair", status(`"\ud800"`), "record.status is not valid Unicode: it holds a broken byte or half a surrogate pair; send UTF-8"},
		{"a column twice", insert(`,"status":"running"`), "record.status stands in the row twice; send it once"},
		{"a time that is a number", insert(`,"updated_at":1795379697`), "record.updated_at is 1795379697, a number, and nothing says what it counts since 1970; say it with --times milliseconds or --times seconds"},
		{"a time in words", insert(`,"updated_at":"yesterday"`), `record.updated_at is "yesterday", not a time such as 2026-11-22T20:10:37.200738+00:00; send it as PostgreSQL's to_jsonb prints it`},
		{"a lease that is no time", insert(`,"lease_until":"soon"`), `record.lease_until is "soon", not a time such as 2026-11-22T20:10:37.200738+00:00; send it as PostgreSQL's to_jsonb prints it`},
		{"a duration in words", insert(`,"duration_ms":"5 s"`), `record.duration_ms is "5 s", not a number; send the duration in milliseconds`},
		{"a duration without end", insert(`,"duration_ms":` + strings.Repeat("1", 9000)), "record.duration_ms is longer than 8192 bytes; send what the column holds"},
		{"details that are not UTF-8", insert(",\"error_details\":\"\xff\""), "record.error_details is not UTF-8; send the text in UTF-8"},
		{"an outcome without any time", status(`"failed"`), "record.completed_at is missing, and so are updated_at and created_at: nothing says when this failed run ended; send one of them"},
		{"the first of two faults", insert(`,"workflow_id":true,"draft_id":false`), "record.workflow_id is true, neither a string nor a whole number; send what the database's webhooks send"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := runs.Decode(strings.NewReader(c.body))
			bad, ok := errors.AsType[*BadDelivery](err)
			if !ok {
				t.Fatalf("got %v, want a BadDelivery", err)
			}
			if diff := cmp.Diff(c.want, bad.Error()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestBadRowsSayWhatToDo(t *testing.T) {
	for _, c := range []struct{ name, row, want string }{
		{"null", "null", "the row is null; send the row's columns as one object"},
		{"an array", "[]", "the row is an array, not an object; send the row's columns as one"},
		{"no user", `{"id":"` + anID + `"}`, "user_id is missing; send whose run it is, or null where it has no user"},
		{"a bad time", columns(`,"created_at":"x"`), `created_at is "x", not a time such as 2026-11-22T20:10:37.200738+00:00; send it as PostgreSQL's to_jsonb prints it`},
		{"an outcome without any time", strings.Replace(columns(""), "running", "timeout", 1), "completed_at is missing, and so are updated_at and created_at: nothing says when this timeout run ended; send one of them"},
		{"two rows", columns("") + columns(""), fmt.Sprintf("the JSON is broken at byte %d: the value is complete, yet the text goes on", len(columns("")))},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := runs.Row(strings.NewReader(c.row))
			bad, ok := errors.AsType[*BadDelivery](err)
			if !ok || bad.Index != -1 || bad.Error() != c.want {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestTooManyChanges(t *testing.T) {
	change := changeOf("TRUNCATE", "null", "null")
	for n, want := range map[int]error{MaxChanges: nil, MaxChanges + 1: ErrTooManyChanges} {
		_, err := runs.Decode(strings.NewReader("[" + strings.Repeat(change+",", n-1) + change + "]"))
		if !errors.Is(err, want) {
			t.Errorf("%d changes: got %v, want %v", n, err, want)
		}
	}
}

func TestLargeIsAskedOnce(t *testing.T) {
	small := changeOf("INSERT", columns(""), "null")
	heavy := changeOf("INSERT", columns(`,"error_details":"`+strings.Repeat("x", 8000)+`"`), "null")
	ignored := changeOf("TRUNCATE", "null", "null")
	no := errors.New("no room")
	for _, c := range []struct {
		name, change string
		n, asked     int
	}{
		{"64 small changes", small, 64, 0},
		{"65 small changes", small, 65, 1},
		{"1000 small changes", small, 1000, 1},
		{"14 heavy changes", heavy, 14, 0},
		{"20 heavy changes", heavy, 20, 1},
		{"1000 changes of other tables", ignored, 1000, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := "[" + strings.Repeat(c.change+",", c.n-1) + c.change + "]"
			asked, d := 0, runs
			d.Large = func() error { asked++; return nil }
			if _, err := d.Decode(strings.NewReader(body)); err != nil || asked != c.asked {
				t.Errorf("asked %d times, want %d (%v)", asked, c.asked, err)
			}
			d.Large = func() error { return no }
			if _, err := d.Decode(strings.NewReader(body)); errors.Is(err, no) != (c.asked > 0) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// What our own trigger sends at once is large, and not huge.
func TestAHugeDeliveryAsksOnceMore(t *testing.T) {
	one := changeOf("INSERT", columns(""), "null")
	for n, want := range map[int][2]int{64: {0, 0}, 500: {1, 0}, 512: {1, 0}, 513: {1, 1}, 2000: {1, 1}} {
		var asked [2]int
		d := runs
		d.Large = func() error { asked[0]++; return nil }
		d.Huge = func() error { asked[1]++; return nil }
		body := "[" + strings.Repeat(one+",", n-1) + one + "]"
		if _, err := d.Decode(strings.NewReader(body)); err != nil || asked != want {
			t.Errorf("%d changes: asked %v times, want %v (%v)", n, asked, want, err)
		}
		no := errors.New("no room")
		d.Huge = func() error { return no }
		if _, err := d.Decode(strings.NewReader(body)); errors.Is(err, no) != (want[1] > 0) {
			t.Errorf("%d changes, and no room: got %v", n, err)
		}
	}
}

func TestReadErrorsAreNoBadDelivery(t *testing.T) {
	body := changeOf("INSERT", columns(""), "null")
	for n := range len(body) + 1 {
		_, err := runs.Decode(io.MultiReader(strings.NewReader(body[:n]), iotest.ErrReader(io.ErrUnexpectedEOF)))
		if _, bad := errors.AsType[*BadDelivery](err); bad || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("after %d bytes: got %v, want %v", n, err, io.ErrUnexpectedEOF)
		}
	}
}

func TestDeliveriesRetainNothingOfTheBuffer(t *testing.T) {
	status := func(s string) string { return strings.Replace(columns(`,"error_details":"`+s+`"`), "running", s, 1) }
	first, err := runs.Row(strings.NewReader(status("aaaaaaaa")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := runs.Row(strings.NewReader(status("bbbbbbbb"))); err != nil { // in the same buffer
		t.Fatal(err)
	}
	if first.Status != "aaaaaaaa" || first.ErrorDetails != `"aaaaaaaa"` {
		t.Errorf("got %q and %q", first.Status, first.ErrorDetails)
	}
}

func TestErrorDetailsAreKeptUpTo8KiB(t *testing.T) {
	details := func(size int) string { return `"` + strings.Repeat("x", size-2) + `"` }
	for _, c := range []struct{ name, text, want string }{
		{"null", "null", ""},
		{"a string", `"null"`, `"null"`},
		{"the longest", details(8192), details(8192)},
		{"one byte more", details(8193), `{"code":"too_large","message":"error_details of 8193 bytes is not kept here."}`},
		{"20 MB", details(20 << 20), `{"code":"too_large","message":"error_details of 20971520 bytes is not kept here."}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := runs.Row(strings.NewReader(columns(`,"error_details":` + c.text)))
			if err != nil || string(got.ErrorDetails) != c.want {
				t.Errorf("got %.100q, %v; want %.100q", got.ErrorDetails, err, c.want)
			}
		})
	}
}

// FuzzDecode holds that what is read does not depend on how it arrives, and
// that what is refused is refused with a sentence.
func FuzzDecode(f *testing.F) {
	for _, body := range webhooktest.Captures(f) {
		f.Add(body, 1)
	}
	f.Add([]byte("["+changeOf("UPDATE", columns(""), columns(""))+","+changeOf("TRUNCATE", "1", "[]")+"]"), 7)
	for i, evidence := range []string{`"presumed"`, `"superseding"`, `"amended"`, `"disputed"`, `"\u0061mended"`, "null", "7"} {
		f.Add([]byte(strings.Replace(changeOf("UPDATE", columns(""), columns("")), "{", `{"version":3,"evidence":`+evidence+`,`, 1)), i+1)
	}
	f.Add([]byte(changeOf("DELETE", "null", `{"id":"`+anID+`"}`)), 50)
	f.Add([]byte(changeOf("INSERT", columns(`,"error_details":"`+strings.Repeat("x", 8190)+`"`), "null")), 100)
	f.Fuzz(func(t *testing.T, body []byte, chunk int) {
		if chunk < 1 {
			chunk = 1
		}
		want, wantErr := runs.Decode(bytes.NewReader(body))
		got, err := runs.Decode(&webhooktest.Chunked{Text: string(body), N: chunk})
		if diff := cmp.Diff(want, got); diff != "" || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Errorf("in chunks of %d: %v, whole: %v\n%s", chunk, err, wantErr, diff)
		}
		if err != nil {
			if bad, ok := errors.AsType[*BadDelivery](err); !errors.Is(err, ErrTooManyChanges) && (!ok || bad.Detail == "") {
				t.Errorf("refused without a sentence: %v", err)
			}
			return
		}
		if !json.Valid(body) && webhooktest.DepthOf(body) <= 10_000 || got.Received != got.Ignored+len(got.Changes)+len(got.Refused) {
			t.Errorf("let through %+v", got)
		}
		for _, c := range got.Changes {
			if c.ID().IsZero() || c.HasOld && c.Old.ID != c.ID() || c.Op != store.Delete && c.Record.Status == "" {
				t.Errorf("let through %+v", c)
			}
			if !slices.Contains([]store.Mark{store.NoMark, store.MarkPresumed, store.MarkSuperseding, store.MarkAmended}, c.Mark) {
				t.Errorf("let through the mark %q", c.Mark)
			}
			for _, r := range []store.Row{c.Record, c.Old} {
				if r.ErrorDetails != "" && !json.Valid([]byte(r.ErrorDetails)) || len(r.ErrorDetails) > maxValue {
					t.Errorf("error_details %q", r.ErrorDetails)
				}
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	body := webhooktest.Captures(b)["003-lifecycle-update-completed.json"]
	snapshot := `{"nodes":["` + strings.Repeat(`node \"n\" is done: {\"a\": 1}\n`, 30_000) + `"]}`
	large := bytes.ReplaceAll(body, []byte(`"metadata": {"source": "builder"}`), []byte(`"metadata": `+snapshot))
	for _, c := range []struct {
		name string
		body []byte
	}{{"a captured update", body}, {"an update with two snapshots of 1 MB", large}} {
		b.Run(c.name, func(b *testing.B) {
			r := bytes.NewReader(c.body)
			b.SetBytes(int64(len(c.body)))
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(c.body)
				if _, err := runs.Decode(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
