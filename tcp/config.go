package tcp

import (
	"net/netip"
	"time"
)

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
	// MaxRcvBuf bounds how far a receive buffer grows whose size RcvBuf leaves
	// open, in bytes. 0 and values up to 8 MiB mean 6 MiB (Linux's tcp_rmem). A
	// larger one counts as far as the window's scale allows, which the SYN fixes.
	MaxRcvBuf     int
	MTU           int // largest IP packet on the path; 0: 1500
	NoDelay       bool
	KeepAlive     KeepAlive
	UserTimeout   time.Duration // RFC 5482; 0: the system's
	Congestion    string        // one of CongestionNames; "": the first
	MaxPacingRate uint64        // as Conn.SetMaxPacingRate
	// DeferAccept is how long a Listener waits for a connection's first data before
	// it makes a Conn (TCP_DEFER_ACCEPT). The Listener counts in SYN-ACKs: as many
	// as fit that time, at most 5. 0: it does not wait.
	DeferAccept time.Duration
	MTUProbing  MTUProbing
	ECN         ECN
	// FastOpen bounds the connections of a Listener that came with data in the SYN
	// (RFC 7413) and whose handshake is not complete; 0: none. FastOpenConnect has
	// Connect ask for a cookie, and wait for the first data where it has one of the
	// server's.
	FastOpen        int
	FastOpenConnect bool
	// FastOpenKeys are the secrets of a Listener's cookies. The first one makes
	// cookies. Those of the second are accepted, and replaced. Without keys a
	// secret of the Host's is used, and cookies expire.
	FastOpenKeys FastOpenKeys
	// FastOpenNoCookie sends data in a SYN, and accepts it, without a cookie: for
	// networks whose hosts are known (TCP_FASTOPEN_NO_COOKIE).
	FastOpenNoCookie bool
	// SYNRetries is how often Connect sends SYN again (TCP_SYNCNT), at most
	// 127; 0: 6 times.
	SYNRetries int
	// MaxSeg bounds the MSS that is announced, and the peer's MSS as far as it is
	// used (TCP_MAXSEG); 0: only the MTU bounds them.
	MaxSeg int
	// FinWait2 is how long a connection that the user has closed waits for the
	// peer's FIN (TCP_LINGER2); 0: a minute, below 0: it is reset instead.
	FinWait2 time.Duration
	// KeepIdleCwnd keeps the congestion window when the application does not use or
	// fill it. Otherwise it is lowered (RFC 2861, Linux's
	// tcp_slow_start_after_idle).
	KeepIdleCwnd  bool
	NoSACK        bool
	NoTimestamps  bool
	NoWindowScale bool

	// Of a route, see With.
	metrics  *Metrics
	firstMSS uint16 // the MSS that is announced
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

// rcvWScale is the shift that we offer. It is fixed at the SYN, so it must suit the
// buffer now and one that has grown to 8 MiB (RFC 7323 section 2.2).
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

// announcedMSS is the MSS option for packets of at most mtu bytes. It says what we
// can receive, whatever we send (RFC 6691), and no more than the user wants.
func (cfg *Config) announcedMSS(mtu int, local netip.Addr) uint16 {
	adv := uint16(0)
	if cfg.metrics != nil {
		adv = uint16(min(max(cfg.metrics.AdvMSS, 0), 0xffff))
	}
	return announcedMSS(mtu, local, adv, uint16(min(max(cfg.MaxSeg, 0), 0xffff)))
}

// adv is what the route says instead, most what the user wants; 0: nothing was
// said.
func announcedMSS(mtu int, local netip.Addr, adv, most uint16) uint16 {
	n := uint16(mtu - ipHeaderLen(local) - headerSize)
	if adv > 0 {
		n = adv
	}
	if most > 0 {
		n = min(n, most)
	}
	return n
}

// initialWindow is the window of a SYN, which is never scaled. ts says that segments
// are to carry timestamps.
func (cfg *Config) initialWindow(ts bool) uint32 {
	n := uint32(min(clampBuf(cfg.RcvBuf), 0xffff))
	if w := cfg.routeWindow(ts); w > 0 {
		n = min(n, w)
	}
	return n
}
