package tcp

import (
	"crypto/rand"
	"net/netip"
	"time"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// Event is a set of things that happened to a Conn.
type Event uint16

const (
	// EvReadable: data, end of stream or an error waits for Read.
	EvReadable Event = 1 << iota
	// EvWritable: a full send buffer has room again, or Write will fail; or our
	// FIN was acknowledged.
	EvWritable
	// EvConnected: the handshake is complete.
	EvConnected
	// EvClosed: the protocol is done with the connection.
	EvClosed
	// EvError: Err returns something now.
	EvError
	// EvHup: the peer will send no more.
	EvHup
	// EvTimeWait: done but for 2MSL of TIME-WAIT, which Conn.TimeWait returns.
	// No EvClosed follows.
	EvTimeWait
)

// Owner is the side of a Conn that faces the stack. Its methods are called
// under the stack lock, from within Conn's methods; they must not call back
// into the Conn.
type Owner interface {
	// Transmit sends one TCP packet. pkt[0] begins with the TCP header, with
	// at least 128 bytes in front of it for lower headers. All bytes are
	// final. Whoever takes the packet holds its own reference on each frame
	// until the device is done. False: no room, nothing happened, and Output
	// is to be called when there is.
	Transmit(pkt []ring.Desc, ecn uint8) bool
	// Notify reports events.
	Notify(ev Event)
}

// KeepAlive configures keepalive probes. Zero durations and counts stand for
// Linux's defaults: 2 h, 75 s, 9 probes.
type KeepAlive struct {
	Enable         bool
	Idle, Interval time.Duration
	Count          int
}

// Config holds the settings of a connection. The zero value is usable.
type Config struct {
	RcvBuf, SndBuf int // bytes; 0: DefaultBuf, which grows on long paths
	// MaxRcvBuf is how far a receive buffer may grow whose size RcvBuf leaves
	// open, bytes: 0, or up to 8 MiB, for 6 MiB, else as far as the window's
	// scale allows, which the SYN fixes (Linux's tcp_rmem).
	MaxRcvBuf     int
	MTU           int // largest IP packet on the path; 0: 1500
	NoDelay       bool
	KeepAlive     KeepAlive
	UserTimeout   time.Duration // RFC 5482; 0: the system's
	Congestion    string        // one of CongestionNames; "": the first
	MaxPacingRate uint64        // as Conn.SetMaxPacingRate
	// DeferAccept is for how long a Listener waits for a connection's first
	// data before it makes a Conn of it (TCP_DEFER_ACCEPT): as many SYN-ACKs,
	// 5 at most, as fit that time. 0: it does not wait.
	DeferAccept time.Duration
	MTUProbing  MTUProbing
	ECN         ECN
	// FastOpen is how many connections of a Listener may exist whose
	// handshake is not complete, because they came with data in the SYN (RFC
	// 7413); 0: none. FastOpenConnect has Connect ask for that, and where the
	// server gave a cookie before, wait for the data.
	FastOpen        int
	FastOpenConnect bool
	// FastOpenKeys are what a Listener makes cookies of: the first does, those
	// of the second are good too, and replaced. None: of a secret of the Host's,
	// and they expire.
	FastOpenKeys FastOpenKeys
	// FastOpenNoCookie does without cookies: data is sent in a SYN, and taken
	// from one, without, for networks whose hosts are known
	// (TCP_FASTOPEN_NO_COOKIE).
	FastOpenNoCookie bool
	// SYNRetries is how often Connect sends SYN again (TCP_SYNCNT), at most
	// 127; 0: 6 times.
	SYNRetries int
	// MaxSeg bounds the MSS that is announced, and the peer's that is believed
	// (TCP_MAXSEG); 0: only the MTU does.
	MaxSeg int
	// FinWait2 is how long a connection that the user has closed waits for the
	// peer's FIN (TCP_LINGER2); 0: a minute, below 0: it is reset instead.
	FinWait2 time.Duration
	// KeepIdleCwnd keeps the congestion window that the application does not
	// use, or not fill, as it is; it is lowered else (RFC 2861, Linux's
	// tcp_slow_start_after_idle).
	KeepIdleCwnd  bool
	NoSACK        bool
	NoTimestamps  bool
	NoWindowScale bool
}

// DefaultBuf is the size that the send and receive buffers begin with where
// Config leaves it open.
const DefaultBuf = 1 << 20

const (
	defaultMTU = 1500
	minBuf     = 4096
	maxBuf     = 1 << 30 // RFC 7323 section 2.3: the largest window
)

func clampBuf(n int) int {
	if n <= 0 {
		n = DefaultBuf
	}
	return min(max(n, minBuf), maxBuf)
}

func (cfg *Config) mtu() int {
	if cfg.MTU <= 0 {
		return defaultMTU
	}
	return cfg.MTU
}

// defaultScale lets a window grow to 8 MiB.
const defaultScale = 7

// rcvWScale is the shift that we offer: enough for the buffer, and for it to
// grow up to 8 MiB later, since it is fixed at the SYN (RFC 7323 section 2.2).
func (cfg *Config) rcvWScale() uint8 {
	n := clampBuf(cfg.RcvBuf)
	if cfg.RcvBuf <= 0 {
		n = max(n, min(cfg.MaxRcvBuf, maxBuf))
	}
	s := uint8(defaultScale)
	for s < 14 && 0xffff<<s < n {
		s++
	}
	return s
}

// announcedMSS is the MSS option for packets of at most mtu bytes: what we can
// receive, whatever we send (RFC 6691), and no more than the user wants.
func (cfg *Config) announcedMSS(mtu int, local netip.Addr) uint16 {
	return announcedMSS(mtu, local, uint16(min(max(cfg.MaxSeg, 0), 0xffff)))
}

func announcedMSS(mtu int, local netip.Addr, most uint16) uint16 {
	n := uint16(mtu - ipHeaderLen(local) - headerSize)
	if most > 0 {
		n = min(n, most)
	}
	return n
}

// initialWindow is the window of a SYN, which is never scaled.
func (cfg *Config) initialWindow() uint32 {
	return uint32(min(clampBuf(cfg.RcvBuf), 0xffff))
}

// Host is what the connections of one stack share. It belongs to the holder
// of the stack lock, but for Arena and Reserve.
type Host struct {
	Arena *ring.Arena
	Cache *ring.Cache

	ISNKey, TSKey [16]byte // random, see RFC 6528

	Stats Stats

	MaxFrags int // most frames in a transmitted packet
	TSO      int // largest IP packet that the device segments; 0: none
	TSOFrags int // most frames in such a packet
	// MinTSOSegs is how many segments such a packet may have at any rate, as
	// Linux's tcp_min_tso_segs.
	MinTSOSegs int
	TxCsum     bool // the device completes checksums
	Reserve    int  // frames that writers leave free for reception
	Gather     bool // the owner of a Conn that is Gathering calls EndGather soon

	// MaxOrphans is how many connections may go on that the user has closed,
	// as Linux's tcp_max_orphans: what is above is reset.
	MaxOrphans int

	orphans int // connections that go on without a user
	cookies cookies

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

// maxFrags bounds the frames of a packet: 64 KiB in 2 KiB frames, and some.
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

		MinTSOSegs: minTSOSegs,
		MaxOrphans: DefaultOrphans,
	}
	// crypto/rand never fails since Go 1.24.
	_, _ = rand.Read(h.ISNKey[:])
	_, _ = rand.Read(h.TSKey[:])
	return h
}
