package stack

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// newTeam joins n stacks, with a queue of one device each, and a stack of one queue
// by an in-memory link, and checks at the end that the team owns no flow any more.
func newTeam(t *testing.T, n int, o pairOptions) (team []*Stack, peer *Stack) {
	t.Helper()
	nic := o.nic
	nic.Queues = n
	da, db, err := sim.New(nic, o.nic, o.link)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Net: hostNet(addrA, map[netip.Addr][6]byte{addrB: macs[addrB]}), Profile: o.profile, TCP: o.tcp}
	c.Over(1, da)
	if o.config != nil {
		o.config(&c)
	}
	if team, err = NewTeam(c, n); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, s := range team {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	if peer, err = simStack(db, addrB, addrA, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	return team, peer
}

// listenOn listens on the port with a shard on each stack, and returns the one whose
// Accept gets all connections.
func listenOn(t *testing.T, team []*Stack, port uint16) *TCPListener {
	t.Helper()
	var o TCPOptions
	for _, s := range team {
		l, err := s.ListenTCP(netip.AddrPortFrom(addrA, port), &o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		if o.Forward == nil {
			o.Forward = l
		}
	}
	return o.Forward
}

// serveEcho answers every connection of l with what it sends.
func serveEcho(l *TCPListener) {
	for {
		c, _, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			b := make([]byte, 1<<16)
			for {
				n, err := c.Read(b)
				if err != nil {
					return
				}
				if _, err := c.Write(b[:n]); err != nil {
					return
				}
			}
		}()
	}
}

func checkEcho(c *TCPConn, size int) error {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(i * 7)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(p)
		sent <- err
	}()
	got := make([]byte, size)
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(p, got) {
		return fmt.Errorf("what came back differs")
	}
	return <-sent
}

func handOvers(team []*Stack) (n uint64) {
	for _, s := range team {
		n += s.counters.handOvers.Load()
		n += s.counters.handDrops.Load()
	}
	return n
}

// everyEcho has 24 connections that dial makes echo at once.
func everyEcho(t *testing.T, dial func(i int) (*TCPConn, error)) {
	t.Helper()
	done := make(chan error)
	const conns = 24
	for i := range conns {
		go func() {
			c, err := dial(i)
			if err == nil {
				err = checkEcho(c, 40_000)
				_ = c.Close()
			}
			done <- err
		}()
	}
	for range conns {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestTeamDial: the answers to a connection reach the stack that dialled, whichever
// queue they come by. At the end nobody owns a flow but those in TIME-WAIT.
func TestTeamDial(t *testing.T) {
	for _, n := range []int{2, 4} {
		for _, p := range []Profile{Balanced, Latency, Throughput} {
			t.Run(fmt.Sprintf("stacks=%d/%v", n, p), func(t *testing.T) {
				team, peer := newTeam(t, n, pairOptions{profile: p})
				l, err := peer.ListenTCP(netip.AddrPortFrom(addrB, 80), nil)
				if err != nil {
					t.Fatal(err)
				}
				go serveEcho(l)
				everyEcho(t, func(i int) (*TCPConn, error) {
					// Ports that the kernel of a user chooses, so that half of them and
					// more lead to other queues.
					return team[i%n].DialTCP(t.Context(), netip.AddrPortFrom(addrA, uint16(20000+i)), l.Addr(), nil)
				})
				if handOvers(team) == 0 {
					t.Error("no packet was handed over")
				}
				waitUnowned(t, team)
			})
		}
	}
}

// TestTeamPorts: a stack that chooses the port of a connection gets the answers by
// its own queues, where the hash of the device is known.
func TestTeamPorts(t *testing.T) {
	team, peer := newTeam(t, 2, pairOptions{})
	l, err := peer.ListenTCP(netip.AddrPortFrom(addrB, 80), nil)
	if err != nil {
		t.Fatal(err)
	}
	go serveEcho(l)
	everyEcho(t, func(i int) (*TCPConn, error) {
		return team[i%2].DialTCP(t.Context(), netip.AddrPort{}, l.Addr(), nil)
	})
	if n := handOvers(team); n > 0 {
		t.Errorf("%d packets were handed over", n)
	}
}

// waitUnowned waits until a team owns no flow but those in TIME-WAIT.
func waitUnowned(t *testing.T, team []*Stack) {
	t.Helper()
	flows := &team[0].demux.mates.team.flows
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		waiting := 0
		for _, s := range team {
			locked(s, func() { waiting += s.demux.timeWaits.len() + s.demux.flows.len() })
		}
		if n := flows.len(); n == waiting {
			return
		} else if time.Since(start) > patience {
			t.Fatalf("%d flows are owned, %d are left", n, waiting)
		}
	}
}

// TestTeamListen: clients reach a listener by every stack, and one Accept returns
// all of them.
func TestTeamListen(t *testing.T) {
	for _, n := range []int{2, 4} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			team, peer := newTeam(t, n, pairOptions{})
			go serveEcho(listenOn(t, team, 80))
			everyEcho(t, func(i int) (*TCPConn, error) { // from ports whose hashes lead to every queue
				return peer.DialTCP(t.Context(), netip.AddrPortFrom(addrB, uint16(30000+i)), netip.AddrPortFrom(addrA, 80), nil)
			})
			for i, s := range team {
				if s.counters.tcpAccepts.Load() == 0 {
					t.Errorf("stack %d accepted none of 24 connections", i)
				}
			}
			waitUnowned(t, team)
		})
	}
}

// TestTeamKeys: the stacks of a team have the same secrets, so that any of them
// knows the cookies of another, and a new connection's sequence numbers follow those
// of the one before.
func TestTeamKeys(t *testing.T) {
	team, _ := newTeam(t, 2, pairOptions{})
	if a, b := team[0].host, team[1].host; a.ISNKey != b.ISNKey || a.TSKey != b.TSKey || a.ISNKey == [16]byte{} {
		t.Error("the keys differ")
	}
}

// TestTeamUDP: datagrams from its peer reach a connected socket by every queue, those
// of others a socket that is bound to the same port, and one in fragments is put
// together wherever they come.
func TestTeamUDP(t *testing.T) {
	const n = 4
	team, peer := newTeam(t, n, pairOptions{})
	at := netip.AddrPortFrom(addrA, 53)
	var o UDPOptions
	for _, s := range team {
		u, err := s.OpenUDP(at, netip.AddrPort{}, &o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { u.Close() })
		if o.Forward == nil {
			o.Forward = u
		}
	}
	bound := o.Forward
	for i := range 16 {
		far, err := peer.OpenUDP(netip.AddrPortFrom(addrB, uint16(6000+i)), netip.AddrPort{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		near, err := team[i%n].OpenUDP(netip.AddrPortFrom(addrA, uint16(7000+i)), far.LocalAddr(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{1, 1400, 9000} {
			for _, to := range []*UDPConn{near, bound} {
				msg := bytes.Repeat([]byte{byte(i + size)}, size)
				if _, err := far.WriteTo(msg, to.LocalAddr()); err != nil {
					t.Fatal(err)
				}
				if err := to.SetReadDeadline(time.Now().Add(patience)); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, 10000)
				k, _, src, dst, err := to.ReadFrom(got)
				if err != nil || !bytes.Equal(got[:k], msg) || src != far.LocalAddr() || dst != to.LocalAddr() {
					t.Fatalf("%d: %d of %d bytes from %v to %v, %v", i, k, size, src, dst, err)
				}
			}
		}
		near.Close()
		far.Close()
	}
	if handOvers(team) == 0 {
		t.Error("no packet was handed over")
	}
	waitUnowned(t, team)
}

// TestTeamClaims: a flow belongs to one stack of a team.
func TestTeamClaims(t *testing.T) {
	team, peer := newTeam(t, 2, pairOptions{})
	l, err := peer.ListenTCP(netip.AddrPortFrom(addrB, 80), nil)
	if err != nil {
		t.Fatal(err)
	}
	a, b := &team[0].demux.mates, &team[1].demux.mates
	local := netip.AddrPortFrom(addrA, 9999)
	if !a.claim(ip.ProtoTCP, local, l.Addr()) || b.claim(ip.ProtoTCP, local, l.Addr()) {
		t.Error("the second claim of a flow is good")
	}
	if c, err := team[1].DialTCP(t.Context(), local, l.Addr(), nil); err == nil {
		c.Close()
		t.Error("a second connection has the addresses of one")
	}
	a.release(ip.ProtoTCP, local, l.Addr())
	c, err := team[1].DialTCP(t.Context(), local, l.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// TestTeamTooFewQueues: a link that has no queue for each stack is refused, and what
// the configuration owns is closed.
func TestTeamTooFewQueues(t *testing.T) {
	da, db, err := sim.New(sim.Config{Queues: 2}, sim.Config{}, sim.LinkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	c := Config{Net: hostNet(addrA, nil)}
	c.Over(1, da)
	if _, err := NewTeam(c, 3); err == nil {
		t.Fatal("3 stacks of 2 queues")
	}
	if da.Queues()[0].Err() == nil {
		t.Error("the device is open")
	}
}

// TestTeamAccept: a goroutine that spins in Accept polls the queues of every stack,
// and leads no stack but its own once it has returned.
func TestTeamAccept(t *testing.T) {
	const n = 4
	team, peer := newTeam(t, n, pairOptions{profile: Latency})
	l := listenOn(t, team, 80)
	go func() {
		for range 4 * n {
			c, err := peer.DialTCP(t.Context(), netip.AddrPort{}, netip.AddrPortFrom(addrA, 80), nil)
			if err != nil {
				t.Error(err)
				l.Close()
				return
			}
			defer c.Close()
		}
	}()
	for range 4 * n {
		if _, _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range team {
		if s.waits.leader.Load() {
			t.Errorf("stack %d has a leader, and nobody waits", i)
		}
	}
	if err := l.SetDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Accept(); err == nil {
		t.Fatal("a connection too many")
	}
}

// TestHandshakes: the stack that took a flow's SYN is known for a minute, whoever
// asks, and a flood takes no memory: what it replaces is forgotten.
func TestHandshakes(t *testing.T) {
	var h handshakes
	const hash, later = 0xfeed_0123_4567_89ab, int64(60e9)
	if _, ok := h.taker(hash, 1); ok {
		t.Error("a taker of a SYN that never came")
	}
	h.take(hash, 3, 1)
	for _, now := range []int64{1, later} {
		if i, ok := h.taker(hash, now); !ok || i != 3 {
			t.Errorf("after %d s: stack %d, %v, want 3", now/1e9, i, ok)
		}
	}
	if _, ok := h.taker(hash, 5*later); ok {
		t.Error("the taker is known after five minutes")
	}
	if _, ok := h.taker(hash^1<<40, 1); ok {
		t.Error("another flow has the same taker")
	}
	h.take(hash^1<<40, 2, 1) // the same place
	if _, ok := h.taker(hash, 1); ok {
		t.Error("both of two flows are known that have one place")
	}
}

// TestTeamRepeatedSYN: a SYN that comes again, by the queue of another stack, belongs
// to the handshake that the first one began; what the client sends next does too,
// whichever queue it comes by.
func TestTeamRepeatedSYN(t *testing.T) {
	team, _ := newTeam(t, 2, pairOptions{})
	listenOn(t, team, 80)
	seg := &tcp.Segment{Local: netip.AddrPortFrom(addrA, 80), Remote: netip.MustParseAddrPort("10.0.0.2:999"), Flags: tcp.FlagSYN}
	first, second := &team[1].demux.mates, &team[0].demux.mates
	if _, ok := first.handshake(seg, 1); ok {
		t.Error("the first SYN is another stack's")
	}
	if i, ok := second.handshake(seg, 1); !ok || i != 1 {
		t.Errorf("the second SYN is stack %d's, %v, want 1", i, ok)
	}
	seg.Flags = tcp.FlagACK
	if i, ok := second.handshake(seg, 1); !ok || i != 1 {
		t.Errorf("the ACK is stack %d's, %v, want 1", i, ok)
	}
	if _, ok := first.handshake(seg, 1); ok {
		t.Error("the ACK is not its own")
	}
}

// TestTeamFrames: packets that were handed over, and sockets that are gone, leave no
// frame taken.
func TestTeamFrames(t *testing.T) {
	team, peer := newTeam(t, 2, pairOptions{})
	free := func() int { return TeamStats(team, 1).FreeFrames }
	before := free()
	l, err := peer.ListenTCP(netip.AddrPortFrom(addrB, 80), nil)
	if err != nil {
		t.Fatal(err)
	}
	go serveEcho(l)
	everyEcho(t, func(i int) (*TCPConn, error) {
		return team[i%2].DialTCP(t.Context(), netip.AddrPortFrom(addrA, uint16(20000+i)), l.Addr(), nil)
	})
	for start := time.Now(); free() < before; time.Sleep(time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatalf("%d frames are free, %d were", free(), before)
		}
	}
	st := TeamStats(team, 1)
	if st.TCPDials != 24 || st.Frames != team[0].arena.Frames() || len(st.Queues) != 2 || st.HandOvers == 0 {
		t.Errorf("%d dials, %d frames, %d queues, %d packets handed over", st.TCPDials, st.Frames, len(st.Queues), st.HandOvers)
	}
}
