package console

import (
	"net/netip"
	"testing"
	"time"
)

func TestCaseD10_SoManyAddressesAreRememberedAndNoMore(t *testing.T) {
	var a attempts
	now := time.Unix(1000, 0)
	for n := range 3 * maxAddresses {
		a.failed(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 32), now)
	}
	if len(a.from) > maxAddresses {
		t.Errorf("%d are remembered, want %d at most", len(a.from), maxAddresses)
	}

}
