package main

import (
	"crypto/x509"
	"errors"
	"net/url"
	"os"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/internal/pgroots"
)

const rootCertName = "database-root-cert"

func rootCertFlag() cli.Flag {
	return noneFlag(rootCertName, flagsWhere, "the root certificate that signs the PostgreSQL server's, as `PEM` or a file's name; Supabase's are built in", pgroots.Variable)
}

// useRootCert has the address of the database name the root certificate that was given.
// The driver reads a file, so PEM becomes one: what a platform keeps as a secret is a
// variable, and an image has no file of it. The caller calls done when it no longer opens
// connections.
func useRootCert(cmd *cli.Command) (done func(), err error) {
	done = func() {}
	given, address := strings.TrimSpace(cmd.String(rootCertName)), cmd.String("database-url")
	if given == "" || !isPostgres(address) || !strings.Contains(address, "@") && !strings.Contains(address, "//") {
		return done, nil
	}
	if strings.Contains(address, "sslrootcert=") {
		return done, badUsage("DATABASE_URL names a root certificate, and so does --%s: leave out one of them", rootCertName)
	}
	file := given
	if strings.HasPrefix(given, "-----BEGIN") {
		if file, err = writeRootCert(given); err != nil {
			return done, err
		}
		done = func() { _ = os.Remove(file) } // a public certificate, in the system's folder for what may go
	}
	if err := mustBeRootCert(file); err != nil {
		done()
		return func() {}, err
	}
	query := "sslrootcert=" + url.QueryEscape(file)
	if !strings.Contains(address, "sslmode=") {
		query = "sslmode=verify-full&" + query
	}
	joint := "?"
	if strings.Contains(address, "?") {
		joint = "&"
	}
	return done, cmd.Set("database-url", address+joint+query)
}

func writeRootCert(text string) (name string, err error) {
	f, err := os.CreateTemp("", "runcounter-root-*.pem")
	if err != nil {
		return "", badUsage("--%s is written to a file for the driver, which failed: %w; name a file instead, or a writable folder in TMPDIR", rootCertName, err)
	}
	// Some forms of a platform keep \n as two characters.
	_, err = f.WriteString(strings.ReplaceAll(text, `\n`, "\n"))
	return f.Name(), errors.Join(err, f.Close())
}

func mustBeRootCert(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return badUsage("--%s is neither PEM, which begins with -----BEGIN CERTIFICATE-----, nor a file that can be read: %w", rootCertName, err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(text) {
		return badUsage("--%s holds no certificate: it has to be PEM, which begins with -----BEGIN CERTIFICATE----- and ends with -----END CERTIFICATE-----", rootCertName)
	}
	return nil
}

// withRootCert adds the flag behind that of the database, to each command that has it.
func withRootCert(flags []cli.Flag) (all []cli.Flag) {
	for _, flag := range flags {
		if all = append(all, flag); flag.Names()[0] == "database-url" {
			all = append(all, rootCertFlag())
		}
	}
	return all
}
