package engine

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/tcp"
)

// Options are the socket options that a Control hook has set on a kernel socket, as
// far as a connection of ours can follow them. The zero value means that there was
// no hook.
type Options struct {
	// Kernel says why only the kernel can follow them; it is empty if we can.
	Kernel string
	// Linger is SO_LINGER's time in seconds, below 0 where it is off; nil: the
	// hook left it alone.
	Linger *int

	// Recv are the control messages that a UDP socket gives.
	Recv Recv

	// Socket is the kernel socket that a hook was called with, of UDP's only, and nil
	// where it was a bound one. Whoever has the Options closes it, by CloseSocket.
	Socket *os.File

	// Hooked says that a Control hook was called with the twin of a bound socket.
	Hooked bool
	// GroupsOnly says that a bound UDP socket shares its port with others: what is
	// sent to this host alone is the kernel's, which knows whose it is.
	GroupsOnly bool

	by             string // whose options these are; empty: a Control hook's
	segment        int    // UDP_SEGMENT
	joined         bool   // UDP_GRO
	rcvBuf, sndBuf int    // bytes, 0: not set
	windowClamp    int    // likewise
	maxSeg         int
	userTimeout    time.Duration
	finWait2       time.Duration
	deferAccept    time.Duration
	fastOpen       int  // of a listener
	fastConnect    bool // of a dialer
	fastKeys       tcp.FastOpenKeys
	noCookie       bool // Fast Open does without
	synRetries     int
	keepAlive      *tcp.KeepAlive
	congestion     string
	pacing         uint64 // bytes per second
	ip             stack.IPOptions
	groups         GroupSend

	reuseAddr, reusePort bool
	family6, only6       bool // of a ListenConfig's socket
}

// leave leaves the connection to the kernel because of the option of that name. The
// first such option is the reason.
func (o *Options) leave(name string) {
	if o.Kernel != "" {
		return
	}
	by := o.by
	if by == "" {
		by = "a Control hook"
	}
	o.Kernel = by + " set " + name
}

// CloseSocket closes the hook's socket, if there is one.
func (o *Options) CloseSocket() {
	if o.Socket != nil {
		_ = o.Socket.Close()
		o.Socket = nil
	}
}

// TakeSocket returns the hook's socket or nil. CloseSocket does nothing then.
func (o *Options) TakeSocket() *os.File {
	f := o.Socket
	o.Socket = nil
	return f
}

// NeedKernel is the error of options that only the kernel can follow, if no kernel
// could carry the connection. It is an ErrUnsupported.
func (o *Options) NeedKernel() error {
	return fmt.Errorf("%s, and there is no kernel: %w", o.Kernel, errors.ErrUnsupported)
}

// Traffic returns what the kernel's rules may ask for about packets with these
// options. The zero Traffic means nothing new.
func (o *Options) Traffic(proto uint8) Traffic {
	if o.ip.TOS == 0 && o.ip.TrafficClass == 0 && o.groups == (GroupSend{}) {
		return Traffic{}
	}
	return Traffic{Proto: proto, IP: &o.ip, Groups: o.groups}
}

// ReuseAddr reports whether SO_REUSEADDR was set.
func (o *Options) ReuseAddr() bool { return o.reuseAddr }

// shared reports whether others may have a dialer's port too.
func (o *Options) shared() bool { return o.reuseAddr || o.reusePort }

// Apply sets the options in c; keepAlive says whether those of keepalive too.
func (o *Options) Apply(c *tcp.Config, keepAlive bool) {
	if o.rcvBuf > 0 {
		c.RcvBuf = o.rcvBuf
	}
	if o.windowClamp > 0 {
		if c.RcvBuf <= 0 {
			c.RcvBuf = tcp.DefaultBuf
		}
		c.RcvBuf = min(c.RcvBuf, o.windowClamp)
	}
	if o.sndBuf > 0 {
		c.SndBuf = o.sndBuf
	}
	if o.maxSeg > 0 {
		c.MaxSeg = o.maxSeg
	}
	if o.userTimeout > 0 {
		c.UserTimeout = o.userTimeout
	}
	if o.finWait2 != 0 {
		c.FinWait2 = o.finWait2
	}
	if o.deferAccept > 0 {
		c.DeferAccept = o.deferAccept
	}
	if o.fastOpen > 0 {
		c.FastOpen = o.fastOpen
	}
	if o.fastConnect {
		c.FastOpenConnect = true
	}
	if o.fastKeys.N > 0 {
		c.FastOpenKeys = o.fastKeys
	}
	if o.noCookie {
		c.FastOpenNoCookie = true
	}
	if o.synRetries > 0 {
		c.SYNRetries = o.synRetries
	}
	if o.congestion != "" {
		c.Congestion = o.congestion
	}
	if o.pacing > 0 {
		c.MaxPacingRate = o.pacing
	}
	if keepAlive && o.keepAlive != nil {
		c.KeepAlive = *o.keepAlive
	}
}

// udp are the options of a UDP socket.
func (e *Engine) udp(o *Options) *stack.UDPOptions {
	u := &stack.UDPOptions{RcvBuf: e.cfg.RcvBuf, SndBuf: e.cfg.SndBuf, IP: o.ip, Segment: o.segment, Joined: o.joined, GroupsOnly: o.GroupsOnly}
	rcv, snd := e.buffers.defaults(e)
	if u.RcvBuf == 0 {
		u.RcvBuf = rcv
	}
	if u.SndBuf == 0 {
		u.SndBuf = snd
	}
	if o.rcvBuf > 0 {
		u.RcvBuf = 2 * o.rcvBuf // as the kernel has it, which doubles what is set
	}
	if o.sndBuf > 0 {
		u.SndBuf = 2 * o.sndBuf
	}
	return u
}
