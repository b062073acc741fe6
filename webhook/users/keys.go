package users

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/MicahParks/jwkset"

	"github.com/edgaze-ai/runcounter/internal/version"
)

const (
	// keysFor is the time for which the keys are good: a key that the project has
	// revoked verifies nothing after it.
	keysFor = 10 * time.Minute
	// keysEvery is the time after which they are read again for a key that isn't among
	// them: a sender of invented ones must not make us a load for the project.
	keysEvery = 10 * time.Second
	// keysWithin bounds the time to read them.
	keysWithin = 5 * time.Second
	// maxKeys bounds what is read, in bytes.
	maxKeys = 64 << 10
	// minRSA is the length of a key in bits (RFC 7518, 3.3).
	minRSA = 2048
)

// key is a public key with the one algorithm that it verifies.
type key struct {
	kid, alg string
	public   any
}

// keySet is the keys that a project publishes, read when they are needed.
type keySet struct {
	url    string
	client *http.Client
	now    func() time.Time

	reading sync.Mutex // held while they are read: who comes meanwhile with a key that isn't known waits

	mu    sync.RWMutex // of what follows; never held for long
	keys  []key
	read  time.Time // when they were
	tried time.Time // when it was tried
	err   error     // of the last try
}

func newKeySet(url string, client *http.Client, now func() time.Time) *keySet {
	if client == nil {
		client = &http.Client{Timeout: keysWithin}
	}
	own := *client
	// Keys are where the project's address says, and nowhere else.
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &keySet{url: url, client: &own, now: now}
}

// find returns the public key that a token names. A token that names none is
// verified by the only key there is. Whose key is known doesn't wait for what
// another's makes us read.
func (s *keySet) find(ctx context.Context, kid, alg string) (any, error) {
	public, fresh, _ := s.among(kid, alg)
	if public != nil && fresh {
		return public, nil
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	public, fresh, again := s.among(kid, alg)
	if (public == nil || !fresh) && again {
		s.refresh(ctx)
		public, fresh, _ = s.among(kid, alg)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case !fresh && s.err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, s.err)
	case public == nil:
		return nil, &Refused{"no key of the project verifies the token: it is another project's, or its key was rotated out; sign in again"}
	}
	return public, nil
}

// among returns the key, or nil; whether the keys are good still; and whether
// they may be read again.
func (s *keySet) among(kid, alg string) (public any, fresh, again bool) {
	now := s.now()
	s.mu.RLock()
	defer s.mu.RUnlock()
	fit := 0
	for _, k := range s.keys {
		if k.alg == alg && (k.kid == kid || kid == "") {
			public = k.public
			fit++
		}
	}
	if fit != 1 {
		public = nil
	}
	return public, !s.read.IsZero() && now.Sub(s.read) < keysFor, s.tried.IsZero() || now.Sub(s.tried) >= keysEvery
}

// refresh reads the keys. Where that fails the last ones stay, for as long as
// they are good.
func (s *keySet) refresh(ctx context.Context) {
	now := s.now()
	// Not with the request's end: others wait for the keys as well.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keysWithin)
	defer cancel()
	keys, err := s.fetch(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried = now
	if s.err = err; err == nil {
		s.keys, s.read = keys, now
	}
}

func (s *keySet) fetch(ctx context.Context) ([]key, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", version.This().UserAgent())
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxKeys+1))
	switch err = errors.Join(err, res.Body.Close()); {
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", s.url, err)
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s answers %s", s.url, res.Status)
	case len(body) > maxKeys:
		return nil, fmt.Errorf("%s is longer than %d bytes", s.url, maxKeys)
	}
	return parseKeys(body)
}

// parseKeys reads a JWK set (RFC 7517). Keys that are not for verifying ES256
// or RS256 are left out, among them all secrets.
func parseKeys(body []byte) ([]key, error) {
	var set jwkset.JWKSMarshal
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, fmt.Errorf("the keys are no JWK set: %w", err)
	}
	var keys []key
	for _, m := range set.Keys {
		if m.USE != "" && m.USE != jwkset.UseSig || len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) {
			continue
		}
		if m.KTY != jwkset.KtyEC && m.KTY != jwkset.KtyRSA {
			continue
		}
		jwk, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
		if err != nil {
			continue // one that can't be read doesn't spoil the others
		}
		k := key{kid: m.KID, public: jwk.Key()}
		switch public := k.public.(type) {
		case *ecdsa.PublicKey:
			if public.Curve != elliptic.P256() {
				continue
			}
			k.alg = "ES256"
		case *rsa.PublicKey:
			if public.N.BitLen() < minRSA {
				continue
			}
			k.alg = "RS256"
		default:
			continue
		}
		if m.ALG == "" || m.ALG.String() == k.alg {
			keys = append(keys, k)
		}
	}
	return keys, nil
}
