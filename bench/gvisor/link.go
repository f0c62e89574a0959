package gvisor

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"github.com/onload-go/onload/bench/load"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/link/pipe"
	"gvisor.dev/gvisor/pkg/tcpip/link/xdp"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// OverXDP is netstack over an AF_XDP socket on queue 0, which gets every
// frame. Native mode: its frames hold 2 KiB, and generic mode would deliver
// the peer's GSO packets. runsc's queueing discipline doubles the bulk rate and
// halves the rate of connections: each case gets the better setting.
func OverXDP(h Host, ifname string, bulk bool) (*Network, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, err
	}
	if ifi.MTU != xdp.MTU {
		return nil, fmt.Errorf("gvisor over AF_XDP has an MTU of %d, not %d: %w", xdp.MTU, ifi.MTU, load.ErrUnsupported)
	}
	_ = rlimit.RemoveMemlock() // needed by old kernels only
	fd, ep, err := bindXDP(h, ifi.Index)
	if err != nil {
		return nil, err
	}
	detach, err := redirect(ifi.Index, fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	n, err := newNetwork(h, ep, bulk, "gVisor over AF_XDP (native)")
	if err != nil {
		return nil, errors.Join(err, detach(), unix.Close(fd))
	}
	n.done = append(n.done, detach, func() error { return unix.Close(fd) })
	// Detaching its endpoint would deadlock (Attach calls IsAttached), so the
	// stack ends with the process.
	n.keep = true
	return n, nil
}

// bindXDP makes the endpoint. A queue that was just closed is busy for a
// moment.
func bindXDP(h Host, ifindex int) (fd int, ep stack.LinkEndpoint, err error) {
	const tries, pause = 50, 10 * time.Millisecond
	for range tries {
		fd, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return 0, nil, fmt.Errorf("socket(AF_XDP): %w", err)
		}
		ep, err = xdp.New(&xdp.Options{FD: fd, Address: tcpip.LinkAddress(h.LMAC[:]), Bind: true, InterfaceIndex: ifindex,
			RXChecksumOffload: true}) // a kernel peer's checksums are partial
		if err == nil {
			return fd, ep, nil
		}
		unix.Close(fd)
		if !strings.Contains(err.Error(), unix.EBUSY.Error()) { // it does not wrap the errno
			break
		}
		time.Sleep(pause)
	}
	return 0, nil, err
}

// redirect attaches a program that hands all frames to the socket.
func redirect(ifindex, fd int) (detach func() error, err error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return nil, err
	}
	defer m.Close() // the program holds it
	if err := m.Put(uint32(0), uint32(fd)); err != nil {
		return nil, fmt.Errorf("XSKMAP: %w", err)
	}
	const rxQueueIndex, pass = 16, 2 // in struct xdp_md, XDP_PASS
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, rxQueueIndex, asm.Word),
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Imm(asm.R3, pass),
		asm.FnRedirectMap.Call(),
		asm.Return(),
	}})
	if err != nil {
		return nil, err
	}
	defer p.Close()
	l, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: ifindex, Flags: link.XDPDriverMode})
	if err != nil {
		return nil, err
	}
	return l.Close, nil
}

// OverPacket is netstack over a packet socket with GSO and GRO. The kernel
// sees the frames too: a program behind the socket's tap drops them, or it
// would answer with RST.
func OverPacket(h Host, ifname string, mtu int) (*Network, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, err
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket(AF_PACKET): %w", err)
	}
	fail := func(err error) (*Network, error) {
		unix.Close(fd)
		return nil, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index}))
	if err != nil {
		return fail(err)
	}
	const maxGSO = 64 << 10
	ep, err := fdbased.New(&fdbased.Options{FDs: []int{fd}, MTU: uint32(mtu), EthernetHeader: true, Address: tcpip.LinkAddress(h.LMAC[:]),
		GSOMaxSize: maxGSO, GRO: true, PacketDispatchMode: fdbased.RecvMMsg, RXChecksumOffload: true, TXChecksumOffload: true,
		InterfaceIndex: ifi.Index, ProcessorsPerChannel: 1})
	if err != nil {
		return fail(err)
	}
	detach, err := dropForKernel(ifi.Index)
	if err != nil {
		return fail(err)
	}
	n, err := newNetwork(h, ep, true, "gVisor over AF_PACKET (GSO, GRO)")
	if err != nil {
		return fail(errors.Join(err, detach()))
	}
	n.done = append(n.done, detach, func() error { return unix.Close(fd) })
	return n, nil
}

func dropForKernel(ifindex int) (detach func() error, err error) {
	const drop = 2 // TC_ACT_SHOT
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R0, drop),
		asm.Return(),
	}})
	if err != nil {
		return nil, err
	}
	defer p.Close()
	l, err := link.AttachTCX(link.TCXOptions{Program: p, Interface: ifindex, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return nil, err
	}
	return l.Close, nil
}

// Pair is two netstacks joined by a pipe in memory.
func Pair(a, b Host, mtu int) (x, y *Network, err error) {
	// Without link addresses: no ARP.
	p, q := pipe.New("", "", uint32(mtu))
	if x, err = newNetwork(a, p, false, "memory"); err != nil {
		return nil, nil, err
	}
	if y, err = newNetwork(b, q, false, "memory"); err != nil {
		return nil, nil, errors.Join(err, x.Close())
	}
	return x, y, nil
}
