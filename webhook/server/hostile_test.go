package server

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/internal/answer"
)

// rawRequest is one hostile request. Its zero values make it an ordinary one.
type rawRequest struct {
	method, path string
	headers      []string // added
	auth         string   // header; the token where empty, none where "none"
	kind         string   // Content-Type; JSON where empty, none where "none"
	body         string
	length       string // Content-Length; the body's where empty, none where "none"
}

func (q rawRequest) String() string {
	or := func(s, otherwise string) string {
		if s == "" {
			return otherwise
		}
		return s
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\n", or(q.method, "POST"), or(q.path, path))
	for _, header := range [...][2]string{
		{"Authorization", or(q.auth, "Bearer "+token)},
		{"Content-Type", or(q.kind, "application/json")},
		{"Content-Length", or(q.length, strconv.Itoa(len(q.body)))},
	} {
		if header[1] != "none" {
			fmt.Fprintf(&out, "%s: %s\r\n", header[0], header[1])
		}
	}
	for _, header := range q.headers {
		out.WriteString(header + "\r\n")
	}
	return out.String() + "\r\n" + q.body
}

// inChunks frames a body in chunks.
func inChunks(body string) rawRequest {
	const size = 16 << 10
	var out strings.Builder
	for len(body) > 0 {
		n := min(size, len(body))
		fmt.Fprintf(&out, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return rawRequest{body: out.String() + "0\r\n\r\n", length: "none", headers: []string{"Transfer-Encoding: chunked"}}
}

// signedBy signs a body at a time, and sends it without the token.
func signedBy(secret string, at time.Time, body string) rawRequest {
	signature, err := webhook.Sign(secret, "msg_1", at, []byte(body))
	if err != nil {
		panic(err)
	}
	return rawRequest{body: body, auth: "none", headers: []string{
		"webhook-id: msg_1", "webhook-timestamp: " + strconv.FormatInt(at.Unix(), 10), "webhook-signature: " + signature,
	}}
}

func zipped(body string) string {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write([]byte(body))
	w.Close()
	return out.String()
}

// with returns the nth run's row, pending, with a column replaced.
func with(n int, column string, value any) string {
	return inserted(row(n, "pending", map[string]any{column: value}))
}

// without returns a delivery that lacks a member.
func without(member string) string {
	var m map[string]any
	if err := json.Unmarshal([]byte(completed(1)), &m); err != nil {
		panic(err)
	}
	delete(m, member)
	return string(answer.Encode(m))
}

type hostileCase struct {
	name    string
	send    string
	status  int
	detail  string // a part of the problem's detail, or of the answer
	letters int    // dead letters kept
	silent  bool   // the connection may end without an answer
}

func hostileBodies() []hostileCase {
	body := func(s string) string { return rawRequest{body: s}.String() }
	// A hundred new runs, each a hundred times: the number of changes is what
	// is tried here, and not the disk.
	hundred := strings.Trim(batchOf(1000, 100), "[]")
	many := "[" + strings.Repeat(hundred+",", webhook.MaxChanges/100-1) + hundred + "]"
	huge := strings.Repeat("9", 400)
	return []hostileCase{
		{"an empty body", body(""), 400, "empty", 1, false},
		{"blanks alone", body(" \r\n\t "), 400, "empty", 1, false},
		{"JSON that breaks off", body(`{"type": "INSERT", "record": {`), 400, "", 1, false},
		{"JSON with a comma too many", body(`[` + completed(1) + `,]`), 400, "", 1, false},
		{"JSON with single quotes", body(`{'type': 'INSERT'}`), 400, "", 1, false},
		{"a second value behind the first", body(completed(1) + completed(2)), 400, "", 1, false},
		{"text behind the value", body(completed(1) + " bye"), 400, "", 1, false},
		{"a byte order mark", body("\ufeff" + completed(1)), 400, "", 1, false},
		{"a string for a delivery", body(`"hello"`), 400, "", 1, false},
		{"a number for a delivery", body(`42`), 400, "", 1, false},
		{"null for a delivery", body(`null`), 400, "", 1, false},
		{"an array of numbers", body(`[1, 2]`), 400, "change 0", 2, false},
		{"a good change before a bad one", body(`[` + completed(1) + `,{"type":7}]`), 200, `"refused":[{"change":1,`, 1, false},
		{"a string for the record", body(`{"type":"INSERT","schema":"public","table":"workflow_runs","record":"x","old_record":null}`), 400, "record", 1, false},
		{"an INSERT without a record", body(without("record")), 400, "record", 1, false},
		{"a delivery without a type", body(without("type")), 400, "type", 1, false},
		{"a delivery without a table", body(without("table")), 400, "table", 1, false},
		{"a DELETE without the old record", body(`{"type":"DELETE","schema":"public","table":"workflow_runs","record":null,"old_record":null}`), 400, "old_record", 1, false},
		{"a missing id", body(with(1, "id", nil)), 400, "record.id", 1, false},
		{"a number with a fraction for an id", body(with(1, "id", 7.5)), 400, "record.id", 1, false},
		{"an id that is longer than any", body(with(1, "id", strings.Repeat("r", 256))), 400, "record.id", 1, false},
		{"case T4: a user id that can't be one", body(with(5, "user_id", strings.Repeat("u", 256))), 200, `"changed":1,"ignored":0,"counts":[]`, 0, false},
		{"a user id that would like to be SQL", body(with(6, "user_id", "1' or 1=1 --")), 200, `"user_id":"1' or 1=1 --"`, 0, false},
		{"a missing user id", body(with(4, "user_id", nil)), 200, `"changed":1,"ignored":0,"counts":[]`, 0, false},
		{"a workflow id that is a list", body(with(1, "workflow_id", []int{1})), 400, "record.workflow_id", 1, false},
		{"a status that is a number", body(with(1, "status", 1)), 400, "record.status", 1, false},
		{"a status of a megabyte", body(with(1, "status", strings.Repeat("s", 1<<20))), 400, "record.status", 1, false},
		{"a time that is no time", body(with(1, "created_at", "yesterday")), 400, "record.created_at", 1, false},
		{"a duration that is a string", body(with(1, "duration_ms", "long")), 400, "record.duration_ms", 1, false},
		{"nesting of a hundred thousand levels", body(`{"record":` + strings.Repeat("[", 100_000)), 400, "", 1, false},
		{"deep nesting in a column that is not needed", body(strings.Replace(completed(2), `"draft_id":null`, `"draft_id":null,"metadata":`+strings.Repeat("[", 50_000)+strings.Repeat("]", 50_000), 1)), 200, `"changed":1`, 0, false},
		{"a raw NUL in a string", body("{\"type\": \"IN\x00SERT\"}"), 400, "", 1, false},
		{"an escaped NUL in the status", body(strings.Replace(completed(3), `"completed"`, `"comp\u0000leted"`, 1)), 400, "record.status", 1, false},
		{"bytes that are not UTF-8", body("{\"type\": \"\xff\xfe\"}"), 400, "", 1, false},
		{"a compressed body that does not say so", body(zipped(completed(1))), 400, "", 1, false},
		{"a batch of 10,001", body(batchOf(1, webhook.MaxChanges+1)), 413, "10000 changes", 0, false},

		{"an unknown status", body(with(10, "status", "paused")), 200, `"changed":1`, 0, false},
		{"workflow and draft both", body(inserted(row(11, "completed", map[string]any{"draft_id": draft}))), 200, `"workflow_id":null,"draft_id":"` + draft + `","count":1`, 0, false},
		{"neither workflow nor draft", body(inserted(row(12, "completed", map[string]any{"workflow_id": nil}))), 200, `"changed":1,"ignored":0,"counts":[]`, 0, false},
		{"a number of 400 digits in a column that is not needed", body(strings.Replace(completed(13), `"draft_id":null`, `"draft_id":null,"metadata":`+huge, 1)), 200, `"changed":1`, 0, false},
		{"a duration of 400 digits", body(inserted(row(14, "completed", map[string]any{"duration_ms": json.RawMessage(huge)}))), 200, `"changed":1`, 0, false},
		{"a clock in the year 9999", body(inserted(row(15, "completed", map[string]any{"completed_at": "9999-12-31T23:59:59+00:00"}))), 200, `"changed":1`, 0, false},
		{"a clock in the year 1", body(inserted(row(16, "completed", map[string]any{"completed_at": "0001-01-02T00:00:00+00:00"}))), 200, `"changed":1`, 0, false},
		{"an empty batch", body("[]"), 200, `{"received":0,"changed":0,"ignored":0,"counts":[]}`, 0, false},
		{"another table", body(strings.Replace(completed(1), "workflow_runs", "profiles", 1)), 200, `"ignored":1`, 0, false},
		{"another schema", body(strings.Replace(completed(1), "public", "private", 1)), 200, `"ignored":1`, 0, false},
		{"another type", body(strings.Replace(completed(1), "INSERT", "TRUNCATE", 1)), 200, `"ignored":1`, 0, false},
		{"a batch of 10,000", body(many), 200, `"received":10000,"changed":100`, 0, false},
		{"that batch again", body(many), 200, `"received":10000,"changed":0`, 0, false},
	}
}

func hostileHTTP() []hostileCase {
	send := func(q rawRequest) string {
		if q.body == "" {
			q.body = completed(1)
		}
		return q.String()
	}
	now := time.Now()
	broken := signedBy(signing, now, "{")
	tampered := signedBy(signing, now, completed(1))
	tampered.body = strings.Replace(tampered.body, "completed", "cancelled", 1)
	unreadable := signedBy("whsec_"+strings.Repeat("QUJD", 8), now, "{")
	valid := signedBy(signing, now, completed(20))
	two := []string{"Content-Length: 3"}
	return []hostileCase{
		{"a GET", send(rawRequest{method: "GET"}), 405, "Allow", 0, false},
		{"a PUT", send(rawRequest{method: "PUT"}), 405, "Allow", 0, false},
		{"a DELETE", send(rawRequest{method: "DELETE"}), 405, "Allow", 0, false},
		{"an OPTIONS as browsers send it", send(rawRequest{method: "OPTIONS"}), 405, "Allow", 0, false},
		{"a method that nobody knows", send(rawRequest{method: "BREW"}), 501, "POST", 0, false},
		{"plain text", send(rawRequest{kind: "text/plain"}), 415, "application/json", 0, false},
		{"a form, as a page of another site can post it", send(rawRequest{kind: "application/x-www-form-urlencoded"}), 415, "application/json", 0, false},
		{"a multipart form", send(rawRequest{kind: "multipart/form-data; boundary=x"}), 415, "application/json", 0, false},
		{"no content type", send(rawRequest{kind: "none"}), 415, "application/json", 0, false},
		{"a compressed bomb", send(rawRequest{body: zipped(strings.Repeat("[", 10<<20)), headers: []string{"Content-Encoding: gzip"}}), 415, "Content-Encoding", 0, false},
		{"another coding", send(rawRequest{headers: []string{"Content-Encoding: br"}}), 415, "Content-Encoding", 0, false},
		{"two codings in two headers", send(rawRequest{headers: []string{"Content-Encoding: identity", "Content-Encoding: gzip"}}), 415, "Content-Encoding", 0, false},

		{"no secret", send(rawRequest{auth: "none"}), 401, "secret", 0, false},
		{"a wrong token", send(rawRequest{auth: "Bearer of bad news"}), 401, "token", 0, false},
		{"another scheme", send(rawRequest{auth: "Basic YTpi"}), 401, "Bearer", 0, false},
		{"the API's key", send(rawRequest{auth: "Bearer " + apiKey}), 401, "token", 0, false},
		{"an unreadable body without a secret", send(rawRequest{auth: "none", body: "{"}), 401, "secret", 0, false},
		{"the signature of another body", tampered.String(), 401, "signature", 0, false},
		{"the signature of another secret under an unreadable body", unreadable.String(), 401, "signature", 0, false},
		{"a signature of an hour and a minute ago", signedBy(signing, now.Add(-61*time.Minute), completed(1)).String(), 401, "past", 0, false},
		{"a signature of the day after tomorrow", signedBy(signing, now.Add(48*time.Hour), completed(1)).String(), 401, "future", 0, false},
		{"a signature that is none", send(rawRequest{auth: "none", headers: []string{"webhook-id: a", "webhook-timestamp: b", "webhook-signature: c"}}), 401, "webhook-timestamp", 0, false},
		{"a valid signature over what can't be read", broken.String(), 400, "", 1, false},
		{"a valid signature", valid.String(), 200, `"changed":1`, 0, false},
		{"that signature replayed", valid.String(), 200, `"changed":0`, 0, false},

		{"a length over the limit", rawRequest{length: "7000000", body: "["}.String(), 413, "6 MB", 0, false},
		{"a length of twenty digits", rawRequest{length: "99999999999999999999"}.String(), 400, "well-formed", 0, false},
		{"a negative length", rawRequest{length: "-1", body: "x"}.String(), 400, "well-formed", 0, false},
		{"a length that is no number", rawRequest{length: "many", body: "x"}.String(), 400, "well-formed", 0, false},
		{"two lengths that differ", send(rawRequest{headers: two}), 400, "well-formed", 0, false},
		{"a length and chunks", send(rawRequest{headers: []string{"Transfer-Encoding: chunked"}}), 400, "", 0, false},
		{"a length shorter than the body", send(rawRequest{length: "20"}), 400, "", 1, false},
		{"chunks over the limit", inChunks(strings.Repeat(" ", 6<<20+1)).String(), 413, "6 MB", 0, false},
		{"a chunk without a size", rawRequest{length: "none", headers: []string{"Transfer-Encoding: chunked"}, body: "zz\r\n{}\r\n0\r\n\r\n"}.String(), 400, "framing", 0, false},
		{"a chunk that is longer than it says", rawRequest{length: "none", headers: []string{"Transfer-Encoding: chunked"}, body: "2\r\n{}{}\r\n0\r\n\r\n"}.String(), 400, "framing", 0, false},
		{"a coding of the transfer that nobody knows", send(rawRequest{length: "none", headers: []string{"Transfer-Encoding: gzip, chunked"}}), 400, "", 0, true},
		{"a header of 20 KB", send(rawRequest{headers: []string{"X-Long: " + strings.Repeat("x", 20<<10)}}), 431, "16 KiB", 0, false},
		{"a thousand headers", send(rawRequest{headers: manyHeaders(1000)}), 431, "16 KiB", 0, false},
		{"a path of 20 KB", send(rawRequest{path: "/" + strings.Repeat("x", 20<<10)}), 431, "16 KiB", 0, false},
		{"a header without a colon", send(rawRequest{headers: []string{"nonsense"}}), 400, "well-formed", 0, false},
		{"no HTTP at all", "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "well-formed", 0, false},

		{"a slash too many at the end", send(rawRequest{path: path + "/", body: completed(30)}), 200, `"changed":1`, 0, false},
		{"the address of the Edge Function", send(rawRequest{path: "/functions/v1/run-counter", body: completed(31)}), 200, `"changed":1`, 0, false},
		{"that address with a slash", send(rawRequest{path: "/functions/v1/run-counter/", body: completed(31)}), 200, `"changed":0`, 0, false},
		{"two slashes", send(rawRequest{path: "//webhooks//workflow-runs"}), 404, "POST /webhooks/workflow-runs", 0, false},
		{"a path with dots", send(rawRequest{path: "/webhooks/../webhooks/workflow-runs"}), 404, "POST /webhooks/workflow-runs", 0, false},
		{"a path with dots through the API", send(rawRequest{path: "/v1/../webhooks/workflow-runs"}), 401, "key", 0, false},
		{"a path with an escaped slash", send(rawRequest{path: "/webhooks%2fworkflow-runs"}), 404, "POST /webhooks/workflow-runs", 0, false},
		{"a path in capitals", send(rawRequest{path: "/WEBHOOKS/WORKFLOW-RUNS"}), 404, "POST /webhooks/workflow-runs", 0, false},
		{"a path to a file", send(rawRequest{method: "GET", path: "/../../etc/passwd"}), 404, "POST /webhooks/workflow-runs", 0, false},
		{"a query behind the address", send(rawRequest{path: path + "?redirect=1", body: completed(32)}), 200, `"changed":1`, 0, false},
	}
}

func manyHeaders(n int) []string {
	headers := make([]string, n)
	for i := range headers {
		headers[i] = fmt.Sprintf("X-Header-%d: some value", i)
	}
	return headers
}

func TestHostileRequests(t *testing.T) {
	r := serve(t, func(_ *Config, l *limits, _ *gated) { l.body = 6 << 20 })
	before := r.resting() + 1 // that of the subtest
	for _, c := range append(hostileBodies(), hostileHTTP()...) {
		t.Run(c.name, func(t *testing.T) {
			applies, letters := r.store.applies.Load(), len(r.store.kept())
			got, err := r.raw(c.send)
			switch {
			case err != nil && c.silent:
			case err != nil:
				t.Fatal(err)
			case got.status != c.status:
				t.Fatalf("got %d %s, want %d", got.status, got.body, c.status)
			case c.status == http.StatusOK:
				if !strings.Contains(string(got.body), c.detail) {
					t.Errorf("got %s, want %q in it", got.body, c.detail)
				}
			default:
				if p := got.problem(t); !strings.Contains(p.Detail, c.detail) {
					t.Errorf("got the detail %q, want %q in it", p.Detail, c.detail)
				}
			}
			if c.status != http.StatusOK && r.store.applies.Load() != applies {
				t.Error("what was refused reached the store")
			}
			kept := r.store.kept()[letters:]
			if len(kept) != c.letters {
				t.Errorf("%d dead letters were kept, want %d", len(kept), c.letters)
			}
			for _, letter := range kept {
				if letter.Reason == "" || letter.Bytes < int64(len(letter.Body)) || !strings.Contains(c.send, string(letter.Body)) {
					t.Errorf("the dead letter does not hold what was sent: %d bytes, reason %q", letter.Bytes, letter.Reason)
				}
			}
			goroutines(t, before)
		})
	}
	if log := r.log.String(); strings.Contains(log, "panic") || strings.Contains(log, token) || strings.Contains(log, "state_snapshot") {
		t.Errorf("the log holds a panic, a secret or a body:\n%s", log)
	}
}

func TestSlowAndBrokenSenders(t *testing.T) {
	r := serve(t, func(_ *Config, l *limits, _ *gated) {
		l.time.Stall, l.time.Whole = 400*time.Millisecond, 1200*time.Millisecond
	})
	before := r.resting() + 1 // that of the subtest
	whole := rawRequest{body: "[" + completed(1) + strings.Repeat(" ", 20<<10) + "]"}.String()
	cases := []struct {
		name   string
		first  string // sent at once
		drip   string // sent a byte at a time, if anything
		status int    // 0: no answer need come
		close  bool   // the sender leaves after that
	}{
		{"a sender that says nothing", "", "", 408, false},
		{"a sender that stops in a header", whole[:60], "", 408, false},
		{"a sender that stops at the head's end", whole[:strings.Index(whole, "\r\n\r\n")+4], "", 408, false},
		{"a sender that stops early in the body", whole[:400], "", 408, false},
		{"a sender that stops late in the body", whole[:len(whole)-1], "", 408, false},
		{"a sender that drips its body for too long", whole[:len(whole)-1000], whole[len(whole)-1000:], 408, false},
		{"a sender that leaves in the head", whole[:60], "", 0, true},
		{"a sender that leaves early in the body", whole[:400], "", 0, true},
		{"a sender that leaves late in the body", whole[:len(whole)-1], "", 0, true},
		{"a sender that leaves within a chunk", strings.TrimSuffix(inChunks(completed(1)).String(), "}\r\n0\r\n\r\n"), "", 0, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			applies := r.store.applies.Load()
			got, err := r.slowly(c.first, c.drip, c.close)
			if c.status != 0 {
				if err != nil {
					t.Fatal(err)
				}
				if p := got.problem(t); got.status != c.status || !strings.Contains(p.Detail, "slowly") {
					t.Errorf("got %d %q, want %d", got.status, p.Detail, c.status)
				}
			}
			goroutines(t, before)
			if r.store.applies.Load() != applies || len(r.store.kept()) != 0 {
				t.Error("something of a body that did not arrive whole reached the store")
			}
		})
	}
	// Nothing of it keeps the next one from being served.
	if a := r.deliver(completed(1)).answer(t); a.Changed != 1 {
		t.Errorf("the next delivery: got %+v, want it changed", a)
	}
}

// slowly sends some bytes at once and others one by one, and then waits for an
// answer, or leaves.
func (r *rig) slowly(first, drip string, leave bool) (reply, error) {
	c := r.dial()
	defer c.Close()
	if _, err := c.Write([]byte(first)); err != nil {
		return reply{}, err
	}
	if leave {
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			return reply{}, err
		}
		// The server closes when it has understood that nothing more comes.
		_, err := io.Copy(io.Discard, c)
		return reply{}, err
	}
	answered := make(chan struct{})
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := range drip {
			select {
			case <-tick.C:
			case <-answered:
				return
			}
			if _, err := c.Write([]byte{drip[i]}); err != nil {
				return
			}
		}
	}()
	defer close(answered)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return reply{}, err
	}
	return readReply(res)
}
