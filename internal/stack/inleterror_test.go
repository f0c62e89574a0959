package stack

import (
	"net/netip"
	"testing"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/udp"
)

// TestInletUnwanted: a datagram that the kernel gave and nobody wants is not answered by
// a queue, which leads elsewhere.
func TestInletUnwanted(t *testing.T) {
	a, _ := newPair(t, pairOptions{})
	local, remote := netip.AddrPortFrom(addrA, 9), netip.AddrPortFrom(addrB, 5000)
	data := make([]byte, udp.HeaderLen+4)
	udp.Put(data, remote.Port(), local.Port(), len(data), ip.PseudoSum(addrB, addrA, ip.ProtoUDP, len(data)))
	before := a.Stats()
	a.Inject([]Injected{{Link: 7, UDP: true, Local: local, Remote: remote, TTL: 64, Data: data, Summed: true}})
	after := a.Stats()
	if after.RxNoSocket != before.RxNoSocket+1 || after.Queues[0].TxPackets != before.Queues[0].TxPackets {
		t.Errorf("before %+v, after %+v", before, after)
	}
}
