package server

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/wait"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/problem"
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
	r := serve(t, func(cfg *Config, l *limits, _ *gated) {
		cfg.AdmissionTimeout, l.unverified.Slots, l.known.Slots = 0, 2, 1
	})
	strangers := []net.Conn{forged(t, r), forged(t, r)}
	wait.Until(t, "they have taken all places for the unproven", func() bool { return r.unverified().Slots == 2 })
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
	wait.Until(t, "their places are free again", func() bool { return r.unverified().Slots == 0 })
	if got := r.do("POST", path, body, headers...); got.status != http.StatusOK {
		t.Errorf("signed, afterwards: got %d %s, want 200", got.status, got.body)
	}
}

func TestCaseD5_AProofGivesAPlaceThatNoStrangerCanTake(t *testing.T) {
	r := serve(t, func(cfg *Config, l *limits, _ *gated) {
		cfg.AdmissionTimeout, l.unverified.Slots, l.known.Slots = 0, 2, 2
	})
	for range 2 {
		defer forged(t, r).Close()
	}
	wait.Until(t, "strangers have taken all places for the unproven", func() bool { return r.unverified().Slots == 2 })
	send := func(change func(*http.Request)) reply {
		t.Helper()
		req, err := ownRequest(r.addr, completed(1), "msg_own")
		if err != nil {
			t.Fatal(err)
		}
		change(req)
		res, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readReply(res)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	proof := func(secret, id string, age time.Duration) func(*http.Request) {
		at := time.Now().Add(-age)
		made, err := webhook.Prove(secret, id, at)
		if err != nil {
			t.Fatal(err)
		}
		return func(req *http.Request) { req.Header.Set(proofHeader, made) }
	}
	const another = "whsec_YW5vdGhlciBzZWNyZXQgb2YgdGhlIHJpZ2h0IGxlbmd0aCE="
	both := func(req *http.Request) {
		proof(another, "msg_own", 0)(req)
		first := req.Header.Get(proofHeader)
		proof(signing, "msg_own", 0)(req)
		req.Header.Set(proofHeader, first+" "+req.Header.Get(proofHeader))
	}
	for _, tt := range []struct {
		name   string
		change func(*http.Request)
		status int
	}{
		{"our own webhook", func(*http.Request) {}, 200},
		{"while its secret is rotated: one proof of two is of a secret that is known", both, 200},
		{"without a proof", func(req *http.Request) { req.Header.Del(proofHeader) }, 503},
		{"by another secret", proof(another, "msg_own", 0), 503},
		{"of another delivery", proof(signing, "msg_other", 0), 503},
		{"of another time", proof(signing, "msg_own", time.Minute), 503},
		{"a signature for a proof", func(req *http.Request) { req.Header.Set(proofHeader, req.Header.Get("webhook-signature")) }, 503},
		{"nonsense", func(req *http.Request) { req.Header.Set(proofHeader, "v1,x v2,y") }, 503},
		{"a proof beside a signature of another body", func(req *http.Request) {
			req.Header.Set("webhook-signature", "v1,"+strings.Repeat("A", 43)+"=")
		}, 401},
		{"an hour and a minute old", func(req *http.Request) {
			old := time.Now().Add(-61 * time.Minute)
			req.Header.Set("webhook-timestamp", fmt.Sprint(old.Unix()))
			proof(signing, "msg_own", 61*time.Minute)(req)
		}, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := send(tt.change); got.status != tt.status {
				t.Errorf("got %d %s, want %d", got.status, got.body, tt.status)
			}
		})
	}
	t.Run("one proof gives one place at a time", func(t *testing.T) {
		req, err := ownRequest(r.addr, completed(2), "msg_leaked")
		if err != nil {
			t.Fatal(err)
		}
		var head strings.Builder
		fmt.Fprintf(&head, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n", path)
		for name, values := range req.Header {
			fmt.Fprintf(&head, "%s: %s\r\n", name, values[0])
		}
		var found []net.Conn
		for range 5 {
			c := r.dial()
			defer c.Close()
			found = append(found, c)
			if _, err := c.Write([]byte(head.String() + "\r\n[")); err != nil {
				t.Fatal(err)
			}
		}
		refused := make(chan error, len(found))
		for _, c := range found {
			go func() {
				answer, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err == nil {
					err = answer.Body.Close()
				}
				refused <- err
			}()
		}
		for range 4 { // there is no place left for the unproven
			wait.For(t, "a refusal", refused)
		}
		if n := r.known().Slots; n != 1 {
			t.Errorf("five times the same proof has %d places, want 1", n)
		}
		if got := send(func(*http.Request) {}); got.status != 200 {
			t.Errorf("our own webhook meanwhile: got %d %s, want 200", got.status, got.body)
		}
		for _, c := range found {
			c.Close()
		}
		wait.For(t, "the end of the last", refused)
		wait.Until(t, "its place is free again", func() bool { return r.known().Slots == 0 })
	})
}

func TestADeliveryThatWouldTakeTooMuchMemoryIsRefused(t *testing.T) {
	details := `"` + strings.Repeat("x", columnBytes-2) + `"`
	one := changeOf("INSERT", columns(`,"error_details":`+details), "null")
	many := "[" + strings.Repeat(one+",", 16<<20/columnBytes) + one + "]"
	_, err := webhook.Decoder{Schema: "public", Table: "workflow_runs"}.Decode(strings.NewReader(many))
	if !errors.Is(err, webhook.ErrTooMuch) {
		t.Errorf("got %v, want ErrTooMuch", err)
	}
	if p := problem.Of(err); p.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("answered %d, want 413", p.Status)
	}
}
