package nicshare

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
)

const (
	tcp = unix.IPPROTO_TCP
	udp = unix.IPPROTO_UDP
)

// modes are the ways in which the program of a veth can run.
var modes = []Mode{ModeGeneric, ModeNative}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await waits until ok holds: the kernel passes packets on in its own time.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// peerPort is open at B, which reads nothing.
const peerPort = 9

// network is a pair of hosts. A's interface is shared.
type network struct {
	*lab.Pair
	t    testing.TB
	pins string
}

func newNetwork(t testing.TB) *network {
	t.Helper()
	p := lab.NewPair(t, lab.Options{Neighbors: true})
	// Otherwise every packet would draw an ICMP error.
	sink, err := p.B.ListenPacket("udp", fmt.Sprintf(":%d", peerPort))
	must(t, err)
	t.Cleanup(func() { sink.Close() })
	pins := filepath.Join(t.TempDir(), "bpf")
	t.Cleanup(func() {
		if err := unix.Unmount(pins, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
			t.Error(err)
		}
	})
	return &network{p, t, pins}
}

func (w *network) config(mode Mode) Config {
	return Config{Interface: w.A.If, PinDir: w.pins, Mode: mode, InNS: w.A.Do, MaxLinks: 16}
}

// share opens A's interface for the length of the test.
func (w *network) share(mode Mode) *NIC {
	w.t.Helper()
	n, err := Open(w.config(mode))
	must(w.t, err)
	w.t.Cleanup(func() {
		if err := n.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return n
}

// allow gives the process a port at A's address of each family.
func (w *network) allow(p *process, proto uint8, port uint16) {
	w.t.Helper()
	must(w.t, p.link.Allow(Port{proto, w.A.Addr4, port}, Port{proto, w.A.Addr6, port}))
}

// observer sees the frames that come to a host.
type observer struct {
	t  testing.TB
	fd int
}

func observe(t testing.TB, ns *lab.NS) *observer {
	t.Helper()
	o := &observer{t: t}
	must(t, ns.Do(func() (err error) {
		const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00
		if o.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		return unix.Bind(o.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ns.Index})
	}))
	_ = unix.SetsockoptInt(o.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
	t.Cleanup(func() { unix.Close(o.fd) })
	return o
}

// frames returns those that have come, without what the host sends itself.
func (o *observer) frames() (fs [][]byte) {
	buf := make([]byte, 1<<17)
	for {
		n, from, err := unix.Recvfrom(o.fd, buf, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			return fs
		}
		must(o.t, err)
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING {
			fs = append(fs, append([]byte(nil), buf[:n]...))
		}
	}
}

// wait returns the frames of the test, n at least, as soon as they have come.
func (o *observer) wait(n int) (fs [][]byte) {
	o.t.Helper()
	await(o.t, "frames at the peer", func() bool {
		for _, f := range o.frames() {
			if carries(f) {
				fs = append(fs, f)
			}
		}
		return len(fs) >= n
	})
	return fs
}

// payload is in every packet of the tests, so that others are told apart.
var payload = []byte("of the tests of nicshare")

func carries(frame []byte) bool { return bytes.Contains(frame, payload) }

// packet describes a frame. What is zero is as honest as can be.
type packet struct {
	src, dst     netip.AddrPort
	mac, to      [6]byte
	proto        uint8 // default UDP
	tags         []uint16
	options      []layers.IPv4Option
	more         bool
	bare         bool   // without a transport header
	offset       uint16 // of a fragment, in 8 bytes
	id           uint32
	ttl          uint8  // default 64
	data         []byte // default payload
	afterV6      gopacket.SerializableLayer
	afterV6Proto layers.IPProtocol
}

// build makes the frame.
func (p packet) build(t testing.TB) []byte {
	t.Helper()
	if p.data == nil {
		p.data = payload
	}
	if p.proto == 0 {
		p.proto = udp
	}
	if p.ttl == 0 {
		p.ttl = 64
	}
	var ls []gopacket.SerializableLayer
	src, dst := p.src.Addr(), p.dst.Addr()
	kind := layers.EthernetTypeIPv4
	if src.Is6() {
		kind = layers.EthernetTypeIPv6
	}
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr(p.mac[:]), DstMAC: net.HardwareAddr(p.to[:]), EthernetType: kind}
	ls = append(ls, eth)
	for i, id := range p.tags {
		tag := &layers.Dot1Q{VLANIdentifier: id, Type: kind}
		if i+1 < len(p.tags) {
			tag.Type = layers.EthernetTypeDot1Q
		}
		eth.EthernetType = layers.EthernetTypeDot1Q
		ls = append(ls, tag)
	}
	fragment := p.more || p.offset > 0
	var network gopacket.NetworkLayer
	if src.Is4() {
		ip := &layers.IPv4{
			Version: 4, IHL: 5, TTL: p.ttl, Protocol: layers.IPProtocol(p.proto), SrcIP: src.AsSlice(), DstIP: dst.AsSlice(),
			Id: uint16(p.id), FragOffset: p.offset, Options: p.options,
		}
		if p.more {
			ip.Flags = layers.IPv4MoreFragments
		}
		network = ip
		ls = append(ls, ip)
	} else {
		ip := &layers.IPv6{Version: 6, HopLimit: p.ttl, NextHeader: layers.IPProtocol(p.proto), SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		network = ip
		ls = append(ls, ip)
		switch {
		case p.afterV6 != nil:
			ip.NextHeader = p.afterV6Proto
			ls = append(ls, p.afterV6)
		case fragment:
			ip.NextHeader = layers.IPProtocolIPv6Fragment
			ls = append(ls, &fragmentHeader{p.proto, p.offset, p.more, p.id})
		}
	}
	if p.offset == 0 && !p.bare {
		switch p.proto {
		case tcp:
			h := &layers.TCP{SrcPort: layers.TCPPort(p.src.Port()), DstPort: layers.TCPPort(p.dst.Port()), ACK: true, Window: 1000}
			must(t, h.SetNetworkLayerForChecksum(network))
			ls = append(ls, h)
		case udp:
			h := &layers.UDP{SrcPort: layers.UDPPort(p.src.Port()), DstPort: layers.UDPPort(p.dst.Port())}
			must(t, h.SetNetworkLayerForChecksum(network))
			ls = append(ls, h)
		}
	}
	ls = append(ls, gopacket.Payload(p.data))
	b := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ls...))
	return b.Bytes()
}

// fragmentHeader is that of IPv6 (RFC 8200 section 4.5), which gopacket reads only.
type fragmentHeader struct {
	next   uint8
	offset uint16
	more   bool
	id     uint32
}

// LayerType implements gopacket.SerializableLayer.
func (*fragmentHeader) LayerType() gopacket.LayerType { return layers.LayerTypeIPv6Fragment }

// SerializeTo implements gopacket.SerializableLayer.
func (f *fragmentHeader) SerializeTo(b gopacket.SerializeBuffer, _ gopacket.SerializeOptions) error {
	h, err := b.PrependBytes(8)
	if err != nil {
		return err
	}
	off := f.offset << 3
	if f.more {
		off |= 1
	}
	copy(h, []byte{f.next, 0, byte(off >> 8), byte(off), byte(f.id >> 24), byte(f.id >> 16), byte(f.id >> 8), byte(f.id)})
	return nil
}

// out is an honest packet of a process to B.
func (w *network) out(port uint16, v6 bool) packet {
	p := packet{mac: w.A.MAC, to: w.B.MAC}
	from, to := w.A.Addr4, w.B.Addr4
	if v6 {
		from, to = w.A.Addr6, w.B.Addr6
	}
	p.src, p.dst = netip.AddrPortFrom(from, port), netip.AddrPortFrom(to, peerPort)
	return p
}

// send has B send the answer to a packet of A's.
func (w *network) send(t testing.TB, p packet) {
	t.Helper()
	p.src, p.dst, p.mac, p.to = p.dst, p.src, p.to, p.mac
	must(t, w.B.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, p.build(t), 0, &unix.SockaddrLinklayer{Ifindex: w.B.Index})
	}))
}

// sendLarge is send for a packet that the kernel is to segment.
func (w *network) sendLarge(t testing.TB, p packet, hdr [10]byte) {
	t.Helper()
	p.src, p.dst, p.mac, p.to = p.dst, p.src, p.to, p.mac
	must(t, w.B.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return err
		}
		return unix.Sendto(fd, append(hdr[:], p.build(t)...), 0, &unix.SockaddrLinklayer{Ifindex: w.B.Index})
	}))
}
