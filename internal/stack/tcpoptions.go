package stack

import (
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
