package repair

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/reinject"
	onloadip "github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// TCP_REPAIR cannot set what the peer says about FINs: that it has sent its own, and
// that it has got ours. So the socket is given the segment that said so.

const (
	forgedHeader = 20 + 12 // with the timestamps option
	forgedTTL    = 64
	// forgedTime is how long the kernel may take to deliver a segment by lo. It does so
	// before sendto returns, or as soon as the processor has a moment.
	forgedTime = 10 * time.Second
)

// forged is the segment of c's peer with sequence number seq, which acknowledges ack.
// The window that it offers is shut. A packet of IP.
func forged(c *tcp.Snapshot, seq, ack uint32, flags tcp.Flags) []byte {
	src, dst := c.Remote.Addr().Unmap(), c.Local.Addr().Unmap()
	var h onloadip.Header
	h.Init([6]byte{}, [6]byte{}, 0, src.WithZone(""), dst.WithZone(""), onloadip.ProtoTCP, 0, forgedTTL)
	frame := make([]byte, h.Len()+forgedHeader)
	h.Put(frame, forgedHeader, 0, 0)
	s := frame[h.Len():]
	binary.BigEndian.PutUint16(s[0:], c.Remote.Port())
	binary.BigEndian.PutUint16(s[2:], c.Local.Port())
	binary.BigEndian.PutUint32(s[4:], seq)
	binary.BigEndian.PutUint32(s[8:], ack)
	s[12] = forgedHeader / 4 << 4
	s[13] = byte(flags | tcp.FlagACK)
	for i := range s[20:] {
		s[20+i] = 1 // NOP
	}
	if c.Timestamps && c.TSRecent != 0 {
		copy(s[20:], []byte{1, 1, 8, 10}) // two NOPs, kind and length (RFC 7323, appendix A)
		binary.BigEndian.PutUint32(s[24:], c.TSRecent)
		binary.BigEndian.PutUint32(s[28:], c.TSVal)
	}
	sum := onloadip.Add(onloadip.PseudoSum(src, dst, onloadip.ProtoTCP, forgedHeader), onloadip.Sum(s))
	binary.BigEndian.PutUint16(s[16:], ^sum) // RFC 9293 section 3.1
	return frame[h.Len()-h.NetLen():]
}

// hear gives the socket a segment of its peer by way, and waits until it is in state
// want.
func (s socket) hear(way *reinject.Socket, c *tcp.Snapshot, seq, ack uint32, flags tcp.Flags, want tcp.State) error {
	scope, err := scopeOf(c.Local.Addr())
	if err != nil {
		return err
	}
	if err := way.Put(forged(c, seq, ack, flags), scope); err != nil {
		return err
	}
	for end := time.Now().Add(forgedTime); ; time.Sleep(50 * time.Microsecond) {
		i, err := s.info()
		if err != nil {
			return err
		}
		if kernelStates[i.state] == want {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the kernel has not taken the peer's FIN, or its acknowledgement, which came by lo: %w", unix.ETIMEDOUT)
		}
	}
}

// info is what Dump and Restore take of the kernel's struct tcp_info.
type info struct {
	state                uint8
	options              uint8
	sndScale, rcvScale   int8
	sndMSS, rcvMSS, pmtu uint32
	bits                 unix.TCPInfo
}

// Bits of tcpi_options (include/uapi/linux/tcp.h).
const (
	optTimestamps = 1
	optSACK       = 2
	optWScale     = 4
	optECN        = 8
	optUsecTS     = 64
)

func (s socket) info() (i info, err error) {
	// The shifts are bits of a byte that x/sys has no name for.
	var b [8]byte
	if _, err := getsockopt(int(s), unix.IPPROTO_TCP, unix.TCP_INFO, b[:]); err != nil {
		return i, err
	}
	k, err := unix.GetsockoptTCPInfo(int(s), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return i, err
	}
	i = info{state: k.State, options: k.Options, sndScale: -1, rcvScale: -1, sndMSS: k.Snd_mss, rcvMSS: k.Rcv_mss, pmtu: k.Pmtu, bits: *k}
	if k.Options&optWScale != 0 {
		i.sndScale, i.rcvScale = int8(b[6]&15), int8(b[6]>>4)
	}
	return i, nil
}

// clamp16 is v, at most what 16 bits hold.
func clamp16(v uint32) uint16 { return uint16(min(v, math.MaxUint16)) }
