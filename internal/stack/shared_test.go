package stack

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ring"
)

// hostNet is the network of a host at local, with neighbours.
func hostNet(local netip.Addr, neighbours map[netip.Addr][6]byte) *control.Static {
	n := control.NewStatic(control.Link{
		Index: 1, Name: "test", MAC: macs[local], MTU: 1500, Up: true,
		Addrs: []netip.Prefix{netip.PrefixFrom(local, 24)},
	})
	for a, mac := range neighbours {
		n.SetNeighbor(1, a, mac)
	}
	return n
}

// TestSharedDevice: two Stacks have a queue of a device each. Packets of a queue
// reach its Stack. A Stack that closes leaves the other as it is, and gives every
// frame back once its sockets are closed.
func TestSharedDevice(t *testing.T) {
	da, db, err := sim.New(sim.Config{Queues: 2, TakeAll: true}, sim.Config{TakeAll: true}, sim.LinkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	peer, err := simStack(db, addrB, addrA, pairOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	l, err := peer.ListenTCP(netip.AddrPortFrom(addrB, 80), nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, _, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				b := make([]byte, 4096)
				for {
					n, err := c.Read(b)
					if err != nil {
						c.Close()
						return
					}
					_, _ = c.Write(b[:n]) // the Read sees what became of it
				}
			}()
		}
	}()

	keys := &Keys{ISN: [16]byte{1}, Timestamp: [16]byte{2}}
	stacks := make([]*Stack, 2)
	for i := range stacks {
		s, err := New(Config{
			Links: []Link{{Name: "test", Index: 1, Queues: da.Queues()[i : i+1], Steering: da}}, Arena: da.Arena(),
			Net: hostNet(addrA, map[netip.Addr][6]byte{addrB: macs[addrB]}), Keys: keys,
		})
		if err != nil {
			t.Fatal(err)
		}
		stacks[i] = s
	}
	if stacks[0].host.ISNKey != keys.ISN || stacks[1].host.TSKey != keys.Timestamp {
		t.Error("the stacks do not use the keys")
	}
	rss := driver.NewToeplitz(da.Caps().RSSKey)
	local := netip.AddrPortFrom(addrA, 10000)
	// dial connects from the next port whose answers come by queue qi.
	dial := func(qi int) *TCPConn {
		for {
			local = netip.AddrPortFrom(addrA, local.Port()+1)
			if driver.RSSQueue(da.Caps().RSSTable, rss.Flow(l.Addr(), local)) == qi {
				break
			}
		}
		c, err := stacks[qi].DialTCP(t.Context(), local, l.Addr(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	echo := func(c *TCPConn) {
		t.Helper()
		p := make([]byte, 3000)
		if _, err := c.Write(p); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, p); err != nil {
			t.Fatal(err)
		}
	}
	var cs [2][]*TCPConn
	for qi := range stacks {
		for range 4 {
			c := dial(qi)
			echo(c)
			cs[qi] = append(cs[qi], c)
		}
	}
	// Data that nobody reads, and datagrams for a neighbour that does not answer.
	c := cs[0][0]
	if _, err := c.Write(make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	if err := c.s.wait(c, dirRead, &c.r); err != nil {
		t.Fatal(err)
	}
	u, err := stacks[0].OpenUDP(netip.AddrPortFrom(addrA, 9), netip.AddrPort{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.WriteTo(make([]byte, 4000), netip.MustParseAddrPort("10.0.0.77:9")); err != nil {
		t.Fatal(err)
	}
	if err := stacks[0].Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range cs[0] {
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
	u.Close()
	for _, c := range cs[1] {
		echo(c)
		c.Close()
	}
	c = dial(1)
	echo(c)
	if err := stacks[1].Close(); err != nil {
		t.Fatal(err)
	}
	c.Close()
	peer.Close() // nothing arrives while frames are counted
	lent := 0
	for _, q := range da.Queues() {
		ds := make([]ring.Desc, rxBatch)
		for n := q.RxBatch(ds); n > 0; n = q.RxBatch(ds) {
			for _, d := range ds[:n] {
				da.Arena().Free(d.Frame)
			}
		}
		lent += q.Caps().RxRing - q.Lacks()
	}
	if free, all := da.Arena().FreeFrames(), da.Arena().Frames(); free+lent != all {
		t.Errorf("%d frames are free and %d lent to the device, of %d", free, lent, all)
	}
	if err := da.Close(); err != nil {
		t.Error(err)
	}
}

// TestQueuesOfTwoDevices: a Stack has the queues of two devices with one arena.
// Packets leave by the one that the route names.
func TestQueuesOfTwoDevices(t *testing.T) {
	arena, err := ring.NewArena(1<<14, 2048)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Arena: arena}
	net := control.NewStatic(
		control.Link{Index: 1, Name: "one", MAC: macs[addrA], MTU: 1500, Up: true, Addrs: []netip.Prefix{netip.PrefixFrom(addrA, 24)}},
		control.Link{Index: 2, Name: "two", MAC: macs[addrA], MTU: 1500, Up: true},
	)
	var peers []*Stack
	for i, virtual := range []bool{false, true} {
		da, db, err := sim.New(sim.Config{TakeAll: true, Arena: arena, Virtual: virtual}, sim.Config{TakeAll: true, TxCsum: virtual}, sim.LinkConfig{})
		if err != nil {
			t.Fatal(err)
		}
		defer da.Close()
		cfg.Links = append(cfg.Links, Link{Name: da.Name(), Index: i + 1, Queues: da.Queues(), Steering: da})
		at, mac := netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 2)}), [6]byte{2, 0, 0, 0, 0, byte(i + 2)}
		p, err := simStack(db, at, addrA, pairOptions{config: func(c *Config) {
			n := hostNet(at, map[netip.Addr][6]byte{addrA: macs[addrA]})
			own, _ := n.Link(1)
			own.MAC = mac
			n.SetLink(own)
			c.Net = n
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		net.AddRoute(control.StaticRoute{Dst: netip.PrefixFrom(at, 32), Link: i + 1, Src: addrA})
		net.SetNeighbor(i+1, at, mac)
		peers = append(peers, p)
	}
	cfg.Net = net
	cfg.Close = arena.Close
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, p := range peers {
		c, d := connect(t, p, s, addrA)
		for _, ends := range [][2]*TCPConn{{c, d}, {d, c}} {
			if _, err := ends[0].Write(make([]byte, 20000)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(ends[1], make([]byte, 20000)); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		d.Close()
	}
	if st := s.Stats(); st.RxChecksum != 0 || st.Queues[0].TxPackets == 0 || st.Queues[1].TxPackets == 0 {
		t.Errorf("%d wrong checksums, packets by each queue: %d, %d", st.RxChecksum, st.Queues[0].TxPackets, st.Queues[1].TxPackets)
	}
}
