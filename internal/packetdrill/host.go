package packetdrill

import (
	"encoding/binary"
	"math"
	"net/netip"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
)

// host stands in for internal/stack: it finds the connection of a segment, runs
// the timers and collects the packets that are sent. Its clock is virtual.
type host struct {
	h         *tcp.Host
	arena     *ring.Arena
	now       int64
	conns     []*conn // ended ones too, until they are freed
	listeners []*listener
	wire      []sent // what left, oldest first
	full      bool   // the device takes nothing
}

// sent is a TCP packet that left.
type sent struct {
	at            int64
	local, remote netip.AddrPort
	b             []byte
	ecn           uint8
}

const (
	frameSize = 2048
	frames    = 16384
)

func newHost() (*host, error) {
	a, err := ring.NewArena(frames, frameSize)
	if err != nil {
		return nil, err
	}
	h := &host{arena: a, now: 1e15}
	h.h = tcp.NewHost(a, ring.NewCache(a, 1), tcp.Caps{MaxFrags: 1, TSO: 1 << 16, TSOFrags: 48})
	return h, nil
}

func (h *host) close() {
	for _, c := range h.conns {
		if !c.freed {
			c.tc.Free()
		}
	}
	h.h.Cache.Flush()
	_ = h.arena.Close()
}

// conn is a connection with what the stack keeps about it.
type conn struct {
	h             *host
	tc            tcp.Conn
	local, remote netip.AddrPort
	tw            *tcp.TimeWait
	ended         bool // the protocol is done
	orphan        bool // the user is
	freed         bool
	rcvd, room    int // events told, for epoll's edges
	mtu           int // at the SYN
}

// Transmit implements tcp.Owner.
func (c *conn) Transmit(pkt []ring.Desc, ecn uint8) bool {
	return c.h.transmit(c.local, c.remote, pkt, ecn)
}

// Notify implements tcp.Owner.
func (c *conn) Notify(ev tcp.Event) {
	if ev&tcp.EvTimeWait != 0 {
		tw := c.tc.TimeWait(c.h.now)
		c.tw = &tw
	}
	if ev&(tcp.EvTimeWait|tcp.EvClosed) != 0 {
		c.ended = true
	}
	if ev&(tcp.EvReadable|tcp.EvError|tcp.EvHup) != 0 {
		c.rcvd++
	}
	if ev&(tcp.EvWritable|tcp.EvError|tcp.EvConnected|tcp.EvClosed) != 0 {
		c.room++
	}
}

func (h *host) transmit(local, remote netip.AddrPort, pkt []ring.Desc, ecn uint8) bool {
	if h.full {
		return false
	}
	var b []byte
	for _, d := range pkt {
		b = append(b, h.arena.Data(d)...)
	}
	if pkt[0].Flags&ring.FlagGSO != 0 {
		h.cut(b, int(pkt[0].SegSize), sent{h.now, local, remote, nil, ecn})
	} else {
		h.wire = append(h.wire, sent{h.now, local, remote, b, ecn})
	}
	return true
}

// cut does what a device does with a packet that becomes segments of size bytes.
func (h *host) cut(b []byte, size int, s sent) {
	hdr := b[:int(b[12]>>4)*4]
	data := b[len(hdr):]
	seq := binary.BigEndian.Uint32(b[4:])
	for first := true; len(data) > 0; first = false {
		n := min(size, len(data))
		s.b = append(append([]byte{}, hdr...), data[:n]...)
		binary.BigEndian.PutUint32(s.b[4:], seq)
		if n < len(data) {
			s.b[13] &^= byte(tcp.FlagFIN | tcp.FlagPSH)
		}
		if !first {
			s.b[13] &^= byte(tcp.FlagCWR) // RFC 3168 section 6.1.2
		}
		s.b[16], s.b[17] = 0, 0
		sum := ip.Add(ip.PseudoSum(s.local.Addr(), s.remote.Addr(), ip.ProtoTCP, len(s.b)), ip.Sum(s.b))
		binary.BigEndian.PutUint16(s.b[16:], ^sum)
		h.wire = append(h.wire, s)
		seq += uint32(n)
		data = data[n:]
	}
}

// dial makes the connection of an active open.
func (h *host) dial(cfg *tcp.Config, local, remote netip.AddrPort) *conn {
	c := &conn{h: h, local: local, remote: remote, mtu: cfg.MTU}
	c.tc.Init(h.h, c, cfg, local, remote)
	h.conns = append(h.conns, c)
	c.tc.Connect(h.now)
	c.tc.Info(h.now) // from now on it keeps times
	h.settle()
	return c
}

// listener is a port in LISTEN and its accept queue.
type listener struct {
	h     *host
	tl    tcp.Listener
	cfg   *tcp.Config
	addr  netip.AddrPort
	queue []*conn
}

func (h *host) listen(cfg *tcp.Config, addr netip.AddrPort, backlog int) *listener {
	l := &listener{h: h, cfg: cfg, addr: addr}
	l.tl.Init(h.h, l, cfg, backlog)
	h.listeners = append(h.listeners, l)
	return l
}

// Reply implements tcp.ListenOwner.
func (l *listener) Reply(local, remote netip.AddrPort, pkt []ring.Desc, ecn uint8) bool {
	return l.h.transmit(local, remote, pkt, ecn)
}

// MTU implements tcp.ListenOwner.
func (l *listener) MTU(_, _ netip.AddrPort) int { return 0 }

// NewConn implements tcp.ListenOwner.
func (l *listener) NewConn(local, remote netip.AddrPort) (*tcp.Conn, tcp.Owner) {
	c := &conn{h: l.h, local: local, remote: remote, mtu: l.cfg.MTU}
	l.h.conns = append(l.h.conns, c)
	return &c.tc, c
}

// Accepted implements tcp.ListenOwner.
func (l *listener) Accepted(tc *tcp.Conn) {
	tc.Info(l.h.now) // from now on it keeps times
	l.queue = append(l.queue, tc.Owner().(*conn))
}

// accept takes the oldest connection that waits.
func (l *listener) accept() *conn {
	if len(l.queue) == 0 {
		return nil
	}
	c := l.queue[0]
	l.queue = l.queue[1:]
	l.tl.Taken(&c.tc)
	return c
}

// close ends the listening and resets what nobody accepted.
func (l *listener) close() {
	for c := l.accept(); c != nil; c = l.accept() {
		c.orphan = true
		c.tc.Abort(l.h.now)
	}
	l.tl.Close(l.h.now)
	for i, x := range l.h.listeners {
		if x == l {
			l.h.listeners = append(l.h.listeners[:i], l.h.listeners[i+1:]...)
			break
		}
	}
	l.h.settle()
}

// find returns the connection of the two ends: the one that lives, else the
// latest that ended.
func (h *host) find(local, remote netip.AddrPort) (last *conn) {
	for _, c := range h.conns {
		if c.local == local && c.remote == remote {
			if last = c; !c.ended {
				return c
			}
		}
	}
	return last
}

// input takes the TCP packet b, whose checksum is right. If it is larger than mss,
// which may be 0, a device has joined it from segments of that size.
func (h *host) input(b []byte, local, remote netip.AddrPort, ecn uint8, mss int) error {
	s := tcp.Segment{Local: local, Remote: remote, ECN: ecn}
	n, err := s.Parse(b, len(b))
	if err != nil {
		return err
	}
	if !s.Flags.Sane() {
		return nil
	}
	if s.Payload, err = h.fill(b[n:]); err != nil {
		return err
	}
	if mss > 0 && s.Len > mss {
		s.Payload[0].SegSize = uint16(mss)
	}
	h.dispatch(&s)
	h.settle()
	return nil
}

// fill puts payload into frames as a device would.
func (h *host) fill(b []byte) (ds []ring.Desc, err error) {
	for len(b) > 0 {
		f, ok := h.h.Cache.Alloc()
		if !ok {
			return nil, failf("no frames to receive into")
		}
		n := copy(h.arena.Bytes(f)[ring.Headroom:], b)
		ds = append(ds, ring.Desc{Frame: f, Off: ring.Headroom, Len: uint16(n), Flags: ring.FlagMore})
		b = b[n:]
	}
	if ds != nil {
		ds[len(ds)-1].Flags = 0
	}
	return ds, nil
}

func (h *host) dispatch(s *tcp.Segment) {
	c := h.find(s.Local, s.Remote)
	switch {
	case c == nil || c.ended && c.tw == nil:
	case !c.ended:
		c.tc.Input(s, h.now)
		return
	case h.timeWait(c, s):
		return
	}
	for _, l := range h.listeners {
		if l.addr.Port() == s.Local.Port() {
			l.tl.Input(s, h.now)
			return
		}
	}
	h.h.Cache.FreeDescs(s.Payload)
	h.reply(s.Local, s.Remote, func(f ring.Frame) (ring.Desc, bool) { return h.h.Reset(s, f) })
}

// timeWait gives s to the TIME-WAIT that c left behind. false: s opens a new
// connection.
func (h *host) timeWait(c *conn, s *tcp.Segment) bool {
	switch c.tw.Input(h.h, s, h.now) {
	case tcp.TWReopen:
		for _, l := range h.listeners {
			if l.addr.Port() == s.Local.Port() {
				tw := c.tw
				c.tw = nil
				l.tl.Reopen(s, tw, h.now)
				return true
			}
		}
		h.h.Cache.FreeDescs(s.Payload)
		fallthrough
	case tcp.TWAck:
		h.reply(s.Local, s.Remote, func(f ring.Frame) (ring.Desc, bool) {
			return c.tw.PutAck(h.h, s.Local, s.Remote, f, h.now), true
		})
	}
	return true
}

func (h *host) reply(local, remote netip.AddrPort, build func(ring.Frame) (ring.Desc, bool)) {
	f, ok := h.h.Cache.Alloc()
	if !ok {
		return
	}
	if d, ok := build(f); ok {
		h.transmit(local, remote, []ring.Desc{d}, 0)
	}
	h.h.Cache.Release(f)
}

// icmpError takes the ICMP message b from the network to local.
func (h *host) icmpError(b []byte, local, remote netip.Addr) {
	p := ip.Packet{V6: local.Is6(), Src: remote, Dst: local}
	var e ip.ICMPError
	if ip.ParseICMPError(&p, b, &e) {
		if c := h.find(e.Local, e.Remote); c != nil && !c.ended {
			c.tc.ICMP(&e, h.now)
		}
	}
	h.settle()
}

// settle ends a turn as internal/stack does.
func (h *host) settle() {
	for _, c := range h.conns {
		if !c.ended && !c.freed {
			c.tc.Output(h.now)
		}
		if c.ended && c.orphan && !c.freed {
			c.freed = true
			c.tc.Free()
		}
	}
}

// deadline is when the next timer is due.
func (h *host) deadline() int64 {
	d := int64(math.MaxInt64)
	for _, c := range h.conns {
		if !c.ended {
			d = min(d, c.tc.Deadline())
		} else if c.tw != nil {
			d = min(d, c.tw.Deadline())
		}
	}
	for _, l := range h.listeners {
		d = min(d, l.tl.Deadline())
	}
	return d
}

// expire runs the timers that are due.
func (h *host) expire() {
	for _, c := range h.conns {
		switch {
		case !c.ended && c.tc.Deadline() <= h.now:
			c.tc.Expire(h.now)
		case c.tw != nil && c.tw.Deadline() <= h.now:
			c.tw = nil
		}
	}
	for _, l := range h.listeners {
		if l.tl.Deadline() <= h.now {
			l.tl.Expire(h.now)
		}
	}
	h.settle()
}
