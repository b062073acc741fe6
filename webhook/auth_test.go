package webhook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/edgaze-ai/runcounter/webhook/webhooktest"
)

// The example of https://www.standardwebhooks.com.
const (
	specSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	specID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	specTime      = 1614265330
	specBody      = `{"test": 2432232314}`
	specSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

const (
	aToken     = "correct-horse-battery-staple"
	otherToken = "an-older-token-until-it-is-rotated-out"
)

func whsec(n int) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", n)))
}

func parsedSecrets(t testing.TB, list ...string) Secrets {
	t.Helper()
	s, err := ParseSecrets(strings.Join(list, ","))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// try authenticates a request in the way that the server does.
func (s Secrets) try(body io.Reader, now time.Time, headers ...string) error {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	sig, err := s.check(h.Get, now)
	if err != nil || sig == nil {
		return err
	}
	if _, err := io.Copy(sig, body); err != nil {
		return err
	}
	return sig.verify()
}

// signedHeaders returns the three headers of a signature.
func signedHeaders(t testing.TB, secret, body string, at time.Time) []string {
	t.Helper()
	sig, err := Sign(secret, specID, at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return []string{"webhook-id", specID, "webhook-timestamp", fmt.Sprint(at.Unix()), "webhook-signature", sig}
}

func TestParseSecrets(t *testing.T) {
	key := whsec(32)
	for _, c := range []struct {
		name, list   string
		tokens, keys int
	}{
		{"nothing", "", 0, 0},
		{"blanks", " \n", 0, 0},
		{"a token", aToken, 1, 0},
		{"a token in blanks, as from a file", " " + aToken + "\n", 1, 0},
		{"a key", key, 0, 1},
		{"a key as Supabase shows it", "v1," + key, 0, 1},
		{"a key without padding", strings.TrimRight(key, "="), 0, 1},
		{"the shortest key and the longest", whsec(24) + "," + whsec(64), 0, 2},
		{"all at once", "v1," + key + ", " + aToken + " ,v1, " + key + "," + otherToken, 2, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := ParseSecrets(c.list)
			if err != nil || len(s.tokens) != c.tokens || len(s.keys) != c.keys {
				t.Errorf("got %d tokens, %d keys, %v; want %d, %d", len(s.tokens), len(s.keys), err, c.tokens, c.keys)
			}
			if s.IsZero() != (c.tokens+c.keys == 0) {
				t.Errorf("IsZero is %v", s.IsZero())
			}
		})
	}
}

func TestBadSecretsAreNotRepeated(t *testing.T) {
	for _, c := range []struct{ name, list, want string }{
		{"a comma too many", aToken + ",", "secret 2 of the list is blank: remove the comma too many, or fill it in"},
		{"commas alone", ",,", "secret 1 of the list is blank: remove the comma too many, or fill it in"},
		{"no base64", "whsec_sesame!", "secret 1 of the list: what follows whsec_ is not base64: copy the secret again, whole and without quotes"},
		{"a short key", "v1," + whsec(23), "secret 1 of the list: the key behind whsec_ has 23 bytes, where Standard Webhooks wants 24 to 64: make one with: echo whsec_$(openssl rand -base64 32)"},
		{"a long key behind a token", aToken + "," + whsec(65), "secret 2 of the list: the key behind whsec_ has 65 bytes, where Standard Webhooks wants 24 to 64: make one with: echo whsec_$(openssl rand -base64 32)"},
		{"a line break inside", "open\nsesame", "secret 1 of the list holds a blank, a line break or a control character, which no header brings as it is: make another with: openssl rand -hex 32"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := ParseSecrets(c.list)
			if err == nil || err.Error() != c.want || !s.IsZero() {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestCaseD18_ASecretThatWasCopiedWithMoreIsRefused(t *testing.T) {
	const good = "0123456789abcdef"
	for _, c := range []struct{ name, list, want string }{
		{"double quotes around it", `"` + good + `"`, "1 of the list has a quotation mark around it"},
		{"single quotes around it", "'" + good + "'", "1 of the list has a quotation mark around it"},
		{"a quote of which the other was lost", good + `"`, "1 of the list has a quotation mark around it"},
		{"quotes around the list", `"` + good + "," + good + `"`, "1 of the list has a quotation mark around it"},
		{"Bearer before it", "Bearer " + good, "1 of the list begins with Bearer"},
		{"bearer before the second", good + ",bearer " + good, "2 of the list begins with Bearer"},
		{"Bearer alone", "Bearer", "1 of the list begins with Bearer"},
		{"a blank inside", "two words of a secret", "1 of the list holds a blank"},
		{"a line break inside", good + "\n" + good, "1 of the list holds a blank"},
		{"15 characters", good[:15], "1 of the list has 15 characters, which could be guessed, where it needs 16"},
		{"a comma inside, with two letters behind it", good + ",ab", "2 of the list has 2 characters, which could be guessed, where it needs 16"},
		{"v1 by itself", "v1", "1 of the list has 2 characters"},
		{"nothing between two commas", good + ",," + good, "2 of the list is blank"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseSecrets(c.list)
			if err == nil || !strings.HasPrefix(err.Error(), "secret "+c.want) || strings.Contains(err.Error(), good[:15]) {
				t.Errorf("as a secret: got %v, want secret %s, and nothing of the secret", err, c.want)
			}
			if _, err = ParseAPIKeys(c.list); err == nil || !strings.HasPrefix(err.Error(), "key "+c.want) || strings.Contains(err.Error(), good[:15]) {
				t.Errorf("as an API key: got %v, want key %s, and nothing of the key", err, c.want)
			}
		})
	}
	t.Run("a list while one replaces another stays what it is", func(t *testing.T) {
		s, err := ParseSecrets(good + ", " + whsec(32) + "\n")
		keys, err2 := ParseAPIKeys(" " + good + ",f" + good + " ")
		if err != nil || err2 != nil || len(s.tokens) != 1 || len(s.keys) != 1 || len(keys) != 2 || keys[0] != good {
			t.Errorf("got %d tokens, %d keys, %q, %v, %v", len(s.tokens), len(s.keys), keys, err, err2)
		}
		if keys, err := ParseAPIKeys(" "); err != nil || keys != nil {
			t.Errorf("no keys: got %q, %v", keys, err)
		}
	})
	t.Run("a key that can be guessed is refused", func(t *testing.T) {
		_, err := NewAPIKeys("short")
		if err == nil || !strings.Contains(err.Error(), "API key 1 has 5 characters") {
			t.Errorf("got %v", err)
		}
	})
}

func TestSignHasTheKnownAnswer(t *testing.T) {
	for _, secret := range []string{specSecret, "v1," + specSecret, " " + specSecret + "\n"} {
		got, err := Sign(secret, specID, time.Unix(specTime, 999), []byte(specBody))
		if err != nil || got != specSignature {
			t.Errorf("got %s, %v; want %s", got, err, specSignature)
		}
	}
	for _, secret := range []string{"", aToken, "whsec_", "whsec_%%%"} {
		if got, err := Sign(secret, specID, time.Unix(specTime, 0), []byte(specBody)); err == nil {
			t.Errorf("%q signed: %s", secret, got)
		}
	}
}

// TestASenderIsLetInByTheFirstSecret: what Authenticate sets, the receiver takes.
func TestASenderIsLetInByTheFirstSecret(t *testing.T) {
	now := time.Unix(specTime, 0)
	for _, list := range []string{specSecret, "v1," + specSecret + "," + otherToken, aToken, " " + aToken + " ," + otherToken} {
		secret, header := FirstSecret(list), http.Header{}
		if err := Authenticate(header, secret, []byte(specBody), now); err != nil {
			t.Errorf("%q: %v", list, err)
		}
		var headers []string
		for name := range header {
			headers = append(headers, name, header.Get(name))
		}
		secrets := parsedSecrets(t, secret)
		if err := secrets.try(strings.NewReader(specBody), now, headers...); err != nil {
			t.Errorf("%q: %v", list, err)
		}
		if isKey(secret) && !secrets.proves(header.Get, now) {
			t.Errorf("%q: the headers don't prove that the sender has it", list)
		}
	}
	header := http.Header{}
	if err := Authenticate(header, "", nil, now); err != nil || len(header) > 0 {
		t.Errorf("without a secret: got %v, %v; want no header", header, err)
	}
	if err := Authenticate(header, "whsec_short", nil, now); err == nil || len(header) > 0 {
		t.Errorf("with a secret that is no key: got %v, %v; want an error and no header", header, err)
	}
}

func TestWhoIsLetIn(t *testing.T) {
	now := time.Unix(specTime, 0)
	both := parsedSecrets(t, aToken, specSecret, otherToken, whsec(32))
	signed := []string{"webhook-id", specID, "webhook-timestamp", fmt.Sprint(specTime), "webhook-signature", specSignature}
	signedAs := func(header, value string) []string {
		h := slices.Clone(signed)
		h[slices.Index(h, header)+1] = value
		return h
	}
	for _, c := range []struct {
		name    string
		headers []string
	}{
		{"a bearer", []string{"Authorization", "Bearer " + aToken}},
		{"a bearer in small letters", []string{"authorization", "bearer  " + aToken + " "}},
		{"another token, during rotation", []string{"Authorization", "Bearer " + otherToken}},
		{"the header of its own", []string{"x-webhook-secret", aToken}},
		{"the header of its own beside a wrong bearer", []string{"x-webhook-secret", aToken, "Authorization", "Bearer x"}},
		{"the header of its own beside another scheme", []string{"x-webhook-secret", aToken, "Authorization", "Basic eHg6eHg="}},
		{"a signature", signed},
		{"a signature beside a wrong token", append(slices.Clone(signed), "Authorization", "Bearer x")},
		{"a wrong signature beside a token", append(signedAs("webhook-signature", "v1,AAAA"), "Authorization", "Bearer "+aToken)},
		{"an expired signature beside a token", append(signedAs("webhook-timestamp", "1"), "x-webhook-secret", aToken)},
		{"several signatures", signedAs("webhook-signature", "v1a,AAAA v1,"+base64.StdEncoding.EncodeToString(make([]byte, 32))+"  v2,x "+specSignature)},
		{"a signature by another key", signedHeaders(t, whsec(32), specBody, now)},
		{"a signature of an hour ago", signedHeaders(t, specSecret, specBody, now.Add(-oldest))},
		{"a signature five minutes ahead", signedHeaders(t, specSecret, specBody, now.Add(newest))},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := both.try(strings.NewReader(specBody), now, c.headers...); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhoIsNot(t *testing.T) {
	now := time.Unix(specTime, 0)
	tokens, keys := parsedSecrets(t, aToken), parsedSecrets(t, specSecret)
	both := parsedSecrets(t, aToken, specSecret)
	signed := func(header, value string) []string {
		h := []string{"webhook-id", specID, "webhook-timestamp", fmt.Sprint(specTime), "webhook-signature", specSignature}
		if header != "" {
			h[slices.Index(h, header)+1] = value
		}
		return h
	}
	const (
		noSecret = `the request brings no secret: add the header "Authorization: Bearer <secret>" or "x-webhook-secret: <secret>" to the webhook, or sign it as Standard Webhooks has it`
		wrong    = "the token sent is none of those configured here: compare the webhook's header with RUNCOUNTER_WEBHOOK_SECRET"
		misfit   = "the signature does not fit this body: sign the raw bytes of the body as they are sent, with a secret that is configured here"
		past     = "webhook-timestamp is more than an hour in the past: sign the request anew, and check the sender's clock"
		future   = "webhook-timestamp is more than five minutes in the future: check the sender's clock; seconds are meant, not milliseconds"
		noNumber = "the header webhook-timestamp is not a whole number: send the time of signing in seconds since 1970"
		noV1     = "the header webhook-signature holds no signature of version 1: send v1,<base64 of HMAC-SHA256>, several separated by spaces"
	)
	for _, c := range []struct {
		name    string
		secrets Secrets
		headers []string
		want    string
	}{
		{"anybody, where nothing is configured", Secrets{}, []string{"x-webhook-secret", ""}, "no secret is configured here, so no sender can be let in: set RUNCOUNTER_WEBHOOK_SECRET"},
		{"no header", both, nil, noSecret},
		{"empty headers", both, []string{"Authorization", "Bearer ", "x-webhook-secret", " "}, noSecret},
		{"a wrong bearer", both, []string{"Authorization", "Bearer " + aToken + "x"}, wrong},
		{"the beginning of a token", both, []string{"x-webhook-secret", aToken[:len(aToken)-1]}, wrong},
		{"a signing key as a token", both, []string{"x-webhook-secret", specSecret}, wrong},
		{"another scheme", both, []string{"Authorization", "Basic " + aToken}, `the header Authorization has another scheme than Bearer: send "Authorization: Bearer <secret>"`},
		{"a signature, where only a token is configured", tokens, signed("", ""), "the request is signed, but no signing key is configured here: add the webhook's whsec_ secret to RUNCOUNTER_WEBHOOK_SECRET"},
		{"a token, where only a key is configured", keys, []string{"x-webhook-secret", aToken}, wrong},
		{"no id", keys, signed("webhook-id", ""), "the header webhook-id is missing: a signature covers id, timestamp and body, so all three must be sent"},
		{"no timestamp", keys, signed("webhook-timestamp", ""), "the header webhook-timestamp is missing: send the time of signing in seconds since 1970"},
		{"no signature beside them", keys, signed("webhook-signature", ""), "the header webhook-signature is missing beside webhook-id and webhook-timestamp: send v1,<base64> in it"},
		{"a timestamp in words", keys, signed("webhook-timestamp", "now"), noNumber},
		{"a timestamp with a fraction", keys, signed("webhook-timestamp", "1614265330.5"), noNumber},
		{"a timestamp beyond 64 bits", keys, signed("webhook-timestamp", "99999999999999999999"), noNumber},
		{"a timestamp too old", keys, signedHeaders(t, specSecret, specBody, now.Add(-oldest-time.Second)), past},
		{"the oldest timestamp", keys, signed("webhook-timestamp", "-9223372036854775808"), past},
		{"a timestamp too new", keys, signedHeaders(t, specSecret, specBody, now.Add(newest+time.Second)), future},
		{"a timestamp in milliseconds", keys, signed("webhook-timestamp", "1614265330000"), future},
		{"another version", keys, signed("webhook-signature", "v1a,"+specSignature[3:]), noV1},
		{"a signature without a version", keys, signed("webhook-signature", specSignature[3:]), noV1},
		{"a signature cut off", keys, signed("webhook-signature", specSignature[:20]), noV1},
		{"another signature", keys, signed("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(make([]byte, 32))), misfit},
		{"another id", keys, signed("webhook-id", "msg_2"), misfit},
		{"another time", keys, signed("webhook-timestamp", fmt.Sprint(specTime+1)), misfit},
		{"another key", parsedSecrets(t, whsec(32)), signed("", ""), misfit},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.secrets.try(strings.NewReader(specBody), now, c.headers...)
			refused, ok := errors.AsType[*Unauthenticated](err)
			if !ok || refused.Reason != c.want {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
	t.Run("another body", func(t *testing.T) {
		for _, body := range []string{"", specBody + " ", strings.Replace(specBody, "4", "5", 1)} {
			if err := keys.try(strings.NewReader(body), now, signed("", "")...); err == nil || err.Error() != misfit {
				t.Errorf("%q: got %v", body, err)
			}
		}
	})
}

func TestSignaturesOfBodiesInPieces(t *testing.T) {
	now, s := time.Unix(specTime, 0), parsedSecrets(t, whsec(24), specSecret)
	for _, body := range []string{"", specBody, `{"u": "Zoë 漢字 🚀"}`, "\xff\x00\xfe", strings.Repeat("漢", 10_000)} {
		headers := signedHeaders(t, specSecret, body, now)
		for name, r := range map[string]io.Reader{
			"whole": strings.NewReader(body), "byte by byte": iotest.OneByteReader(strings.NewReader(body)),
			"in pieces of 7": &webhooktest.Chunked{Text: body, N: 7}, "in halves": iotest.HalfReader(strings.NewReader(body)),
		} {
			if err := s.try(struct{ io.Reader }{r}, now, headers...); err != nil {
				t.Errorf("%.20q %s: %v", body, name, err)
			}
		}
	}
}

func TestTheCapturedSignatureIsThatOfAnotherSecret(t *testing.T) {
	body := webhooktest.Captures(t)["024-signed-custom-insert-x.json"]
	err := parsedSecrets(t, specSecret).try(strings.NewReader(string(body)), time.Unix(1795379697, 0),
		"webhook-id", "msg_e99d269e-b4cf-43e8-9715-740704370355", "webhook-timestamp", "1795379697",
		"webhook-signature", "v1,kCBDkSIr41RoRGj0Br5vEVCyE608e0iuBR8mD28IyIg=")
	if _, ok := errors.AsType[*Unauthenticated](err); !ok {
		t.Errorf("got %v", err)
	}
}

// FuzzSecrets holds that whatever a list holds, a request without a secret is a
// stranger, and each token and key of the list is let in.
func FuzzSecrets(f *testing.F) {
	f.Add(aToken+",v1,"+specSecret, "Bearer "+aToken, specID, fmt.Sprint(specTime), specSignature, specBody)
	f.Add("v1,whsec_,", "Bearer", "", "-1", "v1, v1a,", "")
	f.Add(whsec(24)+", "+whsec(64), "Basic", "a.b", "+1614265330", "v1,"+strings.Repeat("A", 43)+"=", "\x00")
	f.Fuzz(func(t *testing.T, list, authorization, id, timestamp, sig, body string) {
		now := time.Unix(specTime, 0)
		s, err := ParseSecrets(list)
		if err != nil {
			if !s.IsZero() {
				t.Error("a list that is refused gives secrets all the same")
			}
			return
		}
		if err := s.try(strings.NewReader(body), now); err == nil {
			t.Error("a request without any secret was let in")
		}
		err = s.try(strings.NewReader(body), now, "Authorization", authorization,
			"webhook-id", id, "webhook-timestamp", timestamp, "webhook-signature", sig)
		if err == nil && s.IsZero() {
			t.Error("a stranger was let in where nothing is configured")
		}
		if _, ok := errors.AsType[*Unauthenticated](err); err != nil && !ok {
			t.Errorf("got %v", err)
		}
		for _, element := range strings.Split(list, ",") {
			headers := []string{"x-webhook-secret", element}
			if isKey(strings.TrimSpace(element)) {
				headers = signedHeaders(t, element, body, now)
			} else if strings.TrimSpace(element) == "v1" || strings.TrimSpace(element) == "" {
				continue
			}
			if err := s.try(strings.NewReader(body), now, headers...); err != nil {
				t.Errorf("%q of %q: %v", element, list, err)
			}
		}
	})
}
