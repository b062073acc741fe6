// Package pgroots verifies the certificates of PostgreSQL servers. It knows the root
// certificates of Supabase, which no operating system has, and says what to do where a
// certificate can't be verified.
package pgroots

import (
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// supabasePEM is published for download under Database → Settings → SSL of each
// project. The test beside it holds the fingerprints.
//
//go:embed supabase.pem
var supabasePEM []byte

// supabase returns the roots of the operating system and those of Supabase: a host of
// theirs that some day has a certificate of a public authority stays reachable.
var supabase = sync.OnceValue(func() *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err != nil { // there are none, as in an image from scratch without certificates
		pool = x509.NewCertPool()
	}
	pool.AppendCertsFromPEM(supabasePEM)
	return pool
})

// Trust has connections to Supabase's hosts verified with Supabase's roots, where the
// address asks for verification (sslmode verify-full or verify-ca) and names no root
// certificate itself. Without it, verify-full to Supabase fails on every machine.
func Trust(c *pgx.ConnConfig) { trust(c, isSupabase, supabase()) }

func trust(c *pgx.ConnConfig, has func(host string) bool, roots *x509.CertPool) {
	if has(c.Host) {
		verifyWith(c.TLSConfig, roots)
	}
	for _, other := range c.Fallbacks {
		if has(other.Host) {
			verifyWith(other.TLSConfig, roots)
		}
	}
}

// verifyWith sets the roots of a configuration that verifies and has none. The driver
// verifies by itself for verify-full, and by a function of its own for verify-ca.
func verifyWith(t *tls.Config, roots *x509.CertPool) {
	if t != nil && t.RootCAs == nil && (!t.InsecureSkipVerify || t.VerifyPeerCertificate != nil) {
		t.RootCAs = roots
	}
}

func isSupabase(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return strings.HasSuffix(host, ".supabase.co") || strings.HasSuffix(host, ".pooler.supabase.com")
}

// ErrCertificate means that a server answers, and that its certificate can't be verified.
// To try again doesn't help.
var ErrCertificate = errors.New("the database's certificate can't be verified")

// Variable names the root certificate for other hosts than Supabase's.
const Variable = "RUNCOUNTER_DATABASE_ROOT_CERT"

// Explain wraps an error of connecting in [ErrCertificate] and what to do, where that is
// the cause. It returns others as they are.
func Explain(err error) error {
	if fix := Fix(err); fix != "" && !errors.Is(err, ErrCertificate) {
		return fmt.Errorf("%w: %s: %w", ErrCertificate, fix, err)
	}
	return err
}

// Fix says what to do about a certificate that could not be verified. It is empty for
// other errors.
func Fix(err error) string {
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
		return "its authority is not known here: give the authority's root certificate, as PEM or as a file's name, in " + Variable +
			" (Supabase's own is under Database → Settings → SSL; for Supabase's hosts it is built in)"
	}
	if wrong, is := errors.AsType[x509.HostnameError](err); is {
		return "it is for another host than " + wrong.Host + ": name the host in DATABASE_URL as the certificate does"
	}
	if invalid, is := errors.AsType[x509.CertificateInvalidError](err); is && invalid.Reason == x509.Expired {
		return "it has expired or is not valid yet: renew it, or set this machine's clock"
	} else if is {
		return "it breaks a rule of certificates: have the server's administrator renew it"
	}
	return ""
}
