package webhook

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"
)

// APIKeys are the keys that may do everything the API can. The zero APIKeys let
// no request in.
type APIKeys struct {
	keys []string
	sums [][sha256.Size]byte // hashed, so that comparing one takes as long whatever its length
}

// NewAPIKeys returns the keys of a list. The error says which can't be one, and
// repeats none.
func NewAPIKeys(list ...string) (APIKeys, error) {
	var k APIKeys
	for i, key := range list {
		if err := checkToken(key); err != nil {
			return APIKeys{}, fmt.Errorf("API key %d %w", i+1, err)
		}
		k.keys = append(k.keys, key)
		k.sums = append(k.sums, sha256.Sum256([]byte(key)))
	}
	return k, nil
}

// ParseAPIKeys reads a comma-separated list of keys. The empty list is none. No
// error repeats a key.
func ParseAPIKeys(list string) (keys []string, err error) {
	if strings.TrimSpace(list) == "" {
		return nil, nil
	}
	for key := range strings.SplitSeq(list, ",") {
		key = strings.TrimSpace(key)
		if err := checkToken(key); err != nil {
			return nil, fmt.Errorf("key %d of the list %w", len(keys)+1, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// IsZero reports whether there is no key at all.
func (k APIKeys) IsZero() bool { return len(k.sums) == 0 }

// Has reports whether a key is one of them.
func (k APIKeys) Has(key string) bool {
	sum, found := sha256.Sum256([]byte(key)), 0
	for _, s := range k.sums {
		found |= subtle.ConstantTimeCompare(s[:], sum[:])
	}
	return found == 1
}

// Sorted returns the keys in the order of their text.
func (k APIKeys) Sorted() []string { return slices.Sorted(slices.Values(k.keys)) }
