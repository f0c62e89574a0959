package onload

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
)

// kernelUDP is a socket of the kernel's.
type kernelUDP struct {
	*net.UDPConn
	why string // not accelerated

	once  sync.Once
	batch *ipv4.PacketConn
}

// kernelUDPConn is a socket of the kernel's, for which why says the reason.
func kernelUDPConn(k *net.UDPConn, why string) *UDPConn {
	return newUDPConn(&kernelUDP{UDPConn: k, why: why})
}

func (c *kernelUDP) path() Path { return Path{Reason: c.why} }

// noUDP carries the zero UDPConn, with the errors of net's.
type noUDP struct{}

func (noUDP) Read([]byte) (int, error)                      { return 0, syscall.EINVAL }
func (noUDP) ReadFrom([]byte) (int, net.Addr, error)        { return 0, nil, syscall.EINVAL }
func (noUDP) ReadFromUDP([]byte) (int, *net.UDPAddr, error) { return 0, nil, syscall.EINVAL }
func (noUDP) ReadFromUDPAddrPort([]byte) (n int, a netip.AddrPort, err error) {
	return 0, a, syscall.EINVAL
}
func (noUDP) ReadMsgUDPAddrPort(_, _ []byte) (n, oobn, flags int, a netip.AddrPort, err error) {
	return 0, 0, 0, a, syscall.EINVAL
}
func (noUDP) Write([]byte) (int, error)                              { return 0, syscall.EINVAL }
func (noUDP) WriteTo([]byte, net.Addr) (int, error)                  { return 0, syscall.EINVAL }
func (noUDP) WriteToUDP([]byte, *net.UDPAddr) (int, error)           { return 0, syscall.EINVAL }
func (noUDP) WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error) { return 0, syscall.EINVAL }
func (noUDP) WriteMsgUDP(_, _ []byte, _ *net.UDPAddr) (n, oobn int, err error) {
	return 0, 0, syscall.EINVAL
}
func (noUDP) WriteMsgUDPAddrPort(_, _ []byte, _ netip.AddrPort) (n, oobn int, err error) {
	return 0, 0, syscall.EINVAL
}
func (noUDP) LocalAddr() net.Addr                   { return nil }
func (noUDP) RemoteAddr() net.Addr                  { return nil }
func (noUDP) Close() error                          { return syscall.EINVAL }
func (noUDP) SetDeadline(time.Time) error           { return syscall.EINVAL }
func (noUDP) SetReadDeadline(time.Time) error       { return syscall.EINVAL }
func (noUDP) SetWriteDeadline(time.Time) error      { return syscall.EINVAL }
func (noUDP) SetReadBuffer(int) error               { return syscall.EINVAL }
func (noUDP) SetWriteBuffer(int) error              { return syscall.EINVAL }
func (noUDP) File() (*os.File, error)               { return nil, syscall.EINVAL }
func (noUDP) SyscallConn() (syscall.RawConn, error) { return nil, syscall.EINVAL }
func (noUDP) path() Path                            { return Path{Reason: notOurs} }

var (
	_ udpCarrier = (*connectedUDP)(nil)
	_ udpCarrier = (*boundUDP)(nil)
	_ udpCarrier = (*kernelUDP)(nil)
	_ udpCarrier = noUDP{}
)
