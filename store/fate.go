package store

import (
	"fmt"
	"time"
)

// Response is pg_net's record of one call of a webhook.
type Response struct {
	Status   int // 0 where there was none
	TimedOut bool
	Error    string // in pg_net's words
	Ours     bool   // the body is one of this program's answers
	Refused  int64  // changes that the answer says could not be read, where the others were taken
	// Moved: the first answer named another place. pg_net follows a 301 or 302
	// with a GET that has no body, and records the status of whatever page is
	// there beside the headers of the first answer.
	Moved bool
}

// Fate names the end of a call: it arrived, or it was lost in one of these ways.
type Fate string

// The fates. All but the first and the last are losses, of a call or of some of
// its changes: pg_net tries nothing again.
const (
	FateArrived      Fate = "arrived"
	FatePartly       Fate = "partly" // some of its changes were refused
	FateTimedOut     Fate = "timed_out"
	FateRefused      Fate = "refused"
	FateUnauthorised Fate = "unauthorised"
	FateRedirected   Fate = "redirected"
	FateNoPage       Fate = "no_page"
	FateUnreadable   Fate = "unreadable"
	FateTrouble      Fate = "trouble"
	FateElsewhere    Fate = "elsewhere"
	FateVanished     Fate = "lost"   // nothing is known of it, and it is queued no more
	FateUnseen       Fate = "unseen" // the log of calls had no more room for it
	FateWaiting      Fate = "waiting"
)

// Fates are all of them, in the order in which they are told.
var Fates = [...]Fate{
	FateArrived, FatePartly, FateTimedOut, FateRefused, FateUnauthorised, FateRedirected, FateNoPage, FateUnreadable, FateTrouble,
	FateElsewhere, FateVanished, FateUnseen, FateWaiting,
}

// FateOf returns what became of a call that has an answer, or has failed.
func FateOf(r Response) Fate {
	arrived := r.Ours && r.Status >= 200 && r.Status < 300
	switch {
	case r.TimedOut:
		return FateTimedOut
	case r.Status < 200:
		return FateRefused
	case r.Status >= 300 && r.Status < 400, r.Moved && !arrived:
		// Whatever the page says that is there: a 404, or a 401, since
		// credentials don't go along to another host.
		return FateRedirected
	case arrived && r.Refused > 0:
		return FatePartly
	case arrived: // a 307 or 308 is followed with the body
		return FateArrived
	case r.Status < 300:
		return FateElsewhere
	case r.Status == 401, r.Status == 403:
		return FateUnauthorised
	case r.Status == 404, r.Status == 405:
		return FateNoPage
	case r.Status < 500:
		return FateUnreadable
	}
	return FateTrouble
}

// Lost reports whether the receiver did not take all that the call told.
func (f Fate) Lost() bool { return f != "" && f != FateArrived && f != FateWaiting }

// What says of calls what became of them: it follows "2 of the last 5 calls".
func (f Fate) What() string { what, _ := f.words(); return what }

// Fix says what to do about it; nothing where it is not [Fate.Lost].
func (f Fate) Fix() string { _, fix := f.words(); return fix }

func (f Fate) words() (what, fix string) {
	switch f {
	case FateTimedOut:
		return "timed out", "raise the webhook's timeout to 5000 ms or more, and check how busy serve is: its /metrics"
	case FateRefused:
		return "were refused or led nowhere", "check the URL's host and port, and whether serve runs: its /readyz"
	case FateUnauthorised:
		return "were not let in (401, 403)", "give both ends one secret: in a plain webhook that of RUNCOUNTER_WEBHOOK_SECRET stands in the header Authorization: Bearer SECRET, " +
			"and that of a signed one, which runcounter webhook install prints, goes into RUNCOUNTER_WEBHOOK_SECRET. " +
			"A signed call that waited for more than an hour between its commit and its sending is refused as too old"
	case FateRedirected:
		return "were redirected (3xx)", "write the URL that it redirects to: pg_net follows with a GET that has no body, writes down the 200 of whatever page is there, and the change is lost"
	case FateNoPage:
		return "met no such page (404, 405)", "write the URL as https://HOST/webhooks/workflow-runs"
	case FateUnreadable:
		return "could not be read (4xx)", "see why: runcounter dead-letters list"
	case FatePartly:
		return "arrived with changes that the receiver could not read", "see which, and why, where the receiver is: runcounter dead-letters list; correct those rows"
	case FateTrouble:
		return "met a server in trouble (5xx)", "read the log of serve, and of the proxy before it"
	case FateElsewhere:
		return "got a 2xx that is no answer of Run Counter", "check the webhook's URL: another page is there, which drops what it is sent; write https://HOST/webhooks/workflow-runs"
	case FateVanished:
		return "vanished from pg_net", "a crash of PostgreSQL empties pg_net's queue, and a restored database begins with an empty one: " +
			"a source loses nothing by it, since its sweep reads the table; tell a mirror what it missed with runcounter import. Without a crash, search PostgreSQL's log for pg_net"
	case FateUnseen:
		return "left the log before anything read what became of them", "run runcounter serve, or sweep or webhook status every hour, on this database"
	case FateArrived:
		return "arrived", ""
	case FateWaiting:
		return "wait", ""
	}
	return "met the fate " + string(f), ""
}

// Worker is the state of pg_net's background worker.
type Worker string

// The states of it.
const (
	WorkerUnseen Worker = "" // the role may not see it, or there is no pg_net
	WorkerUp     Worker = "up"
	WorkerDown   Worker = "down"
)

// Deliveries sums up the fates of the latest webhooks of workflow_runs.
type Deliveries struct {
	// Watched: something sends webhooks, and it could be looked at. Where it is
	// false the rest says nothing.
	Watched bool
	// Own: a webhook of our own is installed, whose calls are known one by one.
	Own bool
	// AllTables says that the calls of workflow_runs can't be told apart, so these are
	// those of all webhooks of the database.
	AllTables bool
	Window    time.Duration   // how far back was looked; 0 for the last so many
	Calls     map[Fate]int64  // by what became of them
	Examples  map[Fate]string // what pg_net wrote of the newest of a fate; not for strangers

	// Lost are the calls of our own webhook that were lost since the last import
	// into a mirror, or since an operator acknowledged them, however long ago.
	Lost map[Fate]Loss

	Newest    Fate // of the newest call of which it is known; "" where there is none
	NewestAgo time.Duration

	Worker  Worker
	Timeout time.Duration // of our own webhook: how long its receiver may take; 0 where there is none
	Queued  int64         // calls of all tables that wait for it; at most [MaxQueued] + 1
	Oldest  time.Duration // how long the oldest of workflow_runs has waited; 0 where none does

	Failed    int64         // statements that were committed without their webhook, and nothing has recovered
	FailedWhy string        // the newest; not for strangers
	FailedAgo time.Duration // the newest
}

// Loss is the sum of calls that did not reach their receiver.
type Loss struct {
	Calls     int64
	Changes   int64         // in them
	Deletions int64         // of the calls, those that told of deletions, which no import brings
	Since     time.Duration // the age of the oldest
}

// Lose adds calls that were lost.
func (d *Deliveries) Lose(fate Fate, l Loss) {
	if d.Lost == nil {
		d.Lost = map[Fate]Loss{}
	}
	sum := d.Lost[fate]
	sum.Calls, sum.Changes, sum.Deletions = sum.Calls+l.Calls, sum.Changes+l.Changes, sum.Deletions+l.Deletions
	sum.Since = max(sum.Since, l.Since)
	d.Lost[fate] = sum
}

// Unrecovered returns how many calls and statements nothing has recovered.
func (d Deliveries) Unrecovered() int64 {
	n := d.Failed
	for _, l := range d.Lost {
		n += l.Calls
	}
	return n
}

// MaxQueued bounds the queued calls that are counted.
const MaxQueued = 10_000

const (
	// manyQueued calls are more than pg_net's worker has in hand at once.
	manyQueued = 1000
	// longQueued is longer than a worker that runs lets a call wait behind no
	// others: a batch whose receiver answers after pg_net's own timeout of 5
	// seconds, and then some. It takes queuePace calls a second.
	longQueued = 15 * time.Second
	queuePace  = 200
)

// Known returns how many calls have a fate.
func (d Deliveries) Known() (n int64) {
	for fate, calls := range d.Calls {
		if fate != FateWaiting {
			n += calls
		}
	}
	return n
}

// Complaint is one thing that is wrong with webhooks.
type Complaint struct {
	Kind string `json:"kind"`    // does not change while the thing lasts: a [Fate], worker, queue or statements
	What string `json:"finding"` // a sentence without its end, which names no user
	Why  string `json:"example"` // an example in the words of pg_net or PostgreSQL; not for strangers
	Fix  string `json:"fix"`
	// Now: it is so at this moment, or was with the newest call.
	Now bool `json:"-"`
}

// ToStrangers returns the sentence that /readyz may say of it.
func (c Complaint) ToStrangers() string { return c.What + ". Fix: " + c.Fix + "." }

// The kinds of a [Complaint] that are no fates.
const (
	ComplaintWorker     = "worker"
	ComplaintQueue      = "queue"
	ComplaintStatements = "statements"
)

// Complaints says what is wrong, and nothing where all is well.
func (d Deliveries) Complaints() (all []Complaint) {
	const restart = "select net.worker_restart(); if that does not help, restart the database"
	switch {
	case d.Worker == WorkerDown:
		what := "pg_net's worker does not run: nothing is sent"
		if d.Queued > 0 {
			what += ", and " + d.waits("it")
		}
		all = append(all, Complaint{Kind: ComplaintWorker, What: what, Fix: restart, Now: true})
	case d.Oldest > longQueued+d.Timeout+time.Duration(d.Queued)*time.Second/queuePace, d.Oldest == 0 && d.Queued > manyQueued:
		all = append(all, Complaint{Kind: ComplaintQueue, What: d.waits("pg_net's worker"), Fix: restart})
	}
	if d.Failed > 0 {
		all = append(all, Complaint{
			Kind: ComplaintStatements, What: Quantity(d.Failed, "statement was committed without its webhook", "statements were committed without their webhook"), Why: d.FailedWhy,
			Fix: "runcounter doctor says what is missing; the reasons are in run_counter_webhook.failures; " + thenRecover, Now: d.FailedAgo < failedNow,
		})
	}
	for _, fate := range Fates {
		if n := d.Calls[fate]; fate.Lost() && (n > 0 || d.Lost[fate].Calls > 0) {
			all = append(all, d.complaint(fate, n))
		}
	}
	return all
}

func (d Deliveries) waits(whom string) string {
	text := Quantity(d.Queued, "call waits", "calls wait") + " for " + whom
	if d.Queued > MaxQueued {
		text = fmt.Sprintf("more than %d calls wait for %s", MaxQueued, whom)
	}
	if d.Oldest > 0 {
		text += fmt.Sprintf(", the oldest of workflow_runs for %s", d.Oldest.Round(time.Second))
	}
	return text
}

func (d Deliveries) complaint(fate Fate, n int64) Complaint {
	c := Complaint{Kind: string(fate), Why: d.Examples[fate], Fix: fate.Fix(), Now: fate == d.Newest}
	lost := d.Lost[fate]
	if lost.Calls > 0 {
		c.Fix += "; " + thenRecover
	}
	if n == 0 { // all of it is longer ago than this look goes
		c.What = fmt.Sprintf("%s with %s %s, the first %s ago, and nothing has recovered it", Quantity(lost.Calls, "call", "calls"),
			Quantity(lost.Changes, "change", "changes"), fate.What(), roughly(lost.Since))
		c.Now = false
		return c
	}
	c.What = fmt.Sprintf("%d of the last %s%s %s", n, d.Whose(), d.within(), fate.What())
	switch {
	case fate == FateElsewhere && !d.Own:
		c.Now = false // a webhook of Supabase's may well be meant for another receiver
	case c.Now:
		c.What += ", the newest among them"
	case d.Newest == FateArrived:
		c.What += ", but the newest arrived"
	}
	if lost.Calls > n {
		c.What += fmt.Sprintf("; with those before, %s with %s", Quantity(lost.Calls, "call", "calls"), Quantity(lost.Changes, "change", "changes"))
	}
	return c
}

// thenRecover is the last part of a fix: what ends the naming of a loss.
const thenRecover = "then tell a mirror what it missed: runcounter import --from; or say that nothing is missing: runcounter webhook acknowledge"

// failedNow is the greatest age of the newest statement without its webhook where it is
// still going on.
const failedNow = 15 * time.Minute

func roughly(d time.Duration) string {
	if d >= time.Hour {
		return d.Round(time.Minute).String()
	}
	return d.Round(time.Second).String()
}

// Whose says how many calls have a fate, and of what: 5 calls of workflow_runs.
func (d Deliveries) Whose() string {
	whose := " of workflow_runs"
	if d.AllTables {
		whose = " of all webhooks of this database"
	}
	return Quantity(d.Known(), "call", "calls") + whose
}

func (d Deliveries) within() string {
	if d.Window == 0 {
		return ""
	}
	return fmt.Sprintf(" within %d minutes", int(d.Window.Minutes()))
}
