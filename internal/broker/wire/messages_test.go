package wire

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"testing"
)

// samples has a message of each kind.
func samples() []Message {
	tcp := MakeEndpoint(6, netip.MustParseAddrPort("10.0.0.1:80"))
	udp := MakeEndpoint(17, netip.MustParseAddrPort("[fd00::1]:53"))
	peer := MakeEndpoint(6, netip.MustParseAddrPort("10.0.0.2:40000"))
	return []Message{
		&Hello{Version, MakeText("server")},
		&Welcome{WelcomeHead{1 << 26, 100, 7}, []Interface{{2, MakeText("eth0")}, {3, MakeText("eth1")}}},
		&Welcome{Interfaces: []Interface{}},
		&OK{},
		&Refusal{13, MakeText("the policy has no rule for user 1000")},
		&Grant{1, 2, 4096, 4096, 1024, 1, 0x6f000000},
		&Granted{Token: [16]byte{1}, MTU: 1500, SegmentMax: 65000, Segments: 1, MAC: [6]byte{2, 1}},
		&Claim{1, tcp}, &Release{1, udp},
		&Claim{1, Endpoint{Proto: 6, Port: 80}}, // any address
		&Except{1, tcp, peer}, &Unexcept{1, tcp, peer},
		&Neighbour{2, udp.Addr}, &Stats{1}, &Counters{Sent: 1, DropRate: 1 << 40},
		&Resume{1, 2, [16]byte{1, 2}}, &Resumed{1}, &Leave{1}, &Flows{}, &Share{1, tcp},
	}
}

func TestRoundTrip(t *testing.T) {
	seen := map[Kind]bool{}
	for _, m := range samples() {
		b, err := Append(nil, 7, m)
		if err != nil {
			t.Fatalf("%#v: %v", m, err)
		}
		seq, got, err := Parse(b)
		if err != nil || seq != 7 || !reflect.DeepEqual(got, m) {
			t.Errorf("%#v became %d, %#v, %v", m, seq, got, err)
		}
		seen[m.kind()] = true
	}
	for k := KindHello; k <= KindShare; k++ {
		if !seen[k] || newBody(k) == nil || newBody(k).kind() != k {
			t.Errorf("kind %d has no sample, or no body", k)
		}
	}
}

// TestEveryLength: a message is refused if a byte is missing, or one too many.
func TestEveryLength(t *testing.T) {
	for _, m := range samples() {
		b, err := Append(nil, 1, m)
		if err != nil {
			t.Fatal(err)
		}
		_, list := m.(*Welcome)
		for n := range len(b) {
			if _, got, err := Parse(b[:n]); err == nil && !list {
				t.Errorf("%d of %d bytes of kind %d are %#v", n, len(b), m.kind(), got)
			} else if err != nil && !errors.Is(err, ErrMalformed) {
				t.Errorf("%d bytes of kind %d: %v", n, m.kind(), err)
			}
		}
		if _, _, err := Parse(append(b, 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("a byte too many of kind %d: %v", m.kind(), err)
		}
	}
}

func TestOutOfRange(t *testing.T) {
	good := Endpoint{Proto: 6, Port: 80}
	v4 := MakeEndpoint(6, netip.MustParseAddrPort("10.0.0.1:1"))
	v6 := MakeEndpoint(6, netip.MustParseAddrPort("[fd00::1]:1"))
	padded, garbled := MakeText("a"), MakeText("a")
	padded[5], garbled[0] = 'b', 0xff
	for name, m := range map[string]Message{
		"protocol":          &Claim{1, Endpoint{Proto: 1, Port: 80}},
		"port 0":            &Claim{1, Endpoint{Proto: 6}},
		"family 5":          &Claim{1, Endpoint{6, Addr{Family: 5}, 80}},
		"family 0, bytes":   &Claim{1, Endpoint{6, Addr{Bytes: [16]byte{1}}, 80}},
		"IPv4, 16 bytes":    &Release{1, Endpoint{6, Addr{4, [16]byte{15: 1}}, 80}},
		"IPv4-mapped":       &Release{1, Endpoint{6, Addr{6, [16]byte{10: 0xff, 11: 0xff, 15: 1}}, 80}},
		"flow of any":       &Except{1, good, v4},
		"flow of two":       &Except{1, v4, v6},
		"flow of protocols": &Unexcept{1, v4, Endpoint{17, v4.Addr, 1}},
		"frame size":        &Grant{Index: 1, FrameSize: 1024, RxRing: 64, TxRing: 64},
		"ring":              &Grant{Index: 1, FrameSize: 2048, RxRing: 63, TxRing: 64},
		"large ring":        &Grant{Index: 1, FrameSize: 2048, RxRing: 64, TxRing: 1 << 17},
		"flag":              &Grant{Index: 1, FrameSize: 2048, RxRing: 64, TxRing: 64, Segments: 2},
		"interface 0":       &Grant{FrameSize: 2048, RxRing: 64, TxRing: 64},
		"interface":         &Neighbour{1 << 31, v4.Addr},
		"no neighbour":      &Neighbour{Index: 1},
		"errno 0":           &Refusal{},
		"errno":             &Refusal{Errno: 5000},
		"padding":           &Hello{Version, padded},
		"UTF-8":             &Hello{Version, garbled},
		"MTU":               &Granted{MTU: 0},
		"interfaces":        &Welcome{Interfaces: make([]Interface, MaxInterfaces+1)},
	} {
		if b, err := Append(nil, 1, m); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %x, %v", name, b, err)
		}
	}
	for name, b := range map[string][]byte{
		"nothing": {}, "kind 0": {0, 0, 0, 1}, "kind 99": {99, 0, 0, 1}, "reserved": {byte(KindOK), 1, 0, 1},
		"huge": make([]byte, MaxMessage+1),
	} {
		if _, _, err := Parse(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParse: whatever is accepted is written again as the same bytes.
func FuzzParse(f *testing.F) {
	for _, m := range samples() {
		b, err := Append(nil, 3, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		seq, m, err := Parse(b)
		if err != nil {
			return
		}
		again, err := Append(nil, seq, m)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x became %#v, then %x, %v", b, m, again, err)
		}
	})
}
