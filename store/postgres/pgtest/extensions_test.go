package pgtest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNetIsInstalledAsPgNetIs(t *testing.T) {
	address := Supabase(t)
	InstallNet(t, address)
	InstallNet(t, address)
	api := As(t, address, "authenticator")
	for _, c := range []struct{ name, sql, want string }{
		{"its version", `select extversion from pg_extension where extname = 'pg_net'`, "0.20.4"},
		{"it passes for created", `create extension if not exists pg_net; select 'passed'`, "passed"},
		{"anybody may send", `set role anon; select net.http_post('http://127.0.0.1:9/a')`, "1"},
		{"and read the queue", `set role anon; select convert_from(body, 'UTF8') || method || url || timeout_milliseconds || headers from net.http_request_queue`, `{}POSThttp://127.0.0.1:9/a5000{"Content-Type": "application/json"}`},
		{"a type is added to headers", `select net.http_post('http://a', headers := '{"x": "y"}'); select headers || url from net.http_request_queue where id = 2`, `{"x": "y", "Content-Type": "application/json"}http://a/`},
		{"parameters are escaped", `select net.http_post('http://a/?x=1', params := '{"ä b": "&"}'); select url from net.http_request_queue where id = 3`, "http://a/?x=1&%C3%A4%20b=%26"},
		{"no body", `select net.http_post('http://a/', body := null); select (body is null)::text from net.http_request_queue where id = 4`, "true"},
	} {
		t.Run(c.name, func(t *testing.T) {
			who := address
			if strings.HasPrefix(c.sql, "set role") {
				who = api
			}
			if diff := cmp.Diff(c.want, ask(t, who, c.sql)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	for _, sql := range []string{
		`select net.http_post('http://a/', headers := '{"content-type": "text/plain"}')`,
		`select net.http_post('a/b')`,
		`select net.check_worker_is_up()`,
	} {
		if got := refused(t, address, sql); got != "P0001" {
			t.Errorf("%s: got %s, want P0001", sql, got)
		}
	}
	Exec(t, Admin(t, address), `drop extension pg_net`)
	if got := ask(t, address, `select coalesce(to_regnamespace('net')::text, 'gone')`); got != "gone" {
		t.Errorf("got schema %s after drop extension", got)
	}
}

func TestVaultKeepsSecretsOutOfItsTable(t *testing.T) {
	address := Supabase(t)
	InstallVault(t, address)
	const secret = "whsec_Zoë🚀_a secret that is longer than one block of thirty-two bytes"
	Exec(t, address, `select vault.create_secret('`+secret+`', 'one', 'what for')`, `select vault.create_secret('')`)
	const read = `select decrypted_secret || description from vault.decrypted_secrets where name = 'one'`
	if got := ask(t, address, read); got != secret+"what for" {
		t.Errorf("got %q, want the secret", got)
	}
	if got := ask(t, address, `select string_agg(s::text, ' ') from vault.secrets as s`); strings.Contains(got, "whsec") {
		t.Errorf("the table has %s", got)
	}
	Exec(t, address, `select vault.update_secret((select id from vault.secrets where name = 'one'), 'another', new_description := '')`)
	api := As(t, address, "authenticator")
	if got := ask(t, api, `set role service_role; `+read); got != "another" {
		t.Errorf("got %q, want what it was changed to", got)
	}
	for _, c := range []struct{ who, sql, want string }{
		{api, `set role authenticated; ` + read, "42501"},
		{api, `set role anon; select vault.create_secret('x')`, "42501"},
		{address, `update vault.secrets set secret = 'x'`, "42501"},
		{address, `select vault.create_secret('x', 'one')`, "23505"},
		{Admin(t, address), `update vault.secrets set description = 'x', secret = encode('tampered with, and long', 'base64') where name = 'one'; ` + read, "22000"},
	} {
		if got := refused(t, c.who, c.sql); got != c.want {
			t.Errorf("%s: got %s, want %s", c.sql, got, c.want)
		}
	}
}
