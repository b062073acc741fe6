package pgroots

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// What is trusted is what Supabase publishes, and nothing else.
func TestSupabasesRootsAreThosePublished(t *testing.T) {
	t.Parallel()
	var got []string
	for rest := supabasePEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.CheckSignatureFrom(c); err != nil || !c.IsCA {
			t.Errorf("%s is not a root: %v", c.Subject, err)
		}
		sum := sha256.Sum256(c.Raw)
		got = append(got, c.Subject.CommonName+" of "+c.Subject.Organization[0]+" until "+c.NotAfter.Format(time.DateOnly)+" "+hex.EncodeToString(sum[:]))
	}
	want := []string{
		"Supabase Root 2021 CA of Supabase Inc until 2031-04-26 807025ad50d4ed219d2c9c7d299c004f824eb00cf7f65afef607d07b72e6cafa",
		"Supabase Root 2021 CA of Supabase Inc until 2035-09-01 5f9b77951a7aa1303f9b58eea9bfa89e358cfdc15f9786ff10d4930a722c9ae2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("roots (-want +got):\n%s", diff)
	}
}

func TestCaseO1_SupabasesHostsAreVerifiedWithSupabasesRoots(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/ca.pem"
	if err := os.WriteFile(file, supabasePEM, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		address string
		ours    []bool // of each host, and of its fallbacks
	}{
		{"postgres://u@db.abcdefgh.supabase.co/d?sslmode=verify-full", []bool{true}},
		{"postgres://u@aws-0-eu-central-1.pooler.supabase.com:6543/d?sslmode=verify-ca", []bool{true}},
		{"postgres://u@DB.abcdefgh.Supabase.CO./d?sslmode=verify-full", []bool{true}},
		{"postgres://u@db.abcdefgh.supabase.co/d?sslmode=require", []bool{false}},
		{"postgres://u@db.abcdefgh.supabase.co/d?sslmode=disable", []bool{false}},
		{"postgres://u@db.abcdefgh.supabase.co/d", []bool{false, false}},
		{"postgres://u@db.abcdefgh.supabase.co/d?sslmode=verify-full&sslrootcert=" + file, []bool{false}},
		{"postgres://u@supabase.co.example.com/d?sslmode=verify-full", []bool{false}},
		{"postgres://u@evil-supabase.co/d?sslmode=verify-full", []bool{false}},
		{"postgres://u@evilpooler.supabase.com/d?sslmode=verify-full", []bool{false}},
		{"postgres://u@db.example.com,db.abcdefgh.supabase.co/d?sslmode=verify-full", []bool{false, true}},
	} {
		c, err := pgx.ParseConfig(tt.address)
		if err != nil {
			t.Fatal(err)
		}
		Trust(c)
		is := func(i int) bool {
			config := c.TLSConfig
			if i > 0 {
				config = c.Fallbacks[i-1].TLSConfig
			}
			return config != nil && config.RootCAs == supabase()
		}
		if len(c.Fallbacks) < len(tt.ours)-1 {
			t.Fatalf("%s: got %d fallbacks", tt.address, len(c.Fallbacks))
		}
		for i, want := range tt.ours {
			if got := is(i); got != want {
				t.Errorf("%s: host %d is verified with Supabase's roots: %t, want %t", tt.address, i, got, want)
			}
		}
	}
}

// The driver uses the roots that it is given after it has read the address, in both modes
// that verify.
func TestAServerIsVerifiedWithTheRootsThatItsHostHas(t *testing.T) {
	t.Parallel()
	server, file := pgtest.NewTLSServer(t)
	address := strings.Split(server.Database(t), "?")[0]
	roots := x509.NewCertPool()
	text, err := os.ReadFile(file)
	if err != nil || !roots.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	connect := func(address string, trusts bool) error {
		c, err := pgx.ParseConfig(address)
		if err != nil {
			t.Fatal(err)
		}
		trust(c, func(string) bool { return trusts }, roots)
		conn, err := pgx.ConnectConfig(t.Context(), c)
		if err != nil {
			return Explain(err)
		}
		return conn.Close(t.Context())
	}
	for _, mode := range []string{"verify-full", "verify-ca"} {
		if err := connect(address+"?sslmode="+mode, true); err != nil {
			t.Errorf("%s with the root of its host: %v", mode, err)
		}
		if err := connect(address+"?sslmode="+mode, false); !errors.Is(err, ErrCertificate) || !strings.Contains(err.Error(), Variable) {
			t.Errorf("%s without it: got %v, want ErrCertificate, and what to do", mode, err)
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	if got := Explain(errors.New("another error")); errors.Is(got, ErrCertificate) || got.Error() != "another error" {
		t.Errorf("another error became %v", got)
	}
	expired := Explain(x509.CertificateInvalidError{Reason: x509.Expired})
	if !errors.Is(expired, ErrCertificate) || !strings.Contains(expired.Error(), "clock") || Explain(expired).Error() != expired.Error() {
		t.Errorf("an expired one: got %v", expired)
	}
	if got := Fix(x509.CertificateInvalidError{Reason: x509.TooManyIntermediates}); !strings.Contains(got, "administrator") {
		t.Errorf("another rule: got %q", got)
	}
	if got := Fix(x509.HostnameError{Certificate: &x509.Certificate{}, Host: "db.example.com"}); !strings.Contains(got, "another host than db.example.com") {
		t.Errorf("another host: got %q", got)
	}
}

// Each place that reads an address to connect by it trusts Supabase's roots: to connect
// to Supabase itself is the only other way to see one that was forgotten.
func TestCaseO1_EachConnectionTrustsTheRoots(t *testing.T) {
	t.Parallel()
	var connects []string
	for _, pattern := range []string{"../../store/*/*.go", "../../migrations/*.go", "../../cmd/runcounter/*.go", "../../webhook/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			reads := strings.Count(string(text), ".ParseConfig(")
			if reads == 0 || strings.HasSuffix(file, "_test.go") || strings.Contains(file, "/sourcetest/") || strings.HasSuffix(file, "/address.go") { // which describes it
				continue
			}
			if connects = append(connects, file); strings.Count(string(text), "pgroots.Trust(") != reads {
				t.Errorf("%s reads an address and doesn't call pgroots.Trust", file)
			}
		}
	}
	if len(connects) < 3 {
		t.Errorf("got %q: the packages are not where this test looks", connects)
	}
}
