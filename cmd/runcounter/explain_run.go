package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook/api"
)

type runJSON struct {
	ID store.ID `json:"run_id"`
	keyJSON
	Status      store.Status `json:"status"`
	CreatedAt   api.Instant  `json:"created_at"`
	StartedAt   api.Instant  `json:"started_at"`
	UpdatedAt   api.Instant  `json:"updated_at"`
	CompletedAt api.Instant  `json:"completed_at"`
	Duration    store.Millis `json:"duration_ms"`
	Presumed    bool         `json:"presumed"`
	Counted     bool         `json:"counted"`
	Verdict     string       `json:"verdict"`
}

func runJSONOf(r store.Run, p store.Policy) runJSON {
	return runJSON{
		r.ID, keyJSON{r.User, r.Workflow, r.Draft}, r.Status, api.Instant(r.CreatedAt), api.Instant(r.StartedAt), api.Instant(r.UpdatedAt),
		api.Instant(r.CompletedAt), r.DurationMS, r.Presumed, r.Counted, r.Verdict(p),
	}
}

type repairLogJSON struct {
	Reason      store.Reason `json:"reason"`
	Times       int          `json:"times"`
	First       api.Instant  `json:"first_at"`
	Last        api.Instant  `json:"last_at"`
	Was         store.Status `json:"was"`
	Status      store.Status `json:"status"`
	CompletedAt api.Instant  `json:"completed_at"`
}

type amendmentLogJSON struct {
	At             api.Instant  `json:"at"`
	Who            string       `json:"who"`
	Why            string       `json:"why"`
	Was            store.Status `json:"was"`
	WasCompletedAt api.Instant  `json:"was_completed_at"`
	Status         store.Status `json:"status"`
}

func explainRun(ctx context.Context, cmd *cli.Command, db backend, id store.ID) error {
	h, err := db.History(ctx, id)
	if err != nil {
		return err
	}
	if !h.Found && h.DeletedAt.IsZero() && len(h.Repairs)+len(h.Amendments) == 0 {
		return failed(fmt.Errorf("run %s: %w; was it deleted, or is this another database?", id.Shown(), store.ErrNotFound))
	}
	if !cmd.Bool("json") {
		_, err := io.WriteString(cmd.Root().Writer, runText(id, h))
		return err
	}
	out := struct {
		Found      bool               `json:"found"`
		DeletedAt  api.Instant        `json:"deleted_at"`
		Policy     string             `json:"policy"`
		Run        *runJSON           `json:"run"`
		Count      *api.Count         `json:"count"`
		Repairs    []repairLogJSON    `json:"repairs"`
		Amendments []amendmentLogJSON `json:"amendments"`
	}{Found: h.Found, DeletedAt: api.Instant(h.DeletedAt), Policy: h.Policy.String(), Repairs: []repairLogJSON{}, Amendments: []amendmentLogJSON{}}
	if h.Found {
		run, count := runJSONOf(h.Run, h.Policy), api.CountOf(h.Count)
		out.Run = &run
		if !h.Count.Key.IsZero() {
			out.Count = &count
		}
	}
	for _, l := range h.Repairs {
		out.Repairs = append(out.Repairs, repairLogJSON{l.Reason, l.Times, api.Instant(l.First), api.Instant(l.Last), l.Was, l.Status, api.Instant(l.CompletedAt)})
	}
	for _, l := range h.Amendments {
		out.Amendments = append(out.Amendments, amendmentLogJSON{api.Instant(l.At), l.Who, l.Why, l.Was, api.Instant(l.WasCompletedAt), l.Status})
	}
	return printJSON(cmd.Root().Writer, out)
}

// runText is a run's history for a person.
func runText(id store.ID, h store.History) string {
	var b strings.Builder
	switch {
	case h.Found:
		fmt.Fprintf(&b, "Run %s of %s\n%s\n\n", id.Shown(), h.Run.Key(), h.Run.Verdict(h.Policy))
	case !h.DeletedAt.IsZero():
		fmt.Fprintf(&b, "Run %s was deleted, which was heard of at %s.\nNot counted: nothing brings a deleted run back.\n\n", id.Shown(), api.Instant(h.DeletedAt))
	default:
		fmt.Fprintf(&b, "Run %s is not there any more: it was deleted.\nNot counted.\n\n", id.Shown())
	}
	r := h.Run
	for _, e := range []struct {
		at   api.Instant
		what string
	}{
		{api.Instant(r.CreatedAt), "created"},
		{api.Instant(r.StartedAt), "started"},
		{api.Instant(r.UpdatedAt), "last written, as updated_at says"},
		{api.Instant(r.LeaseAt), "last sign of life in the lease column"},
		{api.Instant(r.CompletedAt), "ended " + string(r.Status) + took(r)},
	} {
		if e.at != (api.Instant{}) {
			fmt.Fprintf(&b, "%s  %s\n", e.at, e.what)
		}
	}
	for _, l := range h.Repairs {
		verb := "repaired"
		if l.Reason == store.GaveWay || l.Reason == store.WouldKeep {
			verb = "overwritten"
		}
		fmt.Fprintf(&b, "%s  %s: %s; it was %s and became %s as of %s", api.Instant(l.Last), verb, reasonText(l.Reason), orNull(l.Was), l.Status, api.Instant(l.CompletedAt))
		if l.Times > 1 {
			fmt.Fprintf(&b, " (%d times since %s)", l.Times, api.Instant(l.First))
		}
		b.WriteString("\n")
	}
	for _, l := range h.Amendments {
		fmt.Fprintf(&b, "%s  amended by %s: %s; it was %s and became %s\n", api.Instant(l.At), l.Who, l.Why, orNull(l.Was), l.Status)
	}
	if key := h.Count.Key; !key.IsZero() {
		fmt.Fprintf(&b, "\nThe count that it belongs to is %d. How that comes about:\n  %s\n", h.Count.Count, explainLine(key))
	}
	return b.String()
}

func took(r store.Run) string {
	if !r.DurationMS.Valid {
		return ""
	}
	return fmt.Sprintf(", after %d ms", r.DurationMS.MS)
}

func orNull(s store.Status) string {
	if s == "" {
		return "without a status"
	}
	return string(s)
}

func reasonText(r store.Reason) string {
	if words, ok := reasons[r]; ok {
		return words
	}
	return string(r)
}

func explainLine(key store.Key) string {
	return "runcounter explain " + keyFlags(key)
}
