package guardian

import (
	"encoding/binary"

	"github.com/onload-go/onload/internal/flowtable"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

const (
	tcpHeader = 20 + 12 // with the timestamps option
	// MaxProbe is the most bytes that a probe has.
	MaxProbe = 40 + tcpHeader + 1
	probeTTL = 64
)

// probe writes to b a packet that makes the peer of f acknowledge, and returns its
// length. It has one octet that the peer got long ago, or far from what it expects: a
// segment that is not acceptable is answered by an acknowledgement (RFC 9293, section
// 3.10.7.4, first step). The kernel knows no such connection and answers that with a
// reset, whose sequence number is the one that the peer acknowledged, so that the peer
// believes it (section 3.10.7.1; RFC 5961, section 3.2). Linux limits how often it
// answers segments out of the window, but not those with data (tcp_oow_rate_limited).
// The timestamps option is there because a peer that has agreed to it may drop segments
// without it in silence (RFC 7323, section 3.2; FreeBSD does). Its value need not be known:
// one that is too old is answered by an acknowledgement as well (section 5.3, R1).
func probe(b []byte, f *flowtable.Flow) int {
	src, dst := f.Local.Addr(), f.Remote.Addr()
	var h ip.Header
	h.Init([6]byte{}, [6]byte{}, 0, src, dst, ip.ProtoTCP, 0, probeTTL)
	var whole [ip.MaxHeader + tcpHeader + 1]byte
	const l4 = tcpHeader + 1
	h.Put(whole[:], l4, 0, 0)
	s := whole[h.Len() : h.Len()+l4]
	binary.BigEndian.PutUint16(s[0:], f.Local.Port())
	binary.BigEndian.PutUint16(s[2:], f.Remote.Port())
	binary.BigEndian.PutUint32(s[4:], f.Seq)
	s[12] = tcpHeader / 4 << 4
	s[13] = byte(tcp.FlagACK)
	copy(s[20:], []byte{1, 1, 8, 10}) // two NOPs, kind and length (RFC 7323, appendix A); both values are 0
	sum := ip.Add(ip.PseudoSum(src, dst, ip.ProtoTCP, l4), ip.Sum(s))
	binary.BigEndian.PutUint16(s[16:], ^sum) // RFC 9293, section 3.1
	return copy(b, whole[h.Len()-h.NetLen():h.Len()+l4])
}
