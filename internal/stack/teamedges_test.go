package stack

import (
	"bytes"
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// TestTeamSourcesUndecided: where nobody says whether a source may send, the packets
// of connections and connected sockets go on also by the queues of another stack.
func TestTeamSourcesUndecided(t *testing.T) {
	const n = 4
	var net *undecided
	var dev *takingBack
	team, peer := newTeam(t, n, pairOptions{config: func(c *Config) {
		if net == nil { // the first one is the team's
			net = &undecided{Network: c.Net}
			dev = &takingBack{Steering: c.Links[0].Steering, ports: map[uint16]int{}}
			c.Net, c.Links[0].Steering = net, dev
		}
	}})
	l, err := peer.ListenTCP(netip.AddrPortFrom(addrB, 80), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go serveEcho(l)
	net.silent.Store(true)
	for _, s := range team {
		locked(s, s.locals.changed)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	everyEcho(t, func(i int) (*TCPConn, error) {
		return team[i%n].DialTCP(ctx, netip.AddrPortFrom(addrA, uint16(20000+i)), l.Addr(), nil)
	})
	buf := make([]byte, 8)
	for i := range 16 {
		far, err := peer.OpenUDP(netip.AddrPortFrom(addrB, uint16(6000+i)), netip.AddrPort{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		near, err := team[i%n].OpenUDP(netip.AddrPortFrom(addrA, uint16(7000+i)), far.LocalAddr(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := far.WriteTo([]byte("x"), near.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		soon(t, "the datagram comes, or goes back", func() bool {
			return dev.took(near.LocalAddr().Port()) > 0 || near.SetReadDeadline(time.Now().Add(time.Millisecond)) == nil && readOne(near, buf) == 1
		})
		if dev.took(near.LocalAddr().Port()) > 0 {
			t.Errorf("the datagram to %v went back to the kernel", near.LocalAddr())
		}
		near.Close()
		far.Close()
	}
	if handOvers(team) == 0 {
		t.Error("no packet was handed over")
	}
}

// readOne reads a datagram, and returns its length; 0: none came.
func readOne(u *UDPConn, buf []byte) int {
	n, _, _, _, err := u.ReadFrom(buf)
	if err != nil {
		return 0
	}
	return n
}

// TestTeamGroupFragments: a datagram to a group reaches those that hear it, also if it
// comes in fragments that another stack puts together.
func TestTeamGroupFragments(t *testing.T) {
	const n = 4
	team, peer := newTeam(t, n, pairOptions{nic: sim.Config{TakeAll: true}})
	at := netip.AddrPortFrom(group4, 5000)
	o := UDPOptions{GroupsOnly: true}
	for _, s := range team {
		u, err := s.OpenUDP(netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port()), netip.AddrPort{}, &o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { u.Close() })
		if o.Forward == nil {
			o.Forward = u
		}
	}
	far, err := peer.OpenUDP(netip.AddrPortFrom(addrB, 0), netip.AddrPort{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	got := make([]byte, 10_000)
	for i := range 16 { // between so many pairs of addresses each stack puts some together
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 1, 2, byte(i)}), at.Port())
		msg := bytes.Repeat([]byte{byte(i)}, 5000)
		if _, err := far.WriteTo(msg, to); err != nil {
			t.Fatal(err)
		}
		if err := o.Forward.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		k, _, _, dst, err := o.Forward.ReadFrom(got)
		if err != nil || !bytes.Equal(got[:k], msg) || dst != to {
			t.Fatalf("%d bytes to %v, %v; want %d to %v", k, dst, err, len(msg), to)
		}
	}
	if handOvers(team) == 0 {
		t.Error("no fragment was handed over")
	}
}

// TestInboxFragments: a flood of fragments leaves half of an inbox to packets of flows,
// and also where the frames are few.
func TestInboxFragments(t *testing.T) {
	const most = 64
	var in inbox
	ds := []ring.Desc{{}}
	put := func(kind uint8) (n int) {
		for in.put(&handed{kind: kind, descs: 1}, ds, most) {
			n++
		}
		return n
	}
	for range 2 { // taking them makes room again
		if n := put(handedFragment); n != most/2 {
			t.Errorf("%d fragments of %d places", n, most)
		}
		if n := put(handedPacket); n != most/2 {
			t.Errorf("%d packets beside fragments in %d places", n, most)
		}
		in.takeAll()
	}
}

// TestInboxFullErrors: ICMP errors that an inbox has no room for are counted.
func TestInboxFullErrors(t *testing.T) {
	team, _ := newTeam(t, 2, pairOptions{})
	s, full := team[0], &team[1].demux.mates.in
	var kept, lost uint64
	locked(s, func() {
		s.rx.on = s.home[0]
		full.mu.Lock()
		before := full.pkts
		full.pkts = make([]handed, inboxMost)
		full.mu.Unlock()
		was, drops := s.counters.handOvers.Load(), s.counters.handDrops.Load()
		s.handTo(1, handedError, nil, &ip.ICMPError{})
		kept, lost = s.counters.handOvers.Load()-was, s.counters.handDrops.Load()-drops
		full.mu.Lock()
		full.pkts = before
		full.mu.Unlock()
	})
	if kept != 0 || lost != 1 {
		t.Errorf("%d errors handed over, %d lost; want none and 1", kept, lost)
	}
}
