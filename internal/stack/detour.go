package stack

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"syscall"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
)

// Output sends IP packets by a link that the stack has no queues of. Send does
// not block; EAGAIN asks for another try.
type Output interface {
	Send(link int, nextHop netip.Addr, packet []byte) error
}

// detour is the way of packets whose route leads by a link that the stack has
// no queues of: through the kernel. A flow may come to it when its peer came by
// another link, or when its route moves. Its destinations are never ready, so the
// way of other packets does not look at it. It belongs to the holder of the stack
// lock.
type detour struct {
	out Output // nil: there is no kernel
	on  link   // stands for all such links
	buf []byte // the packet on its way
}

// init makes the detour, which takes packets of up to tso bytes to cut.
func (t *detour) init(out Output, tso int) {
	t.out = out
	t.on = link{name: "kernel", mtu: maxPacket, tso: tso, sums: true}
}

const (
	maxPacket    = 65535 // the largest IP packet, bytes (RFC 791, 3.1)
	maxTCPHeader = 60    // bytes (RFC 9293, 3.1)
)

// send is Stack.send for d.detour. If cut is set, a datagram above the MTU is sent
// in fragments; otherwise it is lost. false: the kernel's buffer is full, and
// nothing was sent.
func (t *detour) send(s *Stack, d *dst, pkt []ring.Desc, ecn uint8, cut bool) bool {
	first := pkt[0]
	l4 := t.load(s, pkt)
	partial := first.Flags&ring.FlagCsumPartial != 0
	if first.Flags&ring.FlagGSO != 0 {
		return t.segments(s, d, l4, int(first.HdrLen), int(first.SegSize), ecn)
	}
	if partial {
		putSum(l4[first.CsumOff:], ip.Sum(l4))
	}
	if cut && len(l4)+d.hdr.NetLen() > s.dests.mtuOf(d, s.now) {
		return t.fragments(s, d, l4, ecn)
	}
	return t.packet(s, d, l4, 0, len(l4), ecn)
}

// load copies pkt, which begins at the transport header, behind room for lower
// headers.
func (t *detour) load(s *Stack, pkt []ring.Desc) (l4 []byte) {
	t.buf = append(t.buf[:0], make([]byte, ip.MaxHeader)...)
	for i := range pkt {
		t.buf = append(t.buf, s.arena.Data(pkt[i])...)
	}
	return t.buf[ip.MaxHeader:]
}

// putSum completes a checksum from the sum of what it covers, its field included.
func putSum(field []byte, sum uint16) {
	if sum == 0xffff {
		sum = 0 // RFC 768: zero means no checksum
	}
	binary.BigEndian.PutUint16(field, ^sum)
}

// packet sends n bytes of l4 from off on, behind headers that overwrite bytes sent
// before.
func (t *detour) packet(s *Stack, d *dst, l4 []byte, off, n int, ecn uint8) bool {
	hl := d.hdr.Len()
	start := ip.MaxHeader + off
	d.hdr.Put(t.buf[start-hl:start], n, ecn, d.packetID())
	return t.emit(s, d, t.buf[start-d.hdr.NetLen():start+n])
}

// emit hands one IP packet to the kernel; false: it is to be tried again. What
// the kernel refuses is lost, as on a wire.
func (t *detour) emit(s *Stack, d *dst, packet []byte) bool {
	switch err := t.out.Send(d.route.Link, d.route.NextHop, packet); err {
	case nil:
		s.counters.detours.Add(1)
		s.kicker.sent++
	case syscall.EAGAIN:
		s.counters.txFull.Add(1)
		return false
	default:
		s.counters.detourErrors.Add(1)
	}
	return true
}

// segments sends a TCP packet in segments: hl is the length of its header, size the
// payload of each but the last.
func (t *detour) segments(s *Stack, d *dst, l4 []byte, hl, size int, ecn uint8) bool {
	sent := false
	all := cutSegments(l4, hl, size, d.sum, func(off, n int) bool {
		ok := t.packet(s, d, l4, off, n, ecn)
		sent = sent || ok
		return ok
	})
	return all || sent // the rest is lost, and sent again as after any loss
}

// cutSegments cuts a TCP packet as a device would (Linux's tcp_gso_segment). It puts
// each segment together within l4, at off, and calls emit, until that returns false.
// pseudo is the sum of the pseudo-header without the length.
func cutSegments(l4 []byte, hl, size int, pseudo uint16, emit func(off, n int) bool) bool {
	var h [maxTCPHeader]byte
	copy(h[:], l4[:hl])
	seq, flags := binary.BigEndian.Uint32(h[4:]), h[13]
	for off := 0; off < len(l4)-hl; off += size {
		n := min(size, len(l4)-hl-off)
		seg := l4[off : off+hl+n]
		copy(seg, h[:hl])
		binary.BigEndian.PutUint32(seg[4:], seq+uint32(off))
		f := flags
		if off > 0 {
			f &^= byte(tcp.FlagCWR) // RFC 3168, 6.1.2: the first one's
		}
		if off+n < len(l4)-hl {
			f &^= byte(tcp.FlagFIN | tcp.FlagPSH)
		}
		seg[13] = f
		sum := seg[tcp.OffsetChecksum:][:2]
		clear(sum)
		binary.BigEndian.PutUint16(sum, ^ip.Add(ip.Add(pseudo, uint16(len(seg))), ip.Sum(seg)))
		if !emit(off, len(seg)) {
			return false
		}
	}
	return true
}

// fragmentID returns the identification of a datagram's fragments, as sendFragments
// chooses it. Its low half, which is that of IPv4, is not 0: a raw socket of the
// kernel would replace 0, in each fragment by another (raw(7), IP_HDRINCL).
func fragmentID() uint32 {
	for {
		if id := rand.Uint32(); uint16(id) != 0 {
			return id
		}
	}
}

// fragments cuts a datagram (RFC 791, 3.2; RFC 8200, 4.5).
func (t *detour) fragments(s *Stack, d *dst, l4 []byte, ecn uint8) bool {
	plan, ok := d.hdr.Fragments(len(l4), s.dests.mtuOf(d, s.now))
	if !ok {
		return true
	}
	id := fragmentID()
	for {
		off, n, more, ok := plan.Next()
		if !ok {
			return true
		}
		hl := d.hdr.FragLen()
		start := ip.MaxHeader + off
		d.hdr.PutFragment(t.buf[start-hl:start], n, ecn, id, off, more)
		net := hl - (d.hdr.Len() - d.hdr.NetLen())
		if !t.emit(s, d, t.buf[start-net:start+n]) {
			return off > 0 // without the rest, these are worth nothing
		}
	}
}
