package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/edgaze-ai/runcounter/harness/internal/mutants"
)

// seeds is the variable that tells tests how often they draw: so often as in
// .ci/run quick, unless it is set.
const seeds = "RUNCOUNTER_SEEDS"

// options are the flags.
type options struct {
	n                    int
	seed                 uint64
	dir, only, survivors string
	ask, tests           string
	list                 bool
	spare, time          time.Duration
	least                float64
}

// score is what became of a directory's mutants.
type score struct {
	dir           string
	all           int // that could be made
	counted       int // that are programs, other ones than without, and not accepted
	killed        int
	accepted      int // survivors with a reason
	invalid, same int
}

func (o options) run(ctx context.Context, root string, targets []mutants.Target, list string, out, errs io.Writer) (int, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return 2, err
	}
	accepted, err := mutants.ParseAccepted(list)
	if err != nil {
		return 2, fmt.Errorf("the list of survivors: %w", err)
	}
	scratch, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return 2, err
	}
	defer func() { _ = os.RemoveAll(scratch) }() // it lies among what the system clears
	t := trial{
		options: o, accepted: accepted, made: map[string]bool{}, out: out,
		runner: &mutants.Runner{Root: root, Scratch: scratch, Tests: o.tests, Least: o.spare, Verbose: errs},
	}
	if os.Getenv(seeds) == "" {
		t.runner.Env = []string{seeds + "=30"}
	}
	found := false
	for _, target := range targets {
		all, err := target.Mutants(root, targets)
		if err != nil {
			return 2, err
		}
		for _, m := range all {
			t.made[m.Key] = true
		}
		if o.dir != "" && strings.Trim(filepath.ToSlash(o.dir), "./") != target.Dir {
			continue
		}
		if o.only != "" {
			all = slices.DeleteFunc(all, func(m mutants.Mutant) bool { return m.Name() != o.only })
			if len(all) == 0 {
				continue
			}
		}
		found = true
		mutants.Shuffle(all, o.seed)
		if o.list {
			for _, m := range all {
				fmt.Fprintf(out, "%s\n  %s\n", m.Name(), m.Key)
			}
			continue
		}
		err = t.target(ctx, target, all)
		if ctx.Err() != nil {
			break // by the keyboard: what there is, is told
		}
		if err != nil {
			return 2, err
		}
	}
	if !found {
		return 2, errors.New("no such directory in the table, or no such mutant: see -list")
	}
	if o.list {
		return 0, nil
	}
	return t.end()
}

// trial is a run of the command.
type trial struct {
	options
	runner   *mutants.Runner
	accepted mutants.Accepted
	made     map[string]bool // the keys of all mutants that there are
	out      io.Writer
	scores   []score
	survived []mutants.Result
	stale    []string // accepted survivors that are killed
}

// target runs the mutants of a directory until enough of them counted.
func (t *trial) target(ctx context.Context, target mutants.Target, all []mutants.Mutant) error {
	s := score{dir: target.Dir, all: len(all)}
	defer func() { t.scores = append(t.scores, s) }()
	began := time.Now()
	for _, m := range all {
		if t.n > 0 && s.counted == t.n || t.time > 0 && time.Since(began) > t.time {
			break
		}
		r, err := t.runner.Run(ctx, m, target.Packages(t.runner.Root, m.File, strings.FieldsFunc(t.ask, func(c rune) bool { return c == ',' })))
		if err != nil {
			return err
		}
		_, known := t.accepted[m.Key]
		t.count(&s, r, known)
		by := ""
		if r.By != "" {
			by = "by " + r.By
		}
		fmt.Fprintf(t.out, "%-9s %s %s (%.0f s)\n", r.Verdict, m.Name(), by, r.Took.Seconds())
		if r.Verdict == mutants.Survived || t.only != "" {
			fmt.Fprint(t.out, r.Diff)
		}
		if t.only != "" {
			fmt.Fprint(t.out, r.Output)
		}
	}
	return nil
}

func (t *trial) count(s *score, r mutants.Result, known bool) {
	switch {
	case r.Verdict == mutants.Invalid:
		s.invalid++
	case r.Verdict == mutants.Same:
		s.same++
	case r.Verdict == mutants.Survived && known:
		s.accepted++
	case r.Verdict == mutants.Survived:
		s.counted++
		t.survived = append(t.survived, r)
	default:
		s.counted++
		s.killed++
		if known {
			t.stale = append(t.stale, r.Key)
		}
	}
}

// end prints the table, and writes down what survived.
func (t *trial) end() (int, error) {
	sum := score{dir: "in all"}
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tkilled\tof\trate\taccepted\tinvalid\tsame\tthere are\t")
	for _, s := range t.scores {
		s.print(w)
		sum.all, sum.counted, sum.killed = sum.all+s.all, sum.counted+s.counted, sum.killed+s.killed
		sum.accepted, sum.invalid, sum.same = sum.accepted+s.accepted, sum.invalid+s.invalid, sum.same+s.same
	}
	if len(t.scores) > 1 {
		sum.print(w)
	}
	if err := w.Flush(); err != nil {
		return 2, err
	}
	left := t.runner.NotRun()
	for _, dir := range slices.Sorted(maps.Keys(left)) {
		for _, line := range left[dir] {
			fmt.Fprintf(t.out, "%s: %s\n", dir, line)
		}
	}
	for _, key := range t.stale {
		fmt.Fprintf(t.out, "listed as a survivor, and killed: %s\n", key)
	}
	for _, key := range slices.Sorted(maps.Keys(t.accepted)) {
		if !t.made[key] {
			fmt.Fprintf(t.out, "listed as a survivor, and made no more: %s\n", key)
		}
	}
	if err := t.write(); err != nil {
		return 2, err
	}
	if sum.counted > 0 && sum.rate() < t.least {
		fmt.Fprintf(t.out, "%.1f %% are killed, and %.1f %% are asked for\n", sum.rate(), t.least)
		return 1, nil
	}
	return 0, nil
}

// write writes survivors as they are listed, their edits as comments.
func (t *trial) write() error {
	if len(t.survived) == 0 {
		return nil
	}
	var b strings.Builder
	for _, r := range t.survived {
		fmt.Fprintf(&b, "# %s\n", r.Name())
		for line := range strings.SplitSeq(strings.TrimRight(r.Diff, "\n"), "\n") {
			fmt.Fprintf(&b, "# %s\n", line)
		}
		fmt.Fprintf(&b, "%s\n\n", r.Key)
	}
	fmt.Fprintf(t.out, "%d survived: see %s\n", len(t.survived), t.survivors)
	return os.WriteFile(t.survivors, []byte(b.String()), 0o600)
}

func (s score) rate() float64 { return 100 * float64(s.killed) / float64(s.counted) }

func (s score) print(w io.Writer) {
	rate := "–"
	if s.counted > 0 {
		rate = fmt.Sprintf("%.1f %%", s.rate())
	}
	fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%d\t%d\t%d\t%d\t\n", s.dir, s.killed, s.counted, rate, s.accepted, s.invalid, s.same, s.all)
}
