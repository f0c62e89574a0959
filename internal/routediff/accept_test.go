package routediff

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// acceptTCP looks at the SYN-ACK: somebody at the try's destination, behind its
// link, connects to a listener.
func (t *try) acceptTCP(s stack, w *wire, patience time.Duration) (outcome, error) {
	l, err := s.listen(t.network("tcp"), fmt.Sprintf(":%d", t.port), t.hook())
	if err != nil {
		return failure(err), nil
	}
	defer l.Close()
	if err := t.sendSYN(w); err != nil {
		return "", err
	}
	return t.see("tcp", w, time.Now().Add(patience))
}

// sendSYN sends the SYN of the peer by the try's link. It asks for ECN, as the route may.
func (t *try) sendSYN(w *wire) error {
	return t.reply(w, t.link, netip.AddrPortFrom(t.from, t.port), &layers.TCP{Seq: 1, SYN: true, ECE: true, CWR: true})
}

// reply sends a segment of the peer's by a link to an address of the host's. One with
// SYN has the options of a peer behind 1500 bytes.
func (t *try) reply(w *wire, link string, to netip.AddrPort, tcp *layers.TCP) error {
	var n byte
	if _, err := fmt.Sscanf(strings.TrimPrefix(link, "veth"), "%d", &n); err != nil {
		return err
	}
	eth := &layers.Ethernet{
		SrcMAC: net.HardwareAddr{0x02, 0xaa, n, 0, 0, 0}, DstMAC: net.HardwareAddr{0x02, 0, 0x77, 0, n, 1}, // of lab.Veth
		EthernetType: layers.EthernetTypeIPv4,
	}
	tcp.SrcPort, tcp.DstPort, tcp.Window = layers.TCPPort(t.to.Port()), layers.TCPPort(to.Port()), 65535
	if tcp.SYN {
		tcp.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{0x05, 0xb4}}}
	}
	var network gopacket.SerializableLayer
	src, dst := t.to.Addr().AsSlice(), to.Addr().AsSlice()
	if t.to.Addr().Is4() {
		h := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: src, DstIP: dst}
		_ = tcp.SetNetworkLayerForChecksum(h)
		network = h
	} else {
		eth.EthernetType = layers.EthernetTypeIPv6
		h := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: src, DstIP: dst}
		_ = tcp.SetNetworkLayerForChecksum(h)
		network = h
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, network, tcp)
	if err != nil {
		return err
	}
	return w.send(link, b.Bytes())
}

// send transmits a frame on a link, towards the host.
func (w *wire) send(link string, frame []byte) error {
	raw, err := w.f.SyscallConn()
	if err != nil {
		return err
	}
	index := 0
	for i, name := range w.name {
		if name == link {
			index = i
		}
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		failed = unix.Sendto(int(fd), frame, 0, &unix.SockaddrLinklayer{Ifindex: index})
		return failed != unix.EAGAIN
	})
	if err == nil {
		err = failed
	}
	if err == unix.ENETDOWN || err == unix.ENXIO || err == unix.ENOBUFS { // the link is down at one end, or left out
		return nil
	}
	return err
}

// ready says what an accepting try lacks.
func (t *try) ready() error {
	if t.accepts() && (t.link == "" || !t.from.IsValid() || t.from.Is4() != t.to.Addr().Is4()) {
		return fmt.Errorf("it comes by no link, or to no address")
	}
	return nil
}

// accepts reports whether the peer begins.
func (t *try) accepts() bool { return t.kind == "tcp-accept" || t.kind == "tcp-serve" }
