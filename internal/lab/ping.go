package lab

import (
	"bytes"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// Ping sends one echo request to an address and waits 2 s for the answer.
func (ns *NS) Ping(to netip.Addr) error {
	network, typ := "ip4:icmp", icmp.Type(ipv4.ICMPTypeEcho)
	if to.Is6() {
		network, typ = "ip6:ipv6-icmp", ipv6.ICMPTypeEchoRequest
	}
	c, err := ns.Dial(network, to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	m := icmp.Message{Type: typ, Body: &icmp.Echo{ID: 0x6f6c, Seq: 1, Data: []byte("ping")}}
	b, err := m.Marshal(nil) // the kernel sums ICMPv6
	if err != nil {
		return err
	}
	if _, err := c.Write(b); err != nil {
		return err
	}
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	const sameInReply = 4 // bytes of type, code and checksum before it
	for r := make([]byte, 1500); ; {
		n, err := c.Read(r)
		if err != nil {
			return fmt.Errorf("ping of %v: %w", to, err)
		}
		if bytes.HasSuffix(r[:n], b[sameInReply:]) {
			return nil
		}
	}
}
