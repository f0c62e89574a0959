package routediff

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// control is the hook of a socket's options.
type control = func(network, address string, c syscall.RawConn) error

// stack is a side of the comparison.
type stack interface {
	dial(ctx context.Context, network string, local net.Addr, remote string, c control) (net.Conn, error)
	listen(network, local string, c control) (net.Listener, error)
	listenPacket(network, local string, c control) (net.PacketConn, error)
}

// kernelStack is net in a namespace.
type kernelStack struct{ ns *lab.NS }

func (k kernelStack) dial(ctx context.Context, network string, local net.Addr, remote string, hook control) (c net.Conn, err error) {
	d := net.Dialer{LocalAddr: local, Control: hook}
	err = k.ns.Do(func() error { c, err = d.DialContext(ctx, network, remote); return err })
	return c, err
}

func (k kernelStack) listen(network, local string, hook control) (l net.Listener, err error) {
	lc := net.ListenConfig{Control: hook}
	err = k.ns.Do(func() error { l, err = lc.Listen(context.Background(), network, local); return err })
	return l, err
}

func (k kernelStack) listenPacket(network, local string, hook control) (c net.PacketConn, err error) {
	lc := net.ListenConfig{Control: hook}
	err = k.ns.Do(func() error { c, err = lc.ListenPacket(context.Background(), network, local); return err })
	return c, err
}

// onloadStack is an engine.
type onloadStack struct{ e *onload.Engine }

func (o onloadStack) dial(ctx context.Context, network string, local net.Addr, remote string, hook control) (net.Conn, error) {
	d := onload.Dialer{Engine: o.e, LocalAddr: local, Control: hook}
	return d.DialContext(ctx, network, remote)
}

func (o onloadStack) listen(network, local string, hook control) (net.Listener, error) {
	lc := onload.ListenConfig{Engine: o.e, Control: hook}
	return lc.Listen(context.Background(), network, local)
}

func (o onloadStack) listenPacket(network, local string, hook control) (net.PacketConn, error) {
	lc := onload.ListenConfig{Engine: o.e, Control: hook}
	return lc.ListenPacket(context.Background(), network, local)
}

// outcome is what came of a try: a packet, an error or nothing.
type outcome string

// nothing is the outcome of a packet that did not come in time.
const nothing outcome = "nothing"

// tryKinds are the ways of trying. patience is the wait for a packet that may not
// come; the error is the test's own.
var tryKinds = map[string]func(t *try, s stack, w *wire, patience time.Duration) (outcome, error){
	"tcp-dial":   (*try).dialTCP,
	"tcp-accept": (*try).acceptTCP,
	"tcp-open":   (*try).openTCP,
	"tcp-serve":  (*try).serveTCP,
	"udp-dial":   (*try).dialUDP,
	"udp-to":     (*try).sendUDP,
}

// hook sets the options of the try's socket; nil: none.
func (t *try) hook() control {
	if t.tos == 0 && t.mark == 0 && t.device == "" {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) (err error) {
		failed := c.Control(func(fd uintptr) {
			if t.tos != 0 {
				level, name := unix.IPPROTO_IP, unix.IP_TOS
				if t.to.Addr().Is6() {
					level, name = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
				}
				err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), level, name, t.tos))
			}
			if t.device != "" && err == nil {
				err = os.NewSyscallError("setsockopt", unix.BindToDevice(int(fd), t.device))
			}
			if t.mark != 0 && err == nil {
				err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, t.mark))
			}
		})
		if failed != nil {
			return failed
		}
		return err
	}
}

// network is the name of one family: with both, sockets may be of the other.
func (t *try) network(proto string) string {
	if t.to.Addr().Is4() {
		return proto + "4"
	}
	return proto + "6"
}

// mine reports whether p is what the try sent.
func (t *try) mine(proto string, p *packet) bool {
	return p.proto == proto && (t.port == 0 || p.src.Port() == t.port) && p.dst == netip.AddrPortFrom(t.to.Addr().WithZone(""), t.to.Port())
}

// local is the address that the try's socket is bound to; nil: none.
func (t *try) local(proto string) net.Addr {
	switch {
	case t.port == 0 && !t.from.IsValid():
		return nil
	case proto == "tcp":
		return &net.TCPAddr{IP: t.from.AsSlice(), Port: int(t.port)}
	}
	return &net.UDPAddr{IP: t.from.AsSlice(), Port: int(t.port)}
}

// see waits for the packet of a try.
func (t *try) see(proto string, w *wire, until time.Time) (outcome, error) {
	p, err := t.catch(proto, w, until)
	if p == nil || err != nil {
		return nothing, err
	}
	return t.describe(p), nil
}

// describe is the outcome of a packet. A port that the host chose is no difference.
func (t *try) describe(p *packet) outcome {
	q := *p
	q.src = netip.AddrPortFrom(p.src.Addr(), t.port)
	return outcome(q.String())
}

// catch waits for the packet of a try; nil: it has not come.
func (t *try) catch(proto string, w *wire, until time.Time) (*packet, error) {
	for {
		p, err := w.next(until)
		if p == nil || err != nil || t.mine(proto, p) {
			return p, err
		}
	}
}

// dialed is what a dial came to.
type dialed struct {
	c   net.Conn
	err error
}

// dialTCP looks at the SYN. Nobody answers it, so the dial is given up then.
func (t *try) dialTCP(s stack, w *wire, patience time.Duration) (outcome, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p, done, o, err := t.startDial(ctx, s, w, patience)
	if p == nil || err != nil {
		return o, err
	}
	cancel()
	if r := <-done; r.c != nil {
		r.c.Close()
	}
	return t.describe(p), nil
}

// startDial dials until the SYN is seen. Without one the outcome is final.
func (t *try) startDial(ctx context.Context, s stack, w *wire, patience time.Duration) (*packet, <-chan dialed, outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan dialed, 1)
	go func() {
		defer cancel()
		c, err := s.dial(ctx, t.network("tcp"), t.local("tcp"), t.to.String(), t.hook())
		done <- dialed{c, err}
	}()
	const step = 2 * time.Millisecond // between two looks at the wire and at the dial
	for end := time.Now().Add(patience); ; {
		p, err := t.catch("tcp", w, time.Now().Add(step))
		if p != nil {
			return p, done, "", nil
		}
		if err != nil || time.Now().After(end) {
			cancel()
			if r := <-done; r.c != nil {
				r.c.Close()
			}
			return nil, nil, nothing, err
		}
		select {
		case r := <-done:
			if r.err != nil {
				return nil, nil, failure(r.err), nil
			}
			r.c.Close()
			return nil, nil, "connected", nil
		default:
		}
	}
}

// dialUDP sends a datagram on a connected socket.
func (t *try) dialUDP(s stack, w *wire, patience time.Duration) (outcome, error) {
	c, err := s.dial(context.Background(), t.network("udp"), t.local("udp"), t.to.String(), t.hook())
	if err != nil {
		return failure(err), nil
	}
	defer c.Close()
	local := c.LocalAddr().(*net.UDPAddr)
	local.Port = int(t.port)
	if _, err := c.Write(make([]byte, t.size)); err != nil {
		return failure(err), nil
	}
	o, err := t.see("udp", w, time.Now().Add(patience))
	return outcome(fmt.Sprintf("%s, from %v", o, local)), err
}

// sendUDP sends a datagram on a socket that is bound, or has a port only.
func (t *try) sendUDP(s stack, w *wire, patience time.Duration) (outcome, error) {
	local := fmt.Sprintf(":%d", t.port)
	if t.from.IsValid() {
		local = netip.AddrPortFrom(t.from, t.port).String()
	}
	c, err := s.listenPacket(t.network("udp"), local, t.hook())
	if err != nil {
		return failure(err), nil
	}
	defer c.Close()
	if _, err := c.WriteTo(make([]byte, t.size), net.UDPAddrFromAddrPort(t.to)); err != nil {
		return failure(err), nil
	}
	return t.see("udp", w, time.Now().Add(patience))
}

func failure(err error) outcome { return outcome(fmt.Sprintf("error: %v", err)) }
