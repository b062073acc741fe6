package server

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// oursHeaders are what our own webhook sends with a body. A negative number of
// losses is told without a proof, as by another sender.
func oursHeaders(t *testing.T, body string, at time.Time, lost int) []string {
	t.Helper()
	pairs := signedHeaders(t, signing, body, at)
	var all []string
	for pair := range slices.Chunk(pairs, 2) {
		all = append(all, pair[0]+": "+pair[1])
	}
	sum := func(message string) string {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(signing, "whsec_"))
		if err != nil {
			t.Fatal(err)
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(message))
		return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	if lost >= 0 {
		all = append(all, "webhook-proof: "+sum("proof."+pairs[1]+"."+pairs[3]))
	}
	if lost > 0 {
		all = append(all, fmt.Sprintf("webhook-lost: %d v1,%s %s", lost, strings.Repeat("A", 43)+"=", sum(fmt.Sprintf("lost.%s.%s.%d", pairs[1], pairs[3], lost))))
	}
	return all
}

func TestCaseD6_AMirrorSaysWhatItWasNotTold(t *testing.T) {
	r := serve(t, func(cfg *Config, _ *limits, _ *gated) { cfg.Mirror = true })
	number := 0
	send := func(headers func(body string) []string) {
		t.Helper()
		number++
		body := completed(number)
		if got := r.do("POST", path, body, headers(body)...); got.status != http.StatusOK {
			t.Fatalf("got %d %s", got.status, got.body)
		}
	}
	want := func(when, sentence, metric string) {
		t.Helper()
		degraded := decodeJSON[struct {
			Ready    bool
			Degraded []string
		}](t, r.api("GET", "/readyz", "").body).Degraded
		if sentence == "" && len(degraded) > 0 || sentence != "" && (len(degraded) != 1 || !strings.HasPrefix(degraded[0], sentence) || !strings.Contains(degraded[0], "runcounter import --from")) {
			t.Errorf("%s: /readyz says %q, want %q", when, degraded, sentence)
		}
		text := string(r.api("GET", "/metrics", "").body)
		if got := strings.Contains(text, "\nruncounter_webhook_unrecovered "+metric+"\n"); got != (metric != "") || metric == "" && strings.Contains(text, "runcounter_webhook_unrecovered") {
			t.Errorf("%s: the metrics lack runcounter_webhook_unrecovered %s", when, metric)
		}
	}
	at := time.Now()
	ours := func(lost int) func(body string) []string {
		at = at.Add(time.Second)
		return func(body string) []string { return oursHeaders(t, body, at, lost) }
	}
	want("nothing was told yet", "", "")
	send(ours(-1))
	want("another sender's call", "", "")
	send(ours(0))
	want("nothing is lost", "", "0")
	send(ours(3))
	want("three are lost", "3 calls and statements were lost on the way here", "3")
	send(func(body string) []string {
		return append(oursHeaders(t, body, at.Add(time.Second), 1), "webhook-lost: 9 v1,"+strings.Repeat("A", 43)+"=")
	})
	want("a number that is not signed says nothing", "3 calls and statements were lost on the way here", "3")
	send(func(string) []string { return []string{"Authorization: Bearer " + token} })
	want("nor does a call of another sender", "3 calls and statements were lost on the way here", "3")
	send(func(body string) []string { return oursHeaders(t, body, at.Add(-time.Minute), 0) })
	want("a call that was overtaken, or is sent again, says nothing new", "3 calls and statements were lost on the way here", "3")
	send(func(body string) []string { return oursHeaders(t, body, at, 0) })
	want("nor does one of the same second without its number", "3 calls and statements were lost on the way here", "3")
	send(ours(1))
	want("one is left", "1 call or statement was lost on the way here", "1")
	send(ours(0))
	want("recovered", "", "0")
}
