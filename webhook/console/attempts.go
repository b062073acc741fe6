package console

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"golang.org/x/time/rate"
)

const (
	// attemptEvery and attemptsAtOnce bound the failed attempts to sign in that
	// one address is answered as such; more are told to wait.
	attemptEvery   = 2 * time.Second
	attemptsAtOnce = 10
	// maxAddresses bounds the addresses that are remembered, 100 bytes each.
	maxAddresses = 4096
)

// attempts charges failures to the address that they come from. They are only
// for failures: a key of 16 characters and more can't be guessed at any speed,
// so its holder always gets in, from the same address too.
type attempts struct {
	mu   sync.Mutex
	from map[netip.Prefix]*rate.Limiter
}

// failed charges one, and reports whether the address has failed too often.
func (a *attempts) failed(from netip.Prefix, now time.Time) (tooOften bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	limiter := a.from[from]
	if limiter == nil {
		if len(a.from) >= maxAddresses {
			a.forget(now)
		}
		if a.from == nil {
			a.from = map[netip.Prefix]*rate.Limiter{}
		}
		limiter = rate.NewLimiter(rate.Every(attemptEvery), attemptsAtOnce)
		a.from[from] = limiter
	}
	return !limiter.AllowN(now, 1)
}

// forget drops the addresses that have nothing to answer for any more, and all
// where that is none: a sender with thousands of addresses can't be slowed by
// any of them.
func (a *attempts) forget(now time.Time) {
	for from, limiter := range a.from {
		if limiter.TokensAt(now) >= attemptsAtOnce {
			delete(a.from, from)
		}
	}
	if len(a.from) >= maxAddresses {
		clear(a.from)
	}
}

// clientOf returns the address of a request's client: its connection's other end, or,
// where a header of the proxy before us is configured, the address in that. Of
// several the last counts, which the nearest proxy has added; what stands
// before it was sent by the client, who may write anything. Of an IPv6 address
// it is the /64, which is one customer's.
func (c *Console) clientOf(f *fiber.Ctx) netip.Prefix {
	text := ""
	if c.cfg.ClientHeader != "" {
		values := f.Request().Header.PeekAll(c.cfg.ClientHeader)
		if len(values) > 0 {
			list := strings.Split(string(values[len(values)-1]), ",")
			text = strings.TrimSpace(list[len(list)-1])
		}
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		addr, _ = netip.AddrFromSlice(f.Context().RemoteIP()) // an invalid one is an address, too
	}
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	return netip.PrefixFrom(addr, bits).Masked()
}
