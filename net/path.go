package onload

import (
	"net"
	"strings"

	"github.com/onload-go/onload/internal/stack"
)

// Path tells how the packets of a socket travel.
type Path struct {
	// Accelerated: by the queues of Interface, not through the kernel's
	// sockets. A listener may have several, separated by commas.
	Accelerated bool
	Interface   string
	Driver      string // of the interface
	Mode        string // "native", "generic", "sim"
	ZeroCopy    bool
	// CopyReason is why packets are copied between NIC and process; empty where
	// ZeroCopy, and on in-memory links.
	CopyReason string
	// NAPI says what was set of the kernel's polling, or kept, or why it could
	// not be; empty where Config.NAPI asks for nothing.
	NAPI string
	// TSO is the largest packet that the device segments, in bytes; 0 is none.
	TSO int

	// Reason is why the kernel carries it; empty where Accelerated.
	Reason string
}

// String is the path in words.
func (p Path) String() string {
	if !p.Accelerated {
		return "kernel (" + p.Reason + ")"
	}
	copied := "copy"
	if p.ZeroCopy {
		copied = "zero-copy"
	}
	if p.TSO > 0 {
		copied += ", segmentation offload"
	}
	return p.Interface + " (" + p.Driver + ", " + p.Mode + ", " + copied + ")"
}

// PathOf tells how the packets of v travel: a connection or listener of this
// package, or one of net, which is always the kernel's. What wraps a
// connection and has a method NetConn, such as a tls.Conn, is unwrapped.
func PathOf(v any) Path {
	switch c := v.(type) {
	case nil:
		return Path{Reason: "no socket"}
	case *TCPConn:
		if c != nil && c.s != nil {
			return pathOf(c.s.Stack())
		} else if c != nil && c.k != nil {
			return Path{Reason: c.k.why}
		}
	case *TCPListener:
		if c != nil && len(c.on) > 0 {
			return pathOf(c.on...)
		} else if c.ok() {
			return Path{Reason: c.why}
		}
	case *UDPConn:
		if c != nil && len(c.on) > 0 {
			return pathOf(c.on...)
		} else if c.ok() {
			return Path{Reason: c.why}
		}
	case interface{ NetConn() net.Conn }:
		return PathOf(c.NetConn())
	case *net.TCPConn, *net.UDPConn, *net.TCPListener, *net.UnixConn, *net.UnixListener, *net.IPConn:
		return Path{Reason: "it is a socket of package net"}
	}
	return Path{Reason: "it is no socket of this package"}
}

func pathOf(ss ...*stack.Stack) Path {
	p := Path{Accelerated: true, ZeroCopy: true, TSO: ss[0].Caps().TSO}
	var names []string
	for _, s := range ss {
		caps := s.Caps()
		names = append(names, s.Name())
		p.Driver, p.Mode, p.NAPI = caps.Driver, caps.Mode, caps.NAPI
		if caps.CopyReason != "" {
			p.CopyReason = caps.CopyReason
		}
		p.ZeroCopy = p.ZeroCopy && caps.ZeroCopy
		p.TSO = min(p.TSO, caps.TSO)
	}
	p.Interface = strings.Join(names, ",")
	return p
}

// Stats are the counters of an accelerated interface.
type Stats = stack.Stats

// InterfaceStatus is the state of an interface that the engine was told to
// accelerate.
type InterfaceStatus struct {
	Name  string
	Index int
	// Err is why it is left to the kernel, or what has broken it since.
	Err error
	// Warnings say why goroutines cannot wait as the profile means it: no
	// processor for each that spins, a cgroup's quota.
	Warnings []string
	// Path and Queues describe an accelerated interface.
	Path      Path
	Queues    int
	FrameSize int // bytes of a frame of packet memory
	// Advice is what would suit this process better about the NIC's interrupts,
	// queues and node; empty where nothing is known, or nothing is to be said.
	Advice []string
}

// Status tells what became of each interface that was asked for.
func (e *Engine) Status() []InterfaceStatus {
	var l []InterfaceStatus
	for _, i := range e.ifs {
		st := InterfaceStatus{Name: i.name, Index: i.index, Err: i.err}
		if i.stack != nil {
			st.Err = i.stack.Err()
			st.Path = pathOf(i.stack)
			st.Queues = len(i.stack.Device().Queues())
			st.Warnings = i.stack.Warnings()
			st.Advice = e.advice(i.stack)
			st.FrameSize = i.stack.Device().Arena().FrameSize()
		}
		if st.Err != nil {
			st.Path = Path{Reason: st.Err.Error()}
		}
		l = append(l, st)
	}
	return l
}

// advice is that of the device, where it has any.
func (e *Engine) advice(s *stack.Stack) []string {
	d, ok := s.Device().(interface{ Advice(spins bool) []string })
	if !ok {
		return nil
	}
	return d.Advice(e.cfg.Profile != Throughput && e.cfg.Spin >= 0)
}

// Stats returns the counters of every accelerated interface, by name.
func (e *Engine) Stats() map[string]Stats {
	m := map[string]Stats{}
	for _, i := range e.ifs {
		if i.stack != nil {
			m[i.name] = i.stack.Stats()
		}
	}
	return m
}
