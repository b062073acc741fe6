package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/sqlite"
	"github.com/edgaze-ai/runcounter/webhook/demo"
)

// demonstration is a server with a world that sends to it.
type demonstration struct {
	*demo.World
	path, url string
	out, errs io.Writer
}

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
			"runcounter", "serve", "--listen", listen, "--database-url", "sqlite:" + d.path,
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
func (d *demonstration) show(ctx context.Context, naivePath string, seed uint64) (wrong int, err error) {
	naive, err := demo.CountNaively(ctx, naivePath, d.World)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if err := d.deliver(ctx); err != nil {
		return 0, err
	}
	took := time.Since(begun)
	ours, err := d.counts(ctx)
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(d.out, `%d runs of 24 users in 72 workflows, seed %d: %d webhooks arrived,
%d of them twice and %d after a later one of the same run; %d outcomes never came,
%d were overwritten by a late "running", and %d recounts lost their race.

`, d.Runs, seed, len(d.Arrivals), d.Twice, d.Disordered, d.Lost, d.Overwritten, len(d.Recounts))
	rows := [][]string{{"", "RUNS COUNTED", "COUNTS THAT ARE WRONG"}}
	for _, c := range []struct {
		name   string
		counts map[store.Key]int64
	}{{"truth", d.Truth}, {"count = count + 1", naive.Added}, {"rows as they came last", naive.Rows}, {"Run Counter", ours}} {
		total, off := d.Compare(c.counts)
		rows = append(rows, []string{c.name, fmt.Sprint(total), fmt.Sprintf("%d of %d", off, len(d.Keys))})
		wrong = off // ours is the last
	}
	if err := printTable(d.out, rows); err != nil {
		return wrong, err
	}
	example := d.Example(naive.Added)
	_, err = fmt.Fprintf(d.out, "\nUser %s, workflow %s:\ntruth %d, count + 1 says %d, the rows say %d, Run Counter says %d.\n\nDelivered in %s, %.0f webhooks a second, each acked after its commit.\n",
		example.User, example.Ref, d.Truth[example], naive.Added[example], naive.Rows[example], ours[example],
		took.Round(10*time.Millisecond), float64(len(d.Arrivals))/took.Seconds())
	return wrong, err
}

// deliver posts all webhooks over many connections while recounts race beside
// them, and then sweeps as serve would in half a minute.
func (d *demonstration) deliver(ctx context.Context) (err error) {
	db, err := sqlite.Open(ctx, d.path, sqlite.Options{KeepSchema: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	bar := newBar(d.errs, int64(len(d.Arrivals)), true, 0, time.Now)
	bar.unit = "webhooks"
	var next, done atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: demoSenders}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	finished := make(chan struct{})
	for range demoSenders {
		group.Go(func() error {
			for {
				i := next.Add(1) - 1
				if i >= int64(len(d.Arrivals)) {
					return nil
				}
				if err := postUntilTaken(ctx, client, d.url+hookPath, d.Arrivals[i].Body); err != nil {
					return err
				}
				if done.Add(1) == int64(len(d.Arrivals)) {
					close(finished)
				}
			}
		})
	}
	group.Go(func() error {
		look := time.NewTicker(50 * time.Millisecond)
		defer look.Stop()
		for {
			select {
			case <-look.C:
				bar.show(done.Load())
			case <-finished:
				bar.end(done.Load())
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	for range 2 { // both recount the same keys
		group.Go(func() error {
			for _, race := range d.Recounts {
				if _, err := db.Recount(ctx, race.Key, store.Instant(time.Now())); err != nil {
					return fmt.Errorf("recount: %w", err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	sweeper := &store.Sweeper{Store: db, Limits: store.DefaultLimits()}
	_, err = sweeper.Sweep(context.WithoutCancel(ctx), store.SweepOptions{Full: true})
	return err
}

// postUntilTaken sends one webhook, again where the server asks for it.
func postUntilTaken(ctx context.Context, client *http.Client, url string, body []byte) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil {
			return err
		}
		switch res.StatusCode {
		case http.StatusOK:
			return nil
		case http.StatusServiceUnavailable:
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		default:
			return fmt.Errorf("the server answered a webhook %s: %s", res.Status, strings.TrimSpace(string(text)))
		}
	}
}

// counts asks the server for every count.
func (d *demonstration) counts(ctx context.Context) (map[store.Key]int64, error) {
	counts := map[store.Key]int64{}
	for _, key := range d.Keys {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/v1/counts?user_id=%s&workflow_id=%s", d.url, key.User, key.Ref), nil)
		if err != nil {
			return nil, err
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		var answer struct{ Count int64 }
		err = json.NewDecoder(res.Body).Decode(&answer)
		if err = errors.Join(err, res.Body.Close()); err != nil || res.StatusCode != http.StatusOK {
			return nil, errors.Join(fmt.Errorf("the server answered %s to a question for a count", res.Status), err)
		}
		counts[key] = answer.Count
	}
	return counts, nil
}
