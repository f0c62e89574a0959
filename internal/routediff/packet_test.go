package routediff

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
)

// wire hears all packets that come to a namespace.
type wire struct {
	f    *os.File
	buf  [1 << 16]byte
	name map[int]string // of links
}

func newWire(ns *lab.NS) (*wire, error) {
	w := &wire{name: map[int]string{}}
	links, err := ns.Netlink().LinkList()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		w.name[l.Attrs().Index] = l.Attrs().Name
	}
	err = ns.Do(func() error {
		all := uint16(unix.ETH_P_ALL)
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all<<8|all>>8))
		if err == nil {
			w.f = os.NewFile(uintptr(fd), "wire")
		}
		return os.NewSyscallError("socket", err)
	})
	return w, err
}

func (w *wire) close() { _ = w.f.Close() }

// ownWindow is where windows begin that the receive buffer bounds, whose size is
// each stack's own, and no route's metric.
const ownWindow = 60000

// small packets pass every link whole (RFC 791, 3.2).
const small = 68

// packet is what is compared of a packet.
type packet struct {
	link     string
	nextHop  string // its MAC address
	src, dst netip.AddrPort
	proto    string
	ttl, tos uint8
	df       bool
	length   int // of the IP packet
	mss      uint16
	window   uint16
	flags    string // of TCP
	seq      uint32
}

func (p *packet) String() string {
	s := fmt.Sprintf("%s by %s to %s, %v > %v, ttl %d tos %#x df %v length %d", p.proto, p.link, p.nextHop, p.src, p.dst, p.ttl, p.tos, p.df, p.length)
	if p.proto == "tcp" {
		if p.length <= small && p.flags != "syn" {
			// The kernel's SYN-ACK has DF then even where the route has mtu lock
			// (ip_build_and_send_pkt). No router cuts it.
			s = strings.Replace(s, fmt.Sprintf("df %v ", p.df), "", 1)
		}
		s += fmt.Sprintf(" %s mss %d", p.flags, p.mss)
		if p.window < ownWindow {
			s += fmt.Sprintf(" window %d", p.window)
		}
	}
	return s
}

// next waits for a packet until a time; nil: none came.
func (w *wire) next(until time.Time) (*packet, error) {
	if err := w.f.SetReadDeadline(until); err != nil {
		return nil, err
	}
	raw, err := w.f.SyscallConn()
	if err != nil {
		return nil, err
	}
	for {
		var n int
		var from unix.Sockaddr
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, from, failed = unix.Recvfrom(int(fd), w.buf[:], 0)
			return failed != unix.EAGAIN
		})
		if os.IsTimeout(err) {
			return nil, nil
		}
		if err == nil {
			err = failed
		}
		if err != nil {
			return nil, err
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		if !ok || ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if p := decode(w.buf[:n]); p != nil {
			p.link = w.name[ll.Ifindex]
			return p, nil
		}
	}
}

// drain forgets the packets that have come: the end of another try's connection.
func (w *wire) drain() error {
	raw, err := w.f.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) {
		for err := error(nil); err == nil || err == unix.EINTR; {
			_, _, err = unix.Recvfrom(int(fd), w.buf[:], unix.MSG_DONTWAIT)
		}
	})
}

// decode reads a frame with TCP or UDP; nil: it has something else.
func decode(b []byte) *packet {
	p := new(packet)
	parsed := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.NoCopy)
	eth, ok := parsed.LinkLayer().(*layers.Ethernet)
	if !ok {
		return nil
	}
	p.nextHop = eth.DstMAC.String()
	var src, dst netip.Addr
	switch h := parsed.NetworkLayer().(type) {
	case *layers.IPv4:
		src, _ = netip.AddrFromSlice(h.SrcIP)
		dst, _ = netip.AddrFromSlice(h.DstIP)
		p.ttl, p.tos, p.df, p.length = h.TTL, h.TOS, h.Flags&layers.IPv4DontFragment != 0, int(h.Length)
	case *layers.IPv6:
		src, _ = netip.AddrFromSlice(h.SrcIP)
		dst, _ = netip.AddrFromSlice(h.DstIP)
		p.ttl, p.tos, p.length = h.HopLimit, h.TrafficClass, 40+int(h.Length)
	default:
		return nil
	}
	switch h := parsed.TransportLayer().(type) {
	case *layers.UDP:
		p.proto = "udp"
		p.src, p.dst = netip.AddrPortFrom(src, uint16(h.SrcPort)), netip.AddrPortFrom(dst, uint16(h.DstPort))
	case *layers.TCP:
		p.proto = "tcp"
		p.src, p.dst = netip.AddrPortFrom(src, uint16(h.SrcPort)), netip.AddrPortFrom(dst, uint16(h.DstPort))
		p.readTCP(h)
	default:
		return nil
	}
	return p
}

func (p *packet) readTCP(h *layers.TCP) {
	p.window, p.seq = h.Window, h.Seq
	var flags []string
	for _, f := range []struct {
		set  bool
		name string
	}{{h.SYN, "syn"}, {h.ACK, "ack"}, {h.RST, "rst"}, {h.FIN, "fin"}, {h.ECE, "ece"}, {h.CWR, "cwr"}} {
		if f.set {
			flags = append(flags, f.name)
		}
	}
	p.flags = strings.Join(flags, "+")
	for _, o := range h.Options {
		if o.OptionType == layers.TCPOptionKindMSS && len(o.OptionData) == 2 {
			p.mss = uint16(o.OptionData[0])<<8 | uint16(o.OptionData[1])
		}
	}
}
