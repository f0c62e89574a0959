//go:build onload && linux

package netglue

import (
	"context"
	"errors"
	"fmt"
	"internal/onload"
	"net/netip"
	"os"
	"syscall"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/internal/outside"
	"github.com/onload-go/onload/ip"
)

// init sets the hooks. The engine is made with the first socket of the program:
// one that opens none takes no interface.
func init() {
	if off() {
		return
	}
	onload.Hook = &onload.Hooks{Dial: dial, Vacate: vacate, Listen: listen, Outside: outside.Do}
}

// Switch is the environment variable that turns a program's acceleration off: what
// `onload build` has made is then a plain Go program.
const Switch = "ONLOAD"

func off() bool { return os.Getenv(Switch) == "off" }

// ready returns the engine if it accelerates anything. Settings that are wrong are
// an error of each socket.
func ready() (*engine.Engine, error) {
	e, err := engine.Default()
	if err != nil {
		return nil, err
	}
	switch {
	case e.OwnNS():
		return nil, errOtherNS
	case !e.Accelerates():
		return nil, nil // without a word: the program is what it was
	}
	return e, nil
}

// errOtherNS: the kernel's sockets are opened by net, in the process's namespace.
var errOtherNS = errors.New("onload: ONLOAD_NETNS is not for programs that onload build has made; start them in the namespace")

func isTCP(network string) bool { return network[:3] == "tcp" }

func proto(network string) uint8 {
	if isTCP(network) {
		return ip.ProtoTCP
	}
	return ip.ProtoUDP
}

// family is the IP version that a network such as "tcp4" names.
func family(network string) engine.Family {
	switch network[len(network)-1] {
	case '4':
		return engine.IPv4
	case '6':
		return engine.IPv6
	}
	return engine.AnyFamily
}

func dial(ctx context.Context, network string, local, remote netip.AddrPort, control func(syscall.RawConn) error) (onload.Socket, error) {
	e, err := ready()
	if e == nil {
		return nil, err
	}
	w, err := e.Way(family(network), engine.Traffic{Proto: proto(network)}, local, remote)
	if err != nil {
		return nil, err
	}
	var o engine.Options
	if control != nil && (w.Stack != nil || w.Group) {
		if w, o, err = hooked(e, w, network, local, remote, control); err != nil {
			return nil, err
		}
	}
	if w.Stack == nil {
		o.CloseSocket()
		return nil, nil
	}
	if isTCP(network) {
		return dialTCP(ctx, e, &w, local, remote, &o)
	}
	return dialUDP(ctx, e, &w, local, remote, &o)
}

// hooked calls the program's Control hook, whose options may lead another way.
func hooked(e *engine.Engine, w engine.Way, network string, local, remote netip.AddrPort, control func(syscall.RawConn) error) (engine.Way, engine.Options, error) {
	f := engine.IPv6
	if remote.Addr().Is4() {
		f = engine.IPv4
	}
	o, err := e.Hook(proto(network), f, control)
	if err != nil {
		return w, o, err
	}
	if t := o.Traffic(proto(network)); o.Kernel == "" && t != (engine.Traffic{}) {
		if w, err = e.Way(family(network), t, local, remote); err != nil {
			o.CloseSocket()
			return w, o, err
		}
	}
	switch {
	case w.Stack == nil || o.Kernel == "":
		return w, o, nil
	case !w.Kernel:
		return w, o, o.NeedKernel()
	}
	return engine.Way{Why: o.Kernel, Kernel: true}, o, nil
}

func vacate(network string, local netip.AddrPort) {
	if e, _ := ready(); e != nil && e.Twin(local.Addr()) {
		e.Vacate(proto(network), local)
	}
}

func listen(network string, twin syscall.Conn, local netip.AddrPort, dual, withHook, passed bool) (onload.Socket, error) {
	e, err := ready()
	if e == nil {
		return nil, err
	}
	if passed && e.Foreign(twin) != "" {
		return nil, nil
	}
	// As the kernel's socket is: net asks for IPv4 alone, IPv6 alone, or both.
	f := engine.AnyFamily
	switch {
	case !local.Addr().IsUnspecified():
	case local.Addr().Is4():
		f = engine.IPv4
	case !dual:
		f = engine.IPv6
	}
	var o engine.Options
	if withHook {
		if o, f, err = e.TwinOptions(twin); err != nil {
			return nil, err
		}
	}
	sh := e.Shards(f, local.Addr())
	sh.Twin, sh.TwinServes = twin, passed
	if len(sh.Stacks) == 0 && !(sh.Later && isTCP(network)) {
		return nil, nil
	}
	unshare := e.Share(&o, proto(network), local)
	if o.Kernel != "" {
		unshare()
		return nil, nil
	}
	if isTCP(network) {
		return listenTCP(e, &sh, local.Port(), &o, unshare)
	}
	return bindUDP(e, twin, &sh, local, &o, unshare)
}

// none is a Socket without any method of use.
type none struct{}

func (none) Read([]byte) (int, error)                { return 0, syscall.EINVAL }
func (none) Write([]byte) (int, error)               { return 0, syscall.EINVAL }
func (none) Writev([][]byte) (int64, error)          { return 0, syscall.EINVAL }
func (none) Inject(onload.Closer) bool               { return false }
func (none) Finish()                                 {}
func (none) Busy() bool                              { return false }
func (none) InjectMsg(_, _ []byte, _ netip.AddrPort) {}
func (none) CloseRead() error                        { return syscall.ENOTCONN }
func (none) CloseWrite() error                       { return syscall.ENOTCONN }
func (none) Closed()                                 {}
func (none) SetsockoptInt(_, _, _ int) error         { return nil }
func (none) SetLinger(int) error                     { return nil }
func (none) Control(func(uintptr)) error             { return nil }
func (none) LocalAddr() (a netip.AddrPort)           { return a }
func (none) RemoteAddr() (a netip.AddrPort)          { return a }

func (none) Accept() (onload.Socket, any, error) { return nil, nil, syscall.EINVAL }

func (none) ReadMsg(_, _ []byte) (n, oobn, flags int, from netip.AddrPort, err error) {
	return 0, 0, 0, from, syscall.EINVAL
}
func (none) WriteMsg(_, _ []byte, _ netip.AddrPort) (int, bool, error) {
	return 0, false, syscall.EINVAL
}
func (none) RawRead(func(uintptr) bool) error  { return syscall.EINVAL }
func (none) RawWrite(func(uintptr) bool) error { return syscall.EINVAL }

func (none) SendFile(uintptr, int64) (int64, error, bool)     { return 0, nil, false }
func (none) Splice(onload.Socket, int64) (int64, bool, error) { return 0, false, nil }
func (none) Leave(string) (int, error)                        { return -1, errNoDescriptor }

// errNoDescriptor is the error of File.
var errNoDescriptor = fmt.Errorf("onload: an accelerated TCP connection has no descriptor, and the kernel cannot take it over: %w", errors.ErrUnsupported)
