package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// baseOf returns an address as a person asks for it.
func baseOf(at net.Addr) string {
	if addr, ok := at.(*net.TCPAddr); ok && addr.IP.IsUnspecified() {
		return fmt.Sprintf("http://localhost:%d", addr.Port)
	}
	return "http://" + at.String()
}

// announce says where the server is. A person is last what to do next as well;
// a machine gets one line of its log.
func (s settings) announce(w io.Writer, at net.Addr, db backend) {
	base := baseOf(at)
	if !s.text {
		mode := "mirror: what it does not receive it does not know; runcounter import tells it"
		if db.source {
			mode = "source: the runs are the table's, webhooks are hints to check"
		}
		s.log.Info("listening", "address", at.String(), "url", base, "database", db.where, "mode", mode)
	} else if _, err := io.WriteString(w, s.welcome(base, db)); err != nil {
		return // the log goes to the same place, which has no reader either
	}
	if db.direct {
		s.log.Warn(noMigrations)
	}
	if s.secrets.IsZero() {
		s.log.Warn("no webhook secret is set: any process on this machine can change the counts; set RUNCOUNTER_WEBHOOK_SECRET")
	}
	if len(s.keys) == 0 {
		s.log.Warn("no API key is set: any process on this machine can read and change runs; set RUNCOUNTER_API_KEY")
	}
}

// noMigrations warns of a source without our migrations.
const noMigrations = "the database has no migrations of Run Counter, so it works by direct queries: counts are counted each time, " +
	"and nothing keeps the first outcome but our own calls; run runcounter migrate up"

// directText says so for as long as it is true. A database that says nothing says
// nothing of it, and keeps no one waiting who asks whether the server is ready.
func directText(ctx context.Context, db database) []string {
	installer, ok := db.(interface {
		Installed(ctx context.Context) (bool, error)
	})
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if installed, err := installer.Installed(ctx); err != nil || installed {
		return nil
	}
	return []string{strings.ToUpper(noMigrations[:1]) + noMigrations[1:] + "."}
}
