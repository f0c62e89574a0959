// Package gvisor is gVisor's netstack as a rung: over AF_XDP, over AF_PACKET
// with segmentation offload, and over a pipe in memory. It is configured, not
// changed.
package gvisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/qdisc/fifo"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const nic = 1

// Host is one end: its address and its peer's.
type Host struct {
	Local, Remote netip.Addr   // IPv4
	Also          []netip.Addr // other addresses of ours
	LMAC, RMAC    [6]byte
}

// Network is a netstack with one interface. It implements load.Network.
type Network struct {
	s     *stack.Stack
	local tcpip.Address
	path  string
	done  []func() error
	keep  bool // the stack cannot be ended
}

// newNetwork makes a stack on link, with the settings that serve speed: SACK,
// CUBIC as on the other rungs, buffers that grow to 8 MiB, no wait in
// TIME-WAIT for a port's next user. queued puts runsc's queueing discipline in
// front of the link.
func newNetwork(h Host, link stack.LinkEndpoint, queued bool, path string) (*Network, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocolCUBIC, udp.NewProtocol},
	})
	n := &Network{s: s, local: tcpip.AddrFrom4(h.Local.As4()), path: path}
	set := func(what string, err tcpip.Error) error {
		if err != nil {
			return fmt.Errorf("gvisor: %s: %v", what, err)
		}
		return nil
	}
	option := func(what string, o tcpip.SettableTransportProtocolOption) error {
		return set(what, s.SetTransportProtocolOption(tcp.ProtocolNumber, o))
	}
	sack, moderate, reuse := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true), tcpip.TCPTimeWaitReuseOption(tcpip.TCPTimeWaitReuseGlobal)
	const most, queue = 8 << 20, 1000
	var o stack.NICOptions
	if queued {
		o.QDisc = fifo.New(link, 1, queue)
	}
	err := errors.Join(
		option("SACK", &sack), option("receive buffer", &moderate), option("TIME-WAIT", &reuse),
		option("receive buffer", &tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: 1 << 20, Max: most}),
		option("send buffer", &tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: 1 << 20, Max: most}),
		set("NIC", s.CreateNICWithOptions(nic, link, o)),
		set("address", s.AddProtocolAddress(nic, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber,
			AddressWithPrefix: n.local.WithPrefix()}, stack.AddressProperties{})),
	)
	for _, a := range h.Also {
		err = errors.Join(err, set("address", s.AddProtocolAddress(nic, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber,
			AddressWithPrefix: tcpip.AddrFrom4(a.As4()).WithPrefix()}, stack.AddressProperties{})))
	}
	if err == nil && link.LinkAddress() != "" {
		err = set("neighbour", s.AddStaticNeighbor(nic, ipv4.ProtocolNumber, tcpip.AddrFrom4(h.Remote.As4()), tcpip.LinkAddress(h.RMAC[:])))
	}
	if err != nil {
		s.Destroy()
		return nil, err
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	return n, nil
}

func full(addr string) (tcpip.FullAddress, error) {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return tcpip.FullAddress{}, err
	}
	return tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFrom4(a.Addr().As4()), Port: a.Port()}, nil
}

// Dial implements load.Network, for TCP.
func (n *Network) Dial(network, addr string) (net.Conn, error) {
	to, err := full(addr)
	if err != nil {
		return nil, err
	}
	if network != "tcp" {
		return nil, net.UnknownNetworkError(network)
	}
	return gonet.DialTCPWithBind(context.Background(), n.s, tcpip.FullAddress{NIC: nic, Addr: n.local}, to, ipv4.ProtocolNumber)
}

// DialFrom dials TCP from an address of ours.
func (n *Network) DialFrom(local netip.Addr, addr string) (net.Conn, error) {
	to, err := full(addr)
	if err != nil {
		return nil, err
	}
	return gonet.DialTCPWithBind(context.Background(), n.s, tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFrom4(local.As4())}, to, ipv4.ProtocolNumber)
}

// Listen implements load.Network.
func (n *Network) Listen(network, addr string) (net.Listener, error) {
	at, err := full(addr)
	if err != nil {
		return nil, err
	}
	return gonet.ListenTCP(n.s, at, ipv4.ProtocolNumber)
}

// ListenPacket implements load.Network.
func (n *Network) ListenPacket(network, addr string) (net.PacketConn, error) {
	at, err := full(addr)
	if err != nil {
		return nil, err
	}
	return listenUDP(n.s, at)
}

// Path implements load.Network.
func (n *Network) Path(any) string { return n.path }

// Counters implements load.Network.
func (n *Network) Counters() any {
	st := n.s.Stats()
	return map[string]uint64{
		"SegmentsSent": st.TCP.SegmentsSent.Value(), "SegmentsReceived": st.TCP.ValidSegmentsReceived.Value(),
		"Retransmits": st.TCP.Retransmits.Value(), "Timeouts": st.TCP.Timeouts.Value(),
		"ChecksumErrors": st.TCP.ChecksumErrors.Value(), "Dropped": st.DroppedPackets.Value(),
	}
}

// Close implements load.Network.
func (n *Network) Close() error {
	if !n.keep {
		n.s.Destroy()
	}
	var errs []error
	for _, f := range n.done {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}
