package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/edgaze-ai/runcounter/internal/need"
	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// A block of a page in TypeScript, and what the page says that it prints.
var typed = regexp.MustCompile("(?ms)^```(tsx?)\n(.*?)^```(?:\n\nIt prints:\n\n```text\n(.*?)^```)?")

// mustTypeScript makes a folder with the client and the blocks of docs/client.md,
// which become page1.ts and so on, and returns it with the blocks.
func mustTypeScript(t *testing.T) (dir string, blocks [][]string) {
	t.Helper()
	modules := os.Getenv("RUNCOUNTER_TEST_NODE_MODULES")
	if _, err := os.Stat(filepath.Join(modules, "typescript")); modules == "" || err != nil {
		need.Missing(t, "RUNCOUNTER_TEST_NODE_MODULES names no node_modules with npm's typescript; .ci/run installs them")
	}
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(top, "webhook", "client"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	blocks = typed.FindAllStringSubmatch(mustReadFile(t, filepath.Join(top, "docs", "client.md")), -1)
	if len(blocks) != 3 {
		t.Fatalf("docs/client.md has %d blocks of TypeScript, want 3", len(blocks))
	}
	for i, block := range blocks {
		mustWrite(t, filepath.Join(dir, fmt.Sprintf("page%d.%s", i+1, block[1])), block[2])
	}
	// The page's reader has a client of their own.
	mustWrite(t, filepath.Join(dir, "supabase.ts"), `import { createClient } from "@supabase/supabase-js";
export const supabase = createClient("https://abc.supabase.co", "anon");
`)
	return dir, blocks
}

func mustWrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTypeScriptCompiles has the client, its examples and the page's blocks compiled,
// and sees that a wrong use of them is not.
func TestTypeScriptCompiles(t *testing.T) {
	t.Parallel()
	need.NoRaceDetector(t)
	dir, _ := mustTypeScript(t)
	tsc := func() string {
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "node_modules", ".bin", "tsc"), "--project", dir, "--jsx", "react-jsx", "--pretty", "false")
		out, err := cmd.CombinedOutput()
		if err != nil && len(out) == 0 {
			t.Fatal(err)
		}
		return string(out)
	}
	if out := tsc(); out != "" {
		t.Fatalf("tsc --strict:\n%s", out)
	}
	mustWrite(t, filepath.Join(dir, "wrong.ts"), `import { RunCounter } from "./runcounter.ts";
const runs = new RunCounter({ url: "" });
void runs.complete(1, { status: "running" });
void runs.count({ workflowId: 1, draftId: 2 });
void runs.begin({ workflowId: 1 });
`)
	out := tsc()
	for _, line := range []int{3, 4, 5} {
		if !strings.Contains(out, fmt.Sprintf("wrong.ts(%d,", line)) {
			t.Errorf("line %d of a wrong use compiles:\n%s", line, out)
		}
	}
}

// mustPrint runs a block of the page with Deno, and compares what it prints.
func mustPrint(t *testing.T, dir string, n int, want string, env ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "node_modules", ".bin", "deno"), "run", "--quiet", "--no-prompt", "--no-check",
		"--allow-env", "--allow-net", "--allow-read", "--node-modules-dir=manual", filepath.Join(dir, fmt.Sprintf("page%d.ts", n)))
	cmd.Env = append(os.Environ(), "NO_COLOR=1", "DENO_NO_UPDATE_CHECK=1", "DENO_DIR="+filepath.Join(dir, "deno"))
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Errorf("block %d of docs/client.md prints (-page +got):\n%s", n, diff)
	}
}

// TestTypeScriptByTheAPI runs the page's first block against a server.
func TestTypeScriptByTheAPI(t *testing.T) {
	t.Parallel()
	need.NoRaceDetector(t)
	dir, blocks := mustTypeScript(t)
	const key = "an-API-key-of-the-test-that-is-long-enough"
	p := listens(t, t.TempDir(), []string{"RUNCOUNTER_API_KEY=" + key})
	mustPrint(t, dir, 1, blocks[0][3], "RUNCOUNTER_URL="+p.url, "RUNCOUNTER_API_KEY="+key)
}

// TestTypeScriptBySQL runs the page's second block against PostgreSQL, by
// supabase-js and a stand-in for what PostgREST makes of its calls.
func TestTypeScriptBySQL(t *testing.T) {
	t.Parallel()
	need.NoRaceDetector(t)
	dir, blocks := mustTypeScript(t)
	address := pgtest.Supabase(t)
	must(t, t.TempDir(), "", "migrate", "up", "--database-url", address)
	pool, err := pgxpool.New(t.Context(), pgtest.As(t, address, "authenticator"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	api := httptest.NewServer(dataAPI{t, pool})
	t.Cleanup(api.Close)
	mustPrint(t, dir, 2, blocks[1][3], "SUPABASE_URL="+api.URL, "SUPABASE_SERVICE_ROLE_KEY=service_role")
}

// dataAPI carries out POST /rest/v1/rpc/NAME as PostgREST does: as the role of the
// key, which stands for itself here, with the body's members as named arguments.
type dataAPI struct {
	*testing.T
	pool *pgxpool.Pool
}

func (d dataAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, err := d.call(r)
	w.Header().Set("Content-Type", "application/json")
	if err == nil {
		_, err = w.Write(answer)
	} else {
		raised, ok := errors.AsType[*pgconn.PgError](err)
		if !ok {
			raised = &pgconn.PgError{Message: err.Error()}
		}
		w.WriteHeader(http.StatusBadRequest)
		err = json.NewEncoder(w).Encode(map[string]string{"message": raised.Message, "code": raised.Code, "hint": raised.Hint, "details": raised.Detail})
	}
	if err != nil {
		d.Errorf("answer a call: %v", err)
	}
}

func (d dataAPI) call(r *http.Request) (answer []byte, err error) {
	name, found := strings.CutPrefix(r.URL.Path, "/rest/v1/rpc/")
	if !found {
		return nil, fmt.Errorf("no address of a function: %s", r.URL.Path)
	}
	var args map[string]json.RawMessage
	if err := json.NewDecoder(r.Body).Decode(&args); err != nil {
		return nil, err
	}
	role := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	err = pgx.BeginFunc(r.Context(), d.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(r.Context(), `select set_config('role', $1, true), set_config('request.jwt.claims', json_build_object('role', $1::text)::text, true)`, role); err != nil {
			return err
		}
		var types map[string]string
		var many bool
		err := tx.QueryRow(r.Context(), `
select p.proretset, jsonb_object_agg(a.name, format_type(p.proargtypes[a.n - 1], null))
  from pg_proc as p cross join unnest(p.proargnames[:p.pronargs]) with ordinality as a (name, n)
 where p.pronamespace = 'public'::regnamespace and p.proname = $1
 group by p.oid`, name).Scan(&many, &types)
		if err != nil {
			return fmt.Errorf("find the function %s: %w", name, err)
		}
		var named []string
		var values []any
		for arg, value := range args {
			typ, known := types[arg]
			if !known {
				return fmt.Errorf("%s has no argument %s", name, arg)
			}
			text := string(value)
			if text == "null" {
				continue
			}
			if typ != "jsonb" && strings.HasPrefix(text, `"`) {
				if err := json.Unmarshal(value, &text); err != nil {
					return err
				}
			}
			values = append(values, text)
			named = append(named, fmt.Sprintf("%s => $%d::text::%s", pgx.Identifier{arg}.Sanitize(), len(values), typ))
		}
		call := "public." + pgx.Identifier{name}.Sanitize() + "(" + strings.Join(named, ", ") + ")"
		query := "select to_json(" + call + ")::text"
		if many {
			query = "select coalesce(json_agg(r), '[]')::text from " + call + " as r"
		}
		var text *string
		if err := tx.QueryRow(r.Context(), query, values...).Scan(&text); err != nil {
			return err
		}
		if answer = []byte("null"); text != nil {
			answer = []byte(*text)
		}
		return nil
	})
	return answer, err
}
