package interop

import (
	"context"
	"io"
	"net"
	"net/netip"
	"time"
)

var dialSituations = []situation{
	{"dial/refused", func(s *scene) { s.dialed(s.h.Dial("tcp", s.at(s.pair.B, 9))) }},
	{"dial/no neighbour", func(s *scene) {
		time.Sleep(travel) // the other's failure of the same neighbour is over
		start := time.Now()
		s.dialed(s.h.Dial("tcp", netip.AddrPortFrom(s.other(99), 9).String()))
		if d := time.Since(start); d < time.Second || d > hung {
			s.Errorf("%T took %v to give the neighbour up, want about 3 s", s.h, d)
		}
	}},
	{"dial/no route", func(s *scene) {
		to := "192.0.2.1:9"
		if s.v6 {
			to = "[2001:db8::1]:9"
		}
		s.dialed(s.h.Dial("tcp", to))
	}},
	{"dial/timeout", func(s *scene) {
		start := time.Now()
		s.dialed(s.h.dialWith(200*time.Millisecond, nil, "tcp", s.blackhole()))
		if d := time.Since(start); d < 200*time.Millisecond {
			s.Errorf("a timeout of 200 ms took %v", d)
		}
	}},
	{"dial/context deadline", func(s *scene) {
		ctx, cancel := context.WithTimeout(context.Background(), travel)
		defer cancel()
		s.dialed(s.h.DialContext(ctx, "tcp", s.blackhole()))
	}},
	{"dial/cancelled", func(s *scene) {
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(travel, cancel)
		s.dialed(s.h.DialContext(ctx, "tcp", s.blackhole()))
	}},
	{"dial/cancelled before", func(s *scene) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.dialed(s.h.DialContext(ctx, "tcp", s.at(s.pair.B, 9)))
	}},
	{"dial/from a listener's port", func(s *scene) {
		local := s.listen(s.h, "tcp", s.at(s.pair.A, 0)).Addr()
		s.dialed(s.h.dialWith(0, local, "tcp", s.at(s.pair.B, 9)))
	}},
	{"dial/from a kernel listener's port", func(s *scene) {
		local := s.listen(s.pair.A, "tcp", s.at(s.pair.A, 0)).Addr()
		s.dialed(s.h.dialWith(0, local, "tcp", s.at(s.pair.B, 9)))
	}},
	{"dial/from a connection's port", func(s *scene) {
		c, _ := s.conn()
		s.dialed(s.h.dialWith(0, c.LocalAddr(), "tcp", c.RemoteAddr().String()))
		s.dialed(s.h.dialWith(0, c.LocalAddr(), "tcp", s.at(s.pair.B, 9)))
	}},
	{"dial/from a foreign address", func(s *scene) {
		s.dialed(s.h.dialWith(0, &net.TCPAddr{IP: s.addr(s.pair.B).AsSlice()}, "tcp", s.at(s.pair.B, 9)))
	}},
}

// blackhole is an address that takes packets and never answers: a neighbour
// with a hardware address that nobody has.
func (s *scene) blackhole() string {
	a := s.other(66)
	s.must(s.pair.A.AddNeighbor(a, [6]byte{2, 0xde, 0xad, 0, 0, 1}))
	return netip.AddrPortFrom(a, 9).String()
}

// blocked writes more than peer, which takes one byte, has room for, and calls
// end once the first bytes are there: the Write has begun by then, however slow
// the machine is.
func (s *scene) blocked(c net.Conn, peer net.Conn, end func()) (int, error) {
	b := make([]byte, 64<<20)
	go func() {
		_, _ = peer.Read(make([]byte, 1))
		end()
	}()
	return c.Write(b)
}

var streamSituations = []situation{
	{"read/after FIN", func(s *scene) {
		c, peer := s.conn()
		s.limit(c)
		_, err := peer.Write(one)
		s.must(err)
		s.must(peer.Close())
		b := make([]byte, 10)
		for range 3 {
			s.noteN("read")(c.Read(b))
		}
	}},
	{"read/after RST", func(s *scene) {
		c, peer := s.conn()
		s.reset(peer)
		s.limit(c)
		for range 3 {
			s.noteN("read")(c.Read(make([]byte, 1)))
		}
		s.noteN("write")(c.Write(one))
		s.note("close", c.Close())
	}},
	{"read/RST while blocked", func(s *scene) {
		c, peer := s.accepted()
		s.limit(c)
		time.AfterFunc(travel, func() { peer.SetLinger(0); peer.Close() })
		s.noteN("read")(c.Read(make([]byte, 1)))
	}},
	{"read/data before RST", func(s *scene) {
		c, peer := s.conn()
		_, err := peer.Write([]byte("hello"))
		s.must(err)
		s.reset(peer)
		s.limit(c)
		_, err = io.ReadAll(c) // whether the data survives is not promised
		s.note("read all", err)
	}},
	{"write/after RST", func(s *scene) {
		c, peer := s.accepted()
		s.reset(peer)
		s.limit(c)
		for range 3 {
			s.noteN("write")(c.Write(one))
		}
		s.noteN("read")(c.Read(make([]byte, 1)))
	}},
	{"write/after the peer closed", func(s *scene) {
		c, peer := s.conn()
		s.limit(c)
		s.must(peer.Close())
		s.arrived()
		s.noteN("first write")(c.Write(one)) // answered by a reset
		s.arrived()
		s.noteN("second write")(c.Write(one))
		s.noteN("third write")(c.Write(one))
		s.noteN("read")(c.Read(make([]byte, 1)))
	}},
	{"write/RST while blocked", func(s *scene) {
		c, peer := s.conn()
		s.limit(c)
		_, err := s.blocked(c, peer, func() { peer.SetLinger(0); peer.Close() })
		s.note("write", err)
	}},
	{"read/deadline past", func(s *scene) {
		c, peer := s.conn()
		s.must(c.SetReadDeadline(time.Unix(1, 0)))
		s.noteN("read")(c.Read(make([]byte, 1)))
		_, err := peer.Write(one)
		s.must(err)
		s.arrived()
		s.noteN("read with data there")(c.Read(make([]byte, 1)))
		s.noteN("write")(c.Write(one))
		s.must(c.SetReadDeadline(time.Time{}))
		s.noteN("read without deadline")(c.Read(make([]byte, 1)))
	}},
	{"read/deadline", func(s *scene) {
		c, _ := s.accepted()
		s.must(c.SetReadDeadline(time.Now().Add(travel)))
		s.noteN("read")(c.Read(make([]byte, 1)))
	}},
	{"write/deadline with a full window", func(s *scene) {
		c, peer := s.conn()
		n, err := s.blocked(c, peer, func() { s.must(c.SetWriteDeadline(time.Now().Add(travel))) })
		if n == 0 || n == 64<<20 {
			s.Errorf("wrote %d bytes to a peer that does not read", n)
		}
		s.note("write", err)
		s.noteN("write again")(c.Write(one))
	}},
	{"read/nothing", func(s *scene) {
		c, _ := s.conn()
		s.noteN("read of no bytes")(c.Read(nil))
		s.noteN("write of no bytes")(c.Write(nil))
	}},
}

var closeSituations = []situation{
	{"close/own", func(s *scene) {
		c, _ := s.conn()
		s.note("close", c.Close())
		s.noteN("read")(c.Read(make([]byte, 1)))
		s.noteN("write")(c.Write(one))
		s.note("deadline", c.SetDeadline(time.Now()))
		s.note("close write", c.CloseWrite())
		s.note("close again", c.Close())
	}},
	{"close/while reading", func(s *scene) {
		c, _ := s.conn()
		s.limit(c)
		time.AfterFunc(travel, func() { c.Close() })
		s.noteN("read")(c.Read(make([]byte, 1)))
	}},
	{"close/while writing", func(s *scene) {
		c, peer := s.conn()
		s.limit(c)
		_, err := s.blocked(c, peer, func() { c.Close() })
		s.note("write", err)
	}},
	{"close/half, ours first", func(s *scene) {
		c, peer := s.conn()
		s.limit(c, peer)
		s.noteN("write")(c.Write([]byte("request")))
		s.note("close write", c.CloseWrite())
		s.noteN("write after close write")(c.Write(one))
		b, err := io.ReadAll(peer)
		s.noteN("peer read "+string(b))(len(b), err)
		s.noteN("peer write")(peer.Write([]byte("answer")))
		s.must(peer.Close())
		b, err = io.ReadAll(c)
		s.noteN("read "+string(b))(len(b), err)
		s.note("close write again", c.CloseWrite())
		s.note("close", c.Close())
	}},
	{"close/half, peer's first", func(s *scene) {
		c, peer := s.accepted()
		s.limit(c, peer)
		s.noteN("peer write")(peer.Write([]byte("request")))
		s.must(peer.CloseWrite())
		b, err := io.ReadAll(c)
		s.noteN("read "+string(b))(len(b), err)
		s.noteN("write")(c.Write([]byte("answer")))
		s.note("close", c.Close())
		b, err = io.ReadAll(peer)
		s.noteN("peer read "+string(b))(len(b), err)
	}},
	{"close/read half", func(s *scene) {
		c, peer := s.conn()
		s.limit(c, peer)
		s.note("close read", c.CloseRead())
		s.noteN("read")(c.Read(make([]byte, 1)))
		s.noteN("write")(c.Write(one))
		s.noteN("peer read")(peer.Read(make([]byte, 1)))
	}},
	{"close/unread data", func(s *scene) {
		c, peer := s.accepted()
		s.limit(peer)
		s.noteN("peer write")(peer.Write([]byte("nobody reads this")))
		s.arrived()
		s.note("close", c.Close())
		s.noteN("peer read")(peer.Read(make([]byte, 1)))
	}},
	{"close/data arrives after", func(s *scene) {
		c, peer := s.conn()
		s.limit(peer)
		s.note("close", c.Close())
		s.noteN("peer read")(peer.Read(make([]byte, 1)))
		s.noteN("peer write")(peer.Write(one))
		s.arrived()
		s.noteN("peer write again")(peer.Write(one))
	}},
	{"close/linger 0", func(s *scene) {
		c, peer := s.conn()
		s.limit(peer)
		s.noteN("write")(c.Write(one))
		s.noteN("peer read")(peer.Read(make([]byte, 1)))
		s.note("linger", c.SetLinger(0))
		s.note("close", c.Close())
		s.noteN("peer read")(peer.Read(make([]byte, 1)))
	}},
	{"close/delivers what was written", func(s *scene) {
		c, peer := s.conn()
		s.limit(c, peer)
		const size = 300_000
		s.noteN("write")(c.Write(make([]byte, size)))
		s.note("close", c.Close())
		n, err := io.Copy(io.Discard, peer)
		s.noteN("peer read all")(int(n), err)
	}},
	{"close/lingering", func(s *scene) {
		c, peer := s.conn()
		s.limit(c, peer)
		s.note("linger", c.SetLinger(1))
		const size = 6 << 20 // more than the peer's buffer
		s.must(peer.SetReadBuffer(64 << 10))
		s.must(c.(interface{ SetWriteBuffer(int) error }).SetWriteBuffer(1 << 20))
		// However early the deadline passes, more waits than the peer takes.
		_, err := c.Write(make([]byte, 512<<10))
		s.must(err)
		s.must(c.SetWriteDeadline(time.Now().Add(2 * travel)))
		_, err = c.Write(make([]byte, size))
		s.note("write", err)
		start := time.Now()
		s.note("close", c.Close())
		if d := time.Since(start); d < 900*time.Millisecond || d > hung {
			s.Errorf("%T: Close with SO_LINGER 1 s took %v", c, d)
		}
	}},
}

var listenSituations = []situation{
	{"listen/accept after close", func(s *scene) {
		l := s.listen(s.h, "tcp", s.at(s.pair.A, 0))
		s.note("close", l.Close())
		_, err := l.Accept()
		s.note("accept", err)
		s.note("close again", l.Close())
	}},
	{"listen/close while accepting", func(s *scene) {
		l := s.listen(s.h, "tcp", s.at(s.pair.A, 0))
		time.AfterFunc(travel, func() { l.Close() })
		_, err := l.Accept()
		s.note("accept", err)
	}},
	{"listen/accept deadline", func(s *scene) {
		l := s.listen(s.h, "tcp", s.at(s.pair.A, 0)).(interface {
			net.Listener
			SetDeadline(time.Time) error
		})
		s.must(l.SetDeadline(time.Now().Add(travel)))
		_, err := l.Accept()
		s.note("accept", err)
		s.must(l.SetDeadline(time.Time{}))
		p, err := s.pair.B.Dial("tcp", l.Addr().String())
		s.must(err)
		defer p.Close()
		c, err := l.Accept()
		s.note("accept after the deadline was cleared", err)
		if err == nil {
			c.Close()
		}
	}},
	{"listen/twice", func(s *scene) {
		s.listenAgain(s.h, "tcp", s.listen(s.h, "tcp", s.at(s.pair.A, 0)).Addr().String())
	}},
	{"listen/kernel, then us", func(s *scene) {
		s.listenAgain(s.h, "tcp", s.listen(s.pair.A, "tcp", s.at(s.pair.A, 0)).Addr().String())
	}},
	{"listen/we, then kernel", func(s *scene) {
		s.listenAgain(s.pair.A, "tcp", s.listen(s.h, "tcp", s.at(s.pair.A, 0)).Addr().String())
	}},
	{"listen/wildcard, then address", func(s *scene) {
		_, port, _ := net.SplitHostPort(s.listen(s.h, "tcp", ":0").Addr().String())
		s.listenAgain(s.h, "tcp", net.JoinHostPort(s.addr(s.pair.A).String(), port))
		s.listenAgain(s.pair.A, "tcp", ":"+port)
	}},
	{"listen/address, then wildcard", func(s *scene) {
		_, port, _ := net.SplitHostPort(s.listen(s.h, "tcp", s.at(s.pair.A, 0)).Addr().String())
		s.listenAgain(s.h, "tcp", ":"+port)
	}},
	{"listen/on a connection's port", func(s *scene) {
		c, _ := s.conn()
		s.listenAgain(s.h, "tcp", c.LocalAddr().String())
		s.listenAgain(s.pair.A, "tcp", c.LocalAddr().String())
	}},
	{"listen/foreign address", func(s *scene) { s.listenAgain(s.h, "tcp", s.at(s.pair.B, 0)) }},
	{"listen/again after close", func(s *scene) {
		l := s.listen(s.h, "tcp", s.at(s.pair.A, 0))
		p, err := s.pair.B.Dial("tcp", l.Addr().String())
		s.must(err)
		defer p.Close()
		c, err := l.Accept()
		s.must(err)
		s.must(l.Close())
		s.listenAgain(s.h, "tcp", l.Addr().String()) // with a connection
		s.must(c.Close())
		s.limit(p)
		_, err = p.Read(make([]byte, 1))
		s.note("peer read", err)
		s.must(p.Close())
		s.arrived()
		s.listenAgain(s.h, "tcp", l.Addr().String()) // with one in TIME-WAIT
	}},
	{"listen/close with a connection waiting", func(s *scene) {
		l := s.listen(s.h, "tcp", s.at(s.pair.A, 0))
		p, err := s.pair.B.Dial("tcp", l.Addr().String())
		s.must(err)
		defer p.Close()
		s.arrived()
		s.must(l.Close())
		s.limit(p)
		_, err = p.Read(make([]byte, 1))
		s.note("peer read", err)
		q, err := s.pair.B.Dial("tcp", l.Addr().String())
		if err == nil {
			q.Close()
		}
		s.note("peer dial", err)
	}},
}

var packetSituations = []situation{
	{"udp/closed port, read", func(s *scene) {
		c := s.udp(9)
		s.limit(c)
		s.noteN("write")(c.Write(one))
		s.noteN("read")(c.Read(make([]byte, 1)))
	}},
	{"udp/closed port, write", func(s *scene) {
		c := s.udp(9)
		s.noteN("write")(c.Write(one))
		s.arrived()
		s.noteN("write after the answer")(c.Write(one))
	}},
	{"udp/closed port, blocked", func(s *scene) {
		c := s.udp(9)
		s.limit(c)
		time.AfterFunc(travel, func() { c.Write(one) })
		s.noteN("read")(c.Read(make([]byte, 1)))
	}},
	{"udp/our port closed", func(s *scene) {
		c, err := s.h.ListenPacket("udp", s.at(s.pair.A, 0))
		s.must(err)
		p, err := s.pair.B.Dial("udp", c.LocalAddr().String())
		s.must(err)
		defer p.Close()
		s.must(c.Close())
		s.limit(p)
		s.noteN("peer write")(p.Write(one))
		s.noteN("peer read")(p.Read(make([]byte, 1)))
	}},
	{"udp/too long", func(s *scene) {
		c := s.udp(9)
		s.noteN("write")(c.Write(make([]byte, 65528)))
		s.noteN("write")(c.Write(make([]byte, 1<<20)))
	}},
	{"udp/too long for IPv4", func(s *scene) {
		c := s.udp(9)
		s.noteN("write")(c.Write(make([]byte, 65508)))
	}},
	{"udp/longest", func(s *scene) {
		c := s.udp(9)
		s.noteN("write")(c.Write(make([]byte, 65507)))
	}},
	{"udp/read deadline", func(s *scene) {
		c := s.udp(9)
		s.must(c.SetReadDeadline(time.Now().Add(travel)))
		s.noteN("read")(c.Read(make([]byte, 1)))
		pc, err := s.h.ListenPacket("udp", s.at(s.pair.A, 0))
		s.must(err)
		defer pc.Close()
		s.must(pc.SetReadDeadline(time.Unix(1, 0)))
		_, _, err = pc.ReadFrom(make([]byte, 1))
		s.note("read from", err)
	}},
	{"udp/own close", func(s *scene) {
		c := s.udp(9)
		time.AfterFunc(travel, func() { c.Close() })
		s.noteN("read")(c.Read(make([]byte, 1)))
		s.noteN("write")(c.Write(one))
		s.note("close again", c.Close())
	}},
	{"udp/listen twice", func(s *scene) {
		c, err := s.h.ListenPacket("udp", s.at(s.pair.A, 0))
		s.must(err)
		defer c.Close()
		for _, h := range []packetHost{s.h, s.pair.A} {
			again, err := h.ListenPacket("udp", c.LocalAddr().String())
			if err == nil {
				again.Close()
			}
			s.note("listen", err)
		}
	}},
	{"udp/no route", func(s *scene) {
		to := "192.0.2.1:9"
		if s.v6 {
			to = "[2001:db8::1]:9"
		}
		s.dialed(s.h.Dial("udp", to))
	}},
	{"udp/no neighbour", func(s *scene) {
		c, err := s.h.Dial("udp", netip.AddrPortFrom(s.other(98), 9).String())
		s.must(err)
		defer c.Close()
		s.noteN("write")(c.Write(one))
		s.must(c.SetReadDeadline(time.Now().Add(soon)))
		// Linux has no error here: a host that does not answer ARP is no hard one.
		s.noteN("read")(c.Read(make([]byte, 1)))
	}},
}
