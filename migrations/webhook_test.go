package migrations

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// sending is a Supabase project with a webhook of our own, whose calls stay in
// pg_net's queue: nobody sends them.
type sending struct {
	*testing.T
	address string
	conn    *pgx.Conn // the owner's
	secret  string
}

func theWebhook() Webhook {
	return Webhook{URL: "https://counter.example", Timeout: 5 * time.Second, Schema: "public", Table: "workflow_runs"}
}

func newSending(t *testing.T, table string, w Webhook) sending {
	t.Helper()
	address := pgtest.Supabase(t)
	pgtest.Exec(t, address, table)
	pgtest.InstallNet(t, address)
	pgtest.InstallVault(t, address)
	return sending{T: t, address: address, secret: install(t, address, w), conn: connected(t, address)}
}

func connected(t *testing.T, address string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func install(t *testing.T, address string, w Webhook) string {
	t.Helper()
	s, err := OpenWebhook(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	made, err := s.Install(w)
	if err != nil {
		t.Fatal(err)
	}
	return made.Secret
}

func (s sending) exec(statements ...string) {
	s.Helper()
	for _, text := range statements {
		if _, err := s.conn.Exec(s.Context(), text); err != nil {
			s.Fatalf("%s: %v", text, err)
		}
	}
}

func (s sending) text(query string) (text string) {
	s.Helper()
	if err := s.conn.QueryRow(s.Context(), `select x::text from (`+query+`) as q (x)`).Scan(&text); err != nil {
		s.Fatalf("%s: %v", query, err)
	}
	return text
}

// sentChange is a change as it is sent.
type sentChange struct {
	Type     string         `json:"type"`
	Schema   string         `json:"schema"`
	Table    string         `json:"table"`
	Record   map[string]any `json:"record"`
	Old      map[string]any `json:"old_record"`
	Version  int64          `json:"version"`
	Evidence string         `json:"evidence"`
}

type sentCall struct {
	url       string
	timeout   int
	headers   map[string]string
	body      []byte
	changes   []sentChange
	signature []string
}

// calls takes what waits in the queue, the oldest first, each with a signature
// that fits.
func (s sending) calls() (all []sentCall) {
	s.Helper()
	rows, err := s.conn.Query(s.Context(), `with taken as (delete from net.http_request_queue returning *) select url, timeout_milliseconds, headers::text, body from taken order by id`)
	if err != nil {
		s.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var c sentCall
		var headers string
		if err := rows.Scan(&c.url, &c.timeout, &headers, &c.body); err != nil {
			s.Fatal(err)
		}
		if err := errors.Join(json.Unmarshal([]byte(headers), &c.headers), json.Unmarshal(c.body, &c.changes)); err != nil {
			s.Fatalf("%v: %s\n%s", err, headers, c.body)
		}
		c.signature = strings.Fields(c.headers["webhook-signature"])
		all = append(all, c)
	}
	if rows.Err() != nil {
		s.Fatal(rows.Err())
	}
	return all
}

// failures returns why statements were committed without their webhook.
func (s sending) failures() string {
	s.Helper()
	return s.text(`select coalesce(string_agg(operation || ' ' || code || ' ' || message, E'\n' order by seq), '') from run_counter_webhook.failures`)
}

// signatureOf is what Standard Webhooks wants, by Go's own HMAC.
func signatureOf(t *testing.T, secret string, c sentCall) string {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(key) != 32 {
		t.Fatalf("the secret's key has %d bytes, %v", len(key), err)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", c.headers["webhook-id"], c.headers["webhook-timestamp"], c.body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

const run1, run2 = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"

func TestAWebhookIsSigned(t *testing.T) {
	t.Parallel()
	s := newSending(t, tableWithDrafts, theWebhook())
	s.exec(`insert into workflow_runs (id, user_id, workflow_id, status, error_details) values ('` + run1 + `', '` + alice + `', '` + flow + `', 'pending', '{"größer": "漢 \u0001 🚀", "n": 1.500}')`)
	all := s.calls()
	if len(all) != 1 || len(all[0].changes) != 1 {
		t.Fatalf("got %+v, want one call with one change: %s", all, s.failures())
	}
	c := all[0]
	if c.url != "https://counter.example/webhooks/workflow-runs" || c.timeout != 5000 {
		t.Errorf("got %s within %d ms", c.url, c.timeout)
	}
	if want := []string{signatureOf(t, s.secret, c)}; !slices.Equal(c.signature, want) {
		t.Errorf("got %v, want %v", c.signature, want)
	}
	if !strings.HasPrefix(c.headers["webhook-id"], "msg_") || c.headers["Content-Type"] != "application/json" {
		t.Errorf("got %v", c.headers)
	}
	change := c.changes[0]
	if change.Type != "INSERT" || change.Table != "workflow_runs" || change.Schema != "public" || change.Old != nil || change.Version < time.Now().Add(-time.Hour).UnixMicro() {
		t.Errorf("got %+v", change)
	}
	columns := []string{}
	for name := range change.Record {
		columns = append(columns, name)
	}
	slices.Sort(columns)
	want := []string{"completed_at", "created_at", "draft_id", "duration_ms", "error_details", "id", "started_at", "status", "updated_at", "user_id", "workflow_id"}
	if diff := cmp.Diff(want, columns); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestHMACInSQLIsThatOfGo(t *testing.T) {
	t.Parallel()
	s := newSending(t, tableWithDrafts, theWebhook())
	for _, lengths := range [][2]int{{0, 0}, {1, 1}, {32, 100}, {63, 64}, {64, 65}, {65, 1000}, {200, 100_000}} {
		key, message := make([]byte, lengths[0]), make([]byte, lengths[1])
		rand.Read(key)
		rand.Read(message)
		mac := hmac.New(sha256.New, key)
		mac.Write(message)
		var got []byte
		err := s.conn.QueryRow(t.Context(), `select run_counter_webhook.hmac($1::bytea, $2::bytea)`, key, message).Scan(&got)
		if err != nil || !hmac.Equal(got, mac.Sum(nil)) {
			t.Errorf("a key of %d bytes, %d bytes: got %s, %v, want %s", len(key), len(message), hex.EncodeToString(got), err, hex.EncodeToString(mac.Sum(nil)))
		}
	}
}

// askText returns the rows of an answer, in lines.
func askText(t *testing.T, address, query string) string {
	t.Helper()
	return strings.Join(ask(t, address, query), "\n")
}

// what returns type, run and status of what a call tells, in order.
func what(c sentCall) (all []string) {
	for _, change := range c.changes {
		row := change.Record
		if row == nil {
			row = change.Old
		}
		all = append(all, fmt.Sprintf("%s %s %v", change.Type, row["id"].(string)[35:], row["status"]))
	}
	slices.Sort(all)
	return all
}

// told returns what all calls in the queue tell.
func (s sending) told() (all []string) {
	for _, c := range s.calls() {
		all = append(all, what(c)...)
	}
	return all
}

func (s sending) wantTold(of string, want ...string) {
	s.Helper()
	if diff := cmp.Diff(want, s.told()); diff != "" {
		s.Errorf("%s: -want +got:\n%s%s", of, diff, s.failures())
	}
}

func (s sending) twoRuns() {
	s.exec(`insert into workflow_runs (id, user_id, workflow_id, status, updated_at) values
('`+run1+`', '`+alice+`', '`+flow+`', 'running', '2026-01-01 12:00:10Z'), ('`+run2+`', '`+alice+`', '`+flow+`', 'running', '2026-01-01 12:00:10Z')`,
		`delete from net.http_request_queue`)
}

func TestOnlyWhatCountsIsSent(t *testing.T) {
	t.Parallel()
	w := theWebhook()
	w.Said.Columns = map[watched.Role]string{watched.Lease: "beat_at"}
	s := newSending(t, tableWithDrafts+`alter table workflow_runs add beat_at timestamptz, add checkpoint jsonb`, w)
	for name, tt := range map[string]struct {
		set  string
		want []string
	}{
		"a checkpoint":                             {`checkpoint = '{"step": 2}'`, nil},
		"a snapshot of the state":                  {`state_snapshot = '[1]'`, nil},
		"the same once more":                       {`status = 'running'`, nil},
		"a sign of life within the minute":         {`updated_at = '2026-01-01 12:00:50Z'`, nil},
		"a sign of life of another minute":         {`updated_at = '2026-01-01 12:01:00Z'`, []string{"UPDATE 1 running"}},
		"a lease":                                  {`beat_at = '2026-01-01 12:01:00Z'`, []string{"UPDATE 1 running"}},
		"an outcome":                               {`status = 'completed', completed_at = now()`, []string{"UPDATE 1 completed"}},
		"a beginning":                              {`started_at = now()`, []string{"UPDATE 1 running"}},
		"another user":                             {`user_id = '` + bob + `'`, []string{"UPDATE 1 running"}},
		"a draft":                                  {`draft_id = '` + draft + `', workflow_id = null`, []string{"UPDATE 1 running"}},
		"details of an error, before the end":      {`error_details = '{"code": 1}'`, nil},
		"a status of none of the seven":            {`status = 'paused'`, []string{"UPDATE 1 paused"}},
		"no status, which nobody could read":       {`status = null`, nil},
		"another id, which to a mirror is another": {`id = '00000000-0000-4000-8000-000000000003'`, []string{"DELETE 1 running", "INSERT 3 running"}},
	} {
		s.twoRuns()
		s.exec(`update workflow_runs set ` + tt.set + ` where id = '` + run1 + `'`)
		s.wantTold(name, tt.want...)
		s.exec(`delete from workflow_runs where status is not null`)
		if got := s.calls(); len(got) != 1 || got[0].changes[0].Type != "DELETE" {
			t.Errorf("%s: its deletion: got %+v", name, got)
		}
		s.exec(`delete from workflow_runs`, `delete from net.http_request_queue`)
	}
	s.twoRuns()
	s.exec(`update workflow_runs set status = 'failed', completed_at = now()`)
	s.wantTold("two at once, in one call", "UPDATE 1 failed", "UPDATE 2 failed")
	s.exec(`update workflow_runs set error_details = '{"code": 2}' where id = '` + run2 + `'`)
	s.wantTold("details of an error that has ended it", "UPDATE 2 failed")
	s.exec(`update workflow_runs set error_details = to_jsonb(repeat('x', 9000)) where id = '` + run2 + `'`)
	if c := s.calls(); len(c) != 1 || cmp.Diff(c[0].changes[0].Record["error_details"],
		map[string]any{"code": "too_large", "message": "error_details of 9002 bytes is not kept here."}) != "" {
		t.Errorf("long details: got %+v", c)
	}
	s.exec(`update workflow_runs set started_at = 'infinity', status = 'running' where id = '` + run2 + `'`)
	if c := s.calls(); len(c) != 1 || c[0].changes[0].Record["started_at"] != "infinity" {
		t.Errorf("an infinite time, which a receiver reads as none: got %+v", c)
	}
	s.exec(`truncate workflow_runs`, `insert into workflow_runs (id, user_id, status) select '`+run1+`', '`+alice+`', 'running' where false`)
	s.wantTold("nothing at all")
}

func TestAStatementIsAtMost500RowsARequest(t *testing.T) {
	t.Parallel()
	s := newSending(t, tableWithDrafts, theWebhook())
	pgtest.PatientWebhook(t, s.address)
	const insert = `insert into workflow_runs (id, user_id, workflow_id, status, error_details)
select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, '` + alice + `', '` + flow + `', 'pending', to_jsonb('größer als 漢 ' || n) from generate_series(1, %d) as n`
	s.exec(fmt.Sprintf(insert, 10_000))
	all := s.calls()
	ids, versions := map[any]bool{}, map[int64]bool{}
	for n, c := range all {
		if len(c.changes) != 500 || !slices.Equal(c.signature, []string{signatureOf(t, s.secret, c)}) {
			t.Errorf("request %d has %d changes, and the signature %v", n, len(c.changes), c.signature)
		}
		for _, change := range c.changes {
			ids[change.Record["id"]], versions[change.Version] = true, true
		}
	}
	if len(all) != 20 || len(ids) != 10_000 || len(versions) != 1 {
		t.Errorf("got %d runs in %d requests, with %d versions: want 10,000 in 20 with one", len(ids), len(all), len(versions))
	}
	s.exec(`update workflow_runs set status = 'running' where id <= '00000000-0000-4000-8000-000000000501'`)
	if all := s.calls(); len(all) != 2 || len(all[1].changes) != 1 {
		t.Errorf("501 rows: got %d requests", len(all))
	}
	if got := s.text(`select count(*) || ' ' || sum(changes) from run_counter_webhook.calls`); got != "22 10501" {
		t.Errorf("the log of calls: got %s", got)
	}
}

// Versions have to follow the order in which a row was changed, whoever was
// faster to begin.
func TestAVersionIsDrawnUnderTheRowsLock(t *testing.T) {
	t.Parallel()
	s := newSending(t, tableWithDrafts, theWebhook())
	s.twoRuns()
	other, err := pgx.Connect(t.Context(), s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	s.exec(`begin`, `update workflow_runs set status = 'cancelling' where id = '`+run1+`'`)
	done := make(chan error, 1)
	go func() { // begins while the other holds the row
		_, err := other.Exec(t.Context(), `update workflow_runs set status = 'completed' where id = '`+run1+`'`)
		done <- err
	}()
	waitFor(t, s.address, `select count(*) > 0 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
	s.exec(`update workflow_runs set status = 'running' where id = '`+run1+`'`, `commit`)
	if err := need.Await(t, "the end of the later update", done); err != nil {
		t.Fatal(err)
	}
	version := map[any]int64{}
	for _, c := range s.calls() {
		version[c.changes[0].Record["status"]] = c.changes[0].Version
	}
	if version["cancelling"] >= version["running"] || version["running"] >= version["completed"] || len(version) != 3 {
		t.Errorf("got %v, want them in the order in which the row was written", version)
	}
}

// An AFTER trigger that writes the row again sends its own version first: the
// one that is sent last has the higher version, and must not show the older row.
func TestTheHighestVersionShowsTheRowAsItIs(t *testing.T) {
	t.Parallel()
	s := newSending(t, tableWithDrafts, theWebhook())
	s.exec(`
create function touch() returns trigger language plpgsql as $$ begin
    update public.workflow_runs set duration_ms = 7, user_id = '` + bob + `' where id = new.id and duration_ms is null;
    return null;
end $$;
create trigger touch after update on workflow_runs for each row when (new.status = 'completed') execute function touch()`)
	s.twoRuns()
	s.exec(`update workflow_runs set status = 'completed', completed_at = now() where id = '` + run1 + `'`)
	var last sentChange
	for _, c := range s.calls() {
		if c.changes[0].Version > last.Version {
			last = c.changes[0]
		}
	}
	if last.Record["user_id"] != bob || last.Record["duration_ms"] != float64(7) || last.Record["status"] != "completed" {
		t.Errorf("got %+v, want the row as it is", last)
	}
	if last.Old["status"] != "running" {
		t.Errorf("got %v before it, want running: it is this change that ended the run", last.Old["status"])
	}
}

// What the guard knows goes along, so that a mirror takes a sweep's outcome for
// what it is.
func TestAWebhookSaysWhatTheGuardKnows(t *testing.T) {
	t.Parallel()
	s := newSending(t, tableWithDrafts, theWebhook())
	s.twoRuns()
	m := mustPostgres(t, s.address)
	if err := m.Up(); err != nil {
		t.Fatal(err)
	}
	marks := func() (all []string) {
		for _, c := range s.calls() {
			for _, change := range c.changes {
				all = append(all, fmt.Sprintf("%v %s", change.Record["status"], change.Evidence))
			}
		}
		return all
	}
	for _, step := range []struct {
		sql  string
		want []string
	}{
		{`with u as (update workflow_runs set status = 'failed', completed_at = '2026-01-01 13:00Z' where id = '` + run1 + `' returning *)
insert into run_counter.presumed select id, completed_at, user_id, 'workflow', workflow_id, status from u`, []string{"failed presumed"}},
		{`update workflow_runs set status = 'completed' where id = '` + run1 + `'`, []string{"completed superseding"}},
		{`update workflow_runs set status = 'failed' where id = '` + run1 + `'`, nil}, // the guard refuses
		{`select run_counter.amend_run('` + run1 + `', 'cancelled', 'ops', 'a refund')`, []string{"cancelled amended"}},
		{`select run_counter.amend_run('` + run1 + `', 'running', 'ops', 'once more')`, []string{"running amended"}},
		{`update workflow_runs set status = 'completed' where id = '` + run1 + `'`, []string{"completed "}},
		{`update run_counter.settings set guard = 'report'`, nil},
		{`update workflow_runs set status = 'failed' where id = '` + run1 + `'`, []string{"failed superseding"}},
		{`update run_counter.settings set guard = 'off'`, nil},
		{`update workflow_runs set status = 'timeout' where id = '` + run1 + `'`, []string{"timeout "}},
	} {
		s.exec(step.sql)
		if diff := cmp.Diff(step.want, marks()); diff != "" {
			t.Errorf("%s: -want +got:\n%s%s", step.sql, diff, s.failures())
		}
	}
}

// A stand-in's functions can't be dropped one by one.
const noNet = `alter function net.http_post rename to gone;`

// Whatever goes wrong in it, the user's statement is committed, and a trace
// says why no webhook came, where there is a place for one.
func TestAUsersStatementNeverFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, breaks, trace string
		table               string
	}{
		{"no secret", `delete from vault.secrets`, "INSERT P0002 the secret run_counter_webhook is not in Vault", tableWithDrafts},
		{"no pg_net", noNet, "INSERT 42883 function net.http_post(", tableWithDrafts},
		{"no table for the trace", noNet + `drop table run_counter_webhook.failures`, "", tableWithDrafts},
		{"a value that can't be encoded", `select 1`, "INSERT 22P05 unsupported Unicode escape sequence", tableWithDrafts + `alter table workflow_runs alter error_details type json using null`},
		{"a lock not had in time", `locked`, "INSERT 55P03 canceling statement due to lock timeout", tableWithDrafts},
		{"an error in the middle", `alter table run_counter_webhook.calls add check (changes < 100)`, "INSERT 23514 new row for relation \"calls\" violates", tableWithDrafts},
		{"no settings", `delete from run_counter_webhook.settings`, "INSERT P0002 query returned no rows", tableWithDrafts},
		{"a secret of rubbish", `select vault.update_secret(id, 'whsec_%%%') from vault.secrets`, "INSERT 22023 invalid symbol \"%\" found while decoding base64", tableWithDrafts},
		{"no version", `drop sequence run_counter_webhook.version`, "INSERT 42P01 relation \"run_counter_webhook.version\" does not exist", tableWithDrafts},
		{"no functions", `drop function run_counter_webhook.send`, "INSERT 42883 function run_counter_webhook.send(jsonb, integer, integer) does not exist", tableWithDrafts},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSending(t, tt.table, theWebhook())
			if tt.breaks == "locked" {
				holder, err := pgx.Connect(t.Context(), s.address)
				if err != nil {
					t.Fatal(err)
				}
				defer holder.Close(context.Background())
				if _, err := holder.Exec(t.Context(), `begin; lock table run_counter_webhook.calls in access exclusive mode`); err != nil {
					t.Fatal(err)
				}
			} else {
				pgtest.Exec(t, pgtest.Admin(t, s.address), tt.breaks)
			}
			details := "null"
			if strings.Contains(tt.name, "encoded") {
				details = `'{"nul": "\u0000"}'`
			}
			s.exec(`insert into workflow_runs (user_id, workflow_id, status, error_details) select '` + alice + `', '` + flow + `', 'pending', ` + details + ` from generate_series(1, 700)`)
			if got := s.text(`select count(*) from workflow_runs`); got != "700" {
				t.Errorf("got %s rows of the user's 700", got)
			}
			if got := len(s.calls()); got != 0 {
				t.Errorf("got %d requests, want none of a statement that was not told whole", got)
			}
			if tt.trace == "" {
				return
			}
			if got := s.failures(); !strings.HasPrefix(got, tt.trace) || strings.Contains(got, "\n") {
				t.Errorf("got %q, want one trace: %q", got, tt.trace)
			}
		})
	}
}
