package tcp

import (
	"net/netip"
	"time"
)

// Metrics are what the administrator said of a route, for the connections that take
// it (ip-route(8)). A zero field says nothing.
type Metrics struct {
	AdvMSS     int           // the MSS that is announced, bytes
	InitCwnd   int           // the initial congestion window, segments
	InitRwnd   int           // the initial receive window, segments
	Window     int           // the most that is advertised, bytes
	Congestion string        // one of CongestionNames; others are ignored
	ECN        bool          // ECN is asked for and granted
	QuickAck   bool          // no acknowledgement is delayed
	RTOMin     time.Duration // the least retransmission timeout
}

// MetricsOwner is a ListenOwner that knows the routes' metrics.
type MetricsOwner interface {
	// Metrics are those of the route to remote, nil where it has none.
	Metrics(local, remote netip.AddrPort) *Metrics
}

// With returns cfg as it is for connections from local by a route with these
// metrics. Where both say something the metrics prevail over the socket, as in
// Linux (tcp_connect_init).
func (cfg *Config) With(m *Metrics, local netip.Addr) *Config {
	c := *cfg
	c.metrics = m
	if m.Window > 0 {
		if c.RcvBuf <= 0 {
			c.RcvBuf = DefaultBuf
		}
		c.RcvBuf = min(c.RcvBuf, m.Window)
	}
	if m.Congestion != "" && ValidCongestion(m.Congestion) {
		c.Congestion = m.Congestion
	}
	if m.ECN {
		c.ECN = ECNOn
	}
	c.firstMSS = c.announcedMSS(c.mtu(), local)
	return &c
}

// routeWindow is the first receive window by the metrics of the route, in bytes: as
// Linux's tcp_select_initial_window, whole segments of `window`, and at most
// `initrwnd` segments. ts says that they carry timestamps. 0: the route says nothing.
func (cfg *Config) routeWindow(ts bool) (n uint32) {
	m := cfg.metrics
	if m == nil {
		return 0
	}
	segment := max(uint32(cfg.firstMSS), 1)
	if ts {
		segment -= min(tsSize, segment-1)
	}
	if m.Window > 0 {
		if n = uint32(min(m.Window, maxBuf)); n > segment {
			n -= n % segment
		}
	}
	if m.InitRwnd > 0 {
		w := uint32(min(m.InitRwnd, maxSegments)) * segment
		if n == 0 || w < n {
			n = w
		}
	}
	return n
}

// maxSegments bounds windows that are given in segments.
const maxSegments = 0xffff

// config is the configuration of a connection by its route.
func (l *Listener) config(local, remote netip.AddrPort) *Config {
	o, ok := l.o.(MetricsOwner)
	if !ok {
		return l.cfg
	}
	m := o.Metrics(local, remote)
	if m == nil {
		return l.cfg
	}
	c := *l.cfg
	c.MTU = l.mtu(local, remote)
	return c.With(m, local.Addr())
}

// follow takes from m what has no other field in a Config.
func (c *Conn) follow(cfg *Config) {
	m := cfg.metrics
	if m == nil {
		return
	}
	if m.InitCwnd > 0 {
		c.cc.setInitial(m.InitCwnd)
	}
	if w := cfg.routeWindow(false); w > 0 {
		c.rcvClamp.Store(w)
	}
	if m.AdvMSS > 0 {
		c.makeRare().advMSS = uint16(min(m.AdvMSS, 0xffff))
	}
	c.setIf(markQuickAck, m.QuickAck)
	c.rtt.floor = millis(m.RTOMin)
}
