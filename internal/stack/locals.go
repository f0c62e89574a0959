package stack

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
)

// locals knows which addresses are ours, whichever link has them: they belong to
// the host. It also knows which packets to them the kernel would take. It belongs
// to the holder of the stack lock.
type locals struct {
	net  control.Network
	last netip.Addr // the last address that was found to be ours

	accepted [acceptedMost]pathIn
}

// acceptedMost bounds the sources that are remembered. Forged ones only have
// others looked up again.
const acceptedMost = 64

// acceptedFor is how long they are, since the kernel does not announce a change of
// each setting.
const acceptedFor = int64(500 * time.Millisecond)

// pathIn is where packets come from, and by which link.
type pathIn struct {
	flow  control.Flow // without ports
	link  int
	until int64
}

// has reports whether a is one of the host's addresses, or one that the host
// answers for.
func (l *locals) has(a netip.Addr) bool {
	if a == l.last {
		return true
	}
	if _, ok := l.net.Local(a); !ok {
		return false
	}
	l.last = a
	return true
}

// accepts returns whether p, whose frame begins with first, may come by a link
// (control.Network.Accepts). Packets that repeat the headers of the one before are
// not looked at.
func (l *locals) accepts(link int, p *ip.Packet, first []byte, now int64) control.Verdict {
	f := control.Flow{Src: p.Src, Dst: p.Dst, Proto: p.Proto, TOS: p.TOS &^ 3}
	b := p.Src.As16()
	at := &l.accepted[(binary.BigEndian.Uint64(b[8:])*0x9e3779b97f4a7c15)>>58]
	if at.flow == f && at.link == link && now < at.until {
		return control.Accepted
	}
	path := pathIn{f, link, now + acceptedFor}
	if hasPorts := p.Proto == ip.ProtoTCP || p.Proto == ip.ProtoUDP; hasPorts && !p.Fragment && len(first) >= p.L4Off+4 {
		f.SrcPort, f.DstPort = binary.BigEndian.Uint16(first[p.L4Off:]), binary.BigEndian.Uint16(first[p.L4Off+2:])
	}
	verdict := l.net.Accepts(link, f)
	if verdict == control.Accepted {
		*at = path
	}
	return verdict
}

// changed forgets whatever a change in the kernel may have made wrong.
func (l *locals) changed() {
	l.last = netip.Addr{}
	clear(l.accepted[:])
}
