package tcp

import (
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

const second = int64(time.Second)

// bench is a Listener with all that faces it: it owns the listener and the
// connections, checks every packet that leaves and keeps it.
type bench struct {
	t        testing.TB
	h        *Host
	l        Listener
	cfg      Config
	now      int64
	sent     []Segment
	quiet    bool // do not keep what leaves
	keep     bool // keep what connections send, too
	stuck    bool // the device's ring is full
	refuse   bool // NewConn returns nil
	mtu      int  // of the route; 0: none
	accepted []*Conn
	conns    map[[2]netip.AddrPort]*Conn
	events   Event
}

func newBench(t testing.TB, backlog int, cfg Config) *bench {
	b := &bench{t: t, cfg: cfg, now: 1000 * second, conns: map[[2]netip.AddrPort]*Conn{}}
	b.h = newHost(t, newArena(t, 256, 2048), Caps{MaxFrags: 1})
	b.l.Init(b.h, b, &b.cfg, backlog)
	t.Cleanup(func() {
		for _, c := range b.conns {
			c.Abort(b.now)
			c.Free()
		}
	})
	return b
}

func (b *bench) Reply(local, remote netip.AddrPort, pkt []ring.Desc, _ uint8) bool {
	if b.stuck {
		return false
	}
	if b.quiet {
		return true
	}
	if len(pkt) != 1 || pkt[0].Off < 128 {
		b.t.Fatalf("packet of %d pieces at %d", len(pkt), pkt[0].Off)
	}
	raw := b.h.Arena.Data(pkt[0])
	if sum := ip.Add(ip.PseudoSum(local.Addr(), remote.Addr(), ip.ProtoTCP, len(raw)), ip.Sum(raw)); sum != 0xffff {
		b.t.Errorf("bad checksum, sum %#x of % x", sum, raw)
	}
	s := Segment{Local: local, Remote: remote}
	if _, err := s.Parse(raw, len(raw)); err != nil {
		b.t.Fatal(err)
	}
	if src, dst := Ports(raw); src != local.Port() || dst != remote.Port() {
		b.t.Errorf("ports %d, %d; want %d, %d", src, dst, local.Port(), remote.Port())
	}
	b.sent = append(b.sent, s)
	return true
}

func (b *bench) MTU(_, _ netip.AddrPort) int { return b.mtu }

func (b *bench) NewConn(local, remote netip.AddrPort) (*Conn, Owner) {
	if b.refuse {
		return nil, nil
	}
	if old := b.conns[[2]netip.AddrPort{local, remote}]; old != nil {
		old.Abort(b.now)
		old.Free()
	}
	c := new(Conn)
	b.conns[[2]netip.AddrPort{local, remote}] = c
	return c, b
}

func (b *bench) Accepted(c *Conn) { b.accepted = append(b.accepted, c) }
func (b *bench) Notify(ev Event)  { b.events |= ev }

func (b *bench) Transmit(pkt []ring.Desc, _ uint8) bool {
	if b.keep {
		var s Segment
		raw := b.h.Arena.Data(pkt[0])
		n := len(raw)
		for _, d := range pkt[1:] {
			n += int(d.Len)
		}
		if _, err := s.Parse(raw, n); err != nil {
			b.t.Fatal(err)
		}
		b.sent = append(b.sent, s)
	}
	return true
}

// in2 is in, for a segment of a connection.
func (b *bench) in2(c *Conn, s Segment, data string) {
	b.t.Helper()
	b.sent = nil
	s.Local, s.Remote = c.Local(), c.Remote()
	if data != "" {
		s.Payload = rxFrames(b.t, b.h, []byte(data))
		s.Len = len(data)
	}
	input(c, &s, b.now)
}

// in gives the listener a segment with data; what it answers is in b.sent.
func (b *bench) in(s Segment, data string) {
	b.t.Helper()
	b.sent = nil
	if !s.Local.IsValid() {
		s.Local = testLocal
	}
	if !s.Remote.IsValid() {
		s.Remote = testRemote
	}
	if data != "" {
		s.Payload = rxFrames(b.t, b.h, []byte(data))
		s.Len = len(data)
	}
	b.l.Input(&s, b.now)
	if len(s.Payload) != 0 {
		b.t.Error("the payload was not taken")
	}
}

// one returns the only answer, which must have just these flags.
func (b *bench) one(fl Flags) Segment {
	b.t.Helper()
	if len(b.sent) != 1 || b.sent[0].Flags != fl {
		b.t.Fatalf("answers %+v, want one with flags %v", b.sent, fl)
	}
	return b.sent[0]
}

func (b *bench) silent(what string) {
	b.t.Helper()
	if len(b.sent) != 0 {
		b.t.Errorf("%s: answered by %+v", what, b.sent)
	}
}

// linuxSYN is the SYN of a Linux client.
func linuxSYN() Segment {
	return Segment{Seq: 5000, Flags: FlagSYN, Wnd: 64240,
		Opt: Options{MSS: 1460, SACKPermitted: true, HasTS: true, TSVal: 100, WScale: 7}}
}

// RFC 9293 section 3.7.1, RFC 6691: the MSS in a SYN-ACK, by cookie too, is
// that of the route, and so are the segments of the connection.
func TestListenRouteMTU(t *testing.T) {
	for _, cookie := range []bool{false, true} {
		b := newBench(t, 1, Config{MTU: 9000})
		b.mtu = 1400
		if cookie {
			first := linuxSYN()
			first.Remote = netip.AddrPortFrom(testRemote.Addr(), 1)
			b.in(first, "")
		}
		syn := linuxSYN()
		syn.Local, syn.Remote = testLocal, testRemote
		b.in(syn, "")
		sa := b.one(FlagSYN | FlagACK)
		if sa.Opt.MSS != 1360 {
			t.Errorf("cookie %v: MSS %d in the SYN-ACK, want 1360", cookie, sa.Opt.MSS)
		}
		b.in(reply(syn, sa), "x")
		if len(b.accepted) != 1 {
			t.Fatalf("cookie %v: not accepted", cookie)
		}
		if i := b.accepted[0].Info(b.now); i.PathMTU != 1400 || i.SendMSS != 1348 {
			t.Errorf("cookie %v: MTU %d, MSS %d", cookie, i.PathMTU, i.SendMSS)
		}
	}
}

// reply completes the handshake of syn that sa answered.
func reply(syn, sa Segment) Segment {
	s := Segment{Local: syn.Local, Remote: syn.Remote, Seq: syn.Seq + 1, Ack: sa.Seq + 1, Flags: FlagACK, Wnd: 502, Opt: Options{WScale: -1}}
	if sa.Opt.HasTS {
		s.Opt.HasTS, s.Opt.TSVal, s.Opt.TSEcr = true, syn.Opt.TSVal+1, sa.Opt.TSVal
	}
	return s
}

// RFC 9293 section 3.10.7.2, third, and RFC 7323.
func TestListenHandshake(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		syn  Options
		want Options // MSS, SACK, HasTS; WScale above 0: ours
		v6   bool
	}{
		{"Linux", Config{RcvBuf: 1 << 20}, linuxSYN().Opt, Options{MSS: 1460, SACKPermitted: true, HasTS: true, WScale: 1}, false},
		{"IPv6", Config{RcvBuf: 1 << 20}, linuxSYN().Opt, Options{MSS: 1440, SACKPermitted: true, HasTS: true, WScale: 1}, true},
		{"jumbo", Config{MTU: 9000, RcvBuf: 16 << 20}, linuxSYN().Opt, Options{MSS: 8960, SACKPermitted: true, HasTS: true, WScale: 1}, false},
		{"no options", Config{}, Options{WScale: -1}, Options{MSS: 1460, WScale: -1}, false},
		{"SACK only", Config{}, Options{WScale: -1, SACKPermitted: true, MSS: 1000}, Options{MSS: 1460, WScale: -1, SACKPermitted: true}, false},
		{"we want none", Config{NoSACK: true, NoTimestamps: true, NoWindowScale: true}, linuxSYN().Opt, Options{MSS: 1460, WScale: -1}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, 10, c.cfg)
			syn := linuxSYN()
			syn.Opt = c.syn
			if c.v6 {
				syn.Local, syn.Remote = testV6, testV6Peer
			}
			b.in(syn, "")
			sa := b.one(FlagSYN | FlagACK)
			got := sa.Opt
			if got.HasTS && got.TSEcr != syn.Opt.TSVal {
				t.Errorf("TSecr %d, want %d", got.TSEcr, syn.Opt.TSVal)
			}
			got.TSVal, got.TSEcr = 0, 0
			if c.want.WScale > 0 {
				c.want.WScale = int8(c.cfg.rcvWScale())
			}
			if got != c.want {
				t.Errorf("SYN-ACK's options %+v, want %+v", got, c.want)
			}
			if sa.Ack != syn.Seq+1 || sa.Wnd != 65535 {
				t.Errorf("SYN-ACK's ack %d, window %d", sa.Ack, sa.Wnd)
			}
			if b.l.Embryonic() != 1 || len(b.conns) != 0 {
				t.Fatalf("%d entries, %d connections after a SYN", b.l.Embryonic(), len(b.conns))
			}
			b.now += 20 * int64(time.Millisecond)
			b.in(reply(syn, sa), "hello")
			b.silent("final ACK")
			if len(b.accepted) != 1 || b.l.Pending() != 1 || b.l.Embryonic() != 0 {
				t.Fatalf("%d accepted, %d pending, %d entries", len(b.accepted), b.l.Pending(), b.l.Embryonic())
			}
			conn := b.accepted[0]
			if conn.State() != Established || b.events&(EvConnected|EvReadable) != EvConnected|EvReadable {
				t.Errorf("state %v, events %#x", conn.State(), b.events)
			}
			p := make([]byte, 10)
			if n, _, _ := conn.Read(p); string(p[:n]) != "hello" {
				t.Errorf("data with the final ACK: %q", p[:n])
			}
			if srtt := conn.rtt.SRTT(); srtt != 20e6 {
				t.Errorf("SRTT %v, want 20 ms", time.Duration(srtt))
			}
			b.l.Taken(conn)
			if b.l.Pending() != 0 || b.h.Stats.PassiveOpens.Load() != 1 {
				t.Errorf("pending %d, PassiveOpens %d", b.l.Pending(), b.h.Stats.PassiveOpens)
			}
			if b.l.Deadline() != math.MaxInt64 {
				t.Error("a timer is left")
			}
		})
	}
}

// RFC 9293 section 3.10.7.2 and attack 20.
func TestListenUnexpected(t *testing.T) {
	b := newBench(t, 10, Config{})
	b.in(Segment{Seq: 1, Flags: FlagRST}, "")
	b.silent("RST")
	b.in(Segment{Seq: 1, Ack: 7, Flags: FlagRST | FlagACK}, "")
	b.silent("RST with ACK")
	for _, fl := range []Flags{FlagACK, FlagACK | FlagFIN, FlagSYN | FlagACK} {
		b.in(Segment{Seq: 1, Ack: 77, Flags: fl}, "x")
		if r := b.one(FlagRST); r.Seq != 77 {
			t.Errorf("reset for %v has sequence number %d, want 77", fl, r.Seq)
		}
	}
	b.in(Segment{Seq: 1}, "data")
	b.silent("null")
	b.in(Segment{Flags: FlagFIN | FlagPSH | FlagURG}, "")
	b.silent("Xmas")
	for what, s := range map[string]Segment{
		"SYN with FIN":   {Flags: FlagSYN | FlagFIN},
		"LAND":           {Flags: FlagSYN, Remote: testLocal},
		"to broadcast":   {Flags: FlagSYN, Local: netip.MustParseAddrPort("255.255.255.255:80")},
		"to multicast":   {Flags: FlagSYN, Local: netip.MustParseAddrPort("224.0.0.1:80")},
		"from multicast": {Flags: FlagSYN, Remote: netip.MustParseAddrPort("[ff02::1]:80")},
		"from nobody":    {Flags: FlagSYN, Remote: netip.MustParseAddrPort("0.0.0.0:80")},
		"from port 0":    {Flags: FlagSYN, Remote: netip.AddrPortFrom(testRemote.Addr(), 0)},
	} {
		was := b.h.Stats.SynMalformed
		b.in(s, "")
		b.silent(what)
		if b.h.Stats.SynMalformed != was+1 {
			t.Errorf("%s: not counted", what)
		}
	}
	if b.l.Embryonic() != 0 {
		t.Errorf("%d entries", b.l.Embryonic())
	}
}

// RFC 6298 section 5, as Linux: after 1, 2, 4, 8, 16 s; given up after 63.
func TestSynAckRetransmit(t *testing.T) {
	b := newBench(t, 10, Config{})
	start := b.now
	b.in(linuxSYN(), "")
	first := b.one(FlagSYN | FlagACK)
	var at []int64
	for b.l.Deadline() != math.MaxInt64 {
		b.now = b.l.Deadline()
		b.sent = nil
		b.l.Expire(b.now - 1)
		b.silent("too early")
		b.l.Expire(b.now)
		at = append(at, (b.now-start)/second)
		if b.l.Embryonic() == 0 {
			b.silent("giving up")
			break
		}
		again := b.one(FlagSYN | FlagACK)
		if again.Seq != first.Seq || again.Ack != first.Ack || again.Opt.MSS != first.Opt.MSS ||
			again.Opt.TSVal-first.Opt.TSVal != uint32((b.now-start)/1e6) {
			t.Errorf("SYN-ACK %+v\nsent again as %+v", first, again)
		}
	}
	if want := []int64{1, 3, 7, 15, 31, 63}; !slices.Equal(at, want) {
		t.Errorf("timeouts after %v s, want %v", at, want)
	}
	if st := &b.h.Stats; st.TCPSynRetrans != 5 || st.AttemptFails != 1 {
		t.Errorf("retransmissions %d, failures %d", st.TCPSynRetrans, st.AttemptFails)
	}
}

// A lost SYN-ACK: the peer's SYN brings it back, but not more often than
// twice a second, and no RTT is taken (Karn).
func TestSynAgain(t *testing.T) {
	b := newBench(t, 10, Config{})
	syn := linuxSYN()
	b.in(syn, "")
	first := b.one(FlagSYN | FlagACK)
	for range 10 {
		b.in(syn, "")
		b.silent("SYN again at once")
	}
	b.now += 900 * int64(time.Millisecond)
	b.in(syn, "")
	if again := b.one(FlagSYN | FlagACK); again.Seq != first.Seq {
		t.Error("another sequence number")
	}
	if b.l.Embryonic() != 1 {
		t.Errorf("%d entries for one SYN", b.l.Embryonic())
	}
	b.in(reply(syn, first), "")
	if len(b.accepted) != 1 || b.accepted[0].rtt.Valid() {
		t.Errorf("%d accepted; RTT sample from a SYN-ACK sent twice", len(b.accepted))
	}
}

// RFC 9293 section 3.10.7.4 in SYN-RECEIVED, RFC 5961, RFC 7323 section 5.
func TestSynReceived(t *testing.T) {
	b := newBench(t, 10, Config{})
	syn := linuxSYN()
	b.in(syn, "")
	sa := b.one(FlagSYN | FlagACK)
	good := reply(syn, sa)
	type edit func(s *Segment)
	for _, c := range []struct {
		name string
		edit edit
		want Flags // 0: silence
	}{
		{"acknowledges too little", func(s *Segment) { s.Ack-- }, FlagRST},
		{"acknowledges too much", func(s *Segment) { s.Ack++ }, FlagRST},
		{"no ACK", func(s *Segment) { s.Flags = FlagPSH }, 0},
		{"sequence number below", func(s *Segment) { s.Seq -= 1 }, FlagACK},
		{"sequence number beyond", func(s *Segment) { s.Seq += 65535 }, FlagACK},
		{"old timestamp", func(s *Segment) { s.Opt.TSVal -= 2 }, FlagACK},
		{"echo of the future", func(s *Segment) { s.Opt.TSEcr += 100_000 }, FlagACK},
		{"echo of the past", func(s *Segment) { s.Opt.TSEcr-- }, FlagACK},
		{"another SYN", func(s *Segment) { s.Flags, s.Seq = FlagSYN, 9 }, FlagACK},
		{"SYN-ACK", func(s *Segment) { s.Flags |= FlagSYN }, FlagACK},
		{"RST in the window", func(s *Segment) { s.Flags, s.Seq = FlagRST, s.Seq+100 }, FlagACK},
		{"RST outside of the window", func(s *Segment) { s.Flags, s.Seq = FlagRST, s.Seq-1 }, 0},
	} {
		b.now += second / 2
		b.h.Stats = Stats{}
		s := good
		c.edit(&s)
		b.in(s, "")
		if c.want == 0 {
			b.silent(c.name)
		} else {
			r := b.one(c.want)
			if c.want == FlagRST && r.Seq != s.Ack {
				t.Errorf("%s: reset with %d, want %d", c.name, r.Seq, s.Ack)
			}
			if c.want == FlagACK && (r.Seq != sa.Seq+1 || r.Ack != syn.Seq+1 || !r.Opt.HasTS || r.Opt.TSEcr != syn.Opt.TSVal) {
				t.Errorf("%s: challenged by %+v", c.name, r)
			}
		}
		if c.want == FlagACK { // attack 18
			b.in(s, "")
			b.silent(c.name + ", at once again")
			if b.h.Stats.TCPACKSkippedSynRecv != 1 {
				t.Errorf("%s: the skipped answer was not counted", c.name)
			}
		}
		if b.l.Embryonic() != 1 || len(b.accepted) != 0 {
			t.Fatalf("%s: %d entries, %d accepted", c.name, b.l.Embryonic(), len(b.accepted))
		}
	}
	// Data may overtake the final ACK.
	s := good
	s.Seq += 5
	b.in(s, "later")
	if len(b.accepted) != 1 {
		t.Fatal("data that overtook the final ACK was refused")
	}
}

func TestSynReceivedReset(t *testing.T) {
	b := newBench(t, 10, Config{})
	syn := linuxSYN()
	b.in(syn, "")
	b.in(Segment{Seq: syn.Seq + 1, Flags: FlagRST}, "")
	b.silent("RST")
	if b.l.Embryonic() != 0 || b.h.Stats.EmbryonicRsts != 1 || b.l.Deadline() != math.MaxInt64 {
		t.Errorf("%d entries, %d counted", b.l.Embryonic(), b.h.Stats.EmbryonicRsts)
	}
}

// As Linux: a full accept queue takes no ACK, and no SYN; the entry stays and
// tries again.
func TestAcceptQueueFull(t *testing.T) {
	b := newBench(t, 2, Config{})
	connect := func(port uint16) (Segment, Segment) {
		syn := linuxSYN()
		syn.Local, syn.Remote = testLocal, netip.AddrPortFrom(testRemote.Addr(), port)
		b.in(syn, "")
		return syn, b.one(FlagSYN | FlagACK)
	}
	syn0, sa0 := connect(50)
	for port := range uint16(3) { // Linux takes one more than the backlog
		syn, sa := connect(100 + port)
		b.in(reply(syn, sa), "")
	}
	if b.l.Pending() != 3 {
		t.Fatalf("%d pending, want 3", b.l.Pending())
	}
	b.in(reply(syn0, sa0), "lost")
	b.silent("ACK with the accept queue full")
	if b.l.Pending() != 3 || b.l.Embryonic() != 1 {
		t.Fatalf("%d pending, %d entries", b.l.Pending(), b.l.Embryonic())
	}
	syn := linuxSYN()
	syn.Remote = netip.AddrPortFrom(testRemote.Addr(), 200)
	b.in(syn, "")
	b.silent("SYN with the accept queue full")
	if st := &b.h.Stats; st.ListenOverflows != 2 || st.ListenDrops != 2 {
		t.Errorf("overflows %d, drops %d, want 2 and 2", st.ListenOverflows, st.ListenDrops)
	}

	// The SYN-ACK comes again, the peer answers, and now there is room.
	b.l.Taken(b.accepted[0])
	b.now = b.l.Deadline()
	b.sent = nil
	b.l.Expire(b.now)
	b.one(FlagSYN | FlagACK)
	b.in(reply(syn0, sa0), "again")
	if b.l.Pending() != 3 || b.l.Embryonic() != 0 {
		t.Fatalf("%d pending, %d entries", b.l.Pending(), b.l.Embryonic())
	}
	p := make([]byte, 10)
	if n, _, _ := b.accepted[3].Read(p); string(p[:n]) != "again" {
		t.Errorf("read %q", p[:n])
	}
}

// The stack has no room for a Conn: as if the ACK were lost.
func TestNewConnRefused(t *testing.T) {
	b := newBench(t, 2, Config{})
	syn := linuxSYN()
	b.in(syn, "")
	sa := b.one(FlagSYN | FlagACK)
	b.refuse = true
	b.in(reply(syn, sa), "data")
	b.silent("refused")
	if b.l.Embryonic() != 1 || b.l.Pending() != 0 || b.h.Stats.ListenDrops != 1 {
		t.Errorf("%d entries, %d pending", b.l.Embryonic(), b.l.Pending())
	}
	b.refuse = false
	b.in(reply(syn, sa), "data")
	if len(b.accepted) != 1 {
		t.Error("not accepted the second time")
	}
}

func TestListenerClose(t *testing.T) {
	b := newBench(t, 2, Config{})
	var last Segment
	for port := range uint16(2) {
		syn := linuxSYN()
		syn.Remote = netip.AddrPortFrom(testRemote.Addr(), 100+port)
		b.in(syn, "")
		last = reply(syn, b.one(FlagSYN|FlagACK))
	}
	b.refuse = true
	b.in(last, "") // believes to be connected
	b.sent = nil
	b.l.Close(b.now)
	if r := b.one(FlagRST); r.Seq != last.Ack || r.Remote != last.Remote {
		t.Errorf("reset %+v", r)
	}
	if b.l.Embryonic() != 0 || b.l.Deadline() != math.MaxInt64 {
		t.Error("entries are left")
	}
	b.in(linuxSYN(), "")
	if r := b.one(FlagRST | FlagACK); r.Ack != 5001 {
		t.Errorf("SYN after Close: %+v", r)
	}
}

// A full ring or no frames: the SYN-ACK is lost, nothing else is.
func TestListenerStuck(t *testing.T) {
	b := newBench(t, 2, Config{})
	b.stuck = true
	b.in(linuxSYN(), "")
	b.stuck = false
	b.now = b.l.Deadline()
	b.l.Expire(b.now)
	b.one(FlagSYN | FlagACK)

	var held []ring.Frame
	for {
		f, ok := b.h.Cache.Alloc()
		if !ok {
			break
		}
		held = append(held, f)
	}
	b.now = b.l.Deadline()
	b.sent = nil
	b.l.Expire(b.now)
	b.silent("without frames")
	if b.h.Stats.TCPOutNoFrames != 1 {
		t.Errorf("TCPOutNoFrames %d", b.h.Stats.TCPOutNoFrames)
	}
	for _, f := range held {
		b.h.Cache.Free(f)
	}
}

// RFC 6191: the new connection's numbers follow those of the old.
func TestReopen(t *testing.T) {
	b := newBench(t, 2, Config{})
	tw := TimeWait{sndNxt: 0xfffffff0, rcvNxt: 4000}
	s := linuxSYN()
	s.Local, s.Remote = testLocal, testRemote
	if act := tw.Input(b.h, &s, b.now); act != TWReopen {
		t.Fatalf("action %d", act)
	}
	b.l.Reopen(&s, &tw, b.now)
	if sa := b.one(FlagSYN | FlagACK); sa.Seq != 0xfffffff0+65537-1<<32 {
		t.Errorf("ISN %#x after SND.NXT %#x", sa.Seq, tw.sndNxt)
	}
	if b.h.Stats.TWRecycled != 1 {
		t.Error("not counted")
	}
}

func TestEntrySizes(t *testing.T) {
	if n := unsafe.Sizeof(synEntry{}); n >= 128 {
		t.Errorf("a SYN costs %d bytes", n)
	}
	if n := unsafe.Sizeof(TimeWait{}); n >= 96 {
		t.Errorf("a TIME-WAIT costs %d bytes", n)
	}
}

// A SYN, its retransmission and its end allocate nothing once there is room.
func TestListenerAllocs(t *testing.T) {
	b := newBench(t, 100, Config{})
	b.in(linuxSYN(), "")
	b.quiet = true
	s := linuxSYN()
	s.Local = testLocal
	port := uint16(0)
	if n := testing.AllocsPerRun(1000, func() {
		port++
		s.Remote = netip.AddrPortFrom(testRemote.Addr(), port)
		s.Flags, s.Seq = FlagSYN, 5000
		b.l.Input(&s, b.now)
		b.now += 2 * second
		b.l.Expire(b.now)
		s.Flags, s.Seq = FlagRST, 5001
		b.l.Input(&s, b.now)
		s.Flags = FlagACK
		b.l.Input(&s, b.now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if n := len(b.l.queue.slab); n > 16 {
		t.Errorf("room for %d entries, never more than 2 in use", n)
	}
}
