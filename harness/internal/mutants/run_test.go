package mutants

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// toy is a module with a mutant of each verdict.
func toy(t *testing.T) (*Runner, []Target) {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("testdata", "toy"))
	if err != nil {
		t.Fatal(err)
	}
	return &Runner{Root: root, Scratch: t.TempDir(), Least: 3 * time.Second, Verbose: t.Output()}, []Target{{Dir: ".", Then: []string{"caller"}}}
}

// of returns the mutant of an edit, as old => new.
func of(t *testing.T, root string, file, edit string) Mutant {
	t.Helper()
	src, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	all, err := Of(file, src)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(m Mutant) bool { return strings.Contains(m.Key, edit) })
	if i < 0 {
		t.Fatalf("no mutant of %s does %s; there are:\n%s", file, edit, strings.Join(edits(src, all), "\n"))
	}
	return all[i]
}

func TestEachVerdict(t *testing.T) {
	t.Parallel()
	r, targets := toy(t)
	before, err := os.ReadFile(filepath.Join(r.Root, "toy.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		file, edit string
		want       Verdict
		by         string
	}{
		{"toy.go", "a {< => >=} b", Killed, "."},
		{"toy.go", "a {< => <=} b", Survived, ""}, // of two equal numbers either is the smaller
		{"toy.go", "i{++ => --}", TimedOut, "."},
		{"toy.go", "{mark, width => width, mark}", Invalid, ""},
		{"toy.go", "n {- => +} 1", Same, ""}, // the linker leaves out what nothing calls
		{"toy.go", "age {> => <=} 3", Killed, "caller"},
		{"toy.go", "age {> => >=} 3", Survived, ""},
		{"query.sql", "status {= => <>}", Killed, "."},
		{"query.sql", "ended_at {<= => <}", Survived, ""},
		{"query.sql", "now() {and => or}", Invalid, "."}, // as the engine says
	} {
		m := of(t, r.Root, tt.file, tt.edit)
		got, err := r.Run(t.Context(), m, targets[0].Packages(r.Root, tt.file, nil))
		if err != nil {
			t.Fatal(err)
		}
		if got.Verdict != tt.want || got.By != tt.by {
			t.Errorf("%s %s: got %s by %q, want %s by %q\n%s", tt.file, tt.edit, got.Verdict, got.By, tt.want, tt.by, got.Output)
		}
	}
	if after, err := os.ReadFile(filepath.Join(r.Root, "toy.go")); err != nil || string(after) != string(before) {
		t.Errorf("the checkout was written to: %v", err)
	}
}

func TestTestsThatFailByThemselvesKillNothing(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":      "module red\n\ngo 1.26\n",
		"red.go":      "package red\n\nfunc One() int { return 1 }\n",
		"red_test.go": "package red\n\nimport \"testing\"\n\nfunc TestRed(t *testing.T) { t.Error(\"red without a mutant\") }\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := Runner{Root: root, Scratch: t.TempDir(), Least: time.Second, Verbose: t.Output()}
	if got, err := r.Run(t.Context(), of(t, root, "red.go", "{1 => 0}"), []string{"."}); err == nil || !strings.Contains(err.Error(), "red without a mutant") {
		t.Errorf("got %+v and %v, want an error with what the tests say", got, err)
	}
}

func TestATargetHasItsFilesAlone(t *testing.T) {
	t.Parallel()
	r, _ := toy(t)
	targets := []Target{{Dir: "."}, {Dir: "caller"}}
	files := map[string]bool{}
	all, err := targets[0].Mutants(r.Root, targets)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		files[m.File] = true
	}
	if len(files) != 2 || !files["toy.go"] || !files["query.sql"] {
		t.Errorf("got mutants of %v, want those of toy.go and query.sql", files)
	}
	names := map[string]bool{}
	for _, m := range all {
		if names[m.Name()] {
			t.Errorf("%s names two mutants", m.Name())
		}
		names[m.Name()] = true
	}
	for _, tt := range []struct {
		file      string
		ask, want []string
	}{
		{"toy.go", nil, []string{".", "a", "b"}},
		{"none/x.go", nil, []string{"a", "b"}},
		{"toy.go", []string{Own}, []string{"."}},
		{"none/x.go", []string{Own}, []string{"a", "b"}},
		{"none/x.go", []string{Own, "c"}, []string{"c"}},
		{"toy.go", []string{"c", Own, "."}, []string{"c", "."}},
	} {
		if got := (Target{Then: []string{"a", "b"}}).Packages(r.Root, tt.file, tt.ask); !slices.Equal(got, tt.want) {
			t.Errorf("packages for %s, asked %v: got %v, want %v", tt.file, tt.ask, got, tt.want)
		}
	}
}
