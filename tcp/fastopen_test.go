package tcp

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/ip"
)

// askCookie has the listener give its cookie, and forgets the connection.
func (b *bench) askCookie(from netip.AddrPort) [maxFastOpen]byte {
	b.t.Helper()
	syn := linuxSYN()
	syn.Remote = from
	syn.Opt.FastOpen = fastOpenAsk
	b.in(syn, "data that nobody asked for")
	sa := b.one(FlagSYN | FlagACK)
	if sa.Opt.FastOpen != fastOpenOurs || sa.Ack != syn.Seq+1 {
		b.t.Fatalf("SYN-ACK %+v, want a cookie and the SYN acknowledged", sa)
	}
	b.in(Segment{Remote: from, Seq: sa.Ack, Flags: FlagRST, Opt: Options{WScale: -1}}, "")
	return sa.Opt.FastOpenCookie
}

// fastSYN is a SYN with a cookie.
func fastSYN(k [maxFastOpen]byte) Segment {
	s := linuxSYN()
	s.Opt.FastOpen, s.Opt.FastOpenCookie = fastOpenOurs, k
	return s
}

// RFC 7413 section 4.1.2: cookies are one for a pair of addresses, and no
// other's.
func TestRFC7413Cookie(t *testing.T) {
	b := newBench(t, 8, Config{FastOpen: 4})
	k := b.askCookie(testRemote)
	if k == [maxFastOpen]byte{} {
		t.Error("no cookie")
	}
	if b.askCookie(netip.AddrPortFrom(testRemote.Addr(), 7)) != k {
		t.Error("another port has another cookie")
	}
	if b.askCookie(netip.AddrPortFrom(testRemote.Addr().Next(), testRemote.Port())) == k {
		t.Error("another host has the same cookie")
	}
	if b.h.Stats.TCPFastOpenCookieReqd != 3 {
		t.Errorf("%d requests counted", b.h.Stats.TCPFastOpenCookieReqd)
	}
	b.now += fastOpenPeriod
	if b.askCookie(testRemote) == k {
		t.Error("a cookie does not change")
	}
	// Off is the default.
	b = newBench(t, 8, Config{})
	syn := fastSYN(k)
	b.in(syn, "x")
	if sa := b.one(FlagSYN | FlagACK); sa.Opt.FastOpen != 0 || sa.Ack != syn.Seq+1 {
		t.Errorf("SYN-ACK %+v", sa)
	}
}

// RFC 7413 section 4.2.2: a connection that Fast Open made is as any other, also
// in the size of the packets that its route takes.
func TestRFC7413RouteMTU(t *testing.T) {
	b := newBench(t, 8, Config{MTU: 9000, FastOpen: 4})
	b.mtu, b.keep = 1400, true
	b.in(fastSYN(b.askCookie(testRemote)), "x")
	if len(b.accepted) != 1 {
		t.Fatal("not accepted")
	}
	if i := b.accepted[0].Info(b.now); i.PathMTU != 1400 || i.SendMSS != 1348 {
		t.Errorf("MTU %d, MSS %d", i.PathMTU, i.SendMSS)
	}
}

// RFC 7413 section 4.2.2: the data of a SYN is there at once, and the answer
// does not wait for the handshake.
func TestRFC7413Server(t *testing.T) {
	b := newBench(t, 8, Config{FastOpen: 4, ECN: ECNOn})
	b.keep = true
	syn := fastSYN(b.askCookie(testRemote))
	syn.Flags |= FlagECE | FlagCWR
	b.in(syn, "GET /")
	sa := b.one(FlagSYN | FlagACK | FlagECE)
	if sa.Ack != syn.Seq+1+5 || sa.Opt.FastOpen != 0 {
		t.Errorf("SYN-ACK %+v", sa)
	}
	if len(b.accepted) != 1 {
		t.Fatal("not accepted")
	}
	c := b.accepted[0]
	p := make([]byte, 10)
	if n, _, _ := c.Read(p); string(p[:n]) != "GET /" {
		t.Errorf("read %q", p[:n])
	}
	b.sent = nil
	if n := c.Write(make([]byte, 3000)); n != 3000 {
		t.Fatalf("wrote %d", n)
	}
	c.Output(b.now)
	if len(b.sent) != 3 || b.sent[0].Seq != sa.Seq+1 || b.sent[0].Ack != sa.Ack || b.sent[0].Flags&FlagSYN != 0 {
		t.Fatalf("sent %+v", b.sent)
	}
	if c.State() != SynReceived || b.l.fast.pending != 1 {
		t.Errorf("state %v, %d pending", c.State(), b.l.fast.pending)
	}
	// The SYN-ACK is what is sent again.
	b.sent = nil
	b.now += second
	c.Expire(b.now)
	if again := b.one(FlagSYN | FlagACK | FlagECE); again.Seq != sa.Seq || again.Ack != sa.Ack {
		t.Errorf("sent again %+v", again)
	}
	// So it is where the SYN comes again, and its data is not taken twice.
	b.now += second
	b.in2(c, syn, "GET /")
	if again := b.one(FlagSYN | FlagACK | FlagECE); again.Ack != sa.Ack {
		t.Errorf("sent again %+v", again)
	}
	ack := reply(syn, sa)
	ack.Seq += 5
	ack.Ack += 1448
	b.in2(c, ack, "")
	if c.State() != Established || b.l.fast.pending != 0 || c.rare.fo != nil || !c.Info(0).FastOpened || !c.Info(0).ECN {
		t.Errorf("state %v, %d pending, %+v", c.State(), b.l.fast.pending, c.Info(b.now))
	}
	if c.sndUna != sa.Seq+1+1448 || c.rtoAt == 0 || c.inconsistent() != "" {
		t.Errorf("SND.UNA %d, timer %d, %s", c.sndUna-sa.Seq, c.rtoAt, c.inconsistent())
	}
	if n, _, _ := c.Read(p); n != 0 {
		t.Errorf("read %q again", p[:n])
	}
	if st := &b.h.Stats; st.TCPFastOpenPassive != 1 || st.PassiveOpens != 1 || st.TCPFastOpenPassiveFail != 0 {
		t.Errorf("%d by Fast Open, %d opened, %d failed", st.TCPFastOpenPassive, st.PassiveOpens, st.TCPFastOpenPassiveFail)
	}
}

// The handshake's last step may acknowledge the SYN alone, while an answer is
// in flight: it must not be forgotten.
func TestRFC7413ServerTimer(t *testing.T) {
	b := newBench(t, 8, Config{FastOpen: 4})
	b.keep = true
	syn := fastSYN(b.askCookie(testRemote))
	b.in(syn, "x")
	sa := b.one(FlagSYN | FlagACK)
	c := b.accepted[0]
	c.Write(make([]byte, 100))
	c.Output(b.now)
	ack := reply(syn, sa)
	ack.Seq++
	b.in2(c, ack, "")
	b.sent = nil
	b.now += 3 * second
	c.Expire(b.now)
	if len(b.sent) == 0 || b.sent[0].Seq != sa.Seq+1 || b.sent[0].Len != 100 {
		t.Errorf("sent %+v", b.sent)
	}
}

// RFC 7413 section 4.1.2: a wrong cookie gets a new one, an old one is good
// for another period.
func TestRFC7413BadCookie(t *testing.T) {
	b := newBench(t, 8, Config{FastOpen: 4})
	b.keep = true
	k := b.askCookie(testRemote)
	short := fastSYN(k)
	short.Opt.FastOpen = fastOpenAsk + 4
	wrong := fastSYN(k)
	wrong.Opt.FastOpenCookie[3]++
	for _, syn := range []Segment{short, wrong} {
		b.in(syn, "x")
		sa := b.one(FlagSYN | FlagACK)
		if sa.Ack != syn.Seq+1 || sa.Opt.FastOpen != fastOpenOurs || sa.Opt.FastOpenCookie != k {
			t.Errorf("SYN-ACK %+v", sa)
		}
		b.in(Segment{Seq: sa.Ack, Flags: FlagRST, Opt: Options{WScale: -1}}, "")
	}
	if n := b.h.Stats.TCPFastOpenPassiveFail; n != 2 || len(b.accepted) != 0 {
		t.Errorf("%d failures, %d accepted", n, len(b.accepted))
	}
	b.now += 2 * fastOpenPeriod
	b.in(fastSYN(k), "x")
	if sa := b.one(FlagSYN | FlagACK); sa.Opt.FastOpen != fastOpenOurs || sa.Opt.FastOpenCookie == k || len(b.accepted) != 0 {
		t.Errorf("SYN-ACK for a cookie of long ago: %+v", sa)
	}

	b = newBench(t, 8, Config{FastOpen: 4})
	b.keep = true
	k = b.askCookie(testRemote)
	b.now += fastOpenPeriod
	syn := fastSYN(k)
	b.in(syn, "x")
	if sa := b.one(FlagSYN | FlagACK); sa.Ack != syn.Seq+2 || sa.Opt.FastOpen != fastOpenOurs || sa.Opt.FastOpenCookie == k || len(b.accepted) != 1 {
		t.Errorf("SYN-ACK for a cookie of the last period: %+v", sa)
	}
	if b.h.Stats.TCPFastOpenPassiveAltKey != 1 {
		t.Error("not counted")
	}
}

// RFC 7413 section 5.1: the half-open connections are limited, and one that is
// reset counts for a minute.
func TestRFC7413Limit(t *testing.T) {
	b := newBench(t, 100, Config{FastOpen: 2})
	b.keep = true
	k := b.askCookie(testRemote)
	open := func(port uint16) (Segment, bool) {
		syn := fastSYN(k)
		syn.Remote = netip.AddrPortFrom(testRemote.Addr(), port)
		n := len(b.accepted)
		b.in(syn, "x")
		return syn, len(b.accepted) > n
	}
	var syns [3]Segment
	var ok bool
	for i := range syns {
		if syns[i], ok = open(uint16(100 + i)); ok != (i < 2) {
			t.Fatalf("connection %d: accepted %v", i, ok)
		}
	}
	if sa := b.one(FlagSYN | FlagACK); sa.Ack != syns[2].Seq+1 || sa.Opt.FastOpen != 0 {
		t.Errorf("SYN-ACK beyond the limit: %+v", sa)
	}
	if b.h.Stats.TCPFastOpenListenOverflow != 1 {
		t.Error("no overflow counted")
	}
	c := b.accepted[0]
	b.in2(c, Segment{Seq: c.rcvNxt, Flags: FlagRST, Opt: Options{WScale: -1}}, "")
	if c.Err() != syscall.ECONNRESET {
		t.Errorf("error %v", c.Err())
	}
	if n, _, _ := c.Read(make([]byte, 10)); n != 1 {
		t.Errorf("read %d bytes of a connection that was reset", n)
	}
	if _, ok := open(200); ok {
		t.Error("one that was reset no longer counts")
	}
	b.now += resetHold
	if _, ok := open(201); !ok {
		t.Error("one that was reset a minute ago still counts")
	}
	// Nor do those that never answer, after all retransmissions.
	for range 200 {
		b.now += second
		for _, c := range b.accepted {
			if c.Deadline() <= b.now {
				c.Expire(b.now)
			}
		}
	}
	if b.accepted[1].Err() != syscall.ETIMEDOUT || b.l.fast.pending != 0 {
		t.Errorf("error %v, %d pending", b.accepted[1].Err(), b.l.fast.pending)
	}
}

// The accept queue, the SYN queue and TCP_DEFER_ACCEPT.
func TestRFC7413Queues(t *testing.T) {
	b := newBench(t, 1, Config{FastOpen: 10, DeferAccept: 30 * time.Second})
	b.keep = true
	k := b.askCookie(testRemote)
	for i := range uint16(3) {
		syn := fastSYN(k)
		syn.Remote = netip.AddrPortFrom(testRemote.Addr(), 100+i)
		b.in(syn, "x")
		if got, want := len(b.accepted), min(int(i)+1, 2); got != want {
			t.Errorf("%d accepted, want %d", got, want)
		}
	}
	b.silent("SYN when the accept queue is full")

	// With SYN cookies there is no Fast Open (as Linux).
	b = newBench(t, 4, Config{FastOpen: 10})
	b.keep = true
	k = b.askCookie(testRemote)
	b.fill()
	syn := fastSYN(k)
	b.in(syn, "x")
	if sa := b.one(FlagSYN | FlagACK); sa.Ack != syn.Seq+1 || sa.Opt.FastOpen != 0 || len(b.accepted) != 0 {
		t.Errorf("SYN-ACK %+v", sa)
	}
}

// The calls that a user may make before the handshake is complete.
func TestRFC7413ServerClose(t *testing.T) {
	b := newBench(t, 8, Config{FastOpen: 4})
	b.keep = true
	syn := fastSYN(b.askCookie(testRemote))
	b.in(syn, "x")
	sa := b.one(FlagSYN | FlagACK)
	c := b.accepted[0]
	c.Read(make([]byte, 10))
	c.SetKeepAlive(KeepAlive{Enable: true, Idle: time.Second}, b.now)
	b.sent = nil
	c.Write([]byte("answer"))
	c.Output(b.now)
	c.Close(b.now)
	if len(b.sent) != 1 || b.sent[0].Len != 6 || b.sent[0].Flags.Has(FlagFIN) {
		t.Errorf("sent %+v", b.sent)
	}
	b.sent = nil
	ack := reply(syn, sa)
	ack.Seq++
	ack.Ack += 6
	b.in2(c, ack, "")
	c.Output(b.now)
	if len(b.sent) == 0 || !b.sent[0].Flags.Has(FlagFIN) || c.State() != FinWait1 {
		t.Errorf("state %v, sent %+v", c.State(), b.sent)
	}
}

// RFC 9293 section 3.9.2.2 (MUST-56): an error that may pass does not end a
// connection that the user has, although its handshake is not complete. It ends a
// connection that nobody has accepted (as Linux).
func TestRFC7413ServerUnreachable(t *testing.T) {
	b := newBench(t, 8, Config{FastOpen: 4})
	cookie := b.askCookie(testRemote)
	b.in(fastSYN(cookie), "x")
	c := b.accepted[0]
	c.ICMP(&ip.ICMPError{Type: 3, Code: 1, HasSeq: true, Seq: c.sndUna}, b.now)
	if c.State() != Closed || c.Err() != syscall.EHOSTUNREACH {
		t.Errorf("nobody has it: %v, %v", c.State(), c.Err())
	}
	b.in(fastSYN(cookie), "x")
	c = b.accepted[1]
	b.l.Taken(c)
	c.ICMP(&ip.ICMPError{Type: 3, Code: 1, HasSeq: true, Seq: c.sndUna}, b.now)
	if c.State() != SynReceived || c.Err() != nil {
		t.Errorf("%v, %v", c.State(), c.Err())
	}
	for c.State() != Closed {
		b.now = c.Deadline()
		c.Expire(b.now)
	}
	if c.Err() != syscall.EHOSTUNREACH {
		t.Error(c.Err())
	}
}

// fastWire is a client whose host has a cookie of the peer.
func fastWire(t *testing.T, cfg Config) *wire {
	t.Helper()
	cfg.FastOpenConnect = true
	w := newWire(t, cfg)
	w.c.Connect(w.now)
	w.want("S 0:0 fo")
	w.now += 10 * ms
	w.synAck(func(s *Segment) {
		s.Opt.FastOpen = fastOpenAsk + 8
		copy(s.Opt.FastOpenCookie[:], "12345678")
	})
	w.want("A 1:1")
	w.again(cfg)
	if !w.c.Deferred() {
		t.Fatal("the SYN did not wait")
	}
	w.want()
	return w
}

// again begins another connection from the same host.
func (w *wire) again(cfg Config) {
	cfg.FastOpenConnect = true
	w.c.Abort(w.now)
	w.c.Free()
	w.out = nil
	w.c = Conn{}
	w.c.Init(w.h, w, &cfg, addrA, addrB)
	w.c.Connect(w.now)
}

// RFC 7413 section 4.2.2: the client.
func TestRFC7413Client(t *testing.T) {
	w := fastWire(t, Config{NoDelay: true})
	// Full segments have 1,000 bytes; the SYN has less, for its options.
	w.write(2500)
	w.want("S 0:0 len 972 fo 12345678")
	w.write(500)
	w.want()
	w.now += 10 * ms
	w.synAckAt(973)
	w.want("A 973:1 len 1000", "A 1973:1 len 1000", "PA 2973:1 len 28")
	w.state(Established)
	if st := &w.h.Stats; st.TCPFastOpenActive != 1 || st.TCPFastOpenActiveFail != 0 || !w.c.Info(0).FastOpened {
		t.Errorf("%d, %d failed", st.TCPFastOpenActive, st.TCPFastOpenActiveFail)
	}
	if w.c.rtt.SRTT() != 10*ms {
		t.Errorf("SRTT %d", w.c.rtt.SRTT())
	}
	// The cookie stays.
	w.again(Config{})
	w.write(10)
	w.want("S 0:0 len 10 fo 12345678")
}

// RFC 7413 section 4.2.2: data that the server did not take is sent again at once.
func TestRFC7413ClientRefused(t *testing.T) {
	w := fastWire(t, Config{})
	w.write(100)
	w.want("S 0:0 len 100 fo 12345678")
	w.synAckAt(1, func(s *Segment) {
		s.Opt.FastOpen = fastOpenAsk + 4
		copy(s.Opt.FastOpenCookie[:], "abcd")
	})
	w.want("PA 1:1 len 100")
	if w.h.Stats.TCPFastOpenActiveFail != 1 || w.c.Info(0).FastOpened {
		t.Error("not counted as failed")
	}
	w.again(Config{})
	w.write(100)
	w.want("S 0:0 len 100 fo abcd") // the new cookie
	w.synAckAt(51)
	w.want("PA 51:1 len 50") // half of it was taken
	if w.h.Stats.TCPFastOpenActiveFail != 2 || w.c.Info(w.now).FastOpened {
		t.Error("half is counted for all")
	}
	w.again(Config{})
	w.write(100)
	w.want("S 0:0 len 100 fo abcd")
	w.synAckAt(1)
	w.want("PA 1:1 len 100")
	w.again(Config{}) // the cookie was not good, and there was no other
	w.want("S 0:0 fo")
}

// RFC 7413 section 4.1.3.1: a path that eats SYNs with data is remembered, for
// longer each time.
func TestRFC7413BlackHole(t *testing.T) {
	w := fastWire(t, Config{})
	for hold := int64(60); hold <= 240; hold *= 2 {
		if !w.c.Deferred() {
			t.Fatalf("no Fast Open before %d s", hold)
		}
		w.write(100)
		w.want("S 0:0 len 100 fo 12345678")
		w.advance(1100 * ms)
		w.want("S 0:0")
		w.synAckAt(1)
		w.want("PA 1:1 len 100")
		w.now += (hold - 1) * sec
		w.again(Config{})
		w.want("S 0:0")
		w.now += 2 * sec
		w.again(Config{})
	}
	if w.h.Stats.TCPFastOpenBlackhole != 3 {
		t.Errorf("%d counted", w.h.Stats.TCPFastOpenBlackhole)
	}
	// The first SYN may have arrived after all.
	w.write(100)
	w.want("S 0:0 len 100 fo 12345678")
	w.advance(1100 * ms)
	w.want("S 0:0")
	w.synAckAt(101)
	w.want("A 101:1")
	w.again(Config{})
	if !w.c.Deferred() {
		t.Error("remembered though it worked")
	}
}

// RFC 7413 section 4.1.3.1: routers' reports on a SYN that is too large.
func TestRFC7413TooLarge(t *testing.T) {
	w := fastWire(t, Config{})
	w.write(900)
	w.want("S 0:0 len 900 fo 12345678")
	e := ip.ICMPError{Type: 3, Code: 4, MTU: 800, HasSeq: true, Seq: w.iss}
	w.c.ICMP(&e, w.now)
	w.want("S 0:0")
	w.synAckAt(1)
	w.want("A 1:1 len 748", "PA 749:1 len 152")
	// The path has a small MTU, but it is no black hole.
	w.again(Config{MTU: 800})
	w.write(900)
	w.want("S 0:0 len 720 fo 12345678")
	w.synAckAt(721)
	w.want("PA 721:1 len 180")
}

// A request for a cookie that is lost may be asked again, but not for ever.
func TestRFC7413RequestLost(t *testing.T) {
	w := newWire(t, Config{FastOpenConnect: true})
	w.c.Connect(w.now)
	for range 2 {
		w.want("S 0:0 fo")
		w.advance(1100 * ms)
		w.want("S 0:0")
		w.synAck()
		w.want("A 1:1")
		w.again(Config{})
	}
	w.want("S 0:0")
	w.now += 2 * fastOpenPause
	w.again(Config{})
	w.want("S 0:0 fo")
}

// Answers that are none.
func TestRFC7413ClientBadAnswer(t *testing.T) {
	w := fastWire(t, Config{})
	w.feed("SA", 0, 1, 0) // before anything was sent
	w.want()
	w.write(100)
	w.want("S 0:0 len 100 fo 12345678")
	w.synAckAt(102)
	w.want("R 102:0")
	w.synAckAt(0)
	w.want("R 0:0")
	w.state(SynSent)
	w.feed("RA", 0, 101, 0)
	w.err(syscall.ECONNREFUSED)
}

// A user that reads first, or closes, must not wait for ever, and written data is
// sent.
func TestRFC7413ClientWithoutData(t *testing.T) {
	w := fastWire(t, Config{})
	w.c.ReadDeferred(w.now)
	w.want()
	w.advance(deferredWait)
	w.want("S 0:0 fo 12345678")
	w.synAckAt(1)
	w.want("A 1:1")
	w.again(Config{})
	if !w.c.Deferred() {
		t.Error("a cookie is forgotten that was not refused")
	}

	w = fastWire(t, Config{})
	w.c.Close(w.now)
	w.want()
	w.state(Closed)

	w = fastWire(t, Config{})
	w.c.ReadDeferred(w.now)
	w.advance(ms)
	w.write(10)
	w.want("S 0:0 len 10 fo 12345678")
	w.advance(900 * ms)
	w.want()

	w = fastWire(t, Config{})
	w.c.CloseWrite(w.now)
	w.want("S 0:0 fo 12345678")
	w.synAckAt(1)
	w.want("FA 1:1")

	w = fastWire(t, Config{})
	w.c.Write(make([]byte, 100))
	w.c.Close(w.now)
	w.want("S 0:0 len 100 fo 12345678")
	w.synAckAt(101)
	w.want("FA 101:1")
	w.state(FinWait1)
}

// Simultaneous open: the data goes the usual way.
func TestRFC7413Simultaneous(t *testing.T) {
	w := fastWire(t, Config{})
	w.write(100)
	w.want("S 0:0 len 100 fo 12345678")
	w.feed("S", 0, 0, 0, mss(1000+tsSize), wscale(0), sackOK(true))
	w.want("SA 0:1")
	w.feed("A", 1, 1, 0)
	w.want("PA 1:1 len 100")

	// Unless the peer took it with the SYN.
	for _, fl := range []string{"A", "SA"} {
		w = fastWire(t, Config{})
		w.write(100)
		w.want("S 0:0 len 100 fo 12345678")
		w.feed("S", 0, 0, 0, mss(1000+tsSize), wscale(0), sackOK(true))
		w.want("SA 0:1")
		w.write(10)
		w.want()
		if w.feed(fl, 1, 102, 0); fl == "A" {
			w.want("R 102:0")
		}
		w.out = nil
		seq := uint32(1)
		if fl == "SA" {
			seq = 0
		}
		w.feed(fl, seq, 101, 0)
		if want := []string{"PA 101:1 len 10", "A 111:1 sack 0-1"}; fl == "SA" {
			w.want(want...) // the SYN came twice
		} else {
			w.want(want[0])
		}
		w.state(Established)
	}
}

// A device that is full when data takes the SYN along is asked again soon, and
// one that takes nothing is given up.
func TestRFC7413ClientFull(t *testing.T) {
	w := fastWire(t, Config{})
	w.full = true
	w.c.Write(make([]byte, 10))
	w.c.Output(w.now)
	w.advance(5 * ms)
	w.full = false
	w.advance(10 * ms)
	w.want("S 0:0 len 10 fo 12345678")

	w = fastWire(t, Config{})
	w.full = true
	w.c.Write(make([]byte, 10))
	w.c.Output(w.now)
	w.advance(120 * sec)
	w.state(SynSent)
	w.advance(10 * sec)
	w.err(syscall.ETIMEDOUT)
}

// The memory of cookies is bounded.
func TestRFC7413CookieMemory(t *testing.T) {
	var m ServerCookies
	a := netip.MustParseAddr("10.0.0.0")
	for range 3 * maxServerCookies {
		a = a.Next()
		m.put(Pair{addrA.Addr(), a}, serverCookie{option: fastOpenOurs})
	}
	if len(m.of) != maxServerCookies {
		t.Errorf("%d cookies", len(m.of))
	}
	if m.get(Pair{addrA.Addr(), a}).option == 0 {
		t.Error("the newest is not there")
	}
}

// RFC 7413 section 4.1.1: the option.
func TestRFC7413Option(t *testing.T) {
	for _, c := range []struct {
		b    string
		syn  bool
		want uint8
	}{
		{"\x22\x02", true, 2},
		{"\x22\x02", false, 0},
		{"\x22\x061234", true, 6},
		{"\x22\x061234", false, 0},
		{"\x22\x12" + strings.Repeat("x", 16), true, 18},
		{"\x22\x04ab", true, 0},
		{"\x22\x0712345", true, 0},
		{"\x22\x14" + strings.Repeat("x", 18), true, 0},
		{"\x22\x06123", true, 0},
	} {
		var o Options
		o.FastOpen, o.FastOpenCookie = 18, [maxFastOpen]byte{15: 1}
		o.Parse([]byte(c.b), c.syn)
		if o.FastOpen != c.want || c.want > 2 && strings.TrimRight(string(o.FastOpenCookie[:]), "\x00") != c.b[2:] {
			t.Errorf("%q, SYN %v: %d %q", c.b, c.syn, o.FastOpen, o.FastOpenCookie)
		}
	}
	// Together with all others it fits.
	var b [maxOptions]byte
	o := Options{MSS: 1460, SACKPermitted: true, HasTS: true, WScale: 7, FastOpen: 18}
	if n := putSYNOptions(b[:], &o); n != 40 {
		t.Errorf("%d bytes", n)
	}
}
