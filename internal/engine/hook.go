package engine

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/ip"
)

// Hook calls a Control hook with a kernel socket that is never connected, and
// returns the options that it set, of UDP with the socket. proto is ip.ProtoTCP or
// ip.ProtoUDP, f the socket's family.
func (e *Engine) Hook(proto uint8, f Family, hook func(syscall.RawConn) error) (o Options, err error) {
	kind := sockKind{unix.AF_INET6, unix.SOCK_STREAM, 0}
	if f == IPv4 {
		kind.family = unix.AF_INET
	}
	if proto == ip.ProtoUDP {
		kind.typ = unix.SOCK_DGRAM
	}
	file, err := e.freshSocket(kind)
	if err != nil {
		return o, err
	}
	defer func() {
		if o.Socket == nil {
			_ = file.Close()
		}
	}()
	raw, err := file.SyscallConn()
	if err != nil {
		return o, err
	}
	var before, after *sockState
	if cerr := raw.Control(func(fd uintptr) { before, err = e.freshState(int(fd), kind) }); cerr != nil || err != nil {
		return o, errors.Join(cerr, err)
	}
	if err := hook(raw); err != nil {
		return o, err
	}
	var bound bool
	err = raw.Control(func(fd uintptr) { after, bound = stateOf(int(fd), kind), isBound(int(fd)) })
	if err != nil {
		return o, err
	}
	if before.changes(after, &o); bound {
		o.Kernel = "a Control hook bound the socket"
	}
	if proto == ip.ProtoUDP && o.Kernel == "" {
		o.Socket = file
	}
	return o, nil
}

// freshSocket returns a socket of the engine's namespace, as net opens it: a UDP socket
// may send to broadcast addresses.
func (e *Engine) freshSocket(k sockKind) (*os.File, error) {
	fd := -1
	err := e.ns.Do(func() (err error) {
		fd, err = unix.Socket(k.family, k.typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, k.proto)
		if err == nil && k.typ == unix.SOCK_DGRAM {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1)
		}
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "shadow"), nil
}

// isBound reports whether fd has a local address.
func isBound(fd int) bool {
	switch a, _ := unix.Getsockname(fd); a := a.(type) {
	case *unix.SockaddrInet4:
		return a.Port != 0 || a.Addr != [4]byte{}
	case *unix.SockaddrInet6:
		return a.Port != 0 || a.Addr != [16]byte{}
	}
	return false
}

// TwinOptions returns the options that a hook has set on the kernel's part c of a
// bound socket. It finds them by comparing c with a fresh socket of its kind. f is
// the family that c receives: hooks may set IPV6_V6ONLY.
func (e *Engine) TwinOptions(c syscall.Conn) (o Options, f Family, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return o, f, err
	}
	var twin *sockState
	var kind sockKind
	err = raw.Control(func(fd uintptr) {
		kind = kindOf(int(fd))
		twin = stateOf(int(fd), kind)
	})
	if err != nil {
		return o, f, err
	}
	fresh, err := e.freshState(-1, kind) // of the same protocol: Multipath TCP has fewer options
	if err != nil {
		return o, f, err
	}
	fresh.changes(twin, &o)
	o.family6, o.Hooked = kind.family == unix.AF_INET6, true
	switch {
	case !o.family6:
		f = IPv4
	case twin.get(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY).int() != 0:
		f = IPv6
	}
	return o, f, nil
}

// Only6 reports whether the hook set IPV6_V6ONLY.
func (o *Options) Only6() bool { return o.only6 }
