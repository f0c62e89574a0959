package tcp

import (
	"encoding/binary"
	"net/netip"
	"sync"
)

// TCP Fast Open: RFC 7413. What both ends have in common, and the cookies.

// fastOpen has what a connection needs for Fast Open until it is established.
type fastOpen struct {
	cookie [maxFastOpen]byte
	option uint8 // length of the option in our SYN or SYN-ACK, see Options.FastOpen; 0: none
	exp    bool  // see Options.FastOpenExp

	// The client's.
	deferred bool   // the SYN waits for the first data
	bare     bool   // data goes without a cookie
	data     uint16 // bytes that it carried

	// The server's.
	l   *Listener // that counts it; nil for a client
	irs uint32    // the peer's initial sequence number
}

// dropFastOpen frees it, so that established connections do not pay for it.
func (c *Conn) dropFastOpen() {
	if c.rare.fo == nil {
		return
	}
	c.rare.fo = nil
	if *c.rare == noRare {
		c.rare = &noRare
	}
}

const (
	// fastOpenAsk is the length of an option that asks for a cookie.
	fastOpenAsk = 2
	// fastOpenOurs is that of an option with a cookie of ours, 8 bytes.
	fastOpenOurs = 2 + 8
	// fastOpenPeriod is how long we hand out the same cookies. They are accepted
	// for as long again, then they have expired (section 4.1.2).
	fastOpenPeriod = 3600e9
)

// hashFastOpen tells cookies from the other uses of the key.
const hashFastOpen = 3

// fastOpenCookie is the cookie of a client where the listener has no key of its
// own, section 4.1.2. It is a keyed hash of the two addresses and of the period, so
// cookies expire without a change of the key.
func (h *Host) fastOpenCookie(p *Pair, period uint32) (b [maxFastOpen]byte) {
	binary.BigEndian.PutUint64(b[:], hashPair(&h.ISNKey, netip.AddrPortFrom(p.Local, 0),
		netip.AddrPortFrom(p.Remote, 0), hashFastOpen|uint64(period)<<32))
	return b
}

func period(now int64) uint32 { return uint32(now / fastOpenPeriod) }

// maxServerCookies bounds the servers that a stack remembers.
const maxServerCookies = 4096

// ServerCookies has the cookies that servers gave us, and how Fast Open went with
// them, by the addresses of both hosts (section 4.1.3). Several Hosts may share one.
type ServerCookies struct {
	mu sync.Mutex // leaf
	of map[Pair]serverCookie
}

type serverCookie struct {
	value  [maxFastOpen]byte
	option uint8  // as fastOpen.option; 0: the server gave none
	mss    uint16 // that the server accepted, for what fits into the SYN
	losses uint8  // SYNs in a row that vanished
	until  int64  // no Fast Open before
}

// ForgetFastOpen forgets all that Fast Open learned of servers and paths.
func (h *Host) ForgetFastOpen() { h.ServerCookies = &ServerCookies{} }

// fastOpenPause is how long no Fast Open is tried on a path that dropped a SYN
// because of it. It doubles each time (section 4.1.3.1).
const (
	fastOpenPause = 60e9
	maxBlackHole  = 8 // doublings
)

// put remembers k for p. If there are too many, it forgets some other.
func (m *ServerCookies) put(p Pair, k serverCookie) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of = map[Pair]serverCookie{}
	}
	if _, ok := m.of[p]; !ok && len(m.of) >= maxServerCookies {
		for old := range m.of {
			delete(m.of, old)
			break
		}
	}
	m.of[p] = k
}

// get returns what is known of p, the zero value if that is nothing.
func (m *ServerCookies) get(p Pair) serverCookie {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.of[p]
}

func (m *ServerCookies) forget(p Pair) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.of, p)
}
