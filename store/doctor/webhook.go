package doctor

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/store/postgres"
)

const (
	// freshFailure is the greatest age of the newest statement without its webhook
	// where it is still going on.
	freshFailure = time.Hour
	// longRotation is the time for which two secrets may be in force before an operator has
	// forgotten the second step.
	longRotation = 24 * time.Hour

	installAgain = "runcounter webhook install --url URL, with the same URL: it makes what is missing and keeps the secret"
)

// webhookFindings judges what tells of changes: a webhook of our own, Supabase's,
// or both, which does no harm.
func webhookFindings(all []postgres.Trigger, extensions []postgres.Extension, own postgres.WebhookState) (found []report.Finding) {
	var names []string
	events := map[string]bool{}
	for _, t := range all {
		switch {
		case !t.Sends || strings.HasPrefix(t.Table, "run_counter.") || t.Function == "run_counter_webhook.notify":
		case t.Enabled == "D" || t.Enabled == "R":
			found = append(found, warn("alter table "+t.Table+" enable trigger "+quoted(t.Name), "%s is disabled: repairs wait for the sweep", t.Name))
		default:
			names = append(names, t.Name)
			for event, on := range map[string]bool{"INSERT": t.Insert, "UPDATE": t.Update, "DELETE": t.Delete} {
				events[event] = events[event] || on
			}
		}
	}
	if own.Installed {
		found = append(found, ourWebhookFindings(own)...)
		if len(names) > 0 {
			found = append(found, passed("%s beside it: what both tell of is counted once", few(names)))
		}
		return found
	}
	if len(names) == 0 && len(found) == 0 {
		for _, e := range extensions {
			if e.Name == "pg_net" && (e.Installed != "" || e.Available != "") {
				return []report.Finding{warn("runcounter webhook install --url https://HOST, or Database → Webhooks in Supabase's dashboard: on workflow_runs, POST to https://HOST/webhooks/workflow-runs",
					"none on workflow_runs: counts are exact without it, but repairs wait for the sweep")}
			}
		}
		return []report.Finding{passed("none, and no pg_net to send one: repairs wait for the sweep")}
	}
	if len(names) > 0 && !events["UPDATE"] {
		found = append(found, warn("let the webhook fire for UPDATE too", "%s does not tell of updates, which is how runs end", few(names)))
	}
	return orOK(found, "%s", few(names))
}

// ourWebhookFindings judges a webhook of our own that is installed.
func ourWebhookFindings(w postgres.WebhookState) (found []report.Finding) {
	switch {
	case w.TableGone:
		found = append(found, fail(installAgain, "its table %s is gone", w.Table))
	case len(w.Gone) > 0:
		found = append(found, fail(installAgain+". Then it sends what is left",
			"%s has no column %s any more, so that statements are committed without their webhook", w.Table, few(w.Gone)))
	}
	for _, t := range w.Triggers {
		switch {
		case w.TableGone || t.Enabled == "O" || t.Enabled == "A":
		case t.Enabled == "":
			found = append(found, fail(installAgain, "%s on %s is missing: no %s is told", t.Name, w.Table, t.Event))
		default:
			found = append(found, warn("alter table "+w.Table+" enable trigger "+t.Name, "%s is disabled: no %s is told", t.Name, t.Event))
		}
	}
	if len(w.Unheard) > 0 {
		found = append(found, warn(installAgain+". The role has to own the partition or have TRIGGER on it",
			"no statement that names one of these partitions itself is told, since they came after it: %s", few(w.Unheard)))
	}
	if !w.Enabled {
		found = append(found, warn("update run_counter_webhook.settings set enabled = true", "it is switched off in run_counter_webhook.settings: nothing is told"))
	}
	if !w.Net {
		found = append(found, fail("enable pg_net under Database, Extensions in Supabase's dashboard", "pg_net is gone, which sends it"))
	}
	found = append(found, vaultFindings(w)...)
	if w.Failures > 0 {
		finding := fmt.Sprintf("%s committed without their webhook, the newest %s ago: %s",
			store.Quantity(w.Failures, "statement was", "statements were"), roughly(w.FailedAgo), w.FailedWhy)
		const fix = "read the newest: select * from run_counter_webhook.failures order by seq desc limit 10; a source's sweep reads the table, so it loses nothing; a mirror is told by runcounter import; where nothing is missing, runcounter webhook acknowledge"
		if w.FailedAgo < freshFailure {
			found = append(found, fail(fix, "%s", finding))
		} else {
			found = append(found, warn(fix, "%s", finding))
		}
	}
	return orOK(found, "signed, of %s, to %s within %s%s", w.Table, withoutQuery(w.URL), w.Timeout, rotating(w))
}

func vaultFindings(w postgres.WebhookState) (found []report.Finding) {
	switch {
	case w.Vault && w.Unseen:
		return []report.Finding{warn("connect as the owner of workflow_runs, on Supabase postgres", "not checked: the role may not see whether the secret is in Vault")}
	case w.Sealed != "":
		found = append(found, fail("runcounter webhook rotate, which makes another for the receiver's RUNCOUNTER_WEBHOOK_SECRET; then runcounter webhook rotate --finish",
			"Vault can't decrypt the secret (%s), as after a restore into another project: nothing can be signed, and nothing is sent", w.Sealed))
	case !w.Secret && w.Rotating:
		found = append(found, fail("runcounter webhook rotate --finish", "the first secret, run_counter_webhook, is gone from Vault in the middle of a rotation: requests are signed by the second alone"))
	case !w.Secret:
		found = append(found, fail("runcounter webhook install --url URL, with the same URL: it makes another, for the receiver's RUNCOUNTER_WEBHOOK_SECRET",
			"the secret run_counter_webhook is not in Vault: nothing can be signed, and nothing is sent"))
	}
	if w.Rotating && w.RotatingFor > longRotation {
		found = append(found, warn("runcounter webhook rotate --finish, once the receiver has the second secret; or --cancel",
			"a rotation of the secret began %s ago and was not finished", roughly(w.RotatingFor)))
	}
	return found
}

func rotating(w postgres.WebhookState) string {
	if !w.Rotating {
		return ""
	}
	return fmt.Sprintf("; a rotation of the secret began %s ago, and both are in force", roughly(w.RotatingFor))
}

// withoutQuery leaves out where people put tokens.
func withoutQuery(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		before, _, _ := strings.Cut(address, "?")
		return before
	}
	if u.RawQuery != "" {
		u.RawQuery = "..."
	}
	return u.String()
}
