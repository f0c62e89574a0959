package stack

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// prey is a victim with connections from an honest peer, in whose name the
// tests forge segments. They know all that goes over the link, and use as much
// of it as the attacker of the row would.
type prey struct {
	victim
	peer     *Stack
	conns    [2]pairOf // the target, and another that must not notice
	listener *TCPListener

	mu   sync.Mutex
	seen map[netip.AddrPort]*seen // by the peer's end
}

// pairOf are both ends of a connection: the peer's and the victim's.
type pairOf struct{ peer, own *TCPConn }

// seen is what went over the link between the victim and one end of the peer.
type seen struct {
	next     [2]uint32 // sequence number behind the last byte, by sim.Dir
	ts       [2]uint32 // last TSval
	isn      uint32    // the victim's
	answers  int       // segments that the victim sent
	acks     int       // those of them that only acknowledge: a timer sends none
	resets   int
	firstTSs []uint32
	ids      []uint16 // IP identifications of the victim
	dfs      []bool
}

func newPrey(t testing.TB, o pairOptions) *prey {
	t.Helper()
	v := &prey{seen: map[netip.AddrPort]*seen{}}
	o.nic.TakeAll = true
	o.link.Tap = v.tap
	a, b := newPair(t, o)
	v.peer, v.Stack = a, b
	v.honest = udpPair(t, a, b, addrB, nil)
	for i := range v.conns {
		v.conns[i].peer, v.conns[i].own = connect(t, a, b, addrB)
	}
	l, err := b.ListenTCP(netip.AddrPortFrom(addrB, 0), &TCPOptions{Backlog: 64})
	if err != nil {
		t.Fatal(err)
	}
	v.listener = l
	t.Cleanup(func() { l.Close() })
	v.unnoticed(t)
	return v
}

// tap reads the TCP segments on the link.
func (v *prey) tap(d sim.Dir, b []byte) {
	var p ip.Packet
	if ip.Parse(b, len(b), &p) != nil || p.Proto != ip.ProtoTCP || p.Fragment {
		return
	}
	var s tcp.Segment
	n, err := s.Parse(b[p.L4Off:], p.L4Len)
	if err != nil {
		return
	}
	src, dst := tcp.Ports(b[p.L4Off:])
	end := netip.AddrPortFrom(p.Dst, dst)
	if d == sim.AtoB {
		end = netip.AddrPortFrom(p.Src, src)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.seen[end]
	if k == nil {
		k = &seen{}
		v.seen[end] = k
	}
	s.Len = p.L4Len - n
	if d == sim.BtoA {
		k.answers++
		if s.Flags.Has(tcp.FlagRST) {
			k.resets++
			return
		}
		if s.Flags == tcp.FlagACK && s.Len == 0 {
			k.acks++
		}
		if s.Flags.Has(tcp.FlagSYN) {
			k.isn = s.Seq
			k.firstTSs = append(k.firstTSs, s.Opt.TSVal)
		}
		k.ids = append(k.ids, binary.BigEndian.Uint16(b[14+4:]))
		k.dfs = append(k.dfs, b[14+6]&0x40 != 0)
	}
	if end := s.End(); k.next[d] == 0 || int32(end-k.next[d]) > 0 {
		k.next[d] = end
	}
	if s.Opt.HasTS {
		k.ts[d] = s.Opt.TSVal
	}
}

// of returns what was seen of the connection c.
func (v *prey) of(c pairOf) seen { return v.ofEnd(c.peer.LocalAddr()) }

func (v *prey) ofEnd(a netip.AddrPort) seen {
	v.mu.Lock()
	defer v.mu.Unlock()
	if k := v.seen[a]; k != nil {
		return *k
	}
	return seen{}
}

// forged is a segment of an attacker.
type forged struct {
	flags    tcp.Flags
	seq, ack uint32
	opt      []byte
	data     []byte
	urg      uint16
	shut     bool   // window of zero
	wnd      uint16 // window; 0: the largest, unless shut
}

// tcpOf is the TCP segment f with its checksum.
func tcpOf(src, dst netip.AddrPort, f forged) []byte {
	opt := append([]byte{}, f.opt...)
	for len(opt)%4 != 0 {
		opt = append(opt, 0)
	}
	b := make([]byte, 20, 20+len(opt)+len(f.data))
	binary.BigEndian.PutUint16(b[0:], src.Port())
	binary.BigEndian.PutUint16(b[2:], dst.Port())
	binary.BigEndian.PutUint32(b[4:], f.seq)
	binary.BigEndian.PutUint32(b[8:], f.ack)
	b[12], b[13] = byte(20+len(opt))<<2, byte(f.flags)
	switch {
	case f.wnd > 0:
		binary.BigEndian.PutUint16(b[14:], f.wnd)
	case !f.shut:
		binary.BigEndian.PutUint16(b[14:], 0xffff)
	}
	binary.BigEndian.PutUint16(b[18:], f.urg)
	b = append(append(b, opt...), f.data...)
	sum := ip.Add(ip.PseudoSum(src.Addr(), dst.Addr(), ip.ProtoTCP, len(b)), ip.Sum(b))
	binary.BigEndian.PutUint16(b[16:], ^sum)
	return b
}

// forge returns a frame in the name of c's peer.
func (c pairOf) forge(f forged) []byte {
	src, dst := c.peer.LocalAddr(), c.peer.RemoteAddr()
	return packetOf(src.Addr(), dst.Addr(), ip.ProtoTCP, tcpOf(src, dst, f))
}

// tsOption is the timestamps option.
func tsOption(val, ecr uint32) []byte {
	b := []byte{1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(b[4:], val)
	binary.BigEndian.PutUint32(b[8:], ecr)
	return b
}

// works checks that both ends of c still understand each other.
func (c pairOf) works(t testing.TB) {
	t.Helper()
	data, buf := make([]byte, 20000), make([]byte, 20000)
	for i := range data {
		data[i] = byte(i * 7)
	}
	for _, p := range [][2]*TCPConn{{c.peer, c.own}, {c.own, c.peer}} {
		start := time.Now()
		p[0].SetWriteDeadline(start.Add(patience))
		n, err := p[0].Write(data)
		if err != nil {
			t.Fatalf("%v: wrote %d bytes, %v\n%+v\n%+v", p[0].LocalAddr(), n, err, p[0].info(), p[1].info())
		}
		written := time.Since(start)
		p[1].SetReadDeadline(time.Now().Add(patience))
		clear(buf)
		if n, err := io.ReadFull(p[1], buf); err != nil || !bytes.Equal(buf, data) {
			t.Fatalf("%v: read %d bytes, %v, written in %v\n%+v\n%+v", p[1].LocalAddr(), n, err, written, p[0].info(), p[1].info())
		}
	}
	c.settle(t)
}

// settle waits until all is acknowledged.
func (c pairOf) settle(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		i, j := c.peer.info(), c.own.info()
		if i.InFlight+i.Unsent+j.InFlight+j.Unsent == 0 && i.BytesReceived == j.BytesDelivered {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not acknowledged: %+v\n%+v", i, j)
		}
	}
}

func (c *TCPConn) info() (i tcp.Info) {
	_ = c.control(func() { i = c.tc.Info(c.s.now) })
	return i
}

// unnoticed checks that connections and datagrams go on as if nothing had
// happened.
func (v *prey) unnoticed(t testing.TB) {
	t.Helper()
	for _, c := range v.conns {
		c.works(t)
	}
	v.unharmed(t, 100)
}

// fewAnswers checks that what was sent since is no more than rate limits of
// one in half a second let pass.
func fewAnswers(t testing.TB, before, after seen, since time.Time) {
	t.Helper()
	most := 2 + int(time.Since(since)/(500*time.Millisecond))
	if n := after.answers - before.answers; n > most {
		t.Errorf("%d answers in %v, at most %d", n, time.Since(since), most)
	}
	if n := after.resets - before.resets; n != 0 {
		t.Errorf("%d resets", n)
	}
}

// Attack 1: a reset in the window that misses the one right sequence number is
// answered by a challenge ACK now and then, and one outside by nothing (RFC 5961
// section 3).
func TestAttack01BlindRST(t *testing.T) {
	v := newPrey(t, pairOptions{})
	c := v.conns[0]
	k, start := v.of(c), time.Now()
	for i := range uint32(3000) {
		v.suffer(t,
			c.forge(forged{flags: tcp.FlagRST, seq: k.next[0] + 1 + i*7}),
			c.forge(forged{flags: tcp.FlagRST | tcp.FlagACK, seq: k.next[0] - 1 - i, ack: k.next[1]}))
	}
	after := v.of(c)
	if after.answers == k.answers {
		t.Error("no challenge")
	}
	fewAnswers(t, k, after, start)
	v.unnoticed(t)
	if n := v.Stats().TCP.EstabResets; n != 0 {
		t.Errorf("%d connections reset", n)
	}
}

// Attack 2: no SYN resets an established connection (RFC 5961 section 4).
func TestAttack02BlindSYN(t *testing.T) {
	v := newPrey(t, pairOptions{})
	c := v.conns[0]
	k, start := v.of(c), time.Now()
	for i := range uint32(3000) {
		v.suffer(t,
			c.forge(forged{flags: tcp.FlagSYN, seq: k.next[0] + i}),
			c.forge(forged{flags: tcp.FlagSYN, seq: i << 20}),
			c.forge(forged{flags: tcp.FlagSYN | tcp.FlagACK, seq: k.next[0] + i, ack: k.next[1] + i}))
	}
	after := v.of(c)
	if after.answers == k.answers {
		t.Error("no challenge")
	}
	fewAnswers(t, k, after, start)
	v.unnoticed(t)
	if st := v.Stats(); st.TCP.EstabResets != 0 || st.Conns != 2 {
		t.Errorf("%d resets, %d connections", st.TCP.EstabResets, st.Conns)
	}
}

// Attack 3: data and acknowledgements of an attacker that does not know what we
// sent are refused (RFC 5961 section 5), also with good sequence numbers and
// timestamps.
func TestAttack03BlindData(t *testing.T) {
	v := newPrey(t, pairOptions{})
	c := v.conns[0]
	k := v.of(c)
	before := c.own.info()
	opt := tsOption(k.ts[0], k.ts[1])
	for i := range uint32(1000) {
		for _, ack := range []uint32{k.next[1] + 1 + i, k.next[1] - 1<<27 - i<<16, k.next[1] + 1<<31} {
			v.suffer(t, c.forge(forged{flags: tcp.FlagACK | tcp.FlagPSH, seq: k.next[0], ack: ack, opt: opt, data: []byte("evil")}))
		}
		// Without ACK, and without the timestamp that was agreed upon but old.
		v.suffer(t, c.forge(forged{flags: tcp.FlagPSH, seq: k.next[0], data: []byte("evil"), opt: opt}))
		v.suffer(t, c.forge(forged{flags: tcp.FlagACK, seq: k.next[0], ack: k.next[1], data: []byte("evil"), opt: tsOption(k.ts[0]-1-i, k.ts[1])}))
	}
	after := c.own.info()
	if after.BytesReceived != before.BytesReceived || after.BytesDelivered != before.BytesDelivered || after.Unread != 0 || after.OutOfSeq != 0 {
		t.Errorf("took something: %+v, before %+v", after, before)
	}
	v.unnoticed(t)
}

// Attack 4 (CVE-2016-5696): how often one connection is challenged is not to
// be seen from another.
func TestAttack04ChallengeSideChannel(t *testing.T) {
	v := newPrey(t, pairOptions{})
	c, other := v.conns[0], v.conns[1]
	k, o := v.of(c), v.of(other)
	for i := range uint32(5000) {
		v.suffer(t, c.forge(forged{flags: tcp.FlagSYN, seq: k.next[0] + i}))
	}
	v.suffer(t, other.forge(forged{flags: tcp.FlagSYN, seq: o.next[0] + 1}))
	if n := v.of(other).answers - o.answers; n != 1 {
		t.Errorf("%d challenges on a connection of which nobody spoke", n)
	}
	v.unnoticed(t)
}

// synFrom sends a SYN to the listener from a port of a host.
func (v *prey) synFrom(t testing.TB, from netip.AddrPort, seq uint32) {
	t.Helper()
	to := v.listener.Addr()
	opt := append([]byte{2, 4, 5, 180, 4, 2, 1, 3, 3, 7, 1, 1}, tsOption(seq, 0)...)
	v.suffer(t, packetOf(from.Addr(), to.Addr(), ip.ProtoTCP, tcpOf(from, to, forged{flags: tcp.FlagSYN, seq: seq, opt: opt})))
}

// Attack 5: sequence numbers of other connections do not tell those of the
// next (RFC 6528).
func TestAttack05PredictableISN(t *testing.T) {
	v := newPrey(t, pairOptions{})
	var isns [64]uint32
	for i := range isns {
		from := netip.AddrPortFrom(addrA, uint16(20000+i))
		v.synFrom(t, from, 1)
		isns[i] = v.ofEnd(from).isn
	}
	tops, steps := map[uint32]bool{}, map[uint32]bool{}
	for i, n := range isns {
		tops[n>>28] = true
		if i > 0 {
			steps[(n-isns[i-1])>>28] = true
		}
	}
	// Of 64 throws of a die with 16 faces 8 are missing once in 10^12 times.
	if len(tops) < 9 || len(steps) < 9 {
		t.Errorf("%d, %d of 16 parts of the space: %x", len(tops), len(steps), isns)
	}
	if w := newPrey(t, pairOptions{}); w.host.ISNKey == v.host.ISNKey || w.host.TSKey == v.host.TSKey {
		t.Error("two stacks share a key")
	}
	v.unnoticed(t)
}

// Attack 6: ports and timestamp offsets are random (RFC 6056, RFC 7323 section
// 7.1); packets carry no IP ID but DF (RFC 6864).
func TestAttack06PredictablePorts(t *testing.T) {
	v := newPrey(t, pairOptions{})
	var ports []uint16
	for range 16 {
		c, s := connect(t, v.peer, v.Stack, addrB)
		ports = append(ports, c.LocalAddr().Port())
		if c.Close() != nil || s.Close() != nil {
			t.Fatal("close")
		}
	}
	near := 0
	for i := range ports[1:] {
		if d := int(ports[i+1]) - int(ports[i]); d > -4 && d < 4 {
			near++
		}
	}
	if near > 4 {
		t.Errorf("ports %v", ports)
	}
	offsets := map[uint32]bool{}
	for i := range 16 {
		from := netip.AddrPortFrom(addrA, uint16(30000+i))
		v.synFrom(t, from, 1)
		offsets[v.ofEnd(from).firstTSs[0]>>24] = true
	}
	if len(offsets) < 6 {
		t.Errorf("timestamps of %d kinds", len(offsets))
	}
	k := v.of(v.conns[0])
	for i, id := range k.ids {
		if !k.dfs[i] || id != 0 {
			t.Fatalf("packet %d: IP ID %#x, DF %v", i, id, k.dfs[i])
		}
	}
	v.unnoticed(t)
}

// Attack 6: the IP IDs of fragments, of both families, neither count nor repeat
// (RFC 7739 section 5.3).
func TestAttack06PredictableFragmentID(t *testing.T) {
	for _, to := range []netip.Addr{addrB, six[addrB]} {
		var mu sync.Mutex
		var ids []uint32
		tap := func(d sim.Dir, b []byte) {
			var p ip.Packet
			if d == sim.AtoB && ip.Parse(b, len(b), &p) == nil && p.Fragment && p.FragOff == 0 {
				mu.Lock()
				ids = append(ids, p.FragID)
				mu.Unlock()
			}
		}
		a, b := newPair(t, pairOptions{link: sim.LinkConfig{Tap: tap}})
		c := udpPair(t, a, b, to, nil)
		c.SetDeadline(time.Now().Add(patience))
		buf := make([]byte, 3000)
		const n = 200
		for range n {
			if _, err := c.WriteTo(buf, netip.AddrPort{}); err != nil {
				t.Fatal(err)
			}
			if _, _, _, _, err := c.ReadFrom(buf); err != nil {
				t.Fatal(err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		seen, steps := map[uint32]int{}, map[uint32]int{}
		for i, id := range ids {
			seen[id]++
			if i > 0 {
				steps[id-ids[i-1]]++
			}
		}
		// By chance 200 of 65,536 numbers make one pair in four tries.
		if len(ids) != n || len(seen) < n-4 {
			t.Errorf("%v: %d datagrams, %d IDs", to, len(ids), len(seen))
		}
		for step, k := range steps {
			if k > 4 {
				t.Errorf("%v: the ID grew by %#x, %d times", to, step, k)
			}
		}
	}
}

// Attack 7: a flood of SYNs costs a bounded number of entries, and honest clients
// get in all the while.
func TestAttack07SYNFlood(t *testing.T) {
	v := newPrey(t, pairOptions{})
	go func() {
		for {
			c, _, err := v.listener.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	rng := rand.New(rand.NewPCG(7, 7))
	to := v.listener.Addr()
	flood := func(n int) {
		for range n {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(3 + rng.IntN(250))}), uint16(1024+rng.IntN(60000)))
			v.suffer(t, packetOf(from.Addr(), to.Addr(), ip.ProtoTCP, tcpOf(from, to, forged{flags: tcp.FlagSYN, seq: rng.Uint32(), opt: []byte{2, 4, 5, 180}})))
		}
	}
	free := v.Stats().FreeFrames
	for range 10 {
		flood(2000)
		v.begin()
		n := v.listener.tl.Embryonic()
		v.end()
		if n > 64 {
			t.Fatalf("%d half-open connections, backlog 64", n)
		}
		c, err := v.peer.DialTCP(t.Context(), netip.AddrPort{}, to, nil)
		if err != nil {
			t.Fatal("an honest client:", err)
		}
		c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		c.Close()
		v.unnoticed(t)
	}
	st := v.Stats()
	if st.TCP.SyncookiesSent < 10000 {
		t.Errorf("%d cookies: no flood", st.TCP.SyncookiesSent)
	}
	// SYN-ACKs wait for neighbours that do not exist, up to a limit.
	if free-st.FreeFrames > v.host.Reserve+64 {
		t.Errorf("%d frames held", free-st.FreeFrames)
	}
}

// Attack 13: ICMP errors about what is not in flight, and those that ask for
// what no router may ask for, change nothing (RFC 5927).
func TestAttack13ForgedICMP(t *testing.T) {
	v := newPrey(t, pairOptions{})
	c := v.conns[0]
	k, before := v.of(c), c.own.info()
	router := netip.MustParseAddr("10.0.0.9")
	for _, seq := range []uint32{k.next[1] - 1, k.next[1], k.next[1] - 20000, k.next[1] + 1<<30, 0} {
		src, dst := c.own.LocalAddr(), c.own.RemoteAddr()
		quote := packetOf(src.Addr(), dst.Addr(), ip.ProtoTCP, tcpOf(src, dst, forged{flags: tcp.FlagACK, seq: seq, ack: k.next[0]}))[14:]
		for _, m := range []struct {
			typ, code uint8
			rest      uint32
		}{{3, 0, 0}, {3, 1, 0}, {3, 2, 0}, {3, 3, 0}, {3, 4, 68}, {3, 4, 0}, {3, 4, 1400}, {3, 13, 0}, {4, 0, 0}, {5, 1, 0x0a000042}, {11, 0, 0}, {12, 0, 0}} {
			v.suffer(t, icmpOf(router, src.Addr(), m.typ, m.code, m.rest, quote))
		}
	}
	after := c.own.info()
	if after.PathMTU != before.PathMTU || after.SendMSS != before.SendMSS || after.SoftError != nil || after.Cwnd != before.Cwnd {
		t.Errorf("%+v, before %+v", after, before)
	}
	if v.Stats().TCP.OutOfWindowIcmps == 0 {
		t.Error("not counted")
	}
	v.unnoticed(t)
}

// Attack 16 (Sockstress): connections whose peer keeps its window shut, and
// that the server closes, are few: above a limit they are reset, and their
// frames come back. Those in use go on.
func TestAttack16Sockstress(t *testing.T) {
	const limit = 20
	v := newPrey(t, pairOptions{config: func(c *Config) { c.MaxOrphans = limit }})
	bad := netip.MustParseAddr("10.0.0.66")
	v.cfg.Net.(*control.Static).SetNeighbor(1, bad, macs[addrA])
	free := v.Stats().FreeFrames
	to := v.listener.Addr()
	for i := range 10 * limit {
		from := netip.AddrPortFrom(bad, uint16(2000+i))
		v.suffer(t, packetOf(bad, addrB, ip.ProtoTCP, tcpOf(from, to, forged{flags: tcp.FlagSYN, seq: 1, shut: true})))
		isn := v.ofEnd(from).isn
		v.suffer(t, packetOf(bad, addrB, ip.ProtoTCP, tcpOf(from, to, forged{flags: tcp.FlagACK, seq: 2, ack: isn + 1, shut: true})))
		c, _, err := v.listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(make([]byte, 10000)); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if n := v.Stats().Orphans; n > limit {
			t.Fatalf("%d orphans, limit %d", n, limit)
		}
	}
	v.unnoticed(t)
	st := v.Stats()
	if st.Conns > limit+2 || st.TCP.TCPAbortOnMemory < 9*limit {
		t.Errorf("%d connections, %d aborted", st.Conns, st.TCP.TCPAbortOnMemory)
	}
	// Of each at most what was written and its FIN, when the device is done
	// with the rest.
	for end := time.Now().Add(patience); free-v.Stats().FreeFrames > 9*limit+64; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d frames held", free-v.Stats().FreeFrames)
		}
	}
}

// Attack 19: options of any length and content, and urgent pointers to
// anywhere, are taken or dropped; the bytes arrive as they are.
func TestAttack19MalformedOptions(t *testing.T) {
	v := newPrey(t, pairOptions{})
	c := v.conns[0]
	rng := rand.New(rand.NewPCG(19, 19))
	k := v.of(c)
	opts := [][]byte{{2, 0}, {2, 1}, {8, 0}, {5, 1}, {5, 2}, {5, 255}, {3, 3}, {8, 10}, {2, 4, 0}, {34, 2}, {254, 0}, {255, 1},
		bytes.Repeat([]byte{1}, 40), bytes.Repeat([]byte{5, 3, 0}, 13), append(bytes.Repeat([]byte{1}, 39), 8)}
	for i := range 3000 {
		opt := slices.Clone(opts[i%len(opts)])
		if i >= 100 {
			opt = make([]byte, 4*rng.IntN(11))
			for j := range opt {
				opt[j] = byte(rng.Uint32() >> (rng.IntN(4) * 8))
			}
		}
		// Old data, so that nothing of it counts; and a SYN, to the listener.
		f := forged{flags: tcp.FlagACK | tcp.FlagURG, seq: k.next[0] - 1000, ack: k.next[1], opt: opt, urg: uint16(rng.Uint32())}
		b := c.forge(f)
		if i%3 == 0 {
			b[14+20+12] = byte(rng.Uint32()) // data offset: under the checksum, so summed again
			seg := b[14+20:]
			seg[16], seg[17] = 0, 0
			sum := ip.Add(ip.PseudoSum(addrA, addrB, ip.ProtoTCP, len(seg)), ip.Sum(seg))
			binary.BigEndian.PutUint16(seg[16:], ^sum)
		}
		from, to := netip.AddrPortFrom(addrA, uint16(20000+i)), v.listener.Addr()
		v.suffer(t, b, packetOf(addrA, addrB, ip.ProtoTCP, tcpOf(from, to, forged{flags: tcp.FlagSYN, seq: 1, opt: opt})))
	}
	v.unnoticed(t)

	// Urgent data is ordinary data (RFC 6093): nothing is taken out of the
	// stream, wherever the pointer shows.
	for _, urg := range []uint16{0, 1, 3, 4, 5, 0xffff} {
		k := v.of(c)
		opt := tsOption(k.ts[0], k.ts[1])
		v.suffer(t, c.forge(forged{flags: tcp.FlagACK | tcp.FlagURG | tcp.FlagPSH, seq: k.next[0], ack: k.next[1], opt: opt, urg: urg, data: []byte("evil")}))
		buf := make([]byte, 10)
		c.own.SetReadDeadline(time.Now().Add(patience))
		if n, err := c.own.Read(buf); err != nil || string(buf[:n]) != "evil" {
			t.Fatalf("pointer %d: %q, %v", urg, buf[:n], err)
		}
		// The real peer has not sent it, and is told of it; let it be so.
		v.mu.Lock()
		v.seen[c.peer.LocalAddr()].next[0] += 4
		v.mu.Unlock()
	}
	v.conns[1].works(t)
}

// Attack 20: packets that no honest host sends are dropped in silence, and counted.
func TestAttack20Martians(t *testing.T) {
	v := newPrey(t, pairOptions{})
	c := v.conns[0]
	k := v.of(c)
	listening, closed := v.listener.Addr(), netip.AddrPortFrom(addrB, 9)
	from := netip.AddrPortFrom(addrA, 999)
	frame := func(src, dst netip.AddrPort, f forged) []byte {
		return packetOf(src.Addr(), dst.Addr(), ip.ProtoTCP, tcpOf(src, dst, f))
	}
	edit := func(b []byte, off int, with ...byte) []byte {
		copy(b[off:], with)
		return b
	}
	at := func(s string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(s), 999) }
	syn := forged{flags: tcp.FlagSYN, seq: 1}
	xmas := tcp.FlagFIN | tcp.FlagPSH | tcp.FlagURG
	bad := map[string][]byte{
		"LAND":                   frame(listening, listening, syn),
		"from loopback":          frame(at("127.0.0.1"), listening, syn),
		"from a group":           frame(at("224.0.0.1"), listening, syn),
		"from everybody":         frame(at("255.255.255.255"), listening, syn),
		"from port 0":            frame(netip.AddrPortFrom(addrA, 0), listening, syn),
		"to a subnet's everyone": frame(from, netip.AddrPortFrom(netip.MustParseAddr("10.0.0.255"), listening.Port()), syn),
		"to everybody":           frame(from, netip.AddrPortFrom(netip.MustParseAddr("255.255.255.255"), listening.Port()), syn),
		"to a group":             frame(from, netip.AddrPortFrom(netip.MustParseAddr("224.0.0.1"), listening.Port()), syn),
		"another's MAC":          edit(frame(from, listening, syn), 0, 2, 0, 0, 0, 0x99, 0x99),
		"another's MAC, closed":  edit(frame(from, closed, syn), 0, 2, 0, 0, 0, 0x99, 0x99),
		"another's MAC, flow":    edit(c.forge(forged{flags: tcp.FlagRST, seq: k.next[0]}), 0, 2, 0, 0, 0, 0x99, 0x99),
		"broadcast MAC":          edit(frame(from, listening, syn), 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"group MAC, closed port": edit(frame(from, closed, syn), 0, 1, 0, 0x5e, 0, 0, 1),
		"broadcast MAC, flow":    edit(c.forge(forged{flags: tcp.FlagRST, seq: k.next[0]}), 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"bad checksum":           edit(frame(from, listening, syn), 14+20+16, 0x12, 0x34),
		"bad checksum, flow":     edit(c.forge(forged{flags: tcp.FlagRST, seq: k.next[0]}), 14+20+16, 0x12, 0x34),
		"short header":           frame(from, listening, syn)[:14+20+12],
	}
	for name, to := range map[string]netip.AddrPort{"listener": listening, "closed port": closed} {
		bad["null, "+name] = frame(from, to, forged{seq: 1})
		bad["Xmas, "+name] = frame(from, to, forged{flags: xmas, seq: 1})
		bad["FIN, "+name] = frame(from, to, forged{flags: tcp.FlagFIN, seq: 1})
		bad["SYN+FIN, "+name] = frame(from, to, forged{flags: tcp.FlagSYN | tcp.FlagFIN, seq: 1})
		bad["SYN+RST, "+name] = frame(from, to, forged{flags: tcp.FlagSYN | tcp.FlagRST, seq: 1})
		bad["all, "+name] = frame(from, to, forged{flags: 0xff, seq: 1})
	}
	for name, fl := range map[string]tcp.Flags{"null": 0, "Xmas": xmas, "FIN": tcp.FlagFIN, "SYN+FIN": tcp.FlagSYN | tcp.FlagFIN,
		"SYN+RST": tcp.FlagSYN | tcp.FlagRST, "all": 0xff} {
		bad[name+", flow"] = c.forge(forged{flags: fl, seq: k.next[0], ack: k.next[1]})
	}
	sent := func() (n int) {
		v.mu.Lock()
		defer v.mu.Unlock()
		for _, k := range v.seen {
			n += k.answers
		}
		return n
	}
	count := func() uint64 {
		s := v.Stats()
		return s.RxBogus + s.RxMalformed + s.RxChecksum + s.TCP.SynMalformed.Load() + s.TCP.BogusFlags.Load()
	}
	for name, b := range bad {
		counted, answers := count(), sent()
		v.suffer(t, b)
		if n := count() - counted; n != 1 {
			t.Errorf("%s: counted %d times", name, n)
		}
		if sent() != answers {
			t.Errorf("%s: answered", name)
		}
	}
	v.unnoticed(t)
}

// Attack 21: neither resets nor old duplicates end TIME-WAIT (RFC 1337), and
// timestamps of a host that does not know the sequence numbers are not believed
// (RFC 7323 section 5.3).
func TestAttack21TimeWait(t *testing.T) {
	v := newPrey(t, pairOptions{})
	c, s := connect(t, v.peer, v.Stack, addrB)
	k := pairOf{c, s}
	k.works(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	c.Close()
	for v.Stats().TimeWaits == 0 {
		time.Sleep(time.Millisecond)
	}
	at := v.of(k)
	for i := range uint32(1000) {
		for _, fl := range []tcp.Flags{tcp.FlagRST, tcp.FlagRST | tcp.FlagACK, tcp.FlagACK, tcp.FlagSYN | tcp.FlagACK} {
			v.suffer(t, k.forge(forged{flags: fl, seq: at.next[0] + i - 500, ack: at.next[1]}))
		}
		v.suffer(t, k.forge(forged{flags: tcp.FlagSYN, seq: at.next[0] - 1 - i}))
	}
	if n := v.Stats().TimeWaits; n != 1 {
		t.Errorf("%d in TIME-WAIT", n)
	}

	// PAWS: a timestamp of the far future, in a segment outside of the window.
	d := v.conns[0]
	at = v.of(d)
	for i := range uint32(1000) {
		v.suffer(t, d.forge(forged{flags: tcp.FlagACK, seq: at.next[0] + 1<<25 + i, ack: at.next[1], opt: tsOption(at.ts[0]+1<<30, at.ts[1])}))
		v.suffer(t, d.forge(forged{flags: tcp.FlagACK, seq: at.next[0], ack: at.next[1] + 1<<25, opt: tsOption(at.ts[0]+1<<30, at.ts[1]), data: []byte("evil")}))
	}
	v.unnoticed(t)
}
