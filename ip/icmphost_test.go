package ip

import "testing"

// TestAsksHost: pings, neighbour discovery and DHCP are the host's, errors and fragments not.
func TestAsksHost(t *testing.T) {
	for _, c := range []struct {
		v6   bool
		typ  byte
		want bool
	}{
		{false, 8, true}, {false, 0, false}, {false, 3, false}, {false, 11, false}, {false, 135, false},
		{true, 128, true}, {true, 133, true}, {true, 135, true}, {true, 136, true},
		{true, 1, false}, {true, 2, false}, {true, 129, false}, {true, 137, false}, {true, 130, true}, {true, 132, true}, {true, 143, true}, {true, 8, false},
	} {
		msg := icmp(c.typ, 0, 0, nil)
		f := frame4(ProtoICMP, nil, msg, nil)
		if c.v6 {
			f = frame6(ProtoICMPv6, msg, nil)
		}
		var p Packet
		if err := Parse(f, len(f), &p); err != nil {
			t.Fatal(err)
		}
		if got := p.AsksHost(f); got != c.want {
			t.Errorf("type %d, IPv6 %v: %v", c.typ, c.v6, got)
		}
		if p.AsksHost(f[:p.L4Off]) {
			t.Errorf("type %d, IPv6 %v: no message is a question", c.typ, c.v6)
		}
		if p.Fragment = true; p.AsksHost(f) {
			t.Errorf("type %d, IPv6 %v: a fragment is a question", c.typ, c.v6)
		}
	}
	for _, c := range []struct {
		udp  []byte
		want bool
	}{
		{[]byte{8, 0, 0, 0, 0, 8, 0, 0}, false},
		{[]byte{0, 67, 0, 68, 0, 8, 0, 0}, true}, // from a DHCP server
		{[]byte{0, 68, 0, 67, 0, 8, 0, 0}, false},
		{[]byte{0, 67, 0, 69, 0, 8, 0, 0}, false},
	} {
		f := frame4(ProtoUDP, nil, c.udp, nil)
		var p Packet
		if err := Parse(f, len(f), &p); err != nil || p.AsksHost(f) != c.want || p.AsksHost(f[:p.L4Off+3]) {
			t.Errorf("UDP %v is a question: %v, %v", c.udp, !c.want, err)
		}
	}
}
