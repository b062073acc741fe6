package doctor

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/store/doctor/report"
	"github.com/edgaze-ai/runcounter/store/postgres"
	"github.com/edgaze-ai/runcounter/store/sqlite"
)

func TestAConnectionIsAsSafeAsItsPathAndItsCertificate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		link   postgres.Link
		status report.Status
		want   string
	}{
		{postgres.Link{TLS: postgres.Plain}, report.Failure, "read and change everything"},
		{postgres.Link{TLS: postgres.Plain, Private: true}, report.Warning, "on the private network can read"},
		{postgres.Link{TLS: postgres.Plain, Local: true, Private: true}, report.OK, "stays on this machine"},
		{postgres.Link{TLS: postgres.Encrypted}, report.Warning, "the certificate is not checked, so the server may not be yours"},
		{postgres.Link{TLS: postgres.Encrypted, Private: true}, report.OK, "require"},
		{postgres.Link{TLS: postgres.KnownIssuer}, report.Warning, "not whose it is"},
		{postgres.Link{TLS: postgres.FullyVerified}, report.OK, "verify-full"},
	} {
		if got := tlsFinding(tt.link); got.Status != tt.status || !strings.Contains(got.Text, tt.want) || (got.Fix == "") != (got.Status == report.OK) {
			t.Errorf("%+v: got %+v, want %s and %q", tt.link, got, tt.status, tt.want)
		}
	}
}

func TestADatabaseThatIsNotReachedHasAFixForItsHost(t *testing.T) {
	t.Parallel()
	v4, v6 := net.IPAddr{IP: net.IPv4(192, 0, 2, 1)}, net.IPAddr{IP: net.ParseIP("2001:db8::1")}
	for name, tt := range map[string]struct {
		addresses []net.IPAddr
		want      string
	}{
		"IPv6 alone": {[]net.IPAddr{v6}, "session pooler"},
		"no address": {nil, "session pooler"},
		"IPv4 too":   {[]net.IPAddr{v6, v4}, "paused"},
	} {
		if got := directFix(tt.addresses); !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
	if !directHost.MatchString("db.abcdefghijklmnopqrst.supabase.co") || directHost.MatchString("aws-0-eu-central-1.pooler.supabase.com") {
		t.Error("which host is a direct one is told wrongly")
	}
	login := unreachable(t.Context(), postgres.Target{Host: "aws-0-eu.pooler.supabase.com", User: "postgres"}, postgres.ErrLogin)
	if !strings.Contains(login.Fix, "postgres.PROJECT") {
		t.Errorf("a pooler's user: got %+v", login)
	}
}

func TestAServerIsOldOrReadOnlyOrPooled(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		link postgres.Link
		want string
	}{
		"an old server": {postgres.Link{Number: 140011, Version: "14.11"}, "needs 15 or later"},
		"a standby":     {postgres.Link{Number: 150000, Standby: true}, "can't be written"},
	} {
		if got := linkFindings(tt.link)[0]; got.Status != report.Failure || !strings.Contains(got.Text, tt.want) {
			t.Errorf("%s: got %+v, want %q", name, got, tt.want)
		}
	}
	pooled := linkFindings(postgres.Link{Target: postgres.Target{Port: 6543}, Number: 150000})
	if got := pooled[len(pooled)-1]; got.Status != report.OK || !strings.Contains(got.Text, "transaction mode") {
		t.Errorf("port 6543: got %+v", got)
	}
}

// What takes too much to be made: a log of gigabytes, a newer program, a role
// that is blind where pg_net is.
func TestRareFacts(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		got    report.Finding
		status report.Status
		want   string
	}{
		"a long write-ahead log":   {walFinding(sqlite.File{JournalMode: "wal", WAL: 300 << 20}), report.Warning, "has 300 MiB"},
		"another journal":          {walFinding(sqlite.File{JournalMode: "delete"}), report.Failure, "delete instead of wal"},
		"a newer mirror":           {migrationsFinding(3, 2, false, "up"), report.Failure, "made by a newer program"},
		"an interrupted migration": {migrationsFinding(2, 2, true, "up"), report.Failure, "was interrupted"},
		"nothing received":         {changesFinding(time.Time{}, 0), report.Warning, "none was ever received"},
		"a blind role":             {deliveryFindings(postgres.Deliveries{Deliveries: store.Deliveries{Watched: true}, Net: true, Blind: true})[0], report.Warning, "whether pg_net's worker runs"},
		"no pg_net":                {deliveryFindings(postgres.Deliveries{})[0], report.OK, "no pg_net"},
		"nothing to send one":      {webhookFindings(nil, nil, postgres.WebhookState{})[0], report.OK, "no pg_net to send one"},
	} {
		if tt.got.Status != tt.status || !strings.Contains(tt.got.Text, tt.want) || (tt.got.Fix == "") != (tt.status == report.OK) {
			t.Errorf("%s: got %+v, want %s and %q", name, tt.got, tt.status, tt.want)
		}
	}
}

// A role that may not look into Vault, a rotation that an operator forgot, and a
// URL that holds a token.
func TestRareFactsOfOurWebhook(t *testing.T) {
	t.Parallel()
	base := postgres.WebhookState{Installed: true, Enabled: true, Net: true, Vault: true, Secret: true, Table: "t", URL: "https://counter.example/?token=hunter2", Timeout: 5 * time.Second}
	vary := func(change func(w *postgres.WebhookState)) report.Finding {
		w := base
		change(&w)
		return ourWebhookFindings(w)[0]
	}
	for name, tt := range map[string]struct {
		got    report.Finding
		status report.Status
		want   string
	}{
		"a token in the URL":   {vary(func(*postgres.WebhookState) {}), report.OK, "to https://counter.example/?... within 5s"},
		"a blind role":         {vary(func(w *postgres.WebhookState) { w.Unseen, w.Secret = true, false }), report.Warning, "may not see whether the secret"},
		"no Vault":             {vary(func(w *postgres.WebhookState) { w.Vault, w.Secret = false, false }), report.Failure, "is not in Vault"},
		"a forgotten rotation": {vary(func(w *postgres.WebhookState) { w.Rotating, w.RotatingFor = true, 72*time.Hour }), report.Warning, "began 3 days ago and was not finished"},
		"half of a rotation":   {vary(func(w *postgres.WebhookState) { w.Rotating, w.Secret = true, false }), report.Failure, "signed by the second alone"},
		"a rotation under way": {vary(func(w *postgres.WebhookState) { w.Rotating, w.RotatingFor = true, time.Hour }), report.OK, "began 60 minutes ago, and both are in force"},
		"a trigger of replicas": {vary(func(w *postgres.WebhookState) {
			w.Triggers = []postgres.WebhookTrigger{{Name: "x", Event: "update", Enabled: "R"}}
		}), report.Warning, "x is disabled"},
	} {
		if tt.got.Status != tt.status || !strings.Contains(tt.got.Text, tt.want) || (tt.got.Fix == "") != (tt.status == report.OK) || strings.Contains(tt.got.Text, "hunter2") {
			t.Errorf("%s: got %+v, want %s and %q", name, tt.got, tt.status, tt.want)
		}
	}
}
