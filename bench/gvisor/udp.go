package gvisor

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// udpConn is gonet's with load.Datagrams.
type udpConn struct {
	*gonet.UDPConn
	ep tcpip.Endpoint
	in bytes.Reader
}

func listenUDP(s *stack.Stack, at tcpip.FullAddress) (*udpConn, error) {
	wq := &waiter.Queue{}
	ep, terr := s.NewEndpoint(udp.ProtocolNumber, ipv4.ProtocolNumber, wq)
	if terr != nil {
		return nil, &net.OpError{Op: "listen", Net: "udp", Err: errors.New(terr.String())}
	}
	if terr := ep.Bind(at); terr != nil {
		ep.Close()
		return nil, &net.OpError{Op: "bind", Net: "udp", Err: errors.New(terr.String())}
	}
	ep.SocketOptions().SetReceiveBufferSize(4<<20, true)
	ep.SocketOptions().SetSendBufferSize(4<<20, true)
	return &udpConn{UDPConn: gonet.NewUDPConn(wq, ep), ep: ep}, nil
}

// ReadFromUDPAddrPort implements load.Datagrams.
func (c *udpConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	n, from, err := c.ReadFrom(b)
	if err != nil {
		if t, ok := err.(net.Error); ok && t.Timeout() {
			err = os.ErrDeadlineExceeded
		}
		return n, netip.AddrPort{}, err
	}
	return n, from.(*net.UDPAddr).AddrPort(), nil
}

// WriteToUDPAddrPort implements load.Datagrams, for one goroutine. A full
// queue is ENOBUFS.
func (c *udpConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	c.in.Reset(b)
	n, terr := c.ep.Write(&c.in, tcpip.WriteOptions{To: &tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFrom4(to.Addr().As4()), Port: to.Port()}})
	switch terr.(type) {
	case nil:
		return int(n), nil
	case *tcpip.ErrNoBufferSpace, *tcpip.ErrWouldBlock:
		return int(n), syscall.ENOBUFS
	}
	return int(n), errors.New(terr.String())
}
