// Command mutants tells how many small wrong edits of this repository's code its tests
// notice: run it at the root of the checkout.
//
//	go run ./harness/cmd/mutants -n 40                     # of each directory 40, drawn
//	go run ./harness/cmd/mutants -dir store/sqlite -n 10   # of one
//	go run ./harness/cmd/mutants -only store/rules.go:120:negated
//	go run ./harness/cmd/mutants -list -dir store          # what would be made
//
// It prints a line for each, and for each directory how many of those that count were
// killed; survivors stand in a file with their edit. Those of survivors.txt are
// accepted, each with its reason: they count as neither.
//
// No kept tool for Go does this: gremlins v0.6.0 asks a package's own tests or all,
// swaps tokens and removes no statement, draws no sample by a seed, and knows no SQL.
package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/edgaze-ai/runcounter/harness/internal/mutants"
)

//go:embed survivors.txt
var survivors string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, ".", targets, survivors, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run returns 0; 1 where fewer were killed than -least asks for; and 2 where it could
// not tell.
func run(ctx context.Context, root string, targets []mutants.Target, accepted string, args []string, out, errs io.Writer) int {
	var o options
	set := flag.NewFlagSet("mutants", flag.ContinueOnError)
	set.SetOutput(errs)
	set.IntVar(&o.n, "n", 40, "how many mutants of each directory that count are run; 0 for all")
	set.Uint64Var(&o.seed, "seed", 1, "draws which ones")
	set.StringVar(&o.dir, "dir", "", "only this directory of the table")
	set.StringVar(&o.only, "only", "", "only the mutant FILE:LINE:KIND, and print what its tests say")
	set.StringVar(&o.ask, "ask", "", "ask the tests of these directories alone, with commas between; own is the mutant's own")
	set.StringVar(&o.tests, "run", "", "run these of the tests alone, as go test's -run: what survives may be killed by others")
	set.BoolVar(&o.list, "list", false, "print the mutants, in the order in which they are drawn, and run none")
	set.StringVar(&o.survivors, "survivors", "mutants-survived.txt", "the file for those that survive")
	set.DurationVar(&o.spare, "spare", 30*time.Second, "what tests may take, beyond three times as long as without a mutant")
	set.DurationVar(&o.time, "time", 0, "begin no mutant of a directory after so long; 0 for no end")
	set.Float64Var(&o.least, "least", 0, "fail where fewer percent are killed, in all")
	if err := set.Parse(args); err != nil {
		return 2
	}
	if set.NArg() > 0 {
		fmt.Fprintln(errs, "mutants takes flags alone")
		return 2
	}
	code, err := o.run(ctx, root, targets, accepted, out, errs)
	if err != nil {
		fmt.Fprintln(errs, "mutants:", err)
		return 2
	}
	return code
}
