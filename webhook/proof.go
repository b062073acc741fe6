package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/edgaze-ai/runcounter/store"
)

// proofHeader is a header of our own beside those of Standard Webhooks. A
// signature can be verified at the end of a body alone, so a sender that only
// signs is a stranger until then. The proof is a code over id and timestamp,
// and says before the body that its sender has the secret; then the delivery
// has a place that no stranger can take. What is in the body is vouched for by
// the signature, as ever.
const proofHeader = "webhook-proof"

// proves reports whether the headers prove that their sender has one of the
// keys. A proof is as old as a signature may be, at most.
func (s Secrets) proves(header func(name string) string, now time.Time) bool {
	id, timestamp := header("webhook-id"), header("webhook-timestamp")
	return id != "" && tooOld(timestamp, now) == nil && s.signs(proofMessage(id, timestamp), header(proofHeader))
}

// proofMessage returns the text over which a proof is made.
func proofMessage(id, timestamp string) string { return "proof." + id + "." + timestamp }

// signs reports whether one of the signatures of a header is that of one of the
// keys over a short message.
func (s Secrets) signs(message, header string) bool {
	for _, given := range signaturesOf(header) {
		for _, key := range s.keys {
			if hmac.Equal(given, codeOf(key, message)) {
				return true
			}
		}
	}
	return false
}

// codeOf is the HMAC-SHA256 of a short message.
func codeOf(key []byte, message string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(message))
	return mac.Sum(nil)
}

// Prove returns what a sender puts into the header webhook-proof, beside the
// signature that [Sign] makes of the same id and time.
func Prove(secret, id string, at time.Time) (string, error) {
	key, err := signingKey(secret)
	if err != nil {
		return "", err
	}
	return "v1," + base64.StdEncoding.EncodeToString(codeOf(key, proofMessage(id, strconv.FormatInt(at.Unix(), 10)))), nil
}

// FirstSecret returns the first of a list such as [ParseSecrets] reads.
func FirstSecret(list string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(list), "v1,"), ",")
	return strings.TrimSpace(first)
}

// Authenticate sets the headers by which a receiver that has the secret takes a body. A
// secret that begins with whsec_ signs it as Standard Webhooks has it, and proves before
// the body that the sender has it; any other goes into Authorization; an empty one sets
// none. It fails where what follows whsec_ is no key.
func Authenticate(header http.Header, secret string, body []byte, now time.Time) error {
	if !isKey(secret) {
		if secret != "" {
			header.Set("Authorization", "Bearer "+secret)
		}
		return nil
	}
	id := "msg_" + store.NewID().String()
	signature, err := Sign(secret, id, now, body)
	if err != nil {
		return err
	}
	proof, err := Prove(secret, id, now)
	if err != nil {
		return err
	}
	header.Set(proofHeader, proof)
	header.Set("webhook-id", id)
	header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	header.Set("webhook-signature", signature)
	return nil
}

// proofs are those whose deliveries are under way. Each gives one place at a
// time, so that a proof that leaked gives its finder no more than that.
type proofs struct {
	mu   sync.Mutex
	used map[string]bool // by webhook-id
}

// take reports whether the proof of an id gives a place. leave gives it back.
func (p *proofs) take(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used[id] {
		return false
	}
	if p.used == nil {
		p.used = map[string]bool{}
	}
	p.used[id] = true
	return true
}

func (p *proofs) leave(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.used, id)
}
