package pgtest

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/edgaze-ai/runcounter/internal/pgserver"
)

// Pooler starts a PgBouncer in transaction mode before the server of an
// address, and returns the address through it. It knows the roles that can log
// in when it starts.
func Pooler(t testing.TB, address string) string {
	t.Helper()
	binary, err := findPgBouncer()
	if err != nil {
		giveUp(t, err)
	}
	u := parse(t, address)
	d, err := pgserver.NewDaemon("", "KILL")
	must(t, err)
	t.Cleanup(d.Close)
	port, err := pgserver.FreePort()
	must(t, err)
	// No ignore_startup_parameters, and no prepared statements: what works here
	// works through a pooler that knows less than the newest.
	config := fmt.Sprintf(`[databases]
* = host=%s port=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s
pool_mode = transaction
max_client_conn = 1000
default_pool_size = 20
`, u.Hostname(), portOf(u), port, filepath.Join(d.Dir(), "users"))
	for name, text := range map[string]string{"pgbouncer.ini": config, "users": poolerUsers(t, u)} {
		must(t, d.WriteFile(pgserver.File{Name: name, Mode: 0o600, Text: []byte(text)}))
	}
	through := edit(t, address, func(u *url.URL) { u.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) })
	must(t, launchPooler(binary, d, through))
	return through
}

// Through returns the address through a pooler that [Pooler] has started before the
// same server.
func Through(t testing.TB, address, pooler string) string {
	t.Helper()
	return edit(t, address, func(u *url.URL) { u.Host = parse(t, pooler).Host })
}

func launchPooler(binary string, d *pgserver.Daemon, through string) error {
	if err := d.Launch(binary, filepath.Join(d.Dir(), "pgbouncer.ini")); err != nil {
		return err
	}
	return pgserver.Until(func() (bool, error) {
		conn, err := connect(through)
		if err == nil {
			closeConn(conn)
			return true, nil
		}
		text, _ := d.Log()
		return d.Ended(), fmt.Errorf("connect to PgBouncer: %w; its log:\n%s", err, text)
	})
}

// poolerUsers returns PgBouncer's list of users: those who can log in, with the
// password that they have.
func poolerUsers(t testing.TB, u *url.URL) string {
	t.Helper()
	var names []string
	queryRow(t, u.String(), &names, `select array_agg(rolname::text) from pg_roles where rolcanlogin`)
	var b strings.Builder
	for _, name := range names {
		password := Password
		if own, ok := u.User.Password(); ok && name == u.User.Username() {
			password = own
		}
		fmt.Fprintf(&b, "%q %q\n", name, password)
	}
	return b.String()
}

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	return "5432"
}

func findPgBouncer() (string, error) {
	if path, err := exec.LookPath("pgbouncer"); err == nil {
		return path, nil
	}
	if _, err := os.Stat("/usr/sbin/pgbouncer"); err == nil {
		return "/usr/sbin/pgbouncer", nil
	}
	return "", fmt.Errorf("PgBouncer is %w: its binary is pgbouncer, in $PATH or /usr/sbin", pgserver.ErrMissing)
}
