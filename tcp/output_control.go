package tcp

import (
	"encoding/binary"
	"net/netip"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

const (
	headerSize = 20
	tsSize     = 12 // the timestamps option with two NOPs in front
)

func ipHeaderLen(a netip.Addr) int {
	if a.Is4() {
		return 20
	}
	return 40
}

// headerLen is the length of the TCP header of a data segment.
func (c *Conn) headerLen() int {
	if c.has(markTS) {
		return headerSize + tsSize
	}
	return headerSize
}

// timestamp is the value of our timestamp clock: milliseconds, from an offset
// of the connection's own (RFC 7323 section 5.4 and 7).
func (c *Conn) timestamp(now int64) uint32 { return uint32(now/1e6) + c.tsOffset }

// putSegment writes the header of a segment of a synchronized connection with
// sequence number seq, and the timestamps option, at b. It returns the sum of the
// bytes that it wrote. Reading them from memory would have to wait for the writes.
func (c *Conn) putSegment(b []byte, seq uint32, fl Flags, now int64) uint16 {
	fl |= Flags(c.ecn & ecnEcho)
	sum := putHeader(b, c.localPort, c.remotePort, seq, c.rcvNxt, fl, c.window())
	if c.has(markTS) {
		val := c.timestamp(now)
		putTimestamps(b[headerSize:], val, c.tsRecent)
		sum += tsAligned + uint64(val) + uint64(c.tsRecent)
		// Checksum, urgent pointer and the option's head as one word, see
		// putHeader.
		binary.BigEndian.PutUint64(b[OffsetChecksum:], tsAligned)
	}
	return ip.Fold(sum)
}

// checksum completes the header hdr of a packet whose payload has n bytes and the
// given sum.
func (c *Conn) checksum(hdr []byte, n int, payload uint16, d *ring.Desc) {
	c.putChecksum(hdr, n, ip.Add(payload, ip.Sum(hdr)), d)
}

// putChecksum writes the checksum of a packet with the header hdr and n bytes of
// payload, whose sum is given.
func (c *Conn) putChecksum(hdr []byte, n int, sum uint16, d *ring.Desc) {
	pseudo := ip.Add(c.pseudo, uint16(len(hdr)+n))
	if c.h.TxCsum || d.Flags&ring.FlagGSO != 0 {
		d.Flags |= ring.FlagCsumPartial
		d.CsumStart, d.CsumOff, d.HdrLen = 0, OffsetChecksum, uint16(len(hdr))
		binary.BigEndian.PutUint16(hdr[OffsetChecksum:], pseudo)
		return
	}
	binary.BigEndian.PutUint16(hdr[OffsetChecksum:], ^ip.Add(pseudo, sum))
}

// control sends a segment without payload, whose header of n bytes fill wrote.
func (c *Conn) control(n int, fill func(b []byte)) bool {
	f, ok := c.h.Cache.Alloc()
	if !ok {
		c.h.Stats.TCPOutNoFrames.Add(1)
		return false
	}
	d := &c.h.pkt[0]
	*d = ring.Desc{Frame: f, Off: uint16(ring.Headroom - n), Len: uint16(n)}
	b := c.h.Arena.Data(*d)
	fill(b)
	c.checksum(b, 0, 0, d)
	ok = c.owner.Transmit(c.h.pkt[:1], 0)
	c.h.Cache.Release(f)
	if ok {
		c.h.Stats.OutSegs.Add(1)
		c.segsOut++
	}
	return ok
}

// sendAck acknowledges what came, with SACK blocks (RFC 2018, 2883). false: it
// could not be sent, and stays due.
func (c *Conn) sendAck(now int64) bool {
	n := c.headerLen()
	blocks := 0
	var sack [4]SACKBlock
	if c.has(markSACK) && (c.ooo != nil || c.has(markDSACK)) {
		most := 4
		if c.has(markTS) {
			most = 3
		}
		blocks = c.sackBlocks(sack[:most])
		if blocks > 0 {
			n += 4 + 8*blocks
		}
	}
	ok := c.control(n, func(b []byte) {
		c.putSegment(b, c.emptySeq(), FlagACK, now)
		if blocks > 0 {
			putSACK(b[c.headerLen():], sack[:blocks])
		}
	})
	if !ok {
		c.set(markAckNow)
		return false
	}
	c.clear(markDSACK)
	c.spendQuick()
	c.acked()
	return true
}

// emptySeq is the sequence number of a segment without payload. It is SND.NXT, or
// the edge of the window where the peer took the window back, since the peer
// accepts nothing beyond (as Linux). A difference below the scale may be the peer's
// rounding.
func (c *Conn) emptySeq() uint32 {
	edge := c.sndUna + c.sndWnd
	if int32(c.sndNxt-edge) >= 1<<c.shift() && c.State() >= Established {
		return edge
	}
	return c.sndNxt
}

// acked notes that a segment with our acknowledgement left.
func (c *Conn) acked() {
	if c.gatherOff > 0 {
		c.gatherOff--
	} else if c.gatherStop > 0 && c.rcvNxt-c.rcvAcked >= gatherGood*uint32(c.rcvMSS) {
		c.gatherStop--
	}
	c.rcvAcked = c.rcvNxt
	c.ackAt = 0
	c.clear(markAckNow | markGather)
}

// sendProbe sends an acknowledgement of old sequence space. The peer answers with
// its own (RFC 9293 sections 3.8.4 and 3.8.6.1).
func (c *Conn) sendProbe(now int64) bool {
	return c.control(c.headerLen(), func(b []byte) {
		c.putSegment(b, c.sndUna-1, FlagACK, now)
	})
}

// sendReset tells the peer that the connection is gone.
func (c *Conn) sendReset(now int64) {
	c.h.Stats.OutRsts.Add(1)
	if !c.control(c.headerLen(), func(b []byte) {
		c.putSegment(b, c.emptySeq(), FlagRST|FlagACK, now)
	}) {
		c.h.Stats.TCPAbortFailed.Add(1)
	}
}

// resetFor answers an unacceptable acknowledgement in the handshake: the
// sequence number is the one that the peer expects (RFC 9293 section 3.5.2).
func (c *Conn) resetFor(ack uint32) {
	c.h.Stats.OutRsts.Add(1)
	c.control(headerSize, func(b []byte) {
		putHeader(b, c.localPort, c.remotePort, ack, 0, FlagRST, 0)
	})
}

// sendSYN sends SYN, or SYN-ACK where the peer's SYN came (RFC 9293 section
// 3.10.1 and 3.10.7.3).
func (c *Conn) sendSYN(now int64) bool {
	synAck := c.State() == SynReceived
	o := Options{
		MSS:    announcedMSS(int(c.mtu), c.pair.Local, c.rare.advMSS, c.rare.maxSeg),
		WScale: -1,
	}
	if synAck {
		o.SACKPermitted, o.HasTS = c.has(markSACK), c.has(markTS)
	} else {
		o.SACKPermitted, o.HasTS = !c.has(markNoSACK), !c.has(markNoTS)
	}
	if synAck && c.has(markWS) || !synAck && !c.has(markNoWS) {
		o.WScale = int8(c.rcvWS)
	}
	o.TSVal, o.TSEcr = c.timestamp(now), c.tsRecent
	// A repeated SYN does not mention Fast Open, which may be why the path dropped
	// the first (RFC 7413 section 4.1.3.1).
	fast := c.rare.fo != nil && c.backoff == 0
	if fast {
		f := c.rare.fo
		o.FastOpen, o.FastOpenExp, o.FastOpenCookie = f.option, f.exp, f.cookie
	}
	var b [maxOptions]byte
	n := putSYNOptions(b[:], &o)
	fl, ack := FlagSYN, uint32(0)
	if synAck {
		fl, ack = FlagSYN|FlagACK, c.rcvNxt
	}
	fl |= c.synECN(synAck)
	fill := func(h []byte) {
		putHeader(h, c.localPort, c.remotePort, c.sndUna, ack, fl, uint16(min(c.openWindow(), 0xffff)))
		copy(h[headerSize:], b[:n])
	}
	if fast && !synAck {
		return c.sendSYNData(headerSize+n, fill)
	}
	return c.control(headerSize+n, fill)
}
