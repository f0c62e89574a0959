package stack

import (
	"syscall"
	"time"

	"github.com/onload-go/onload/tcp"
)

// ConnOptions are the options of an open connection.
type ConnOptions struct {
	NoDelay       bool
	KeepAlive     tcp.KeepAlive
	Linger        int           // seconds; < 0: none
	UserTimeout   time.Duration // 0: the default
	Congestion    string
	SendMSS       int    // bytes
	MaxPacingRate uint64 // bytes per second; 0: none
	TOS           uint8  // without ECN bits
	TTL           uint8  // 0: the route's
}

// Options returns the options that c has now.
func (c *TCPConn) Options() (o ConnOptions, err error) {
	err = c.look(func() {
		i := c.tc.Info(c.s.now)
		o = ConnOptions{
			NoDelay: c.tc.NoDelay(), KeepAlive: c.tc.KeepAlive(), Linger: c.tc.Linger(), UserTimeout: c.tc.UserTimeout(),
			Congestion: i.Congestion, SendMSS: i.SendMSS, MaxPacingRate: i.MaxPacingRate, TOS: c.dst.key.tos, TTL: c.dst.key.ttl,
		}
	})
	return o, err
}

// control runs fn under the stack lock, unless the protocol is done.
func (c *TCPConn) control(fn func()) error {
	return c.look(func() {
		if !c.gone {
			fn()
			c.s.touch(c)
		}
	})
}

// look runs fn, which changes nothing that is to be sent, under the stack lock. It waits
// while c is frozen.
func (c *TCPConn) look(fn func()) error {
	s := c.s
	for {
		if err := c.closedError(); err != nil {
			return err
		}
		s.begin()
		if s.life.closing.Load() {
			s.end()
			return errClosed
		}
		if s.demux.moving[c] == nil {
			break
		}
		s.end()
		time.Sleep(hushMost)
	}
	fn()
	s.end()
	return nil
}

// SetNoDelay turns Nagle's algorithm off (true, the default) or on.
func (c *TCPConn) SetNoDelay(on bool) error {
	return c.control(func() { c.tc.SetNoDelay(on) })
}

// SetLinger is SO_LINGER: sec < 0 closes in the background (the default), 0
// resets, > 0 has Close wait so long for the peer's acknowledgement.
func (c *TCPConn) SetLinger(sec int) error {
	return c.control(func() {
		c.tc.SetLinger(sec)
	})
}

// SetKeepAlive sets the keepalive probes: the first after idle, then every
// interval, and the connection is dead after count of them.
func (c *TCPConn) SetKeepAlive(ka tcp.KeepAlive) error {
	return c.control(func() { c.tc.SetKeepAlive(ka, c.s.now) })
}

// KeepAlive returns the keepalive settings.
func (c *TCPConn) KeepAlive() (ka tcp.KeepAlive, err error) {
	err = c.look(func() { ka = c.tc.KeepAlive() })
	return ka, err
}

// SetUserTimeout is TCP_USER_TIMEOUT (RFC 5482); 0 is the default.
func (c *TCPConn) SetUserTimeout(d time.Duration) error {
	return c.control(func() { c.tc.SetUserTimeout(d) })
}

// SetReadBuffer sets the receive buffer, in bytes.
func (c *TCPConn) SetReadBuffer(n int) error {
	return c.control(func() { c.tc.SetRcvBuf(n) })
}

// SetWriteBuffer sets the send buffer, in bytes.
func (c *TCPConn) SetWriteBuffer(n int) error {
	return c.control(func() { c.tc.SetSndBuf(n) })
}

// SetCongestion chooses the congestion control by name (TCP_CONGESTION).
func (c *TCPConn) SetCongestion(name string) error {
	ok := true
	if err := c.control(func() { ok = c.tc.SetCongestion(name, c.s.now) }); err != nil {
		return err
	}
	if !ok {
		return syscall.ENOENT // as setsockopt(TCP_CONGESTION)
	}
	return nil
}

// SetMaxPacingRate bounds the rate of sending, bytes per second
// (SO_MAX_PACING_RATE); 0 takes the bound away.
func (c *TCPConn) SetMaxPacingRate(rate uint64) error {
	return c.control(func() { c.tc.SetMaxPacingRate(rate) })
}

// Info is the connection's state (TCP_INFO); after its end, the last state.
func (c *TCPConn) Info() (i tcp.Info, err error) {
	err = c.look(func() { i = c.tc.Info(c.s.now) })
	return i, err
}
