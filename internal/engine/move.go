package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/event"
	"github.com/onload-go/onload/internal/reinject"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/udp"
)

// Shadow returns a UDP socket of the kernel's for the options that a program sets
// on one of ours, with the buffers that it has set.
func (e *Engine) Shadow(six bool, b Buffers) (*os.File, error) {
	k := sockKind{unix.AF_INET, unix.SOCK_DGRAM, 0}
	if six {
		k.family = unix.AF_INET6
	}
	f, err := e.freshSocket(k)
	if err == nil {
		b.Follow(f)
	}
	return f, err
}

// LeaveUDP closes c, whose port the kernel's socket has too, and gives that one
// the datagrams that nobody has read. They are received by first.
func (e *Engine) LeaveUDP(first *stack.UDPConn, c *Socket) {
	unread := takeUnread(first) // before Depart: it polls the queues too
	c.Depart()                  // what comes from now on is the kernel's
	unread = append(unread, takeUnread(first)...)
	_ = c.Close()
	e.deliver(unread)
}

// MoveUDP closes c, a connected socket, and gives its addresses and the datagrams
// that nobody has read to the kernel's socket to.
func (e *Engine) MoveUDP(c *stack.UDPConn, to *os.File) error {
	if e.net == nil || !e.rest {
		return fmt.Errorf("there is no kernel: %w", unix.EOPNOTSUPP)
	}
	unread := takeUnread(c)
	if err := c.Close(); err != nil {
		return err
	}
	e.Vacate(ip.ProtoUDP, c.LocalAddr())
	raw, err := to.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) {
		if err = unix.Bind(int(fd), sockaddr(c.LocalAddr())); err == nil {
			err = unix.Connect(int(fd), sockaddr(c.RemoteAddr()))
		}
	})
	if err := errors.Join(err, cerr); err != nil {
		return fmt.Errorf("the kernel's socket: %w", err)
	}
	e.deliver(unread)
	return nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// datagram is one that was received and not read.
type datagram struct {
	info udp.Info
	p    []byte
}

func takeUnread(c *stack.UDPConn) (l []datagram) {
	c.SetJoined(false)
	b := make([]byte, 1<<16)
	for {
		var d datagram
		n, _, ok, err := c.TryRead(b, &d.info, true)
		if !ok || err != nil {
			return l
		}
		if d.info.Src.IsValid() && d.info.Dst.Addr().IsValid() && !d.info.Dst.Addr().IsUnspecified() {
			d.p = append(d.p, b[:n]...)
			l = append(l, d)
		}
	}
}

// deliver gives datagrams to the kernel as if they came now, by the loopback interface,
// which checks no source address.
func (e *Engine) deliver(l []datagram) {
	if len(l) == 0 {
		return
	}
	packets := make([][]byte, len(l))
	for i := range l {
		packets[i] = l[i].packet()
	}
	taken := 0
	err := e.ns.Do(func() (err error) {
		taken, err = reinject.Packets(packets)
		return err
	})
	if err != nil {
		e.log.Warn("datagrams that nobody had read were lost when the kernel became their socket's carrier", event.SocketMoved.Field(),
			zap.Int("received", len(l)), zap.Int("lost", len(l)-taken), zap.Error(err))
	}
}

// packet is the IP packet of d.
func (d *datagram) packet() []byte {
	i := &d.info
	src, dst := i.Src.Addr(), i.Dst.Addr()
	var h ip.Header
	h.Init([6]byte{}, [6]byte{}, 0, src, dst, ip.ProtoUDP, i.TOS, max(i.TTL, 1))
	l4 := udp.HeaderLen + len(d.p)
	b := make([]byte, h.Len()+l4)
	h.Put(b, l4, i.TOS&3, 0)
	u := b[h.Len():]
	copy(u[udp.HeaderLen:], d.p)
	udp.Put(u, i.Src.Port(), i.Dst.Port(), l4, ip.Add(ip.PseudoSum(src, dst, ip.ProtoUDP, l4), ip.Sum(d.p)))
	return b[h.Len()-h.NetLen():]
}
