package tcp

import "time"

const (
	keepIdleDefault  = 2 * time.Hour
	keepEveryDefault = 75 * time.Second
	keepCountDefault = 9
)

// SetNoDelay turns Nagle's algorithm off or on. The caller lets Output run.
func (c *Conn) SetNoDelay(on bool) { c.setIf(markNoDelay, on) }

// NoDelay reports whether Nagle's algorithm is off.
func (c *Conn) NoDelay() bool { return c.has(markNoDelay) }

// SetKeepAlive configures keepalive probes.
func (c *Conn) SetKeepAlive(k KeepAlive, now int64) {
	c.keepConfig(k)
	c.keepProbes = 0
	if !c.has(markDead) {
		c.armKeepAlive(max(now, c.lastRcv))
	}
}

func (c *Conn) keepConfig(k KeepAlive) {
	c.setIf(markKeepAlive, k.Enable)
	if k.Idle <= 0 {
		k.Idle = keepIdleDefault
	}
	if k.Interval <= 0 {
		k.Interval = keepEveryDefault
	}
	if k.Count <= 0 {
		k.Count = keepCountDefault
	}
	c.keepIdle, c.keepEvery = max(millis(k.Idle), 1), max(millis(k.Interval), 1)
	c.keepCount = uint8(min(k.Count, 127))
}

// KeepAlive returns the settings of the probes, defaults filled in.
func (c *Conn) KeepAlive() KeepAlive {
	return KeepAlive{
		Enable:   c.has(markKeepAlive),
		Idle:     time.Duration(c.keepIdle) * time.Millisecond,
		Interval: time.Duration(c.keepEvery) * time.Millisecond,
		Count:    int(c.keepCount),
	}
}

// SetLinger sets what Close does with unsent data. seconds < 0, the default, sends
// it in the background; 0 resets the connection. A positive number is for the
// caller, who does the waiting.
func (c *Conn) SetLinger(seconds int) { c.linger.Store(int32(min(max(seconds, -1), 1<<30))) }

// Linger returns what SetLinger set.
func (c *Conn) Linger() int { return int(c.linger.Load()) }

// SetSYNRetries sets how often Connect sends SYN again, as Config.SYNRetries.
func (c *Conn) SetSYNRetries(n int) { c.synRetries = uint8(min(max(n, 0), 127)) }

// configRare notes settings that hardly anybody uses.
func (c *Conn) configRare(cfg *Config) {
	if cfg.MaxSeg > 0 {
		c.makeRare().maxSeg = uint16(min(cfg.MaxSeg, 0xffff))
	}
	if t := cfg.FinWait2; t != 0 {
		c.makeRare().finWait2 = int32(max(millis(t), 1))
		if t < 0 {
			c.rare.finWait2 = -1
		}
	}
}

// SetUserTimeout bounds how long sent data may stay unacknowledged, or data may
// wait for the peer's window (RFC 5482); 0: the default.
func (c *Conn) SetUserTimeout(d time.Duration) {
	c.userLimit = millis(d)
	if d > 0 && c.userLimit == 0 {
		c.userLimit = 1
	}
}

// UserTimeout returns what SetUserTimeout set, in whole milliseconds.
func (c *Conn) UserTimeout() time.Duration { return time.Duration(c.userLimit) * time.Millisecond }

// SetRcvBuf sets the size of the receive buffer, which then no longer grows by
// itself. A window that was advertised is not taken back.
func (c *Conn) SetRcvBuf(n int) {
	c.set(markRcvFixed)
	if c.rare.tune != nil {
		c.makeRare().tune = nil
	}
	n = clampBuf(n)
	if c.has(markWS) && c.State() >= Established {
		n = min(n, 0xffff<<c.rcvWS) // the window can be no wider
	}
	c.rcvLimit.Store(uint32(n))
}

// SetSndBuf sets the size of the send buffer, which then no longer grows by itself.
func (c *Conn) SetSndBuf(n int) {
	c.set(markSndFixed)
	c.sndLimit.Store(uint32(clampBuf(n)))
	c.wakeWriter()
}

// SetCongestion chooses the congestion control. false: there is none of that name.
// The window stays.
func (c *Conn) SetCongestion(name string, now int64) bool {
	if !c.cc.Set(name) {
		return false
	}
	c.startModel(now)
	return true
}
