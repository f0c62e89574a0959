package tcp

import (
	"crypto/rand"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// Host has what the connections of one stack share. It belongs to the holder of the
// stack lock, except Arena and Reserve.
type Host struct {
	Arena *ring.Arena
	Cache *ring.Cache

	ISNKey, TSKey [16]byte // random, see RFC 6528

	ServerCookies *ServerCookies // of Fast Open, that servers gave us

	Stats Stats

	MaxFrags int // most frames in a transmitted packet
	TSO      int // largest IP packet that a device segments; 0: none does. See Conn.SetTSO
	TSOFrags int // most frames in such a packet
	// MinTSOSegs is the least number of segments that such a packet may have, as
	// Linux's tcp_min_tso_segs.
	MinTSOSegs int
	TxCsum     bool // the device completes checksums
	Reserve    int  // frames that writers leave free for reception
	Gather     bool // the owner of a Conn that is Gathering calls EndGather soon

	// MaxOrphans bounds the connections that go on after the user has closed them,
	// as Linux's tcp_max_orphans. Further ones are reset.
	MaxOrphans int

	orphans int // connections that go on without a user

	pkt      [maxFrags]ring.Desc // packet under construction
	pool     []*reassembly       // idle ones
	sample   AckSample           // for Congestion; here it does not escape
	rate     RateSample          // likewise
	newest   rateNewest          // of the acknowledgement in work
	delivery delivery            // likewise
	loss     loss                // likewise
}

// DefaultOrphans is Host.MaxOrphans where nobody sets it.
const DefaultOrphans = 16384

// Orphans is the number of connections that go on although the user has closed
// them.
func (h *Host) Orphans() int { return h.orphans }

// maxFrags bounds the frames of a packet: 64 KiB in frames of 2 KiB, and a few
// more.
const maxFrags = 48

// Fill copies src to dst, as ip.SumCopy, and returns the payload's sum for
// ring.Meta: 0 where the device sums.
func (h *Host) Fill(dst, src []byte) uint16 {
	if h.TxCsum {
		copy(dst, src)
		return 0
	}
	return ip.SumCopy(dst, src)
}

// sum is Fill without the copy.
func (h *Host) sum(b []byte) uint16 {
	if h.TxCsum {
		return 0
	}
	return ip.Sum(b)
}

// Caps are the properties of a device that shape packets.
type Caps struct {
	MaxFrags int
	TSO      int
	TSOFrags int // 0: MaxFrags
	TxCsum   bool
}

// NewHost returns the shared part of a stack's connections.
func NewHost(a *ring.Arena, cache *ring.Cache, caps Caps) *Host {
	h := &Host{
		Arena: a, Cache: cache,
		MaxFrags: min(max(caps.MaxFrags, 1), maxFrags),
		TSO:      caps.TSO,
		TSOFrags: min(max(caps.TSOFrags, caps.MaxFrags, 1), maxFrags),
		TxCsum:   caps.TxCsum,
		Reserve:  a.Frames() / 8,

		ServerCookies: &ServerCookies{},

		MinTSOSegs: minTSOSegs,
		MaxOrphans: DefaultOrphans,
	}
	// crypto/rand never fails since Go 1.24.
	_, _ = rand.Read(h.ISNKey[:])
	_, _ = rand.Read(h.TSKey[:])
	return h
}
