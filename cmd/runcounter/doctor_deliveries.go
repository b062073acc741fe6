package main

import (
	"fmt"

	"github.com/edgaze-ai/runcounter/store/postgres"
)

// manyQueued calls are more than pg_net's worker has in hand at once.
const manyQueued = 1000

// fate is what became of a call, and what to do about it.
type fate struct {
	what, fix string
	is        func(r postgres.Response) bool
}

// fates are the ways in which a delivery is lost: pg_net tries none again. The
// first that fits is the one.
var fates = []fate{
	{"timed out", "raise the webhook's timeout to 5000 ms or more, and look how busy serve is: its /metrics",
		func(r postgres.Response) bool { return r.TimedOut }},
	{"were refused or led nowhere", "look at the URL's host and port, and whether serve runs: its /readyz",
		func(r postgres.Response) bool { return r.Status == 0 }},
	{"were not let in (401, 403)", "put the secret of RUNCOUNTER_WEBHOOK_SECRET into the webhook's header Authorization: Bearer SECRET",
		func(r postgres.Response) bool { return r.Status == 401 || r.Status == 403 }},
	{"were redirected (3xx)", "write the URL that it redirects to: pg_net follows with a GET that has no body, and the change is lost",
		func(r postgres.Response) bool { return r.Status >= 300 && r.Status < 400 }},
	{"met no such page (404, 405)", "write the URL as https://HOST/webhooks/workflow-runs; a redirect turns POST into GET, which ends here too",
		func(r postgres.Response) bool { return r.Status == 404 || r.Status == 405 }},
	{"could not be read (4xx)", "see why: select received_at, reason from run_counter.dead_letters",
		func(r postgres.Response) bool { return r.Status >= 400 && r.Status < 500 }},
	{"met a server in trouble (5xx)", "look at the log of serve, and of the proxy before it",
		func(r postgres.Response) bool { return r.Status >= 500 }},
}

// deliveryLines judges pg_net's last calls. The newest that was lost makes a
// failure of it, older ones a warning.
func deliveryLines(d postgres.Deliveries) (lines []line) {
	if !d.Net {
		return []line{fine("no pg_net, which would send them")}
	}
	const restart = "select net.worker_restart(); if that does not help, restart the database"
	switch {
	case d.Installed && d.Blind:
		lines = append(lines, warning("grant pg_read_all_stats to the role of DATABASE_URL; Supabase's postgres has it", "can't look: the role may not see whether pg_net's worker runs"))
	case d.Installed && !d.Worker:
		lines = append(lines, failure(restart, "pg_net's worker does not run: nothing is sent"))
	}
	if d.Queued > manyQueued {
		lines = append(lines, warning(restart, "%d calls or more wait for pg_net's worker", d.Queued))
	}
	lost := make([]int, len(fates))
	first := -1 // which fate the newest call met
	text := make([]string, len(fates))
	arrived, ours := 0, 0
	for n, r := range d.Responses {
		at := fateOf(r)
		if n == 0 {
			first = at
		}
		if at < 0 {
			arrived++
			if r.Ours {
				ours++
			}
			continue
		}
		if lost[at]++; text[at] == "" {
			text[at] = r.Error
		}
	}
	whose := "of all webhooks of this database"
	if d.OfTable {
		whose = "of workflow_runs"
	}
	for at, n := range lost {
		if n == 0 {
			continue
		}
		finding := fmt.Sprintf("%d of the last %s %s %s", n, quantity(int64(len(d.Responses)), "call", "calls"), whose, fates[at].what)
		if text[at] != "" {
			finding += ": " + text[at]
		}
		if at == first {
			lines = append(lines, failure(fates[at].fix, "%s", finding+"; the newest is one of them"))
		} else {
			lines = append(lines, warning(fates[at].fix, "%s", finding))
		}
	}
	if arrived > 0 && ours == 0 && d.OfTable {
		lines = append(lines, warning("look at the webhook's URL: pg_net follows a redirect with a GET, and writes down the 200 of whatever page is there",
			"none of %s of workflow_runs that got a 2xx was answered by Run Counter", quantity(int64(arrived), "call", "calls")))
	}
	if len(d.Responses) == 0 {
		return perhaps(lines, "none in the last hours, for which pg_net remembers them")
	}
	return perhaps(lines, "the last %s %s arrived, the newest %s ago", quantity(int64(len(d.Responses)), "call", "calls"), whose, rough(d.Responses[0].Ago))
}

// fateOf returns which of the fates a call met; -1 is none: it arrived.
func fateOf(r postgres.Response) int {
	for at, f := range fates {
		if f.is(r) {
			return at
		}
	}
	return -1
}
