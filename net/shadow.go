package onload

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/engine"
)

// shadow has the hook see a socket of the kernel's that is never connected,
// and returns what it did there.
func (e *Engine) shadow(ctx context.Context, hook func(context.Context, string, string, syscall.RawConn) error, network, address string) (o options, err error) {
	family, typ := unix.AF_INET6, unix.SOCK_STREAM
	if strings.HasSuffix(network, "4") {
		family = unix.AF_INET
	}
	if isUDP(network) {
		typ = unix.SOCK_DGRAM
	}
	kind := sockKind{family, typ, 0}
	f, err := e.freshSocket(kind)
	if err != nil {
		return o, err
	}
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return o, err
	}
	var before, after *sockState
	if cerr := raw.Control(func(fd uintptr) { before, err = e.freshState(int(fd), kind) }); cerr != nil || err != nil {
		return o, errors.Join(cerr, err)
	}
	if err := hook(ctx, network, address, raw); err != nil {
		return o, err
	}
	var bound bool
	err = raw.Control(func(fd uintptr) { after, bound = stateOf(int(fd), kind), isBound(int(fd)) })
	if err != nil {
		return o, err
	}
	if o = before.changes(after); bound {
		o.kernel = "a Control hook bound the socket"
	}
	return o, nil
}

// needKernel is the error of options that only the kernel can follow, where no
// kernel could carry the connection.
func (o *options) needKernel() error {
	return fmt.Errorf("%s, and there is no kernel: %w", o.kernel, errors.ErrUnsupported)
}

// freshSocket returns a socket of the engine's namespace.
func (e *Engine) freshSocket(k sockKind) (*os.File, error) {
	fd := -1
	err := e.in.InNS(func() (err error) {
		fd, err = unix.Socket(k.family, k.typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, k.proto)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "shadow"), nil
}

// isBound tells whether fd has a local address.
func isBound(fd int) bool {
	switch a, _ := unix.Getsockname(fd); a := a.(type) {
	case *unix.SockaddrInet4:
		return a.Port != 0 || a.Addr != [4]byte{}
	case *unix.SockaddrInet6:
		return a.Port != 0 || a.Addr != [16]byte{}
	}
	return false
}

// twinOptions are the options that a ListenConfig's hook has set on the
// kernel's socket c, found by comparing it with a fresh one of its kind.
// f is AnyFamily where it is both's: hooks may set IPV6_V6ONLY.
func (e *Engine) twinOptions(c syscall.Conn) (o options, f engine.Family, err error) {
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
	fresh, err := e.freshState(-1, kind) // Multipath TCP tells less
	if err != nil {
		return o, f, err
	}
	o = fresh.changes(twin)
	o.family6 = kind.family == unix.AF_INET6
	switch {
	case !o.family6:
		f = engine.IPv4
	case twin.get(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY).int() != 0:
		f = engine.IPv6
	}
	return o, f, nil
}

// listenOptions is twinOptions where there is no kernel's socket.
func (lc *ListenConfig) listenOptions(ctx context.Context, e *Engine, network string, at netip.Addr, address string) (o options, f engine.Family, err error) {
	hook := func(_ context.Context, network, address string, c syscall.RawConn) error {
		return lc.Control(network, address, c)
	}
	o, err = e.shadow(ctx, hook, familyOf(network, at), address)
	if err == nil && o.kernel != "" {
		err = o.needKernel()
	}
	if f = family(network); o.only6 {
		f = engine.IPv6
	}
	return o, f, err
}
