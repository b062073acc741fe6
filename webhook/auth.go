package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/edgaze-ai/runcounter/webhook/internal/request"
	"github.com/edgaze-ai/runcounter/webhook/problem"
)

// How far the time of a signature may be from ours. A replay changes nothing,
// however old (law 4), so these keep out clocks that are wrong rather than
// attackers: a change is signed in the transaction that makes it and sent after
// the commit, at 200 requests a second, so behind a long transaction or a burst
// it is old when it comes, and it is not sent again.
const (
	oldest = time.Hour
	newest = 5 * time.Minute // in the future
)

// minToken is the length in bytes below which a token could be guessed: 16
// random characters are beyond that.
const minToken = 16

// The bounds that Standard Webhooks sets to a signing key, in bytes.
const (
	minKey = 24
	maxKey = 64
)

// Secrets authenticate senders: any one of them is enough,
// so that several can be valid while one replaces another. The zero Secrets
// accept no sender.
type Secrets struct {
	tokens [][sha256.Size]byte // hashed, so that all comparisons have one length
	keys   [][]byte
}

// Unauthenticated is the error for a request that none of the secrets vouches
// for.
type Unauthenticated struct {
	Reason string // a sentence for the sender: what was wrong and what to do
}

// Error returns the sentence.
func (u *Unauthenticated) Error() string { return u.Reason }

// Problem says it over HTTP.
func (u *Unauthenticated) Problem() *problem.Problem {
	return problem.New(http.StatusUnauthorized, u.Reason)
}

// ParseSecrets reads a comma-separated list. An element whsec_<base64>, or
// v1,whsec_<base64> as Supabase shows it, is a key that verifies signatures as
// https://www.standardwebhooks.com has them; any other is a token, to be sent
// as "Authorization: Bearer" or "x-webhook-secret". The empty list gives the
// zero Secrets. No error repeats a secret.
func ParseSecrets(list string) (Secrets, error) {
	var s Secrets
	if strings.TrimSpace(list) == "" {
		return s, nil
	}
	elements := strings.Split(list, ",")
	for i, element := range elements {
		element = strings.TrimSpace(element)
		if element == "v1" && i+1 < len(elements) && isKey(strings.TrimSpace(elements[i+1])) {
			continue // this comma belongs to the element
		}
		nth := len(s.tokens) + len(s.keys) + 1
		switch {
		case isKey(element):
			key, err := parseKey(element)
			if err != nil {
				return Secrets{}, fmt.Errorf("secret %d of the list: %w", nth, err)
			}
			s.keys = append(s.keys, key)
		default:
			if err := checkToken(element); err != nil {
				return Secrets{}, fmt.Errorf("secret %d of the list %w", nth, err)
			}
			s.tokens = append(s.tokens, sha256.Sum256([]byte(element)))
		}
	}
	return s, nil
}

// checkToken says what is wrong with a token or a key: mostly it was copied
// with what stands around it, and then no sender could show it, or a comma in
// it has made two of it, of which one may be two letters long.
func checkToken(token string) error {
	switch {
	case token == "":
		return errors.New("is blank: remove the comma too many, or fill it in")
	case strings.ContainsAny(token[:1]+token[len(token)-1:], "\"'`"):
		return errors.New("has a quotation mark around it: leave it out, or set the variable without quotes where no shell reads them, as in a file of variables")
	case len(token) >= 7 && strings.EqualFold(token[:7], "Bearer "), strings.EqualFold(token, "Bearer"):
		return errors.New("begins with Bearer: that belongs into the sender's header, and the secret alone stands here")
	case strings.ContainsFunc(token, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return errors.New("holds a blank, a line break or a control character, which no header brings as it is: make another with: openssl rand -hex 32")
	case len(token) < minToken:
		return fmt.Errorf("has %d characters, which could be guessed, where it needs %d: make one with: openssl rand -hex 32. A comma separates one from the next, so none may hold a comma", len(token), minToken)
	}
	return nil
}

func isKey(element string) bool { return strings.HasPrefix(element, "whsec_") }

// parseKey reads whsec_<base64>. The padding may be missing: some consoles
// show keys without it.
func parseKey(secret string) ([]byte, error) {
	text := strings.TrimRight(strings.TrimPrefix(secret, "whsec_"), "=")
	key, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("what follows whsec_ is not base64: copy the secret again, whole and without quotes")
	}
	if len(key) < minKey || len(key) > maxKey {
		return nil, fmt.Errorf("the key behind whsec_ has %d bytes, where Standard Webhooks wants %d to %d: make one with: echo whsec_$(openssl rand -base64 32)",
			len(key), minKey, maxKey)
	}
	return key, nil
}

// IsZero reports whether there is no secret at all.
func (s Secrets) IsZero() bool { return len(s.tokens) == 0 && len(s.keys) == 0 }

// check authenticates a request by its headers. A nil signature without an
// error means that a token was right. With a signature the raw body must be
// written to it before its verify decides. The error is *[Unauthenticated].
//
// A wrong token does not spoil a signature, nor the other way round: the
// request needs one of the secrets, whichever else it carries.
func (s Secrets) check(header func(name string) string, now time.Time) (*signature, error) {
	bearer, scheme := request.Bearer(header("authorization"))
	own := strings.TrimSpace(header("x-webhook-secret"))
	// Both are compared before either decides, in constant time.
	if s.hasToken(bearer)|s.hasToken(own) == 1 {
		return nil, nil
	}
	if header("webhook-signature") != "" {
		return s.signed(header, now)
	}
	switch {
	case s.IsZero():
		return nil, &Unauthenticated{"no secret is configured here, so no sender can be let in: set RUNCOUNTER_WEBHOOK_SECRET"}
	case header("webhook-id") != "" || header("webhook-timestamp") != "":
		return nil, &Unauthenticated{"the header webhook-signature is missing beside webhook-id and webhook-timestamp: send v1,<base64> in it"}
	case bearer != "" || own != "":
		return nil, &Unauthenticated{"the token sent is none of those configured here: compare the webhook's header with RUNCOUNTER_WEBHOOK_SECRET"}
	case !scheme:
		return nil, &Unauthenticated{`the header Authorization has another scheme than Bearer: send "Authorization: Bearer <secret>"`}
	}
	return nil, &Unauthenticated{`the request brings no secret: add the header "Authorization: Bearer <secret>" or "x-webhook-secret: <secret>" to the webhook, or sign it as Standard Webhooks has it`}
}

// hasToken returns 1 if the token is one of the secrets, else 0. It takes as
// long for any token of that length.
func (s Secrets) hasToken(token string) int {
	sum, found := sha256.Sum256([]byte(token)), 0
	for _, t := range s.tokens {
		found |= subtle.ConstantTimeCompare(t[:], sum[:])
	}
	return found
}

// signed prepares the verification of the signatures that the headers bring.
func (s Secrets) signed(header func(name string) string, now time.Time) (*signature, error) {
	if len(s.keys) == 0 {
		return nil, &Unauthenticated{"the request is signed, but no signing key is configured here: add the webhook's whsec_ secret to RUNCOUNTER_WEBHOOK_SECRET"}
	}
	id, timestamp := header("webhook-id"), header("webhook-timestamp")
	if id == "" {
		return nil, &Unauthenticated{"the header webhook-id is missing: a signature covers id, timestamp and body, so all three must be sent"}
	}
	if timestamp == "" {
		return nil, &Unauthenticated{"the header webhook-timestamp is missing: send the time of signing in seconds since 1970"}
	}
	if err := tooOld(timestamp, now); err != nil {
		return nil, err
	}
	given := signaturesOf(header("webhook-signature"))
	if len(given) == 0 {
		return nil, &Unauthenticated{"the header webhook-signature holds no signature of version 1: send v1,<base64 of HMAC-SHA256>, several separated by spaces"}
	}
	sig := &signature{given: given}
	for _, key := range s.keys {
		sig.macs = append(sig.macs, newMAC(key, id, timestamp))
	}
	return sig, nil
}

// tooOld says what is wrong with the time of signing, and nil where nothing is.
func tooOld(timestamp string, now time.Time) error {
	at, err := strconv.ParseInt(timestamp, 10, 64)
	switch {
	case err != nil:
		return &Unauthenticated{"the header webhook-timestamp is not a whole number: send the time of signing in seconds since 1970"}
	case at < now.Add(-oldest).Unix():
		return &Unauthenticated{"webhook-timestamp is more than an hour in the past: sign the request anew, and check the sender's clock"}
	case at > now.Add(newest).Unix():
		return &Unauthenticated{"webhook-timestamp is more than five minutes in the future: check the sender's clock; seconds are meant, not milliseconds"}
	}
	return nil
}

// signaturesOf returns the signatures of version 1 in the header. Others, such
// as the asymmetric v1a, are for other receivers.
func signaturesOf(header string) [][]byte {
	var given [][]byte
	for each := range strings.FieldsSeq(header) {
		text, ok := strings.CutPrefix(each, "v1,")
		if !ok {
			continue
		}
		if sum, err := base64.StdEncoding.DecodeString(text); err == nil && len(sum) == sha256.Size {
			given = append(given, sum)
		}
	}
	return given
}

// newMAC begins the code over "id.timestamp.body".
func newMAC(key []byte, id, timestamp string) hash.Hash {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	return mac
}

// signature verifies a body that is written to it in pieces, so that the body need
// not be held. It can be used once.
type signature struct {
	macs  []hash.Hash // one for each key that is configured
	given [][]byte
}

// Write takes the next piece of the raw body. It never fails.
func (s *signature) Write(p []byte) (int, error) {
	for _, mac := range s.macs {
		mac.Write(p)
	}
	return len(p), nil
}

// verify reports whether one of the signatures is that of one of the keys over
// all that was written. The error is *[Unauthenticated].
func (s *signature) verify() error {
	found := 0
	for _, mac := range s.macs {
		sum := mac.Sum(nil)
		for _, given := range s.given {
			found |= subtle.ConstantTimeCompare(given, sum)
		}
	}
	if found == 0 {
		return &Unauthenticated{"the signature does not fit this body: sign the raw bytes of the body as they are sent, with a secret that is configured here"}
	}
	return nil
}

// Sign returns what a sender puts into the header webhook-signature:
// v1,<base64>, for a secret such as ParseSecrets reads. The id goes into
// webhook-id, the time in seconds into webhook-timestamp.
func Sign(secret, id string, at time.Time, body []byte) (string, error) {
	key, err := signingKey(secret)
	if err != nil {
		return "", err
	}
	mac := newMAC(key, id, strconv.FormatInt(at.Unix(), 10))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}

// signingKey reads a secret that can sign.
func signingKey(secret string) ([]byte, error) {
	secret = strings.TrimPrefix(strings.TrimSpace(secret), "v1,")
	if !isKey(secret) {
		return nil, errors.New("only a secret that begins with whsec_ can sign: make one with: echo whsec_$(openssl rand -base64 32)")
	}
	return parseKey(secret)
}
