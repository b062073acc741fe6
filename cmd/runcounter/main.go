// Command runcounter receives database webhooks for workflow_runs, keeps the
// count of runs per user and workflow exact, and answers what it is.
package main

import (
	"context"
	"os"
	_ "time/tzdata" // for --timezone: the images have no zones
)

func main() {
	os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}
