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
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// NewTLSServer starts a server that refuses whoever does not speak TLS. Its
// certificate is for localhost and 127.0.0.1, signed by an authority that
// nobody knows but for caFile. The addresses of its databases have
// sslmode=verify-full and that file.
func NewTLSServer(t testing.TB) (s *Server, caFile string) {
	t.Helper()
	s = newServer(t, serverOptions{certify: certify})
	return s, filepath.Join(s.dir, "ca.crt")
}

// certify writes the files of an authority and a server, and a pg_hba.conf that
// lets in TLS alone.
func certify(dir string, who *syscall.Credential) error {
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "runcounter test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, server, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		mode os.FileMode
		text []byte
	}{
		{"ca.crt", 0o644, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})},
		{"server.crt", 0o644, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})},
		{"server.key", 0o600, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})},
		{"data/pg_hba.conf", 0o600, []byte("hostssl all all 127.0.0.1/32 trust\n")}, //nolint:dupword // its columns
	} {
		if err := writeFile(filepath.Join(dir, f.name), f.text, f.mode, who); err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes a file that belongs to who runs the servers.
func writeFile(path string, text []byte, mode os.FileMode, who *syscall.Credential) error {
	if err := os.WriteFile(path, text, mode); err != nil || who == nil {
		return err
	}
	return os.Chown(path, int(who.Uid), int(who.Gid))
}
