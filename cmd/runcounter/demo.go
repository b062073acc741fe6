package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/demo"
)

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:      "demo",
		Category:  groupRun,
		Usage:     "shows what hostile webhooks do to counters, on a temporary file",
		UsageText: "runcounter demo [flags]",
		Description: `It simulates an application with thousands of runs, and delivers their webhooks as
networks do: some twice, many out of order, some never, outcomes overwritten by a
late "running", recounts that race. Two common ways to count receive them, and so
does runcounter serve, over HTTP; all are printed beside the truth. Then the
server stays, to look around, until Ctrl-C removes it all. Exit code 1 means that
ours was wrong.

Examples:
  runcounter demo
  runcounter demo --once --seed 7 --runs 10000`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Category: flagsWhere, Value: "127.0.0.1:0", DefaultText: "a free port", Usage: "listen on `HOST:PORT` of this machine"},
			&cli.Uint64Flag{Name: "seed", Category: flagsWhat, Value: 1, Usage: "the `NUMBER` that all chance is drawn from"},
			&cli.IntFlag{Name: "runs", Category: flagsWhat, Value: 2000, Usage: "the `NUMBER` of runs"},
			&cli.BoolFlag{Name: "once", Category: flagsWhat, Usage: "end after the result"},
		},
		Action: action(0, runDemo),
	}
}

func runDemo(ctx context.Context, cmd *cli.Command) (err error) {
	runs := cmd.Int("runs")
	if runs < 1 || runs > 100_000 {
		return badUsage("--runs must be between 1 and 100000")
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "runcounter-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// Two hours ago: whatever is silent then is stuck now.
	w, err := demo.NewWorld(cmd.Uint64("seed"), runs, store.Instant(time.Now()).Add(-2*time.Hour))
	if err != nil {
		return err
	}
	d := demonstration{World: w, dir: dir, out: cmd.Root().Writer, errs: cmd.Root().ErrWriter}
	// Not a child of ctx: in it the parser would find this command, and make
	// serve one of its own. serve hears the signals itself.
	serveCtx, end := context.WithCancel(context.Background())
	defer end()
	served, err := d.serve(serveCtx, cmd.String("listen"))
	if err != nil {
		return err
	}
	wrong, err := d.show(ctx, cmd.Uint64("seed"))
	if err == nil && !cmd.Bool("once") {
		fmt.Fprintf(d.out, "\nThe server goes on with these runs at %s/\nCtrl-C ends it and removes its files.\n", d.url)
		select {
		case <-ctx.Done():
		case err = <-served:
			return err
		}
	}
	end()
	if ended := <-served; ctx.Err() == nil || err == nil {
		err = errors.Join(err, ended)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // told to stop before the result
	}
	if err == nil && wrong > 0 {
		return failed(fmt.Errorf("%d counts of Run Counter differ from the truth: please report it, with the seed", wrong))
	}
	return err
}
