package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

// A server whose authority this machine doesn't know says so at once, in each command
// that connects, and is reached with the authority's certificate: as PEM, which is what a
// platform's secret holds, or as a file.
func TestCaseO1_ACertificateThatCannotBeVerifiedSaysWhatHelps(t *testing.T) {
	t.Parallel()
	server, file := pgtest.NewTLSServer(t)
	address := strings.Split(server.Database(t), "?")[0]
	text := mustReadFile(t, file)
	verify := "DATABASE_URL=" + address + "?sslmode=verify-full"
	const wanted = "RUNCOUNTER_DATABASE_ROOT_CERT"
	for _, args := range [][]string{{"migrate", "status"}, {"serve", "--listen", "127.0.0.1:0"}, {"audit"}, {"webhook", "status"}} {
		if r := exec1(t, command(t, t.TempDir(), []string{verify}, args...), ""); r.code == exitFine || !strings.Contains(r.out+r.errs, wanted) || strings.Contains(r.errs, "trying again") {
			t.Errorf("%v: got %+v, want an end, and what to do", args, r)
		}
	}
	r := exec1(t, command(t, t.TempDir(), append(configured(""), verify), "doctor"), "")
	if r.code != exitNo || !strings.Contains(r.out, "fix: its authority is not known here") {
		t.Errorf("doctor: got %+v", r)
	}
	for name, cert := range map[string]string{"PEM": text, "PEM in one line": strings.ReplaceAll(text, "\n", `\n`), "a file": file} {
		for _, with := range []string{verify, "DATABASE_URL=" + address, "DATABASE_URL=" + address + "?sslmode=verify-ca"} {
			dir := t.TempDir()
			if r := exec1(t, command(t, dir, []string{with, wanted + "=" + cert}, "migrate", "status"), ""); r.code != exitFine {
				t.Errorf("with %s and %s: got %+v", name, with, r)
			}
			if left, err := filepath.Glob(dir + "/runcounter-root-*"); err != nil || len(left) > 0 {
				t.Errorf("with %s: %v is left, %v", name, left, err)
			}
		}
	}
	// It verifies: another authority's certificate doesn't do.
	other, _ := pgtest.NewTLSServer(t)
	strange := "DATABASE_URL=" + strings.Split(other.Database(t), "?")[0]
	if r := exec1(t, command(t, t.TempDir(), []string{strange, wanted + "=" + text}, "migrate", "status"), ""); r.code != exitUnreachable || !strings.Contains(r.errs, wanted) {
		t.Errorf("with another authority's certificate: got %+v", r)
	}
}

func TestARootCertThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	const address = "postgres://u:hunter2@127.0.0.1:1/db"
	for _, tt := range []struct{ address, cert, want string }{
		{address, "prod-ca.crt", "neither PEM"},
		{address, empty, "holds no certificate"},
		{address, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no certificate"},
		{address + "?sslrootcert=x", empty, "leave out one of them"},
	} {
		r := exec1(t, command(t, dir, []string{"DATABASE_URL=" + tt.address}, "migrate", "status", "--database-root-cert", tt.cert), "")
		if r.code != exitUsage || !strings.Contains(r.errs, tt.want) || strings.Contains(r.errs, "hunter2") {
			t.Errorf("%q: got %+v, want %q", tt.cert, r, tt.want)
		}
	}
	if left, err := filepath.Glob(dir + "/runcounter-root-*"); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}
