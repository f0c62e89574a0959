package onload_test

import (
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/allocs"
)

// TestUDPBatchAllocs: a batch that is sent and one that is received, with control
// messages, allocate nothing where the messages are used again.
func TestUDPBatchAllocs(t *testing.T) {
	a, b := memoryPair(t)
	from, to := listenUDP(t, a, addrA+":0"), listenUDP(t, b, addrB+":0")
	setUDP(t, to, [3]int{unix.IPPROTO_IP, unix.IP_PKTINFO, 1}, [3]int{unix.IPPROTO_IP, unix.IP_RECVTOS, 1})
	const count = 16
	out, in := make([]ipv4.Message, count), make([]ipv4.Message, count)
	for i := range out {
		out[i] = ipv4.Message{Buffers: [][]byte{make([]byte, 100)}, OOB: cmsg(unix.SOL_IP, unix.IP_TOS, 4, 0x28), Addr: withPort(addrB, to)}
		in[i] = ipv4.Message{Buffers: [][]byte{make([]byte, 200)}, OOB: make([]byte, 100)}
	}
	if err := to.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	n := allocs.PerRun(100, func() {
		for sent := 0; sent < count; {
			k, err := from.WriteBatch(out[sent:], 0)
			if err != nil {
				t.Fatal(err)
			}
			sent += k
		}
		for have := 0; have < count; {
			k, err := to.ReadBatch(in[have:], 0)
			if err != nil {
				t.Fatal(err)
			}
			have += k
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for %d datagrams, want 0", n, count)
	}
	for i := range in {
		if in[i].N != 100 || in[i].NN == 0 || in[i].Addr.String() != from.LocalAddr().String() {
			t.Errorf("datagram %d: %d bytes, %d of control messages, from %v", i, in[i].N, in[i].NN, in[i].Addr)
		}
	}
}
