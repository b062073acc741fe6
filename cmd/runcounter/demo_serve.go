package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/edgaze-ai/runcounter/cmd/runcounter/internal/view"
	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/webhook/demo"
)

// demonstration is a server with a world that sends to it.
type demonstration struct {
	*demo.World
	dir, url  string
	out, errs io.Writer
}

func (d *demonstration) path() string { return filepath.Join(d.dir, "runcounter.db") }

// serve starts the real server, as the command does, and waits until it
// listens. What it returned is in the channel.
func (d *demonstration) serve(ctx context.Context, listen string) (<-chan error, error) {
	reading, writing := io.Pipe()
	root := rootCommand()
	root.Writer, root.ErrWriter = io.Discard, writing
	served := make(chan error, 1)
	go func() {
		// Flags, so that nothing of this comes from the environment.
		err := root.Run(ctx, []string{
			"runcounter", "serve", "--listen", listen, "--database-url", "sqlite:" + d.path(),
			"--log-format", "json", "--log-level", "info", "--sweep-every", "30s", "--stuck-after", "5m",
			"--webhook-secret=", "--api-key=", "--lease-column=", "--table", "public.workflow_runs", "--count-policy", "outcomes",
		})
		served <- errors.Join(err, writing.Close())
	}()
	lines := bufio.NewScanner(reading)
	for lines.Scan() {
		var line struct{ Msg, URL string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
			d.url = line.URL
			go d.warn(lines)
			return served, nil
		}
	}
	return nil, errors.Join(<-served, errors.New("the server ended before it listened"))
}

// warn passes the server's errors on; the rest of its log is no news here.
func (d *demonstration) warn(lines *bufio.Scanner) {
	for lines.Scan() {
		if bytes.Contains(lines.Bytes(), []byte(`"level":"ERROR"`)) {
			fmt.Fprintln(d.errs, lines.Text())
		}
	}
}

// show delivers, counts and prints. It returns how many of our counts are
// wrong.
func (d *demonstration) show(ctx context.Context, seed uint64) (wrong int, err error) {
	naive, err := demo.CountNaively(ctx, filepath.Join(d.dir, "naive.db"), d.World)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if err := d.deliver(ctx); err != nil {
		return 0, err
	}
	took := time.Since(begun)
	ours, err := d.CountsAt(ctx, d.url)
	if err != nil {
		return 0, err
	}
	_, wrong = d.Compare(ours)
	_, err = io.WriteString(d.out, view.Demo(d.World, seed, naive, ours, took))
	return wrong, err
}

// deliver posts all webhooks while recounts race beside them, and then sweeps as serve
// would in half a minute.
func (d *demonstration) deliver(ctx context.Context) (err error) {
	db, err := sqlite.Open(ctx, d.path(), sqlite.Options{KeepSchema: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	bar := newBar(d.errs, int64(len(d.Arrivals)), true, 0, time.Now)
	bar.unit = "webhooks"
	err = d.Deliver(ctx, d.url+hookPath, func(ctx context.Context, key store.Key) error {
		_, err := db.Recount(ctx, key, store.Instant(time.Now()))
		return err
	}, bar.show)
	if err != nil {
		return err
	}
	bar.end(int64(len(d.Arrivals)))
	sweeper := &store.Sweeper{Store: db, Limits: store.DefaultLimits()}
	_, err = sweeper.Sweep(context.WithoutCancel(ctx), store.SweepOptions{Full: true})
	return err
}
