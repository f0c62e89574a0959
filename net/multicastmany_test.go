package onload_test

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// member is a socket that has joined a group.
type member interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	SetReadDeadline(t time.Time) error
}

// deliver sends that many numbered datagrams of 64 bytes, and checks that each
// member reads all of them in order. At most window are on their way to each.
func deliver(t testing.TB, send func([]byte), members []member, total, window int) {
	t.Helper()
	var read atomic.Int64 // by all members
	// One more datagram was read by all, or by some of them several; one notice
	// waits at most. A channel of every read cost more than what is measured.
	turn, failed := make(chan struct{}, 1), make(chan struct{})
	fail := sync.OnceFunc(func() { close(failed) })
	var wg sync.WaitGroup
	for s, c := range members {
		wg.Go(func() {
			buf := make([]byte, 100)
			c.SetReadDeadline(time.Now().Add(udpPatience))
			for i := range total {
				n, _, err := c.ReadFromUDPAddrPort(buf)
				if err != nil || n != 64 || int(binary.BigEndian.Uint32(buf)) != i {
					t.Errorf("socket %d: %d bytes, number %d, want %d, %v", s, n, binary.BigEndian.Uint32(buf), i, err)
					fail()
					return
				}
				if read.Add(1)%int64(len(members)) == 0 {
					select {
					case turn <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	defer wg.Wait()
	// await reports whether all but the last datagrams sent, window of them, were read.
	await := func(sent, window int) bool {
		for read.Load() < int64((sent-window)*len(members)) {
			select {
			case <-turn:
			case <-failed:
				return false
			}
		}
		return true
	}
	msg := make([]byte, 64)
	for i := range total {
		if !await(i, window-1) {
			return
		}
		binary.BigEndian.PutUint32(msg, uint32(i))
		send(msg)
	}
	await(total, 0)
}

// TestMulticastMany: a hundred sockets get every datagram that the kernel of
// another host sends, in order. The sender waits for the readers.
func TestMulticastMany(t *testing.T) {
	sockets, total := 100, 2000
	if testing.Short() {
		sockets, total = 30, 500
	}
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	pin(t)
	group := groups[0].group
	var members []member
	for range sockets {
		members = append(members, joinGroup(t, e, p.A, "udp4", group))
	}
	deliver(t, groupSender(t, p.B, group, p.B.Addr4), members, total, 32)
	if n := received(e, p.A); n != uint64(sockets*total) {
		t.Errorf("the stack gave %d datagrams to sockets, not %d", n, sockets*total)
	}
}

// BenchmarkMulticastMany is a datagram to a hundred sockets of this process, from
// the kernel of another host.
func BenchmarkMulticastMany(b *testing.B) {
	const sockets, window = 100, 8 // the kernel loses some of more
	group := groups[0].group
	run := func(b *testing.B, p *lab.Pair, members []member) {
		send := groupSender(b, p.B, group, p.B.Addr4)
		b.ResetTimer()
		deliver(b, send, members, b.N, window)
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "datagrams/s")
	}
	b.Run("onload", func(b *testing.B) {
		p := lab.NewPair(b, lab.Options{})
		e := vethEngine(b, p.A, onload.Config{})
		var members []member
		for range sockets {
			members = append(members, joinGroup(b, e, p.A, "udp4", group))
		}
		run(b, p, members)
	})
	b.Run("kernel", func(b *testing.B) {
		p := lab.NewPair(b, lab.Options{})
		var members []member
		for range sockets {
			members = append(members, kernelMember(b, p.A, "udp4", group))
		}
		run(b, p, members)
	})
}

// BenchmarkMulticastSend is a datagram of 64 bytes to a group that another host hears:
// by the kernel, which gives the sockets of its own host a copy, and by our queues
// where IP_MULTICAST_LOOP is off.
func BenchmarkMulticastSend(b *testing.B) {
	for _, loop := range []bool{true, false} {
		b.Run(map[bool]string{true: "loop, kernel", false: "onload"}[loop], func(b *testing.B) {
			p := lab.NewPair(b, lab.Options{})
			e := vethEngine(b, p.A, onload.Config{})
			group := groups[0].group
			kernelMember(b, p.B, "udp4", group)
			pc, err := e.ListenPacket("udp", netip.AddrPortFrom(p.A.Addr4, 0).String())
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { pc.Close() })
			c := pc.(*onload.UDPConn)
			if !loop {
				setUDP(b, c, quiet("udp4"))
			}
			before, to, msg := sent(e, p.A), netip.AddrPortFrom(group, groupPort), make([]byte, 64)
			b.ResetTimer()
			for range b.N {
				if _, err := c.WriteToUDPAddrPort(msg, to); err != nil {
					b.Fatal(err)
				}
			}
			if ours := sent(e, p.A) - before; (ours > 0) == loop {
				b.Errorf("the stack sent %d datagrams", ours)
			}
		})
	}
}
