package onload

import (
	"net"

	"github.com/onload-go/onload/internal/engine"
)

// Control implements syscall.RawConn, with a kernel socket that is never connected:
// f finds there what the connection has, and what it sets is followed.
func (r rawConn) Control(f func(fd uintptr)) error {
	s, err := r.shadow()
	if err == nil {
		err = s.Control(r.c.addrs().asked(), f)
	}
	if k := r.next(err); k != nil {
		return k.Control(f)
	}
	return r.error("raw-control", err)
}

// shadow returns the kernel socket, which the first call makes.
func (r rawConn) shadow() (*engine.TCPShadow, error) {
	if r.c.s.Closed() {
		return nil, net.ErrClosed
	}
	ends := r.c.addrs()
	if s := ends.shadow.Load(); s != nil {
		return s, nil
	}
	s, err := engine.NewTCPShadow(r.c.s, r.c.wide || ends.remote.IP.To4() == nil)
	if err != nil {
		return nil, err
	}
	if !ends.shadow.CompareAndSwap(nil, s) {
		_ = s.Close()
	}
	if r.c.s.Closed() { // meanwhile, so perhaps without the shadow
		closeShadow(ends)
	}
	return ends.shadow.Load(), nil
}

func closeShadow(ends *tcpEnds) {
	if s := ends.shadow.Load(); s != nil {
		_ = s.Close()
	}
}

// asked returns the sizes of buffers that methods have asked for since the last
// call.
func (e *tcpEnds) asked() engine.AskedBuffers {
	return engine.AskedBuffers{Receive: e.rcvBuf.Swap(nil), Send: e.sndBuf.Swap(nil)}
}
