package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/migrations"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/store/watched"
	"github.com/edgaze-ai/runcounter/store/watched/watchedtest"
	"github.com/edgaze-ai/runcounter/webhook"
)

// TestMatrix takes one table after another from as it is to counts that are right:
// in the database, in a mirror that our own webhook tells, in one that Supabase's
// tells, and in one that imports; and once more after down and up. Each is a
// description, and what its application does is drawn.
func TestMatrix(t *testing.T) {
	need.Serial(t)
	t.Parallel()
	all := watchedtest.All()
	if len(all) < 50 {
		t.Errorf("there are %d descriptions, want 50 or more", len(all))
	}
	for _, f := range all {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			found{f}.follow(t)
		})
	}
}

// found is a table of an application.
type found struct{ watchedtest.Found }

// history is what an application has done, as its author would count it.
type history struct {
	found
	draw       *rand.Rand
	statements []string
	runs       map[int]*drawnRun
	last       map[store.Key]time.Time // when the last run of a key has ended, as the source says it
}

type drawnRun struct {
	user, flow, draft int // 0 is none
	outcome           store.Status
}

// live draws what the application does.
func (m found) live() *history {
	h := fnv.New64a()
	h.Write([]byte(m.Name))
	w := &history{found: m, draw: rand.New(rand.NewPCG(h.Sum64(), 1)), runs: map[int]*drawnRun{}}
	for n := 1; n <= 14; n++ {
		w.begin(n)
		if w.draw.IntN(2) == 0 {
			w.set(n, store.Running, n+1, watched.StartedAt)
		}
		if w.draw.IntN(4) == 0 {
			w.handOver(n)
		}
		if w.draw.IntN(5) > 0 {
			w.end(n)
		}
		switch w.draw.IntN(6) {
		case 1:
			w.statements = append(w.statements, "delete from workflow_runs where "+w.is(watched.ID, n))
			delete(w.runs, n)
		case 2:
			w.touch(n)
		}
	}
	return w
}

// is compares or sets the role's column with its nth id; 0 is null.
func (w *history) is(role watched.Role, n int) string {
	name, typ, _ := w.Has(role)
	if n == 0 {
		return name + " = null"
	}
	return name + " = '" + watchedtest.ID(typ, n) + "'"
}

func (w *history) begin(n int) {
	r := &drawnRun{user: 1 + w.draw.IntN(2), flow: 1 + w.draw.IntN(2)}
	if _, _, drafts := w.Has(watched.Draft); drafts && w.draw.IntN(3) == 0 {
		r.flow, r.draft = 0, 1
	}
	w.runs[n] = r
	var names, values []string
	value := func(role watched.Role, text func(typ string) string) {
		if name, typ, there := w.Has(role); there {
			names, values = append(names, name), append(values, text(typ))
		}
	}
	id := func(n int) func(string) string {
		return func(typ string) string {
			if n == 0 {
				return "null"
			}
			return "'" + watchedtest.ID(typ, n) + "'"
		}
	}
	value(watched.ID, id(n))
	value(watched.User, id(r.user))
	value(watched.Workflow, id(r.flow))
	value(watched.Draft, id(r.draft))
	value(watched.CreatedAt, func(typ string) string { return w.Moment(typ, n) })
	value(watched.UpdatedAt, func(typ string) string { return w.Moment(typ, n) })
	word, there := w.Word(store.Pending)
	if !there {
		word, _ = w.Word(store.Running)
	}
	value(watched.Status, func(string) string { return watched.Literal(word) })
	w.statements = append(w.statements, fmt.Sprintf("insert into workflow_runs (%s) values (%s)", strings.Join(names, ", "), strings.Join(values, ", ")))
}

// set gives a run a status, and a time to the role's column.
func (w *history) set(n int, s store.Status, seconds int, role watched.Role) {
	word, there := w.Word(s)
	if !there {
		return
	}
	status, _, _ := w.Has(watched.Status)
	text := "update workflow_runs set " + status + " = " + watched.Literal(word)
	for _, role := range []watched.Role{role, watched.UpdatedAt} {
		if name, typ, there := w.Has(role); there {
			text += ", " + name + " = " + w.Moment(typ, seconds)
		}
	}
	w.statements = append(w.statements, text+" where "+w.is(watched.ID, n))
}

// end ends a run: by the application, with its end or without, or by a function of
// ours.
func (w *history) end(n int) {
	var said []store.Status
	for _, s := range []store.Status{store.Completed, store.Failed, store.Cancelled, store.Timeout} {
		if _, there := w.Word(s); there {
			said = append(said, s)
		}
	}
	r := w.runs[n]
	r.outcome = said[w.draw.IntN(len(said))]
	if w.draw.IntN(3) == 0 {
		_, typ, _ := w.Has(watched.ID)
		w.statements = append(w.statements, fmt.Sprintf("select complete_workflow_run('%s', '%s', 5)", watchedtest.ID(typ, n), r.outcome))
		return
	}
	w.set(n, r.outcome, n+60, watched.CompletedAt)
}

// handOver gives a run to the other user.
func (w *history) handOver(n int) {
	if _, _, users := w.Has(watched.User); !users {
		return
	}
	w.runs[n].user = 3 - w.runs[n].user
	text := "update workflow_runs set " + w.is(watched.User, w.runs[n].user)
	if name, typ, there := w.Has(watched.UpdatedAt); there {
		text += ", " + name + " = " + w.Moment(typ, n+30)
	}
	w.statements = append(w.statements, text+" where "+w.is(watched.ID, n))
}

// touch writes what plays no part.
func (w *history) touch(n int) {
	if name, _, there := w.Has(watched.StateSnapshot); there {
		w.statements = append(w.statements, "update workflow_runs set "+name+` = '{"step": 2}' where `+w.is(watched.ID, n))
	}
}

// counts are what the author would count.
func (w *history) counts() map[store.Key]store.Tally {
	counts := map[store.Key]store.Tally{}
	for _, r := range w.runs {
		if r.outcome == "" {
			continue
		}
		key := store.KeyOf(w.id(watched.User, r.user), w.id(watched.Workflow, r.flow), w.id(watched.Draft, r.draft))
		tally := counts[key]
		switch r.outcome {
		case store.Completed:
			tally.Completed++
		case store.Failed:
			tally.Failed++
		case store.Cancelled:
			tally.Cancelled++
		case store.Timeout:
			tally.Timeout++
		}
		counts[key] = tally
	}
	return counts
}

// id is the role's nth id in Go.
func (w *history) id(role watched.Role, n int) store.ID {
	_, typ, there := w.Has(role)
	if !there && (role == watched.User || role == watched.Workflow) {
		return store.Absent
	}
	if !there || n == 0 {
		return store.ID{}
	}
	id, err := store.ParseID(watchedtest.ID(typ, n))
	if err != nil {
		panic(err)
	}
	return id
}

// follow is the way of one table.
func (m found) follow(t *testing.T) {
	dir := t.TempDir()
	address := pgtest.Copy(t, "webhooks", func(address string) {
		pgtest.InstallVault(t, address)
		pgtest.InstallNet(t, address)
		pgtest.InstallHooks(t, address)
	})
	pgtest.Exec(t, address, m.DDL())
	description := filepath.Join(dir, "description.json")
	writeJSON(t, description, m.Said())
	if m.Refused != "" {
		code, said := inProcess(t, "migrate", "up", "--database-url", address, "--description", description)
		if code != exitNo || !strings.Contains(said, m.Refused) {
			t.Errorf("up: got %d %s, want a refusal: %s", code, said, m.Refused)
		}
		return
	}
	succeeds(t, "migrate", "up", "--database-url", address, "--description", description)
	theirs := m.heardBy(t, address, dir)

	w := m.live()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, statement := range w.statements {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	want := w.counts()
	source := func(when string) {
		t.Helper()
		s, err := postgres.Open(t.Context(), address, postgres.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		w.compare(t, when, s, want)
	}
	source("the source")
	succeeds(t, "audit", "--database-url", address)
	for n := range w.runs {
		_, typ, _ := m.Has(watched.ID)
		succeeds(t, "explain", "--database-url", address, watchedtest.ID(typ, n))
		break
	}
	theirs(w, want)
	imported := "sqlite:" + filepath.Join(dir, "imported.db")
	importing := []string{"import", "--from", address, "--database-url", imported, "--description", description}
	if m.AnyCase() { // which only the database knows of itself
		importing = append(importing, "--any-case")
	}
	succeeds(t, importing...)
	w.compareMirror(t, "a mirror that imported", filepath.Join(dir, "imported.db"), want)

	succeeds(t, "migrate", "down", "--yes", "--database-url", address)
	succeeds(t, "migrate", "up", "--database-url", address, "--description", description)
	source("the source after down and up")
}

// heardBy installs our own webhook and Supabase's, and returns what compares two
// mirrors that have heard all of them.
func (m found) heardBy(t *testing.T, address, dir string) func(*history, map[store.Key]store.Tally) {
	t.Helper()
	hook, err := migrations.OpenWebhook(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	made, err := hook.Install(migrations.Webhook{URL: "https://ours.example", Timeout: time.Second, Schema: "public", Table: "workflow_runs"})
	if err != nil {
		t.Fatal(err)
	}
	if err := hook.Close(); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, address, `create trigger theirs after insert or update or delete on workflow_runs for each row
execute function supabase_functions.http_request('https://theirs.example', 'POST', '{}', '{}', '1000')`)
	description := filepath.Join(dir, "mirror.json")
	writeJSON(t, description, made.Table)
	decoder := decoderBy(t, "--description", description, "--partitions", "workflow_runs_*")
	return func(w *history, want map[store.Key]store.Tally) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		for _, from := range []string{"ours", "theirs"} {
			if m.Moves && from == "theirs" {
				continue
			}
			rows, err := conn.Query(t.Context(), `select convert_from(body, 'UTF8') from net.http_request_queue where url like '%' || $1 || '.%' order by id`, from)
			if err != nil {
				t.Fatal(err)
			}
			bodies, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil || len(bodies) == 0 {
				t.Fatalf("got %d requests of %s webhook: %v", len(bodies), from, err)
			}
			path := filepath.Join(dir, from+".db")
			hear(t, decoder, path, bodies)
			w.compareMirror(t, "a mirror that heard "+from+" webhook", path, want)
		}
	}
}

// hear applies the bodies of requests to a mirror.
func hear(t *testing.T, decoder webhook.Decoder, path string, bodies []string) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{Volatile: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var all []store.Change
	for _, body := range bodies {
		d, err := decoder.Decode(bytes.NewReader([]byte(body)))
		if err != nil || len(d.Refused) > 0 || d.Ignored > 0 {
			t.Fatalf("%v, refused %+v, ignored %d: %s", err, d.Refused, d.Ignored, body)
		}
		all = append(all, d.Changes...)
	}
	if _, err := s.Apply(t.Context(), all, time.Now()); err != nil {
		t.Fatal(err)
	}
}

func (w *history) compareMirror(t *testing.T, when, path string, want map[store.Key]store.Tally) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path, sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w.compare(t, when, s, want)
}

// compare asks for the count of each key that a run could have.
func (w *history) compare(t *testing.T, when string, s store.Store, want map[store.Key]store.Tally) {
	t.Helper()
	got, last := map[store.Key]store.Tally{}, map[store.Key]time.Time{}
	for user := 1; user <= 2; user++ {
		for _, ref := range [][2]int{{1, 0}, {2, 0}, {0, 1}} {
			key := store.KeyOf(w.id(watched.User, user), w.id(watched.Workflow, ref[0]), w.id(watched.Draft, ref[1]))
			if key.IsZero() {
				continue
			}
			c, err := s.Count(t.Context(), key.Scope(), store.AllTime)
			if err != nil {
				t.Fatalf("%s: %s: %v", when, key, err)
			}
			if c.Tallies.Ended != (store.Tally{}) {
				got[key], last[key] = c.Tallies.Ended, c.LastRunAt
			}
		}
	}
	if diff := gocmp.Diff(want, got, gocmp.Comparer(func(a, b store.ID) bool { return a == b })); diff != "" {
		t.Errorf("%s (-want +got):\n%s\nof %s", when, diff, strings.Join(w.statements, ";\n"))
	}
	totals := map[store.Key]store.Tally{}
	for key, tally := range got {
		of := store.TotalOf(key.Workflow(), key.Draft())
		totals[of] = totals[of].Add(tally)
	}
	for of, want := range totals {
		if c, err := s.Count(t.Context(), of.Scope(), store.AllTime); err != nil || c.Tallies.Ended != want {
			t.Errorf("%s: the total of %s is %+v, %v; want %+v", when, of, c.Tallies.Ended, err, want)
		}
	}
	if w.last == nil {
		w.last = last
	}
	if diff := gocmp.Diff(w.last, last, gocmp.Comparer(func(a, b store.ID) bool { return a == b })); diff != "" {
		t.Errorf("the last ends of keys: -the source +%s:\n%s", when, diff)
	}
}

// decoderBy is the one that serve has with such flags.
func decoderBy(t *testing.T, flags ...string) (d webhook.Decoder) {
	t.Helper()
	serve := rootCommand().Command("serve")
	serve.Action = action(0, func(_ context.Context, cmd *cli.Command) (err error) {
		d, err = decoderOf(cmd)
		return err
	})
	if err := serve.Run(t.Context(), append([]string{"serve"}, flags...)); err != nil {
		t.Fatal(err)
	}
	return d
}

func inProcess(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"runcounter"}, args...), strings.NewReader(""), &out, &errs)
	return code, out.String() + errs.String()
}

func succeeds(t *testing.T, args ...string) {
	t.Helper()
	if code, said := inProcess(t, args...); code != exitFine {
		t.Fatalf("runcounter %s: got %d\n%s", strings.Join(args, " "), code, said)
	}
}

func writeJSON(t *testing.T, path string, v any) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
