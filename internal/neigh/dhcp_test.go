package neigh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/onload-go/onload/ip"
)

// dhcpServer gives leases on a wire.
type dhcpServer struct {
	t     *testing.T
	w     *wire
	n     byte // of its MAC and address
	pool  []string
	opts  []dhcpv4.Option
	lease time.Duration
	dead  bool
	nak   bool             // refuses requests
	got   []*dhcpv4.DHCPv4 // what came
	dst   []netip.Addr     // where it was sent to
	at    []int64          // and when
	bad   map[string]bool  // declined
	asIs  func(reply *dhcpv4.DHCPv4) []byte
}

// serve joins a server with the address 10.0.0.n.
func serve(t *testing.T, w *wire, n byte, pool ...string) *dhcpServer {
	s := &dhcpServer{t: t, w: w, n: n, pool: pool, lease: time.Hour, bad: map[string]bool{}}
	s.opts = []dhcpv4.Option{
		dhcpv4.OptSubnetMask(net.CIDRMask(24, 32)), dhcpv4.OptRouter(net.IP{10, 0, 0, 254}),
		dhcpv4.OptDNS(net.IP{10, 0, 0, 53}), dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{1400 >> 8, 1400 & 255}),
	}
	w.taps = append(w.taps, s.input)
	return s
}

func (s *dhcpServer) addr() netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, s.n}) }

func (s *dhcpServer) input(frame []byte) {
	var p ip.Packet
	if s.dead || ip.Parse(frame, len(frame), &p) != nil || p.Proto != ip.ProtoUDP || p.DstMAC != broadcast && p.DstMAC != mac(s.n) {
		return
	}
	u := frame[p.L4Off:][:p.L4Len]
	if binary.BigEndian.Uint16(u[2:]) != dhcpServerPort {
		return
	}
	if !udpSumOK(&p, u) {
		s.t.Error("the checksum is wrong")
	}
	m, err := dhcpv4.FromBytes(u[udpLen:])
	if err != nil {
		s.t.Fatal(err)
	}
	s.got, s.dst, s.at = append(s.got, m), append(s.dst, p.Dst), append(s.at, s.w.now)
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		s.reply(m, dhcpv4.MessageTypeOffer)
	case dhcpv4.MessageTypeRequest:
		if id := m.ServerIdentifier(); id != nil && addr4(id) != s.addr() {
			return
		}
		if s.nak {
			s.reply(m, dhcpv4.MessageTypeNak)
			return
		}
		s.reply(m, dhcpv4.MessageTypeAck)
	case dhcpv4.MessageTypeDecline:
		s.bad[m.RequestedIPAddress().String()] = true
	}
}

// reply answers m.
func (s *dhcpServer) reply(m *dhcpv4.DHCPv4, t dhcpv4.MessageType) {
	r := &dhcpv4.DHCPv4{OpCode: dhcpv4.OpcodeBootReply, HWType: 1, TransactionID: m.TransactionID, ClientHWAddr: m.ClientHWAddr, Options: dhcpv4.Options{}}
	r.UpdateOption(dhcpv4.OptMessageType(t))
	r.UpdateOption(dhcpv4.OptServerIdentifier(s.addr().AsSlice()))
	if t != dhcpv4.MessageTypeNak {
		r.YourIPAddr = net.ParseIP(s.free())
		r.UpdateOption(dhcpv4.OptIPAddressLeaseTime(s.lease))
		for _, o := range s.opts {
			r.UpdateOption(o)
		}
	}
	b := r.ToBytes()
	if s.asIs != nil {
		b = s.asIs(r)
	}
	s.send(b)
}

func (s *dhcpServer) free() string {
	i := slices.IndexFunc(s.pool, func(a string) bool { return !s.bad[a] })
	return s.pool[max(i, 0)]
}

// send sends a message to all.
func (s *dhcpServer) send(b []byte) {
	e := &end{w: s.w}
	h := &Host{mac: mac(s.n), out: e}
	h.sendUDP(broadcast, netip.AddrPortFrom(s.addr(), dhcpServerPort), netip.AddrPortFrom(ip.Broadcast, dhcpClientPort), b)
}

// types are the messages that came.
func (s *dhcpServer) types() (l []dhcpv4.MessageType) {
	for _, m := range s.got {
		l = append(l, m.MessageType())
	}
	return l
}

const (
	discover = dhcpv4.MessageTypeDiscover
	request  = dhcpv4.MessageTypeRequest
	decline  = dhcpv4.MessageTypeDecline
	release  = dhcpv4.MessageTypeRelease
)

var leased = netip.MustParseAddr("10.0.0.100")

func (e *end) has(a netip.Addr) bool {
	err, ok := e.state[a]
	return ok && err == nil
}

// TestDHCP: a lease is asked for, checked, renewed at half of its time with the server
// itself, and after seven eighths with all; then it has ended, and the next one is
// asked for.
func TestDHCP(t *testing.T) {
	w := new(wire)
	s := serve(t, w, 2, "10.0.0.100")
	a := w.joinAs(Config{DHCP: true}, 1)
	w.run(5 * time.Second)
	if !a.has(leased) || !slices.Equal(s.types(), []dhcpv4.MessageType{discover, request}) {
		t.Fatalf("state %v after %v", a.state, s.types())
	}
	want := Learned{Routes: []Route{{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParseAddr("10.0.0.254")}}, DNS: []netip.Addr{netip.MustParseAddr("10.0.0.53")}, MTU: 1400}
	if fmt.Sprint(a.learnt) != fmt.Sprint(want) {
		t.Errorf("learned %v, want %v", a.learnt, want)
	}
	if !slices.Contains(a.gateways, want.Routes[0].Via) {
		t.Error("the gateway is not protected")
	}
	w.run(31 * time.Minute)
	if len(s.got) != 3 || s.dst[2] != s.addr() || addr4(s.got[2].ClientIPAddr) != leased || s.got[2].ServerIdentifier() != nil {
		t.Fatalf("renewal: %v to %v", s.types(), s.dst)
	}
	s.dead = true
	w.run(40 * time.Minute) // T1 was at 60 minutes, T2 is at 82
	s.dead = false
	s.lease = 2 * time.Hour
	w.run(10 * time.Minute)
	if !a.has(leased) || len(s.got) != 4 || s.dst[3] != s.addr() {
		t.Errorf("renewed late: %v to %v", s.types(), s.dst)
	}
	s.dead = true
	w.run(96 * time.Minute) // T2 was at 176 minutes
	s.dead = false
	sent := len(s.got)
	w.run(9 * time.Minute)
	if !a.has(leased) || len(s.got) == sent || s.dst[sent] != ip.Broadcast || addr4(s.got[sent].ClientIPAddr) != leased {
		t.Fatalf("rebinding: %v to %v, state %v", s.types()[sent:], s.dst[sent:], a.state)
	}
	s.dead = true
	w.run(2*time.Hour + time.Minute)
	if a.has(leased) || len(a.learnt.Routes) != 0 || len(a.own) != 0 {
		t.Errorf("the lease has ended, and is used: %v, %v", a.state, a.learnt)
	}
	s.dead = false
	w.run(70 * time.Second)
	if !a.has(leased) {
		t.Errorf("no new lease: %v", s.types())
	}
	a.Close(w.now)
	w.deliver()
	if n := len(s.got) - 1; s.got[n].MessageType() != release || s.dst[n] != s.addr() || a.has(leased) {
		t.Errorf("released by %v, state %v", s.got[n].MessageType(), a.state)
	}
}

// TestDHCPSilence: without a server the client asks ever more rarely.
func TestDHCPSilence(t *testing.T) {
	w := new(wire)
	a := w.joinAs(Config{DHCP: true}, 1)
	w.run(10 * time.Minute)
	if n := len(a.sent); n < 10 || n > 14 {
		t.Errorf("%d messages in 10 minutes", n)
	}
	s := serve(t, w, 2, "10.0.0.100")
	w.run(70 * time.Second)
	if !a.has(leased) || s.got[0].NumSeconds < 600 {
		t.Errorf("state %v, after %d s", a.state, s.got[0].NumSeconds)
	}
}

// TestDHCPServers: the first offer is taken, and the other servers learn that it is not
// theirs; where the chosen one falls silent the next one has its turn.
func TestDHCPServers(t *testing.T) {
	w := new(wire)
	first, second := serve(t, w, 2, "10.0.0.100"), serve(t, w, 3, "10.0.0.200")
	a := w.joinAs(Config{DHCP: true}, 1)
	w.run(5 * time.Second)
	if !a.has(leased) || len(a.state) != 1 {
		t.Fatalf("state %v", a.state)
	}
	if m := second.got[len(second.got)-1]; m.MessageType() != request || addr4(m.ServerIdentifier()) != first.addr() {
		t.Errorf("the second server is not told: %v", second.types())
	}
	// A NAK of the server that was not chosen changes nothing.
	w = new(wire)
	first, second = serve(t, w, 2, "10.0.0.100"), serve(t, w, 3, "10.0.0.200")
	first.asIs = func(m *dhcpv4.DHCPv4) []byte {
		if m.MessageType() == dhcpv4.MessageTypeOffer {
			first.dead = true // after the offer
		}
		return m.ToBytes()
	}
	a = w.joinAs(Config{DHCP: true}, 1)
	w.run(time.Second)
	second.reply(first.got[0], dhcpv4.MessageTypeNak)
	w.deliver()
	if a.dhcp.state != dhcpRequesting {
		t.Errorf("state %v after another server's NAK", a.dhcp.state)
	}
	w.run(3 * time.Minute)
	if !a.has(netip.MustParseAddr("10.0.0.200")) {
		t.Errorf("state %v, though the second server is there", a.state)
	}
}

// TestDHCPNak: a refused offer is asked for again, not in a loop without end; a refused
// lease ends at once.
func TestDHCPNak(t *testing.T) {
	w := new(wire)
	s := serve(t, w, 2, "10.0.0.100")
	s.nak = true
	a := w.joinAs(Config{DHCP: true}, 1)
	w.run(10 * time.Minute)
	if n := len(s.got); n < 16 || n > 40 || len(a.state) != 0 {
		t.Errorf("%d messages, state %v", n, a.state)
	}
	s.nak = false
	w.run(2 * time.Minute)
	if !a.has(leased) {
		t.Fatalf("state %v", a.state)
	}
	s.nak = true
	w.run(27 * time.Minute)
	if !a.has(leased) {
		t.Error("the lease ends before it was refused")
	}
	w.run(4 * time.Minute)
	if a.has(leased) {
		t.Error("a refused lease is used")
	}
}

// TestDHCPTaken: an address that another host has is declined, and the next one taken,
// ten seconds later.
func TestDHCPTaken(t *testing.T) {
	w := new(wire)
	other := w.join(5, true, "10.0.0.100/24")
	w.run(10 * time.Second)
	s := serve(t, w, 2, "10.0.0.100", "10.0.0.101")
	a := w.joinAs(Config{DHCP: true}, 1)
	w.run(5 * time.Second)
	if !errors.Is(a.state[leased], ErrDuplicate) || !slices.Equal(s.types(), []dhcpv4.MessageType{discover, request, decline}) {
		t.Fatalf("state %v after %v", a.state, s.types())
	}
	if m := s.got[2]; addr4(m.RequestedIPAddress()) != leased || addr4(m.ServerIdentifier()) != s.addr() || addr4(m.ClientIPAddr) != netip.IPv4Unspecified() {
		t.Errorf("declined by %v", m)
	}
	w.run(15 * time.Second)
	if !a.has(netip.MustParseAddr("10.0.0.101")) || other.state[leased] != nil {
		t.Errorf("state %v, the owner's %v", a.state, other.state)
	}
	if wait := s.at[3] - s.at[2]; wait < dhcpDecline {
		t.Errorf("asked again after %v", time.Duration(wait))
	}
}

// TestDHCPLinkUp: when the link comes up the lease is confirmed by all servers (RFC 2131,
// 4.3.2, INIT-REBOOT); one that refuses it ends it, one that gives another address changes
// it, and where no server answers it is ours for its time. A client without a lease asks
// at once.
func TestDHCPLinkUp(t *testing.T) {
	w := new(wire)
	s := serve(t, w, 2, "10.0.0.100")
	a := w.joinAs(Config{DHCP: true}, 1)
	w.run(10 * time.Minute)
	a.LinkUp(w.now)
	w.run(time.Second)
	if len(s.got) != 3 || s.got[2].MessageType() != request || s.dst[2] != ip.Broadcast {
		t.Fatalf("%v to %v", s.types(), s.dst)
	}
	if m := s.got[2]; addr4(m.RequestedIPAddress()) != leased || m.ServerIdentifier() != nil || addr4(m.ClientIPAddr) != netip.IPv4Unspecified() {
		t.Errorf("confirmed by %v", m)
	}
	if !a.has(leased) || a.dhcp.state != dhcpBound || a.dhcp.lease.renew < w.now+int64(29*time.Minute) {
		t.Errorf("state %v, %v", a.state, a.dhcp.state)
	}
	s.dead = true
	a.LinkUp(w.now)
	w.run(30 * time.Minute)
	if n := len(a.dhcpSent()); !a.has(leased) || n < dhcpRequests || n > 2*dhcpRequests {
		t.Errorf("state %v after %d messages, though the lease is ours", a.state, n)
	}
	w.run(31 * time.Minute)
	if a.has(leased) {
		t.Error("the lease has ended, and is used")
	}
	w.run(time.Hour)
	s.dead = false
	a.LinkUp(w.now)
	w.run(2 * time.Second)
	if !a.has(leased) {
		t.Errorf("no lease at once: %v", s.types())
	}
	s.pool = []string{"10.0.0.101"}
	a.LinkUp(w.now)
	w.run(2 * time.Second)
	if other := netip.MustParseAddr("10.0.0.101"); a.has(leased) || !a.has(other) {
		t.Errorf("state %v after another address", a.state)
	}
	s.nak = true
	a.LinkUp(w.now)
	w.run(time.Second)
	if len(a.state) != 0 || len(a.learnt.Routes) != 0 {
		t.Errorf("state %v, learned %v after a NAK", a.state, a.learnt)
	}
}

// dhcpSent are the messages to servers since the last call.
func (e *end) dhcpSent() (l [][]byte) {
	for _, f := range e.sent {
		var p ip.Packet
		if ip.Parse(f, len(f), &p) == nil && p.Proto == ip.ProtoUDP {
			l = append(l, f)
		}
	}
	e.sent = nil
	return l
}

// TestDHCPConfigured: an address that a server gives, and that is configured too, stays
// when the lease ends.
func TestDHCPConfigured(t *testing.T) {
	w := new(wire)
	s := serve(t, w, 2, "10.0.0.100")
	a := w.joinAs(Config{DHCP: true}, 1, leased.String()+"/24")
	w.run(10 * time.Second)
	if !a.dhcp.holds || !a.has(leased) {
		t.Fatalf("state %v after %v", a.state, s.types())
	}
	s.dead = true
	w.run(3 * time.Hour)
	if a.dhcp.holds || !a.has(leased) || len(a.own) != 1 || a.own[0].by != byConfig {
		t.Errorf("state %v, %d addresses", a.state, len(a.own))
	}
}
