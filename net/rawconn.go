package onload

import (
	"net"
	"syscall"

	"github.com/onload-go/onload/internal/engine"
)

// rawConn is the RawConn of an accelerated connection: engine.RawTCP, with net's
// words. Control: see tcpcontrol.go.
type rawConn struct{ c *stackTCP }

func (r rawConn) raw() engine.RawTCP {
	return engine.RawTCP{Conn: r.c.s, Broken: &r.c.broken, Rest: r.c.writeRest}
}

// Read implements syscall.RawConn.
func (r rawConn) Read(f func(fd uintptr) bool) error {
	err := r.raw().Read(f)
	if k := r.next(err); k != nil {
		return k.Read(f)
	}
	return r.error("raw-read", err)
}

// Write implements syscall.RawConn. The connection has taken what f wrote when it
// returns.
func (r rawConn) Write(f func(fd uintptr) bool) error {
	err := r.raw().Write(f)
	if k := r.next(err); k != nil {
		return k.Write(f)
	}
	return r.error("raw-write", err)
}

// next is the RawConn of the kernel's socket, where err is of a connection that was
// handed over; else nil.
func (r rawConn) next(err error) syscall.RawConn {
	if k := r.c.next(err); k != nil {
		if raw, err := k.SyscallConn(); err == nil { // always: the socket was opened
			return raw
		}
	}
	return nil
}

// error words err as net's RawConn does.
func (r rawConn) error(op string, err error) error {
	if err == nil {
		return nil
	}
	if op == "raw-control" {
		return &net.OpError{Op: op, Net: r.c.network(), Addr: r.c.LocalAddr(), Err: err}
	}
	return &net.OpError{Op: op, Net: r.c.network(), Source: r.c.LocalAddr(), Addr: r.c.RemoteAddr(), Err: err}
}
