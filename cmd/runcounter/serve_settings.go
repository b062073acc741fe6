package main

import (
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/edgaze-ai/runcounter/store"
	"github.com/edgaze-ai/runcounter/webhook"
	"github.com/edgaze-ai/runcounter/webhook/api"
	"github.com/edgaze-ai/runcounter/webhook/users"
)

// settings are the flags of serve, read.
type settings struct {
	listen  string
	address *net.TCPAddr
	metrics *net.TCPAddr  // nil: none apart
	drain   time.Duration // before the listener closes
	client  string        // the header that names the client
	secrets webhook.Secrets
	secret  string // the first, to show how it is sent
	keys    []string
	users   *users.Verifier // nil: only keys are accepted
	origins []string
	totals  api.Audience // who may read totals
	decoder webhook.Decoder
	limits  store.Limits
	every   time.Duration
	policy  *store.Policy // nil: leave it as it is
	log     *slog.Logger
	text    bool // the log is for a person
}

func settingsOf(cmd *cli.Command) (s settings, err error) {
	s.listen = listenOf(cmd)
	if s.address, err = net.ResolveTCPAddr("tcp", s.listen); err != nil {
		return s, badUsage("the address to listen on: %w; write HOST:PORT, such as 127.0.0.1:8080 or :8080", err)
	}
	if s.log, s.text, err = logOf(cmd, s.address.IP.IsLoopback()); err != nil {
		return s, err
	}
	list := cmd.String("webhook-secret")
	if s.secrets, err = webhook.ParseSecrets(list); err != nil {
		return s, badUsage("RUNCOUNTER_WEBHOOK_SECRET: %w", err)
	}
	s.secret = webhook.FirstSecret(list)
	if s.keys, err = keysOf(cmd); err != nil {
		return s, err
	}
	if err := s.around(cmd); err != nil {
		return s, err
	}
	if err := s.refuseStrangers(); err != nil {
		return s, err
	}
	if s.users, err = verifierOf(cmd); err != nil {
		return s, err
	}
	if s.origins, err = originsOf(cmd); err != nil {
		return s, err
	}
	if s.totals, err = totalsOf(cmd, api.ForKeys); err != nil {
		return s, err
	}
	if s.decoder, err = decoderOf(cmd); err != nil {
		return s, err
	}
	if s.limits, err = limitsOf(cmd); err != nil {
		return s, err
	}
	if s.every = cmd.Duration("sweep-every"); s.every <= 0 {
		return s, badUsage("--sweep-every must be longer than 0, such as 30s: without sweeps stuck runs stay stuck")
	}
	s.policy, err = policyOf(cmd, "count-policy")
	return s, err
}

// around reads the flags of what surrounds the listener: the proxy before it,
// the second listener for monitoring, and the drain before a stop.
func (s *settings) around(cmd *cli.Command) (err error) {
	if name := cmd.String("metrics-listen"); name != "" {
		if s.metrics, err = net.ResolveTCPAddr("tcp", name); err != nil {
			return badUsage("--metrics-listen: %w; write HOST:PORT, such as :9091", err)
		}
	}
	s.drain = cmd.Duration("drain")
	switch {
	case s.drain < 0 || s.drain > longestDrain:
		return badUsage("--drain must be between 0s and %s: a stop takes %s at most, and what was accepted needs the rest", longestDrain, finishIn)
	case s.address.IP.IsLoopback() && !cmd.IsSet("drain"):
		s.drain = 0 // a person waits for the prompt, and no proxy asks
	}
	s.client = strings.TrimSpace(cmd.String("client-header"))
	return nil
}

// refuseStrangers decides before anything is opened (law 7).
func (s settings) refuseStrangers() error {
	if s.address.IP.IsLoopback() {
		return nil
	}
	var missing []string
	if s.secrets.IsZero() {
		missing = append(missing, "  export RUNCOUNTER_WEBHOOK_SECRET=$(openssl rand -base64 32)")
	}
	if len(s.keys) == 0 {
		missing = append(missing, "  export RUNCOUNTER_API_KEY=$(openssl rand -base64 32)")
	}
	if len(missing) == 0 {
		return nil
	}
	return badUsage("%s can be reached from other machines, and without a secret any of them could change or read the counts. "+
		"Create what is missing, and give it to your senders and programs:\n%s\n"+
		"or listen on this machine alone, with --listen %s", s.listen, strings.Join(missing, "\n"), defaultListen)
}
