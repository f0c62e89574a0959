package stack

import (
	"time"

	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/udp"
)

// udpInfo returns what is known of the datagram in rx.pkt, whose first Desc is
// d, until the next packet.
func (s *Stack) udpInfo(d *ring.Desc) *udp.Info {
	p, info := &s.rx.pkt, &s.rx.udp
	*info = udp.Info{
		At: s.now, Link: uint32(s.rx.on.of(p)),
		TTL: p.TTL, TOS: p.TOS,
	}
	if info.Src, info.Dst = s.demux.lastUDPSrc, s.demux.lastUDPDst; s.rx.group {
		info.Src, info.Dst = s.groups.src, s.groups.dst
	}
	if d.Flags&ring.FlagGSO != 0 && int(d.SegSize) < p.L4Len-udp.HeaderLen {
		info.Seg = int(d.SegSize)
	}
	return info
}

// Age is how long ago a datagram was received, of which udp.Info has that time.
func (u *UDPConn) Age(at int64) time.Duration { return time.Duration(nanotime() - at) }

// Drops are the received datagrams that a socket lost, by the reason.
type Drops struct {
	Buffer uint64 // its receive buffer was full (SO_RCVBUF)
	Memory uint64 // the stack was short of memory
}
