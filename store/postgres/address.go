package postgres

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// foreign are parameters that other tools put into an address for themselves:
// PostgreSQL refuses every connection that names one.
var foreign = []string{
	"pgbouncer", "connection_limit", "pool_timeout", "socket_timeout", "statement_cache_size", "schema", "sslaccept", "sslidentity", // Prisma
	"supa", "workaround", // Supabase's integrations
	"prepare", "prepare_threshold", "prepared_statements", "pool_size", "max_connections", "idle_timeout", "max_lifetime", // drivers
}

// Clean leaves out the parameters of an address that other tools put there, and
// names them. What else stands in it stays as it is, to the byte.
func Clean(address string) (clean string, dropped []string) {
	before, query, found := strings.Cut(address, "?")
	if !found {
		return address, nil
	}
	var kept []string
	for part := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(part, "=")
		if slices.Contains(foreign, name) {
			dropped = append(dropped, name)
		} else {
			kept = append(kept, part)
		}
	}
	if len(dropped) == 0 {
		return address, nil
	}
	if len(kept) > 0 {
		before += "?" + strings.Join(kept, "&")
	}
	return before, dropped
}

// DescribeAddress says for people which database an address names: host, port and name,
// and never a password. It is empty for an address that can't be read.
func DescribeAddress(address string) string {
	config, err := pgx.ParseConfig(address)
	if err != nil {
		return ""
	}
	return place(config)
}

func place(c *pgx.ConnConfig) string {
	return fmt.Sprintf("postgres://%s:%d/%s", c.Host, c.Port, c.Database)
}
