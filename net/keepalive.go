package onload

import (
	"net"
	"syscall"
	"time"

	"github.com/onload-go/onload/tcp"
)

// net's defaults of keepalive.
const (
	keepAliveIdle     = 15 * time.Second
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 9
)

// mergeKeepAlive returns ka after SetKeepAliveConfig(c): 0 means net's default, a
// negative value leaves the setting as it was.
func mergeKeepAlive(ka tcp.KeepAlive, c net.KeepAliveConfig) tcp.KeepAlive {
	ka.Enable = c.Enable
	ka.Idle = mergeDuration(ka.Idle, c.Idle, keepAliveIdle)
	ka.Interval = mergeDuration(ka.Interval, c.Interval, keepAliveInterval)
	if c.Count == 0 {
		ka.Count = keepAliveCount
	} else if c.Count > 0 {
		ka.Count = c.Count
	}
	return ka
}

func mergeDuration(old, d, def time.Duration) time.Duration {
	switch {
	case d == 0:
		return def
	case d < 0:
		return old
	}
	// The kernel counts seconds.
	return (d + time.Second - 1).Truncate(time.Second)
}

// checkKeepAlive returns EINVAL for values that the kernel refuses
// (tcp_sock_set_keepidle).
func checkKeepAlive(ka tcp.KeepAlive) error {
	const most = 32767 * time.Second
	if ka.Idle > most || ka.Interval > most || ka.Count > 127 {
		return syscall.EINVAL
	}
	return nil
}
