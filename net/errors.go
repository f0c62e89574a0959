package onload

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// Errors that net has under private names. Their texts and what errors.Is says
// of them are part of what programs see.
var (
	errMissingAddress = errors.New("missing address")
	errNoSuitableAddr = "no suitable address found"
	errMismatched     = "mismatched local address type"
)

// canceledError is a dial whose context was cancelled.
type canceledError struct{}

func (canceledError) Error() string        { return "operation was canceled" }
func (canceledError) Is(target error) bool { return target == context.Canceled }

// timeoutError is a dial whose deadline passed. net has two errors for that,
// as chance will have it; this one is both.
type timeoutError struct{}

func (timeoutError) Error() string   { return "i/o timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }
func (timeoutError) Is(target error) bool {
	return target == context.DeadlineExceeded || target == os.ErrDeadlineExceeded
}

// unsupportedError is errors.ErrUnsupported with a reason.
type unsupportedError string

func (e unsupportedError) Error() string { return string(e) }
func (unsupportedError) Unwrap() error   { return errors.ErrUnsupported }

const (
	errNoDescriptor = unsupportedError("onload: an accelerated connection has no descriptor")
	errNoOOB        = unsupportedError("onload: no control messages on an accelerated socket")
)

// cause makes of a bare error of the stack what net has inside its OpError;
// call is the system call that net would have made.
func cause(call string, err error) error {
	switch e := err.(type) {
	case syscall.Errno:
		return &os.SyscallError{Syscall: call, Err: e}
	default:
		switch err {
		case context.Canceled:
			return canceledError{}
		case context.DeadlineExceeded:
			return timeoutError{}
		}
		return err
	}
}

// connectCause is cause for what connecting comes to: errors of the local
// address are those of bind.
func connectCause(err error) error {
	switch err {
	case syscall.EADDRINUSE, syscall.EACCES:
		return cause("bind", err)
	}
	return cause("connect", err)
}

// tcpAddr returns a as net does for a socket of that family: IPv4 addresses
// have 16 bytes on an IPv6 socket.
func tcpAddr(a netip.AddrPort, wide bool) *net.TCPAddr {
	return &net.TCPAddr{IP: ipBytes(a.Addr(), wide), Port: int(a.Port()), Zone: a.Addr().Zone()}
}

func udpAddr(a netip.AddrPort, wide bool) *net.UDPAddr {
	return &net.UDPAddr{IP: ipBytes(a.Addr(), wide), Port: int(a.Port()), Zone: a.Addr().Zone()}
}

func ipBytes(a netip.Addr, wide bool) net.IP {
	if wide && a.IsValid() {
		b := a.As16()
		return b[:]
	}
	return a.AsSlice()
}

// addrPort is the inverse; IPv4 is always plain IPv4, and an unset address
// invalid.
func addrPort(ip net.IP, port int, zone string) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap().WithZone(zone), uint16(port))
}

// isSocketAddr tells whether addrPort loses nothing: whether ip, which may be
// empty, and port are what a socket's address holds.
func isSocketAddr(ip net.IP, port int) bool {
	switch len(ip) {
	case 0, net.IPv4len, net.IPv6len:
		return port == int(uint16(port))
	}
	return false
}

// isWide tells whether a kernel socket bound to that address is of IPv6.
func isWide(a net.Addr) bool {
	var ip net.IP
	switch a := a.(type) {
	case *net.TCPAddr:
		ip = a.IP
	case *net.UDPAddr:
		ip = a.IP
	}
	return len(ip) == net.IPv6len && ip.To4() == nil
}

// tcpOrNil and udpOrNil avoid an Addr that is not nil but holds nil.
func tcpOrNil(a *net.TCPAddr) net.Addr {
	if a == nil {
		return nil
	}
	return a
}

func udpOrNil(a *net.UDPAddr) net.Addr {
	if a == nil {
		return nil
	}
	return a
}

// addrPortAddr is the address in errors of methods that were given an
// AddrPort.
type addrPortAddr struct{ netip.AddrPort }

func (addrPortAddr) Network() string { return "udp" }

// writerOnly and readerOnly hide what makes io.Copy call back.
type writerOnly struct{ io.Writer }
type readerOnly struct{ io.Reader }
