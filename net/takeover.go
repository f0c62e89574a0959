package onload

import (
	"context"
	"net"
	"os"
)

// FileListener returns a copy of the network listener corresponding to the open file f,
// such as one that a predecessor or systemd has passed on. Clients of accelerated
// interfaces are accelerated from now on, if f is a TCP listener of the engine's network
// namespace; those that have connected before, and those who come another way, are the
// kernel's. While another process has the interface, as the predecessor may, the kernel
// serves all; the listener takes it over within a second after it is free. PathOf says
// how it is.
func FileListener(f *os.File) (Listener, error) {
	e, err := Default()
	if err != nil {
		return nil, fileError(f, err)
	}
	return e.FileListener(f)
}

// FileListener acts like the package's function.
func (e *Engine) FileListener(f *os.File) (Listener, error) {
	n, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	k, ok := n.(*net.TCPListener)
	if !ok {
		return n, nil
	}
	l := &TCPListener{k: k, e: e, network: "tcp", wide: isWide(k.Addr())}
	if l.why = e.in.Foreign(k); l.why != "" {
		return l, nil
	}
	if err := l.takeOver(); err != nil {
		_ = k.Close()
		return nil, fileError(f, err)
	}
	return l, nil
}

// takeOver listens on the stacks beside l.k, which may serve clients already.
func (l *TCPListener) takeOver() error {
	var lc ListenConfig
	own := l.k.Addr().(*net.TCPAddr).AddrPort()
	at := own.Addr().Unmap()
	sh, o, unshare, err := lc.shards(context.Background(), l.e, l.network, at, own.String(), l.k, own, true)
	if err != nil {
		return err
	}
	sh.TwinServes = true
	l.share.lent.Store(true)
	return l.begin(&sh, own, l.e.tcpConfig(0, KeepAliveConfig{}), &o, unshare, true)
}

// FilePacketConn returns a copy of the packet network connection corresponding to the
// open file f. A UDP socket of the engine's network namespace that is bound and not
// connected gets the datagrams of accelerated interfaces from now on; what waits in the
// kernel's socket, or comes there, is read too. The kernel carries all other sockets, and
// those that are opened while another process has the interface.
func FilePacketConn(f *os.File) (PacketConn, error) {
	e, err := Default()
	if err != nil {
		return nil, fileError(f, err)
	}
	return e.FilePacketConn(f)
}

// FilePacketConn acts like the package's function.
func (e *Engine) FilePacketConn(f *os.File) (PacketConn, error) {
	n, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	k, ok := n.(*net.UDPConn)
	if !ok {
		return n, nil
	}
	if why := e.in.Foreign(k); why != "" {
		return kernelUDPConn(k, why), nil
	}
	c, err := e.takeOverUDP(k)
	if err != nil {
		_ = k.Close()
		return nil, fileError(f, err)
	}
	return c, nil
}

// takeOverUDP binds on the stacks beside k.
func (e *Engine) takeOverUDP(k *net.UDPConn) (*UDPConn, error) {
	var lc ListenConfig
	own := k.LocalAddr().(*net.UDPAddr).AddrPort()
	at := own.Addr().Unmap()
	if at.IsMulticast() {
		return kernelUDPConn(k, fromFile), nil
	}
	sh, o, unshare, err := lc.shards(context.Background(), e, "udp", at, own.String(), k, own, true)
	if err != nil {
		return nil, err
	}
	if len(sh.Stacks) == 0 {
		unshare()
		return kernelUDPConn(k, sh.Why), nil
	}
	c, err := e.bindUDP(&sh, k, "udp", own.Port(), o, unshare)
	if err != nil {
		unshare()
		if why := e.in.Refused(err); why != "" {
			return kernelUDPConn(k, why), nil
		}
		return nil, cause("bind", err)
	}
	return newUDPConn(c), nil
}

// fileError is an error of FileListener and the like, as net words it.
func fileError(f *os.File, err error) error {
	return &net.OpError{Op: "file", Net: "file+net", Addr: fileAddr(f.Name()), Err: err}
}

// fileAddr is the name of a file, as an address.
type fileAddr string

func (fileAddr) Network() string  { return "file+net" }
func (f fileAddr) String() string { return string(f) }
