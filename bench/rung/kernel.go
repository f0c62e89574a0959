package rung

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	onload "github.com/onload-go/onload/net"
)

// kernel is package net.
type kernel struct {
	congestion string // "" is the kernel's default
	busyPoll   bool
}

func (k kernel) Dial(network, addr string) (net.Conn, error) {
	d := net.Dialer{Control: k.control}
	return d.Dial(network, addr)
}

func (k kernel) Listen(network, addr string) (net.Listener, error) {
	l := net.ListenConfig{Control: k.control}
	return l.Listen(context.Background(), network, addr)
}

func (k kernel) ListenPacket(network, addr string) (net.PacketConn, error) {
	l := net.ListenConfig{Control: k.control}
	return l.ListenPacket(context.Background(), network, addr)
}

func (k kernel) Path(any) string { return "kernel" }
func (k kernel) Counters() any   { return nil }
func (k kernel) Close() error    { return nil }

// control sets the options of a socket. Accepted connections inherit them.
//
// The congestion control is set here, since a namespace may not choose one
// that the machine restricts. Busy polling is set on the socket, though tuning
// guides use sysctls: those are the whole machine's, which a benchmark must not
// change.
func (k kernel) control(network, _ string, c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) {
		set := func(level, opt, v int) {
			if err == nil {
				err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), level, opt, v))
			}
		}
		tcp := strings.HasPrefix(network, "tcp")
		if k.busyPoll {
			set(unix.SOL_SOCKET, unix.SO_BUSY_POLL, 50)
			set(unix.SOL_SOCKET, unix.SO_PREFER_BUSY_POLL, 1)
			if tcp {
				set(unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
			}
		}
		if tcp && err == nil {
			err = setCongestion(int(fd), k.congestion)
		}
	})
	if err == nil {
		err = cerr
	}
	return err
}

func setCongestion(fd int, name string) error {
	if name == "" {
		return nil
	}
	return os.NewSyscallError("setsockopt TCP_CONGESTION", unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, name))
}

// Engine is onload.
type Engine struct{ *onload.Engine }

// Path implements load.Network.
func (e Engine) Path(s any) string { return onload.PathOf(s).String() }

// Counters implements load.Network.
func (e Engine) Counters() any { return e.Stats() }

// DialFrom dials TCP from an address of ours.
func (e Engine) DialFrom(local netip.Addr, addr string) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	return e.DialTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), net.TCPAddrFromAddrPort(to))
}
