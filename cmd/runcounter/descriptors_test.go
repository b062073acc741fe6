package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestCaseD1_FewDescriptorsAndTwoThousandIdleConnections is item 2 of what
// issue 12 must show: with 256 descriptors, 2,000 connections on which nothing
// is said, for 30 seconds from when the last of them has come. What is asked on
// connections that were open is answered meanwhile, and a new one is served within
// five seconds of their end.
func TestCaseD1_FewDescriptorsAndTwoThousandIdleConnections(t *testing.T) {
	t.Parallel()
	strangers, lasts := 2000, 30*time.Second
	if testing.Short() {
		strangers, lasts = 600, 2*time.Second
	}
	dir := t.TempDir()
	env := []string{"RUNCOUNTER_WEBHOOK_SECRET=0123456789abcdef0123456789abcdef", "RUNCOUNTER_API_KEY=fedcba9876543210fedcba9876543210"}
	p := startAs(t, command(t, dir, env), []string{"sh", "-c", `ulimit -n 256; exec "$@"`, "sh"})
	line, ok := p.await("listening")
	if !ok {
		t.Fatalf("serve ended before it listened: %v\n%s", p.Wait(), p.said())
	}
	p.url = line.URL
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 4, MaxIdleConnsPerHost: 4}, Timeout: 4 * time.Second}
	if status := deliverOnce(client, p.url, 0); status != http.StatusOK {
		t.Fatalf("before: got %d, want 200", status)
	}

	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var came, there atomic.Int64
	for range strangers {
		all.Go(func() { stayIdle(ctx, strings.TrimPrefix(p.url, "http://"), &came, &there) })
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	n, failed := 0, 0
	var began time.Time // when the last of them had come
	for ; failed < 20 && (began.IsZero() || time.Since(began) < lasts); <-tick.C {
		if began.IsZero() && there.Load() == int64(strangers) {
			began = time.Now()
		}
		if n++; deliverOnce(client, p.url, n) != http.StatusOK {
			failed++
		}
	}
	if failed > 0 {
		t.Errorf("%d of %d requests on open connections failed, want none\n%s", failed, n, p.said())
	}
	stop()
	all.Wait()

	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	ended := time.Now()
	for deliverOnce(fresh, p.url, n+1) != http.StatusOK {
		if time.Since(ended) > 5*time.Second {
			t.Fatalf("five seconds after their end nothing is served\n%s", p.said())
		}
		<-tick.C
	}
	t.Logf("%d strangers came %d times in %s; %d requests were answered meanwhile, and a new connection %s after their end", strangers, came.Load(), lasts, n-failed, time.Since(ended).Round(time.Millisecond))
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.end(); code != exitFine {
		t.Errorf("ended with %d, want %d\n%s", code, exitFine, p.said())
	}
}

// stayIdle opens a connection and says nothing, and does so again a second
// after it was closed. It is there from the first one on.
func stayIdle(ctx context.Context, addr string, came, there *atomic.Int64) {
	first := sync.OnceFunc(func() { there.Add(1) })
	pause := time.NewTicker(time.Second)
	defer pause.Stop()
	for ctx.Err() == nil {
		if c, err := net.DialTimeout("tcp", addr, 5*time.Second); err == nil {
			came.Add(1)
			first()
			left := context.AfterFunc(ctx, func() { c.Close() })
			_, _ = io.Copy(io.Discard, c)
			left()
			c.Close()
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
}

// deliverOnce sends the nth run's completion and returns the status; 0 where
// there was no answer.
func deliverOnce(client *http.Client, url string, n int) int {
	req, err := http.NewRequest(http.MethodPost, url+"/webhooks/workflow-runs", strings.NewReader(completion(n)))
	if err != nil {
		return 0
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer 0123456789abcdef0123456789abcdef")
	res, err := client.Do(req)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}
