package pgtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/edgaze-ai/runcounter/internal/pgserver"
)

// NewTLSServer starts a server that refuses clients without TLS. Its
// certificate is for localhost and 127.0.0.1, signed by an authority of its own,
// which caFile holds. The addresses of its databases have
// sslmode=verify-full and that file.
func NewTLSServer(t testing.TB) (s *Server, caFile string) {
	t.Helper()
	files, err := certificates()
	must(t, err)
	s = newServer(t, pgserver.Options{Files: files, Settings: []string{"ssl=on", "ssl_cert_file=../server.crt", "ssl_key_file=../server.key"}})
	caFile = filepath.Join(s.server.Dir(), "ca.crt")
	s.query = "sslmode=verify-full&sslrootcert=" + caFile
	return s, caFile
}

// certificates are the files of an authority and a server, and a pg_hba.conf that
// lets in TLS alone.
func certificates() ([]pgserver.File, error) {
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "runcounter test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, server, ca, key.Public(), caKey)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return []pgserver.File{
		{Name: "ca.crt", Mode: 0o644, Text: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})},
		{Name: "server.crt", Mode: 0o644, Text: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})},
		{Name: "server.key", Mode: 0o600, Text: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})},
		{Name: "data/pg_hba.conf", Mode: 0o600, Text: []byte("hostssl all all 127.0.0.1/32 trust\n")}, //nolint:dupword // its columns
	}, nil
}
