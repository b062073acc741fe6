package postgres

import (
	"slices"
	"testing"

	"github.com/edgaze-ai/runcounter/store/postgres/pgtest"
	"github.com/edgaze-ai/runcounter/store/postgres/sourcetest"
)

func TestCaseT25_ParametersOfOtherToolsAreLeftOutOfAnAddress(t *testing.T) {
	for _, c := range []struct {
		address, want string
		dropped       []string
	}{
		{"postgres://u:p%3F@h:6543/d?pgbouncer=true&connection_limit=1", "postgres://u:p%3F@h:6543/d", []string{"pgbouncer", "connection_limit"}},
		{"postgres://u:p@h/d?sslmode=require&supa=base-pooler.x", "postgres://u:p@h/d?sslmode=require", []string{"supa"}},
		{"postgres://u:p@h/d?schema=public&application_name=a%20b", "postgres://u:p@h/d?application_name=a%20b", []string{"schema"}},
		{"postgres://u:p@h/d?sslmode=disable", "postgres://u:p@h/d?sslmode=disable", nil},
		{"postgres://u:p@h/d", "postgres://u:p@h/d", nil},
		{"postgres://u:p@h/d?", "postgres://u:p@h/d?", nil},
	} {
		if got, dropped := Clean(c.address); got != c.want || !slices.Equal(dropped, c.dropped) {
			t.Errorf("Clean(%q): got %q without %q, want %q without %q", c.address, got, dropped, c.want, c.dropped)
		}
	}
	t.Run("case T25: and PostgreSQL takes what is left", func(t *testing.T) {
		address := sourcetest.Installed(t)
		for _, name := range foreign {
			clean, _ := Clean(pgtest.With(t, address, name, "1"))
			mustOpen(t, clean, Options{})
		}
	})
}

func TestCaseO1_AStoreVerifiesSupabaseWithItsRoots(t *testing.T) {
	config, err := configure("postgres://u:p@db.abcdefgh.supabase.co/d?sslmode=verify-full", nil, 1)
	if err != nil || config.ConnConfig.TLSConfig.RootCAs == nil {
		t.Errorf("got no roots, %v: it would be verified with the system's alone", err)
	}
}
