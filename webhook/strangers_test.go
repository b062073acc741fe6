package webhook

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// forged is the beginning of a request whose signature nobody can verify
// before its end, which never comes.
func forged(t *testing.T, r *rig) net.Conn {
	t.Helper()
	c := r.dial()
	_, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n"+
		"webhook-id: msg_1\r\nwebhook-timestamp: %d\r\nwebhook-signature: v1,%s=\r\n\r\n[", path, time.Now().Unix(), strings.Repeat("A", 43))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestForgedSignaturesTakeNoPlaceOfTokens(t *testing.T) {
	r := serve(t, func(cfg *Config, l *limits, _ *gated) { cfg.Room, l.unproven, l.places = 0, 2, 1 })
	strangers := []net.Conn{forged(t, r), forged(t, r)}
	eventually(t, "they have taken all places for the unproven", func() bool { return len(r.server.unproven) == 2 })
	if a := r.deliver(completed(1)).answer(t); a.Changed != 1 {
		t.Errorf("with a token: got %+v, want one change", a)
	}
	body := completed(2)
	pairs := signedHeaders(t, signing, body, time.Now())
	var headers []string
	for i := 0; i < len(pairs); i += 2 {
		headers = append(headers, pairs[i]+": "+pairs[i+1])
	}
	if got := r.do("POST", path, body, headers...); got.status != http.StatusServiceUnavailable {
		t.Errorf("signed, with no place left: got %d %s, want 503", got.status, got.body)
	}
	for _, c := range strangers {
		c.Close()
	}
	eventually(t, "their places are free again", func() bool { return len(r.server.unproven) == 0 })
	if got := r.do("POST", path, body, headers...); got.status != http.StatusOK {
		t.Errorf("signed, afterwards: got %d %s, want 200", got.status, got.body)
	}
}

func TestADeliveryThatWouldTakeTooMuchMemoryIsRefused(t *testing.T) {
	details := `"` + strings.Repeat("x", maxValue-2) + `"`
	one := changeOf("INSERT", columns(`,"error_details":`+details), "null")
	many := "[" + strings.Repeat(one+",", maxRetained/maxValue) + one + "]"
	_, err := Decoder{Schema: "public", Table: "workflow_runs"}.Decode(strings.NewReader(many))
	if !errors.Is(err, ErrTooMuch) {
		t.Errorf("got %v, want ErrTooMuch", err)
	}
	if p := problemOf(err); p.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("answered %d, want 413", p.Status)
	}
}
