package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// TestThreeInstancesOnOnePostgreSQL serves from three processes while an
// application writes its table, webhooks of that arrive at all three, twice and
// out of order, and runs are begun and completed through the API. One process
// is killed with kill -9, then PostgreSQL is, and started again; nothing else
// is helped. Every run that somebody was told had ended has ended so, and no
// look in one snapshot finds a wrong count.
func TestThreeInstancesOnOnePostgreSQL(t *testing.T) {
	t.Parallel()
	server := pgtest.NewServer(t)
	address := server.Database(t)
	must(t, t.TempDir(), "", "migrate", "up", "--database-url", address)
	c := &cluster{T: t, address: address, acked: map[string]string{}}
	for range 3 {
		c.serves = append(c.serves, listens(t, t.TempDir(), []string{"DATABASE_URL=" + address}, "--sweep-every", "200ms", "--stuck-after", "1h"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for w := range 3 {
		work.Go(func() { c.application(ctx, w) })
		work.Go(func() { c.api(ctx, w) })
	}
	work.Go(func() { c.look(ctx) })

	c.progress("with all three")
	c.serves[0].kill()
	c.progress("with one killed")
	server.Kill(t)
	server.Start(t)
	c.progress("after PostgreSQL was killed")
	for _, p := range c.serves[1:] {
		c.await("ready again", func() bool { return c.get(p.url+"/readyz") == http.StatusOK })
		c.await("a sweep after it", func() bool {
			return strings.Contains(mustText(t, p.url+"/metrics"), `runcounter_sweeps_total{result="ok"}`)
		})
	}
	cancel()
	work.Wait()
	c.finish()
}

type cluster struct {
	*testing.T
	address string
	serves  []*process

	mu     sync.Mutex
	acked  map[string]string // the status that somebody was told, by run
	looks  atomic.Int64
	number atomic.Int64
}

func (c *cluster) ack(id, status string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acked[id] = status
}

func (c *cluster) acks() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.acked)
}

// await waits for a condition, for at most half a minute.
func (c *cluster) await(what string, holds func() bool) {
	c.Helper()
	for deadline := time.After(30 * time.Second); !holds(); {
		select {
		case <-deadline:
			c.Fatalf("half a minute passed without this: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (c *cluster) progress(what string) {
	c.Helper()
	acks, looks := c.acks(), c.looks.Load()
	c.await(what, func() bool { return c.acks() > acks+150 && c.looks.Load() > looks+3 })
}

// application writes runs through its lifecycle by SQL, one transaction a
// step, and sends what a trigger would, in a wrong order and twice.
func (c *cluster) application(ctx context.Context, worker int) {
	for ctx.Err() == nil {
		conn, err := pgx.Connect(ctx, c.address)
		if err != nil {
			continue // PostgreSQL is away
		}
		for err == nil && ctx.Err() == nil {
			id := runID(int(c.number.Add(1)))
			_, err = conn.Exec(ctx, `insert into workflow_runs (id, user_id, workflow_id, status, started_at) values ($1, $2, $3, 'running', now())`, id, sampleUser, sampleWorkflow)
			if err != nil {
				break
			}
			if _, err = conn.Exec(ctx, `update workflow_runs set status = 'completed' where id = $1`, id); err != nil {
				break // it may have been committed, and nobody was told
			}
			c.ack(id, "completed")
			for i, status := range []string{"completed", "running", "completed"} {
				completed := `null`
				if status == "completed" {
					completed = `"2026-01-31T12:00:00Z"`
				}
				c.post(ctx, c.serves[(worker+i)%3].url+"/webhooks/workflow-runs", fmt.Sprintf(
					`{"type":"INSERT","schema":"public","table":"workflow_runs","old_record":null,"record":{"id":"%s","user_id":"%s","workflow_id":"%s","status":"%s","completed_at":%s,"updated_at":"2026-01-31T12:00:00Z"}}`,
					id, sampleUser, sampleWorkflow, status, completed))
			}
			_, err = conn.Exec(ctx, `update workflow_runs set status = 'running', completed_at = null where id = $1`, id) // late
		}
		conn.Close(context.WithoutCancel(ctx))
	}
}

// api begins and completes runs through whichever instance answers.
func (c *cluster) api(ctx context.Context, worker int) {
	for n := worker; ctx.Err() == nil; n++ {
		base := c.serves[n%3].url + "/v1/runs"
		id := runID(int(c.number.Add(1)))
		if status, _ := c.post(ctx, base, `{"id":"`+id+`","user_id":"`+sampleUser+`","workflow_id":"`+sampleWorkflow+`"}`); status != http.StatusCreated {
			continue
		}
		status, body := c.post(ctx, base+"/"+id+"/complete", `{"status":"failed"}`)
		var answer struct {
			Won    bool
			Status string
		}
		if err := json.Unmarshal(body, &answer); status == http.StatusOK && err == nil {
			c.ack(id, answer.Status)
		}
	}
}

// post returns the status of the answer, 0 where there was none.
func (c *cluster) post(ctx context.Context, url, body string) (status int, answer []byte) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		c.Errorf("%v", err)
		return 0, nil
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil // killed, or told to stop
	}
	defer resp.Body.Close()
	answer, _ = io.ReadAll(resp.Body)
	if s := resp.StatusCode; s >= 500 && s != http.StatusServiceUnavailable || s == http.StatusBadRequest {
		c.Errorf("POST %s: %d %s", url, s, answer)
	}
	return resp.StatusCode, answer
}

// get returns the status of a page, 0 where there was no answer.
func (c *cluster) get(url string) int {
	resp, err := http.Get(url)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// look compares all keys in one snapshot, over and over.
func (c *cluster) look(ctx context.Context) {
	for ctx.Err() == nil {
		conn, err := pgx.Connect(ctx, c.address)
		if err != nil {
			continue
		}
		for err == nil && ctx.Err() == nil {
			var stored, actual int64
			if stored, actual, err = sides(ctx, conn); err == nil {
				c.looks.Add(1)
				if stored != actual {
					c.Errorf("law 1: %d counted, %d runs", stored, actual)
				}
			}
		}
		conn.Close(context.WithoutCancel(ctx))
	}
}

func sides(ctx context.Context, conn *pgx.Conn) (stored, actual int64, err error) {
	err = conn.QueryRow(ctx, `
select (select coalesce(sum(n), 0) from (select n from run_counter.counts union all select n from run_counter.ledger) as k)::bigint,
       (select count(*) from workflow_runs where completed_at is not null and status in ('completed', 'failed', 'cancelled', 'timeout'))`).Scan(&stored, &actual)
	return stored, actual, err
}

// finish compares with what was told.
func (c *cluster) finish() {
	ctx := context.WithoutCancel(c.Context())
	conn, err := pgx.Connect(ctx, c.address)
	if err != nil {
		c.Fatal(err)
	}
	defer conn.Close(ctx)
	if stored, actual, err := sides(ctx, conn); err != nil || stored != actual || int(actual) < len(c.acked) {
		c.Errorf("%d counted, %d runs have ended, %d were told, %v", stored, actual, len(c.acked), err)
	}
	for id, want := range c.acked {
		var status string
		var dated bool
		err := conn.QueryRow(ctx, `select status, completed_at is not null from workflow_runs where id = $1`, id).Scan(&status, &dated)
		if err != nil || status != want || !dated {
			c.Errorf("law 6: run %s was told to have ended %s, and is %s, %v", id, want, status, err)
		}
	}
	c.Logf("%d runs acknowledged, %d looks in one snapshot", len(c.acked), c.looks.Load())
	must(c.T, c.TempDir(), "", "audit", "--database-url", c.address)
}
