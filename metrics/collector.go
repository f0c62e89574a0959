package metrics

import (
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/onload-go/onload/driver"
	onload "github.com/onload-go/onload/net"
)

// Options of a Collector.
type Options struct {
	// MaxListeners bounds how many listening addresses have series of their own, so that
	// a program that listens on thousands does not swamp its monitor. 0 is 64, and a
	// negative number none. Those that came first have them, until they close.
	MaxListeners int
}

// Collector implements prometheus.Collector for an engine.
type Collector struct {
	engine *onload.Engine
	most   int // listeners with series of their own

	team  map[string]desc // by counter's name
	queue map[string]desc

	mu     sync.Mutex
	listed map[netip.AddrPort]bool // listeners with series of their own
}

// desc is a metric's description with its type.
type desc struct {
	*prometheus.Desc
	kind prometheus.ValueType
}

var (
	accelerated = prometheus.NewDesc(prefix+"interface_accelerated",
		"whether the interface is accelerated; 0: the kernel carries its traffic", []string{"interface"}, nil)
	info = prometheus.NewDesc(prefix+"interface_info",
		"always 1; how packets of an accelerated interface travel", []string{"interface", "driver", "mode", "zero_copy", "broker"}, nil)

	waiting = prometheus.NewDesc(prefix+"listener_waiting",
		"connections that wait for Accept, those of the kernel included", []string{"address"}, nil)
	backlog = prometheus.NewDesc(prefix+"listener_backlog",
		"accelerated connections that may wait for Accept", []string{"address"}, nil)
	halfOpen = prometheus.NewDesc(prefix+"listener_half_open",
		"connections that wait for the last ACK of their handshake", []string{"address"}, nil)
	accepted = prometheus.NewDesc(prefix+"listener_accepted_total",
		"connections of a listener, those of the kernel included", []string{"address"}, nil)
	overflows = prometheus.NewDesc(prefix+"listener_overflows_total",
		"SYNs and final ACKs dropped because the listener's accept queue was full", []string{"address"}, nil)
	unlisted = prometheus.NewDesc(prefix+"listeners_without_series",
		"listening addresses beyond Options.MaxListeners", nil, nil)
)

// New returns a Collector of e's counters.
func New(e *onload.Engine, o Options) *Collector {
	c := &Collector{engine: e, most: o.MaxListeners, team: map[string]desc{}, queue: map[string]desc{}, listed: map[netip.AddrPort]bool{}}
	if c.most == 0 {
		c.most = 64
	}
	new(onload.Stats).Each(func(name, help string, now bool, _ uint64) {
		d := desc{kind: prometheus.CounterValue}
		full := prefix + nameOf(name)
		if now {
			d.kind = prometheus.GaugeValue
		} else {
			full += "_total"
		}
		d.Desc = prometheus.NewDesc(full, help, []string{"interface"}, nil)
		c.team[name] = d
	})
	new(driver.Stats).Each(func(name, help string, _ uint64) {
		c.queue[name] = desc{prometheus.NewDesc(prefix+"queue_"+snake(name)+"_total", help, []string{"interface", "queue"}, nil), prometheus.CounterValue}
	})
	return c
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range []map[string]desc{c.team, c.queue} {
		for _, d := range m {
			ch <- d.Desc
		}
	}
	for _, d := range []*prometheus.Desc{accelerated, info, waiting, backlog, halfOpen, accepted, overflows, unlisted} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.engine.Snapshot()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, i := range s.Interfaces {
		up := 0.
		if p := i.Path; p.Accelerated {
			up = 1
			gauge(info, 1, i.Name, p.Driver, p.Mode, strconv.FormatBool(p.ZeroCopy), p.Broker)
		}
		gauge(accelerated, up, i.Name)
	}
	for _, t := range s.Teams {
		names := strings.Join(t.Interfaces, ",")
		t.Stats.Each(func(name, _ string, _ bool, n uint64) {
			d := c.team[name]
			ch <- prometheus.MustNewConstMetric(d.Desc, d.kind, float64(n), names)
		})
		for _, q := range t.Queues {
			q.Each(func(name, _ string, n uint64) {
				d := c.queue[name]
				ch <- prometheus.MustNewConstMetric(d.Desc, d.kind, float64(n), q.Interface, strconv.Itoa(q.Queue))
			})
		}
	}
	own, others := c.choose(s.Listeners)
	for _, l := range own {
		a := address(l.Addr)
		gauge(waiting, float64(l.Waiting), a)
		gauge(backlog, float64(l.Backlog), a)
		gauge(halfOpen, float64(l.HalfOpen), a)
		ch <- prometheus.MustNewConstMetric(accepted, prometheus.CounterValue, float64(l.Accepted), a)
		ch <- prometheus.MustNewConstMetric(overflows, prometheus.CounterValue, float64(l.Overflows), a)
	}
	gauge(unlisted, float64(others))
}

// address is a listener's address as net.Listener's words have it.
func address(a netip.AddrPort) string {
	if !a.Addr().IsValid() {
		a = netip.AddrPortFrom(netip.IPv6Unspecified(), a.Port())
	}
	return a.String()
}
