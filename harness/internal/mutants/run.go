package mutants

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Verdict is what became of a mutant.
type Verdict string

// A mutant counts unless it is Invalid or Same, and is killed by any but Survived.
const (
	Killed   Verdict = "killed"
	TimedOut Verdict = "timed out" // which kills it
	Survived Verdict = "survived"
	Invalid  Verdict = "invalid" // it doesn't compile, or the engine can't read its SQL
	Same     Verdict = "same"    // the tests' programs are those without it
)

// Counts reports whether a mutant is one of those that tests could have killed.
func (v Verdict) Counts() bool { return v == Killed || v == TimedOut || v == Survived }

// A Result is the verdict on a mutant.
type Result struct {
	Mutant
	Verdict Verdict
	By      string // the package whose tests killed it
	Took    time.Duration
	Output  string // of the tests that killed it, or of the compiler
	Diff    string
}

// A Runner runs tests with and without mutants of one module.
type Runner struct {
	Root    string        // the module's directory
	Scratch string        // an existing directory, for what is built
	Least   time.Duration // tests may take three times as long as without a mutant, and this
	Tests   string        // as go test's -run; all where empty
	Env     []string      // for the tests, besides that of this process
	Verbose io.Writer     // hears what takes time

	baselines map[string]*baseline
}

// baseline is a package's tests without a mutant.
type baseline struct {
	sum    [sha256.Size]byte // of the program
	rapid  bool              // it has the flags of pgregory.net/rapid
	took   time.Duration
	notRun []string
	none   bool // no test files
}

// unreadable is what engines say of SQL that is no SQL, or whose types don't fit: for
// a mutant of SQL this is what the compiler is for Go.
var unreadable = regexp.MustCompile(`SQLSTATE (42601|42804|42846|42883|42803|42725)\b|syntax error|incomplete input|wrong number of arguments|misuse of aggregate|unterminated|argument of \w+ must be type boolean`)

// NotRun is what tests of a package leave out on this machine, as they say it.
func (r *Runner) NotRun() map[string][]string {
	left := map[string][]string{}
	for dir, b := range r.baselines {
		if len(b.notRun) > 0 {
			left[dir] = b.notRun
		}
	}
	return left
}

// Run returns the verdict of the tests of packages, which are directories below the
// root and are asked in this order, on a mutant. An error is one of the tool or of the
// tests without a mutant.
func (r *Runner) Run(ctx context.Context, m Mutant, packages []string) (Result, error) {
	began := time.Now()
	result := Result{Mutant: m, Verdict: Same}
	file := filepath.Join(r.Root, filepath.FromSlash(m.File))
	src, err := os.ReadFile(file)
	if err != nil {
		return result, err
	}
	result.Diff = m.Diff(src)
	overlay, err := r.overlay(file, m.Apply(src))
	if err != nil {
		return result, err
	}
	asked := false
	for _, dir := range packages {
		b, err := r.baseline(ctx, dir)
		if err != nil {
			return result, err
		}
		if b.none {
			continue
		}
		asked = true
		program, said, err := r.build(ctx, dir, overlay)
		if err != nil {
			if ctx.Err() != nil {
				return result, ctx.Err()
			}
			result.Verdict, result.Output, result.Took = Invalid, said, time.Since(began)
			return result, nil
		}
		sum, _, err := read(program)
		if err != nil {
			return result, err
		}
		if sum == b.sum {
			continue
		}
		result.Verdict = Survived
		limit := 3*b.took + r.Least
		said, err = r.test(ctx, dir, program, overlay, b.rapid, limit)
		result.Took = time.Since(began)
		switch {
		case ctx.Err() != nil:
			return result, ctx.Err()
		case err == nil:
			continue
		case errors.Is(err, errTooLong), strings.Contains(said, "panic: test timed out after "):
			result.Verdict = TimedOut
		case m.SQL && unreadable.MatchString(said):
			result.Verdict = Invalid
		default:
			result.Verdict = Killed
		}
		result.By, result.Output = dir, said
		return result, nil
	}
	if !asked {
		return result, fmt.Errorf("%s: none of %s has tests", m.File, strings.Join(packages, ", "))
	}
	result.Took = time.Since(began)
	return result, nil
}

// overlay writes the file that tells the go command to read other contents.
func (r *Runner) overlay(file string, contents []byte) (string, error) {
	edited := filepath.Join(r.Scratch, "edited-"+filepath.Base(file))
	if err := os.WriteFile(edited, contents, 0o600); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {file: edited}})
	if err != nil {
		return "", err
	}
	name := filepath.Join(r.Scratch, "overlay.json")
	return name, os.WriteFile(name, list, 0o600)
}

// build builds a package's tests; where they don't compile, it returns what the
// compiler says.
func (r *Runner) build(ctx context.Context, dir, overlay string) (program, said string, err error) {
	program = filepath.Join(r.Scratch, strings.ReplaceAll(filepath.ToSlash(dir), "/", "-")+".test")
	if err := os.Remove(program); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", "", err
	}
	// Without the build's id and the debugger's tables two programs are equal where
	// their instructions are.
	args := []string{"test", "-c", "-vet=off", "-trimpath", "-ldflags=-buildid= -s -w", "-o", program}
	if overlay != "" {
		args = append(args, "-overlay="+overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./"+dir)...) //nolint:gosec // packages of a table of ours
	cmd.Dir = r.Root
	out, err := cmd.CombinedOutput()
	return program, string(out), err
}

var errTooLong = errors.New("the tests took too long")

// test runs a package's tests up to the first that fails, and returns what they say.
func (r *Runner) test(ctx context.Context, dir, program, overlay string, rapid bool, limit time.Duration) (string, error) {
	// A test that hangs is ended by its own timeout, which says where; one that
	// prevents that, by ours.
	ended, cancel := context.WithTimeout(ctx, limit+10*time.Second)
	defer cancel()
	args := []string{"-test.failfast", "-test.timeout=" + limit.String()}
	if r.Tests != "" {
		args = append(args, "-test.run="+r.Tests)
	}
	if rapid {
		args = append(args, noFailFile)
	}
	cmd := exec.CommandContext(ended, program, args...) //nolint:gosec // it was built a moment ago
	cmd.Dir = filepath.Join(r.Root, filepath.FromSlash(dir))
	cmd.WaitDelay = 5 * time.Second // a program that a test has left behind may hold its output
	cmd.Env = append(os.Environ(), r.Env...)
	if overlay != "" { // for tests that build the program themselves
		cmd.Env = append(cmd.Env, "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay))
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() == nil && ended.Err() != nil {
		err = errTooLong
	}
	return out.String(), err
}

// baseline runs a package's tests without a mutant, once. They must pass: what is red
// by itself kills everything.
func (r *Runner) baseline(ctx context.Context, dir string) (*baseline, error) {
	if b := r.baselines[dir]; b != nil {
		return b, nil
	}
	fmt.Fprintf(r.Verbose, "%s without a mutant … ", dir)
	program, said, err := r.build(ctx, dir, "")
	if err != nil {
		return nil, fmt.Errorf("build the tests of %s: %w\n%s", dir, err, said)
	}
	b := &baseline{}
	if b.sum, b.rapid, err = read(program); errors.Is(err, os.ErrNotExist) {
		b.none = true
	} else if err != nil {
		return nil, err
	} else {
		began := time.Now()
		said, err = r.test(ctx, dir, program, "", b.rapid, time.Hour)
		if err != nil {
			return nil, fmt.Errorf("the tests of %s fail without a mutant: %w\n%s", dir, err, tail(said, 30))
		}
		b.took = time.Since(began)
		for line := range strings.SplitSeq(said, "\n") {
			if strings.HasPrefix(line, "NOT RUN") {
				b.notRun = append(b.notRun, line)
			}
		}
	}
	fmt.Fprintf(r.Verbose, "%.1f s\n", b.took.Seconds())
	if r.baselines == nil {
		r.baselines = map[string]*baseline{}
	}
	r.baselines[dir] = b
	return b, nil
}

// noFailFile keeps rapid from writing what failed into the package's testdata, where it
// would be tried again, and committed.
const noFailFile = "-rapid.nofailfile"

// read returns the sum of a program's bytes, and whether it knows noFailFile.
func read(file string) (sum [sha256.Size]byte, rapid bool, err error) {
	contents, err := os.ReadFile(file)
	if err != nil {
		return sum, false, err
	}
	return sha256.Sum256(contents), bytes.Contains(contents, []byte(noFailFile[1:])), nil
}

// tail is the end of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
