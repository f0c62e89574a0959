package interop

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/need"
	onload "github.com/onload-go/onload/net"
)

// iproute runs ip(8) in a namespace.
func iproute(t *testing.T, ns *lab.NS, args ...string) {
	t.Helper()
	if out, err := ns.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// TestForeignMACs: datagrams in unicast frames are read where the kernel reads
// them, by the address of the frame: that of the interface, of a macvlan above it,
// of nobody, and of a macvlan in another namespace.
func TestForeignMACs(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	guest, err := lab.NewNS("guest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { guest.Close() })
	above, theirs := [6]byte{2, 0, 0, 0, 7, 7}, [6]byte{2, 0, 0, 0, 8, 8}
	add := func(name string, mac [6]byte) {
		args := []string{"link", "add", name, "link", p.A.If, "address", net.HardwareAddr(mac[:]).String(), "type", "macvlan", "mode", "bridge"}
		if out, err := p.A.Command("ip", args...).CombinedOutput(); err != nil {
			need.Missing(t, "a kernel with macvlan: %v: %s", err, out)
		}
	}
	add("above", above)
	iproute(t, p.A, "link", "set", "above", "up")
	e := engine(t, p.A)
	for _, family := range []struct{ here, good netip.Addr }{{p.A.Addr4, p.B.Addr4}, {p.A.Addr6, p.B.Addr6}} {
		w := newTwins(t, p, e.ListenPacket, family.here)
		for _, promiscuous := range []string{"off", "on"} {
			iproute(t, p.A, "link", "set", p.A.If, "promisc", promiscuous)
			for what, mac := range map[string][6]byte{"own": p.A.MAC, "macvlan": above, "nobody's": {2, 0, 0, 0, 0x99, 0x99}} {
				want := what != "nobody's"
				if got := w.agree(what+" MAC, promisc "+promiscuous, mac, family.good, family.good); got != want {
					t.Errorf("%v: %s MAC, promiscuous %s: read: %v", family.here, what, promiscuous, got)
				}
			}
		}
	}
	if s := e.Stats()[p.A.If]; s.RxBogus != 0 {
		t.Errorf("%d frames for others were taken from the kernel", s.RxBogus)
	}
	// A guest has a macvlan with our address in a network of its own, and the port
	// of a listener of ours.
	c, err := e.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	add("guest", theirs)
	iproute(t, p.A, "link", "set", "guest", "netns", guest.Path)
	iproute(t, guest, "link", "set", "guest", "up")
	iproute(t, guest, "addr", "add", netip.PrefixFrom(p.A.Addr4, 24).String(), "dev", "guest")
	at := netip.AddrPortFrom(p.A.Addr4, c.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	g, err := guest.ListenPacket("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	w := &twins{wire: wireOf(t, p.B), pair: p, to: [2]netip.AddrPort{at}}
	if err := g.SetReadDeadline(time.Now().Add(twinsWait)); err != nil {
		t.Fatal(err)
	}
	w.send(w.frame(0, theirs, p.B.Addr4, "for the guest"))
	b := make([]byte, 100)
	if n, _, err := g.ReadFrom(b); err != nil || string(b[:n]) != "for the guest" {
		t.Errorf("the guest read %q, %v", b[:n], err)
	}
}

// TestFloodingBridge: two hosts behind a bridge that floods have one service
// address, and listen there. Only the one answers that the frames are for.
func TestFloodingBridge(t *testing.T) {
	lab.NeedRoot(t)
	service := netip.MustParseAddr("10.99.0.9")
	var ns [4]*lab.NS // the bridge, the client, two hosts
	for i, name := range []string{"bridge", "client", "host", "other"} {
		var err error
		if ns[i], err = lab.NewNS(name); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ns[i].Close() })
	}
	sw, client := ns[0], ns[1]
	var ports []*lab.Link
	for i, h := range ns[1:] {
		_, port, err := lab.Veth(h, sw, lab.Options{NoAddr: true})
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
		if err := h.AddAddr(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, 0, byte(i + 1)}), 24)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := sw.Bridge("br0", ports...); err != nil {
		t.Fatal(err)
	}
	iproute(t, sw, "link", "set", "br0", "type", "bridge", "ageing_time", "0")
	iproute(t, client, "route", "add", service.String(), "via", "10.77.0.2")
	const port = 7000
	var engines [2]*onload.Engine
	for i, h := range ns[2:] {
		iproute(t, h, "addr", "add", netip.PrefixFrom(service, 32).String(), "dev", "lo")
		engines[i] = engine(t, h)
		l, err := engines[i].Listen("tcp", netip.AddrPortFrom(service, port).String())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.Copy(c, c)
				c.Close()
			}
		}()
	}
	for range 5 {
		c, err := client.Dial("tcp", netip.AddrPortFrom(service, port).String())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(twinsWait)); err != nil {
			t.Fatal(err)
		}
		b := []byte("who answers?")
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	first, second := engines[0].Stats()[ns[2].If], engines[1].Stats()[ns[3].If]
	if first.TCPAccepts != 5 || second.TCPAccepts != 0 || second.TxResets != 0 || second.RxBogus != 0 {
		t.Errorf("accepted %d, by the other host %d; that one sent %d resets and took %d frames from its kernel",
			first.TCPAccepts, second.TCPAccepts, second.TxResets, second.RxBogus)
	}
}
