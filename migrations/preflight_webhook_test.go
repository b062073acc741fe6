package migrations

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/watched"
	"github.com/edgaze-ai/runcounter/webhook"
)

// TestCasesOfTablesThatAWebhookRefuses has those of which a mirror would
// understand nothing, while the source believed that it was told.
func TestCasesOfTablesThatAWebhookRefuses(t *testing.T) {
	t.Parallel()
	for _, u := range []unusual{
		{name: "case T4: ids with a fraction", alter: `alter table workflow_runs alter id drop default, alter id type numeric using 1, alter id set default 1.5`,
			want: []string{refusedHead + "id is numeric and has to be uuid or bigint or integer or smallint or text or varchar" + refusedTail}},
		{name: "case T4: ids of char", alter: `alter table workflow_runs alter workflow_id type char(40)`, want: []string{"workflow_id is character(40) and has to be uuid or bigint"}},
		{name: "case T4: ids that are the same in either case", alter: `create collation anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false); alter table workflow_runs alter id drop default, alter id type text collate anycase, alter id set default gen_random_uuid()`,
			want: []string{"id is text under a collation by which values that differ can be equal and has to be uuid"}},
		{name: "case T9: times that count", alter: `alter table workflow_runs alter started_at type bigint using 1`, want: []string{"started_at is bigint: say what it counts since 1970, with --times milliseconds or --times seconds"}},
	} {
		t.Run(u.name, func(t *testing.T) {
			t.Parallel()
			address := pgtest.Supabase(t)
			if u.table == "" {
				u.table = tableWithDrafts
			}
			pgtest.Exec(t, address, u.table, u.alter, aLife)
			pgtest.InstallNet(t, address)
			pgtest.InstallVault(t, address)
			before := catalog(t, address)
			s, err := OpenWebhook(t.Context(), address)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			_, err = s.Install(theWebhook())
			if !errors.Is(err, ErrTable) || !strings.HasPrefix(err.Error(), refusedHead) || !strings.HasSuffix(err.Error(), refusedTail) || !strings.Contains(err.Error(), u.want[0]) {
				t.Fatalf("Install:\n got %v\nwant %s", err, u.want[0])
			}
			if diff := cmp.Diff(before, catalog(t, address)); diff != "" {
				t.Errorf("something was made (-before +after):\n%s", diff)
			}
			pgtest.Exec(t, address, aLife)
			if _, help, helps := strings.Cut(err.Error(), "; what helps: "); helps {
				pgtest.Exec(t, address, strings.TrimSuffix(help, refusedTail))
				if _, err := s.Install(theWebhook()); err != nil {
					t.Errorf("Install, after what helps: %v", err)
				}
			}
		})
	}
}

// TestCasesOfTablesThatAWebhookUnderstands has those that can't be counted where
// they are, of which a mirror is told what it would be told of a plain one.
func TestCasesOfTablesThatAWebhookUnderstands(t *testing.T) {
	t.Parallel()
	plain := heard(t, tableWithDrafts)
	for name, table := range map[string]string{
		"case T5: varchar":                     tableWithDrafts + `alter table workflow_runs alter status type varchar(20)`,
		"case T6: error_details of json":       tableWithDrafts + `alter table workflow_runs alter error_details type json`,
		"case T6: state_snapshot of text":      tableWithDrafts + `alter table workflow_runs alter state_snapshot type text`,
		"case T7: no duration_ms":              tableWithDrafts + `alter table workflow_runs drop duration_ms`,
		"case T7: as few columns as there can": tableWithoutDrafts + `alter table workflow_runs drop duration_ms, drop error_details, drop state_snapshot, drop created_at, drop started_at`,
		"case T5: char":                        tableWithDrafts + `alter table workflow_runs alter status type char(12)`,
		"case T5: an enum":                     tableWithDrafts + `create type run_status as enum ('running', 'completed'); alter table workflow_runs alter status drop default, alter status type run_status using status::run_status`,
		"case T8: duration_ms is generated":    tableWithDrafts + `alter table workflow_runs drop duration_ms, add duration_ms integer generated always as (42) stored`,
		"columns that play no part":            tableWithDrafts + `alter table workflow_runs drop created_at, drop state_snapshot, add "born" bigint, add state_snapshot integer`,
		"durations with a fraction":            tableWithDrafts + `alter table workflow_runs alter duration_ms type numeric(12, 3), alter duration_ms set default 1.5`,
		"durations of bigint":                  tableWithDrafts + `alter table workflow_runs alter duration_ms type bigint, alter duration_ms set default 3000000000`,
		"case T9: times without zone":          strings.ReplaceAll(tableWithDrafts, "timestamptz", "timestamp"),
		"case T13: partitions by status":       partitioned("list (status)", "id, status"),
		"what is not null, and would give way": tableWithDrafts + `alter table workflow_runs alter error_details set default '{}', alter error_details set not null`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(plain, heard(t, table)); diff != "" {
				t.Errorf("what a mirror hears (-of a plain table +of this one):\n%s", diff)
			}
		})
	}
}

// hearing is what a mirror reads of a change.
type hearing struct {
	Op               store.Op
	ID, User, Ref    store.ID
	Was, Is          store.Status
	Ended, UpdatedAt time.Time
}

// TestCaseT4_OurWebhookSendsIDsOfAnyType holds that a mirror hears of them what
// it hears of UUIDs, digit by digit.
func TestCaseT4_OurWebhookSendsIDsOfAnyType(t *testing.T) {
	t.Parallel()
	plain := heard(t, tableWithDrafts)
	all := tableWithDrafts + `alter table workflow_runs alter id drop default, alter id type %s using null, alter user_id type %s using null, alter workflow_id type %s using null;`
	for name, c := range map[string]struct{ table, run, user, flow string }{
		"bigint, text and integer":  {fmt.Sprintf(all, "bigint", "text", "integer"), "9007199254740993", `auth0|"5f7c"\ü`, "-7"},
		"text, varchar and bigint":  {fmt.Sprintf(all, "text", "varchar(80)", "bigint"), "run_2abC/%/'", "user_2abC", "9223372036854775807"},
		"smallint, uuid and text":   {fmt.Sprintf(all, "smallint", "uuid", "text"), "7", alice, strings.Repeat("ß", 127)},
		"beside our own migrations": {fmt.Sprintf(all, "bigint", "bigint", "bigint") + `create schema run_counter; create table run_counter.presumed (run_id uuid);`, "1", "2", "3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want []hearing
			for _, one := range plain {
				one.ID = mustID(t, c.run)
				if one.Op != store.Delete {
					one.User, one.Ref = mustID(t, c.user), mustID(t, c.flow)
				}
				want = append(want, one)
			}
			if diff := cmp.Diff(want, heardOf(t, c.table, c.run, c.user, c.flow)); diff != "" {
				t.Errorf("what a mirror hears (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCaseT9_OurWebhookSendsTimesOfAnyType holds that a mirror which is told what
// they are reads the moments that the source reads.
func TestCaseT9_OurWebhookSendsTimesOfAnyType(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	as := func(typ string) string {
		return tableWithDrafts + `alter table workflow_runs alter created_at drop default, alter updated_at drop default, alter created_at drop not null, alter updated_at drop not null,
alter created_at type ` + typ + ` using null, alter started_at type ` + typ + ` using null, alter updated_at type ` + typ + ` using null, alter completed_at type ` + typ + ` using null;`
	}
	for name, tt := range map[string]struct {
		table, end string
		said       watched.Overrides
		decoder    webhook.Decoder
	}{
		"without zone": {as("timestamp"), `'2026-07-01 14:01:00.123'`, watched.Overrides{Zone: "Europe/Berlin"}, webhook.Decoder{Zone: berlin}},
		"milliseconds": {as("bigint"), `1782907260123`, watched.Overrides{Times: watched.Milliseconds}, webhook.Decoder{Unit: time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := theWebhook()
			w.Said = tt.said
			s := newSending(t, tt.table, w)
			s.exec(`insert into workflow_runs (id, user_id, workflow_id, status) values ('`+run1+`', '`+alice+`', '`+flow+`', 'running')`,
				`update workflow_runs set status = 'completed', completed_at = `+tt.end+`, updated_at = `+tt.end)
			if failed := s.failures(); failed != "" {
				t.Errorf("the trigger failed: %s", failed)
			}
			tt.decoder.Schema, tt.decoder.Table = "public", "workflow_runs"
			calls := s.calls()
			got, err := tt.decoder.Decode(bytes.NewReader(calls[len(calls)-1].body))
			want := time.Date(2026, 7, 1, 12, 1, 0, 123e6, time.UTC)
			if err != nil || len(got.Changes) != 1 || !got.Changes[0].Record.CompletedAt.Equal(want) || !got.Changes[0].Record.UpdatedAt.Equal(want) {
				t.Errorf("got %+v, %v; want it to have ended at %v", got, err, want)
			}
		})
	}
}

// A text is in any length what an application made it: that of one run must not
// make the request too long in which the others are told.
func TestCaseT4_OurWebhookCutsATextThatIsNoID(t *testing.T) {
	t.Parallel()
	const row = `(id, user_id, workflow_id, status, updated_at) values `
	s := newSending(t, tableWithDrafts+`alter table workflow_runs alter id drop default, alter id type text, alter user_id type text, alter workflow_id type varchar`, theWebhook())
	s.exec(`insert into workflow_runs ` + row + `('1', repeat('u', 3000000), repeat('w', 300), 'running', now()), ('2', repeat('u', 255), 'w', 'running', now()), (repeat('i', 3000), 'u', 'w', repeat('s', 3000000), now())`)
	calls := s.calls()
	if len(calls) != 1 || len(calls[0].body) > 10_000 {
		t.Fatalf("got %d requests, the first of %d bytes; want one of a few", len(calls), len(calls[0].body))
	}
	got, err := webhook.Decoder{Schema: "public", Table: "workflow_runs"}.Decode(bytes.NewReader(calls[0].body))
	if err != nil || len(got.Changes) != 2 || len(got.Refused) != 1 {
		t.Fatalf("got %+v, %v; want two runs and one refused", got, err)
	}
	if first, second := got.Changes[0].Record, got.Changes[1].Record; !first.User.IsZero() || !first.Workflow.IsZero() || second.Key().IsZero() {
		t.Errorf("got %+v and %+v, want the first without a key", first, second)
	}
	if failed := s.failures(); failed != "" {
		t.Errorf("the trigger failed: %s", failed)
	}
}

func mustID(t *testing.T, text string) store.ID {
	t.Helper()
	id, err := store.ParseID(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// heard returns what a mirror hears of a run's life.
func heard(t *testing.T, table string) (all []hearing) {
	t.Helper()
	return heardOf(t, table, run1, alice, flow)
}

func heardOf(t *testing.T, table, run, user, flow string) (all []hearing) {
	t.Helper()
	s := newSending(t, table, theWebhook())
	quoted := strings.ReplaceAll(run+"\x00"+user+"\x00"+flow, "'", "''")
	s.exec(`insert into workflow_runs (id, user_id, workflow_id, status, updated_at) values ('`+strings.ReplaceAll(quoted, "\x00", "', '")+`', 'running', '2026-01-01 12:00Z')`,
		`update workflow_runs set status = 'completed', completed_at = '2026-01-01 12:01:00.123456Z', updated_at = '2026-01-01 12:01Z'`,
		`delete from workflow_runs`)
	if failed := s.failures(); failed != "" {
		t.Errorf("the trigger failed: %s", failed)
	}
	for _, c := range s.calls() {
		got, err := webhook.Decoder{Schema: "public", Table: "workflow_runs"}.Decode(bytes.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range got.Changes {
			r := change.Record
			all = append(all, hearing{change.Op, change.ID(), r.User, r.Workflow, change.Old.Status, r.Status, r.CompletedAt, r.UpdatedAt})
		}
	}
	if len(all) != 3 {
		t.Errorf("got %d changes, want 3", len(all))
	}
	return all
}
