package migrations

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/watched"
)

// proofOf is what the receiver wants to see before it reads a body.
func proofOf(t *testing.T, secret string, c sentCall) string {
	t.Helper()
	return signedBy(t, secret, c, "proof.", "")
}

// signedBy is a signature over id and timestamp, with something before and after.
func signedBy(t *testing.T, secret string, c sentCall, before, after string) string {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s%s.%s%s", before, c.headers["webhook-id"], c.headers["webhook-timestamp"], after)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func TestCasesOfOurWebhooksHeaders(t *testing.T) {
	t.Parallel()
	s := newSending(t, tableWithDrafts, theWebhook())
	insert := `insert into workflow_runs (user_id, workflow_id, status) values ('` + alice + `', '` + flow + `', 'pending')`
	one := func() sentCall {
		t.Helper()
		all := s.calls()
		if len(all) != 1 {
			t.Fatalf("got %d calls: %s", len(all), s.failures())
		}
		return all[0]
	}
	s.exec(insert)
	c := one()
	t.Run("case D5: a call proves itself by its headers alone, by each secret that is in force", func(t *testing.T) {
		if got, want := c.headers["webhook-proof"], proofOf(t, s.secret, c); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		hook, err := OpenWebhook(t.Context(), s.address)
		if err != nil {
			t.Fatal(err)
		}
		defer hook.Close()
		next, err := hook.Rotate()
		if err != nil {
			t.Fatal(err)
		}
		s.exec(insert)
		c := one()
		if got, want := strings.Fields(c.headers["webhook-proof"]), []string{proofOf(t, s.secret, c), proofOf(t, next, c)}; !slices.Equal(got, want) {
			t.Errorf("while the secret is rotated: got %v, want %v", got, want)
		}
	})
	t.Run("case D11: a call asks for an answer without counts", func(t *testing.T) {
		if got := c.headers["Prefer"]; got != "return=minimal" {
			t.Errorf("got %q, want return=minimal", got)
		}
	})
}

// The trigger tells a mirror what was lost, and keeps the sums of it where it
// keeps the logs short: no sweep comes here.
func TestCaseD6_TheTriggerKeepsWhatWasLost(t *testing.T) {
	t.Parallel()
	s := newSending(t, tableWithDrafts, theWebhook())
	insert := `insert into workflow_runs (user_id, workflow_id, status) values ('` + alice + `', '` + flow + `', 'pending')`
	lost := func(want string) {
		t.Helper()
		s.exec(insert)
		all := s.calls()
		if len(all) != 1 {
			t.Fatalf("got %d calls: %s", len(all), s.failures())
		}
		number, signature, _ := strings.Cut(all[0].headers["webhook-lost"], " ")
		if number != want || want != "" && signature != signedBy(t, s.secret, all[0], "lost.", "."+want) {
			t.Errorf("the call says that %q are lost, signed %q; want %q", number, signature, want)
		}
	}
	lost("")
	s.exec(`insert into run_counter_webhook.losses (kind, calls, changes, deletions, since, at) values ('lost', 4, 40, false, now(), now())`)
	lost("4")
	s.exec(`insert into run_counter_webhook.failures (operation, code, message, changes) select 'UPDATE', 'XX000', 'x', 2 from generate_series(1, 1100)`,
		`insert into run_counter_webhook.failures (operation, code, message, changes) select 'DELETE', 'XX000', 'x', 3 from generate_series(1, 50)`)
	lost("1004") // more are not counted at each call
	sums := `select string_agg(concat_ws(' ', kind, deletions, calls, changes), ', ' order by kind, deletions) from (
select kind, deletions, sum(calls) as calls, sum(changes) as changes from run_counter_webhook.losses group by kind, deletions) as l`
	for range 4 {
		s.exec(`select run_counter_webhook.prune(0, 1100)`)
	}
	if got := s.text(sums); got != "lost f 4 40, statements f 256 512" {
		t.Errorf("the sums are %s", got)
	}
	s.exec(`insert into run_counter_webhook.calls (request_id, message_id, changes, deletions, fate) values (1, 'x', 5, 0, null), (2, 'x', 6, 2, null), (3, 'x', 7, 0, 'arrived'), (4, 'x', 8, 0, 'refused')`)
	seen := s.text(`select pg_current_snapshot()`)
	s.exec(`insert into run_counter_webhook.calls (request_id, message_id, changes) values (1, 'x', 9)`)
	s.exec(`update run_counter_webhook.settings set recovered = '` + seen + `', recovered_at = clock_timestamp()`)
	s.exec(`select run_counter_webhook.prune(1000000, 0)`)
	if got := s.text(sums); got != "lost f 4 40, statements f 256 512, unseen f 1 9, unseen t 1 6" {
		t.Errorf("the sums are %s, want the calls of which nothing is known, but for what an import has read", got)
	}
	if got := s.text(`select run_counter_webhook.acknowledge()`); got != "1156" {
		t.Errorf("acknowledged are %s", got)
	}
	lost("")
}

// What was committed only after an import had begun is not recovered by it, however
// long before it was written.
func TestCaseD6_AnImportRepairsNothingThatWasOpenWhenItBegan(t *testing.T) {
	t.Parallel()
	s := newSending(t, tableWithDrafts, theWebhook())
	other, err := pgx.Connect(t.Context(), s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	s.exec(`begin`, `insert into run_counter_webhook.losses (kind, calls, changes, deletions, since, at) values ('lost', 4, 40, false, now(), now())`,
		`insert into run_counter_webhook.failures (operation, code, message) values ('UPDATE', 'XX000', 'x')`,
		`insert into run_counter_webhook.calls (request_id, message_id, changes, fate) values (1, 'x', 1, 'refused')`)
	var seen, at string
	if err := other.QueryRow(t.Context(), `select pg_current_snapshot()::text, clock_timestamp()::text`).Scan(&seen, &at); err != nil {
		t.Fatal(err)
	}
	s.exec(`commit`)
	left := `select concat_ws(' ', (select count(*) from run_counter_webhook.losses), (select count(*) from run_counter_webhook.failures), (select count(*) from run_counter_webhook.calls))`
	if got := s.text(`select run_counter_webhook.acknowledge('` + seen + `', '` + at + `')`); got != "0" || s.text(left) != "1 1 1" {
		t.Errorf("the import recovered %s, and left %s; want all of it left", got, s.text(left))
	}
	seen = s.text(`select pg_current_snapshot()`)
	if got := s.text(`select run_counter_webhook.acknowledge('` + seen + `', clock_timestamp())`); got != "5" || s.text(left) != "0 0 0" {
		t.Errorf("the next one recovered %s, and left %s; want nothing left", got, s.text(left))
	}
}

// A transaction that can't see what others prune leaves it to the next one: its
// own calls are made all the same.
func TestCaseD6_PruningNeverCostsACall(t *testing.T) {
	t.Parallel()
	s := newSending(t, tableWithDrafts, theWebhook())
	s.exec(`insert into run_counter_webhook.calls (request_id, message_id, changes) select n, 'msg', 1 from generate_series(1, 12000) as n`)
	s.exec(`begin isolation level repeatable read`, `select 1 from workflow_runs`)
	pgtest.Exec(t, s.address, `delete from run_counter_webhook.calls where seq <= 2100`)
	for range 256 {
		s.exec(`insert into workflow_runs (user_id, workflow_id, status) values ('` + alice + `', '` + flow + `', 'pending')`)
	}
	s.exec(`commit`)
	if got := len(s.calls()); got != 256 || s.failures() != "" {
		t.Errorf("got %d of 256 calls, and %q", got, s.failures())
	}
}

// A statement of many long rows, by a role whose statements may take as long as
// Supabase lets those of its API take, commits: the trigger's share is bounded.
func TestCaseD12_ALargeStatementCommits(t *testing.T) {
	t.Parallel()
	s := newSending(t, tableWithDrafts+`alter table workflow_runs alter error_details set storage external`, theWebhook())
	insert := func(rows int) string {
		return fmt.Sprintf(`insert into workflow_runs (user_id, workflow_id, status, error_details)
select '%s', '%s', 'running', to_jsonb(repeat('x', 8000)) from generate_series(1, %d)`, alice, flow, rows)
	}
	told := func(want int, details string) {
		t.Helper()
		changes, other := 0, 0
		for _, c := range s.calls() {
			changes += len(c.changes)
			for _, change := range c.changes {
				if got := fmt.Sprint(change.Record["error_details"]); !strings.Contains(got, details) {
					other++
				}
			}
		}
		unsaid, err := strconv.Atoi(s.text(`select coalesce(sum(changes), 0) from run_counter_webhook.failures where message ~ 'were told in two seconds'`))
		if err != nil || changes+unsaid != want || want > 0 && changes == 0 || other > 0 {
			t.Errorf("got %d changes, and %d that are known not to be told in time, want %d in all; %d of them without %q: %s", changes, unsaid, want, other, details, s.failures())
		}
		s.exec(`delete from run_counter_webhook.failures where message ~ 'were told in two seconds'`) // the machine is busy
	}
	s.exec(insert(100))
	told(100, "xxxx")
	s.exec(`set statement_timeout = '8s'`)
	s.exec(insert(10_000))
	told(10_000, "not sent of a statement that changes so much")
	s.exec(`update workflow_runs set status = 'failed', completed_at = now()`)
	told(10_100, "not sent of a statement that changes so much")
	s.exec(`update workflow_runs set error_details = null`)
	told(0, "") // which of them are other details is not looked at
	s.exec(`update workflow_runs set status = 'timeout'`)
	told(10_100, "<nil>")
	if got := s.failures(); got != "" {
		t.Errorf("failures: %s", got)
	}

	s.exec(`set statement_timeout = 0`, `insert into workflow_runs (user_id, workflow_id, status) select '`+alice+`', '`+flow+`', 'running' from generate_series(1, 20001)`)
	told(0, "")
	if got := s.text(`select operation || ' ' || code || ' ' || message || ' ' || changes from run_counter_webhook.failures`); got != "INSERT 54000 too large: 20001 rows 20001" {
		t.Errorf("20,001 rows: got the failure %q", got)
	}
	s.exec(`delete from run_counter_webhook.failures`, `update workflow_runs set state_snapshot = '1'`)
	if got := s.failures(); got != "" {
		t.Errorf("30,101 rows of which nothing counts: got the failure %q", got)
	}
	s.exec(`update workflow_runs set status = 'pending' where status = 'running'`, `delete from workflow_runs where status = 'pending'`)
	told(0, "")
	if got := s.text(`select string_agg(operation || ' ' || message, ', ' order by seq) from run_counter_webhook.failures`); got != "UPDATE too large: 20001 rows, DELETE too large: 20001 rows" {
		t.Errorf("20,001 rows changed and deleted: got the failures %q", got)
	}
}

// Where the machine is slow, the clock is the bound, and what is not told is
// said.
func TestCaseD12_AfterTwoSecondsTheTriggerTellsNoMore(t *testing.T) {
	t.Parallel()
	s := newSending(t, tableWithDrafts, theWebhook())
	s.exec(`alter function run_counter_webhook.hmac(bytea, bytea) rename to quick`, `create function run_counter_webhook.hmac(p_key bytea, p_message bytea) returns bytea language plpgsql as $$
declare v_began timestamptz := clock_timestamp(); begin
    while p_message not like 'proof%' and clock_timestamp() < v_began + interval '0.9 seconds' loop end loop;
    return run_counter_webhook.quick(p_key, p_message);
end $$`)
	s.exec(`insert into workflow_runs (user_id, workflow_id, status) select '` + alice + `', '` + flow + `', 'running' from generate_series(1, 5000)`)
	changes := 0
	for _, c := range s.calls() {
		changes += len(c.changes)
	}
	want := fmt.Sprintf("INSERT 54000 too large: of its 5000 rows %d were told in two seconds", changes)
	if got := s.failures(); got != want || changes == 0 || changes > 2000 {
		t.Errorf("got %q, and %d rows told; want %q", got, changes, want)
	}
	if got := s.text(`select sum(changes) from run_counter_webhook.failures`); got != fmt.Sprint(5000-changes) {
		t.Errorf("got %s changes that were not told, want the rest of 5000 after %d", got, changes)
	}
}

// A receiver takes no call that was signed more than an hour ago, and a long
// transaction begins long before its last statement.
func TestCaseACallBearsTheTimeAtWhichItWasSigned(t *testing.T) {
	t.Parallel()
	s := newSending(t, tableWithDrafts, theWebhook())
	s.exec(`begin`, `do $$ begin while floor(extract(epoch from clock_timestamp())) = floor(extract(epoch from now())) loop end loop; end $$`)
	began := s.text(`select floor(extract(epoch from now()))`)
	s.exec(`insert into workflow_runs (user_id, workflow_id, status) values ('`+alice+`', '`+flow+`', 'pending')`,
		`alter table run_counter_webhook.calls add check (changes < 0) not valid`,
		`insert into workflow_runs (user_id, workflow_id, status) values ('`+alice+`', '`+flow+`', 'pending')`)
	late := s.text(`select concat_ws(' ', (select at > now() from run_counter_webhook.calls), (select at > now() from run_counter_webhook.failures))`)
	s.exec(`commit`)
	all := s.calls()
	if len(all) != 1 {
		t.Fatalf("got %d calls: %s", len(all), s.failures())
	}
	begin, err := strconv.ParseInt(began, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if at, err := strconv.ParseInt(all[0].headers["webhook-timestamp"], 10, 64); err != nil || at <= begin {
		t.Errorf("got %d, %v; want a time after the transaction's beginning in second %d", at, err, begin)
	}
	if late != "t t" {
		t.Errorf("got %q, want the logs to say when a call was made, and when one failed", late)
	}
}

// Two sessions take turns with one run: what is written later has the higher
// version, from whichever session.
func TestCaseVersionsAreDrawnOneByOne(t *testing.T) {
	t.Parallel()
	s := newSending(t, tableWithDrafts, theWebhook())
	s.twoRuns()
	other, err := pgx.Connect(t.Context(), s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(context.Background())
	var last int64
	for n := range 6 {
		conn := []*pgx.Conn{s.conn, other}[n%2]
		if _, err := conn.Exec(t.Context(), `update workflow_runs set duration_ms = $1::integer where id = $2::uuid`, n, run1); err != nil {
			t.Fatal(err)
		}
		all := s.calls()
		if len(all) != 1 {
			t.Fatalf("got %d calls: %s", len(all), s.failures())
		}
		version := all[0].changes[0].Version
		if n > 0 && version != last+1 {
			t.Errorf("change %d, of the other session, has version %d after %d", n+1, version, last)
		}
		last = version
	}
}

// Each column that counts is told when it alone is changed, for a run of a
// workflow and of a draft, with a lease and without.
func TestCaseEachColumnThatCountsIsToldByItself(t *testing.T) {
	t.Parallel()
	w := theWebhook()
	w.Said.Columns = map[watched.Role]string{watched.Lease: "beat_at"}
	s := newSending(t, tableWithDrafts+`alter table workflow_runs add beat_at timestamptz, add checkpoint jsonb; alter table workflow_runs alter user_id drop not null`, w)
	const other = "55555555-5555-4555-8555-555555555555"
	s.exec(`insert into workflow_runs (id, user_id, workflow_id, draft_id, status, started_at, completed_at, updated_at, duration_ms, error_details, beat_at) values
('` + run1 + `', '` + alice + `', '` + flow + `', null, 'completed', '2026-01-01 12:00Z', '2026-01-01 12:00:10Z', '2026-01-01 12:00:10Z', 10000, '{"code": 1}', '2026-01-01 12:00Z'),
('` + run2 + `', '` + alice + `', null, '` + draft + `', 'completed', '2026-01-01 12:00Z', '2026-01-01 12:00:10Z', '2026-01-01 12:00:10Z', 10000, '{"code": 1}', '2026-01-01 12:00Z')`)
	s.calls()
	for _, tt := range []struct{ column, run, value string }{
		{"user_id", run1, `'` + bob + `'`},
		{"user_id", run1, `null`},
		{"workflow_id", run1, `'` + other + `'`},
		{"draft_id", run2, `'` + other + `'`}, // a hand-over between drafts
		{"status", run1, `'failed'`},
		{"started_at", run1, `'2026-01-01 11:59Z'`},
		{"started_at", run1, `null`},
		{"completed_at", run1, `'2026-01-01 12:00:11Z'`},
		{"completed_at", run1, `null`},
		{"duration_ms", run1, `11`},
		{"duration_ms", run1, `null`},
		{"error_details", run1, `'{"code": 2}'`},
		{"error_details", run1, `null`},
		{"updated_at", run1, `'2026-01-01 12:01Z'`},
		{"beat_at", run1, `'2026-01-01 12:01Z'`},
		{"beat_at", run1, `null`},
	} {
		s.exec(`begin`, `update workflow_runs set `+tt.column+` = `+tt.value+` where id = '`+tt.run+`'`)
		all := s.calls()
		s.exec(`rollback`)
		if len(all) != 1 || len(all[0].changes) != 1 {
			t.Errorf("%s = %s, of a run in %s: it was told in %d calls, want one: %s", tt.column, tt.value, tt.run, len(all), s.failures())
			continue
		}
		change := all[0].changes[0]
		if _, told := change.Record[tt.column]; !told {
			t.Errorf("%s = %s: the record does not hold it", tt.column, tt.value)
		}
	}
	old := []string{}
	s.exec(`update workflow_runs set status = 'failed' where id = '` + run1 + `'`)
	for name := range s.calls()[0].changes[0].Old {
		old = append(old, name)
	}
	slices.Sort(old)
	if want := strings.Fields("completed_at draft_id duration_ms error_details id status updated_at user_id workflow_id"); !slices.Equal(old, want) {
		t.Errorf("of a row as it was there is %v, want %v", old, want)
	}
}

// A database that was restored into another project has the secrets, and not the
// key that they were made with.
func TestCaseD19_ASecretThatVaultCantDecryptIsReplaced(t *testing.T) {
	t.Parallel()
	s := newSending(t, tableWithDrafts, theWebhook())
	hook, err := OpenWebhook(t.Context(), s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer hook.Close()
	restored := func() { pgtest.Exec(t, pgtest.Admin(t, s.address), `update vault.secrets set nonce = '\x00'`) }
	insert := `insert into workflow_runs (user_id, workflow_id, status) values ('` + alice + `', '` + flow + `', 'pending')`
	if _, err := hook.Rotate(); err != nil { // in the middle of a rotation, too
		t.Fatal(err)
	}
	restored()
	_, err = hook.Install(theWebhook())
	if !errors.Is(err, ErrSealed) {
		t.Fatalf("install: got %v, want that Vault can't decrypt", err)
	}
	for _, want := range []string{"the secret can't be decrypted by Vault: run_counter_webhook (22000 ", "runcounter webhook rotate, ", "runcounter webhook rotate --finish"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("install says %q, want %q in it", err, want)
		}
	}
	s.exec(insert)
	if got := s.failures(); !strings.HasPrefix(got, "INSERT 22000 ") || len(s.calls()) != 0 {
		t.Errorf("got the failure %q", got)
	}
	next, err := hook.Rotate() // the first of the two commands
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hook.Rotate(); !errors.Is(err, ErrRotation) {
		t.Errorf("a second time: got %v, want that a rotation is under way", err)
	}
	if err := hook.FinishRotation(); err != nil { // the second
		t.Fatal(err)
	}
	s.exec(insert)
	all := s.calls()
	if len(all) != 1 || !slices.Equal(all[0].signature, []string{signatureOf(t, next, all[0])}) {
		t.Errorf("afterwards: got %+v, want one call signed by the new secret", all)
	}
	if again := install(t, s.address, theWebhook()); again != next {
		t.Error("to install it again shows another secret")
	}
}
