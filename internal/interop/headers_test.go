package interop

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
)

// A headerCase is a packet with odd headers in front of a UDP datagram.
type headerCase struct {
	name  string
	frame func(e *headerEnd, l4 []byte) []byte
}

// headerEnd is a socket, and the peer's wire.
type headerEnd struct {
	reader
	fd int // hears what comes to the peer
}

func (e *headerEnd) v4(options, l4 []byte) []byte {
	b := whole(e.from, e.to, e.src.Addr(), e.dst.Addr(), l4)
	b = bytes.Join([][]byte{b[:34], options, l4}, nil)
	b[14] = 0x40 | byte(5+len(options)/4)
	binary.BigEndian.PutUint16(b[16:], uint16(len(b)-14))
	b[24], b[25] = 0, 0
	binary.BigEndian.PutUint16(b[24:], checksum(b[14:34+len(options)]))
	return b
}

func (e *headerEnd) v6(next byte, exts, l4 []byte) []byte {
	b := whole(e.from, e.to, e.src.Addr(), e.dst.Addr(), append(exts, l4...))
	b[14+6] = next
	return b
}

func (e *headerEnd) fragment6(off int, next byte, data []byte, more bool) []byte {
	p := piece{off, data, more}
	return p.frame(e.from, e.to, e.src.Addr(), e.dst.Addr(), next, uint32(off)+7)
}

func options4(b ...byte) func(*headerEnd, []byte) []byte {
	return func(e *headerEnd, l4 []byte) []byte { return e.v4(b, l4) }
}

// exts6 is a packet whose first header is next.
func exts6(next byte, exts ...byte) func(*headerEnd, []byte) []byte {
	return func(e *headerEnd, l4 []byte) []byte { return e.v6(next, exts, l4) }
}

var headerCases = map[string][]headerCase{
	"v4": {
		{"no operation", options4(1, 1, 1, 0)},
		{"router alert", options4(148, 4, 0, 0)},
		{"record route", options4(7, 7, 4, 0, 0, 0, 0, 0)},
		{"timestamp", options4(68, 8, 5, 0, 0, 0, 0, 0)},
		{"unknown option", options4(30, 4, 0, 0)},
		{"length 0", options4(7, 0, 4, 0)},
		{"length 1", options4(30, 1, 0, 0)},
		{"beyond the header", options4(30, 9, 0, 0)},
		{"record route, pointer 3", options4(7, 7, 3, 0, 0, 0, 0, 0)},
		{"record route, half an address", options4(7, 5, 4, 0, 0, 0, 0, 0)},
		{"record route, full", options4(7, 7, 8, 0, 0, 0, 0, 0)},
		{"timestamp, pointer 4", options4(68, 8, 4, 0, 0, 0, 0, 0)},
		{"timestamp and address, no room", options4(68, 8, 5, 1, 0, 0, 0, 0)},
		{"timestamp, full", options4(68, 8, 9, 0xe0, 0, 0, 0, 0)},
		{"timestamp, full, too often", options4(68, 8, 9, 0xf0, 0, 0, 0, 0)},
		{"router alert, short", options4(148, 3, 0, 0)},
		{"loose source route", options4(131, 7, 4, 10, 0, 0, 1, 0)},
		{"strict source route, at its end", options4(137, 7, 8, 10, 0, 0, 1, 0)},
	},
	"v6": {
		{"hop by hop", exts6(0, 17, 0, 1, 4, 0, 0, 0, 0)},
		{"destination", exts6(60, 17, 0, 1, 4, 0, 0, 0, 0)},
		{"option to skip", exts6(60, 17, 0, 0x1e, 4, 0, 0, 0, 0)},
		{"option to drop", exts6(60, 17, 0, 0x5e, 4, 0, 0, 0, 0)},
		{"option to answer", exts6(60, 17, 0, 0x9e, 4, 0, 0, 0, 0)},
		{"option to answer one", exts6(60, 17, 0, 0xde, 4, 0, 0, 0, 0)},
		{"hop by hop, to answer", exts6(0, 17, 0, 0x9e, 4, 0, 0, 0, 0)},
		{"option beyond the header", exts6(60, 17, 0, 0x1e, 9, 0, 0, 0, 0)},
		{"late hop by hop", exts6(60, 0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0)},
		{"routing, arrived", exts6(43, 17, 0, 0, 0, 0, 0, 0, 0)},
		{"routing, unknown, under way", exts6(43, 17, 0, 77, 1, 0, 0, 0, 0)},
		{"unknown header", exts6(200, 17, 0, 1, 4, 0, 0, 0, 0)},
		{"no next header", exts6(59)},
		{"atomic fragment", exts6(44, 17, 0, 0, 0, 1, 2, 3, 4)},
		{"uneven fragment", func(e *headerEnd, l4 []byte) []byte { return e.fragment6(8, 17, make([]byte, 33), true) }},
		{"uneven first fragment", func(e *headerEnd, l4 []byte) []byte { return e.fragment6(0, 17, l4[:13], true) }},
		{"fragment too far", func(e *headerEnd, l4 []byte) []byte { return e.fragment6(65528, 17, make([]byte, 64), false) }},
	},
}

// echo is an echo request, which the kernel answers on either end, at any rate.
func (e *headerEnd) echo(seq uint16) []byte {
	b := []byte{8, 0, 0, 0, 0, 0, byte(seq >> 8), byte(seq)}
	if e.src.Addr().Is4() {
		binary.BigEndian.PutUint16(b[2:], checksum(b))
		b = whole(e.from, e.to, e.src.Addr(), e.dst.Addr(), b)
		b[14+9] = 1
		b[24], b[25] = 0, 0
		binary.BigEndian.PutUint16(b[24:], checksum(b[14:34]))
		return b
	}
	b[0] = 128
	pseudo := append(e.src.Addr().AsSlice(), e.dst.Addr().AsSlice()...)
	pseudo = append(pseudo, 0, 0, 0, byte(len(b)), 0, 0, 0, 58)
	binary.BigEndian.PutUint16(b[2:], checksum(append(pseudo, b...)))
	return e.v6(58, nil, b)
}

// heard returns the ICMP errors that have come to the peer until the reply to the
// echo request seq, and with some also until one came: what the kernel is to answer
// for us takes a way of its own.
func (e *headerEnd) heard(t *testing.T, seq uint16, some bool) (got []string) {
	b := make([]byte, 1<<16)
	replied := false
	for limit := time.Now().Add(time.Minute); !replied || some && len(got) == 0; {
		if time.Now().After(limit) {
			t.Fatalf("echo reply: %v, ICMP errors: %v", replied, got)
		}
		n, _, err := unix.Recvfrom(e.fd, b, unix.MSG_DONTWAIT)
		switch {
		case err == nil && n >= 34+8 && b[12] == 8 && b[23] == 1 && b[34] == 0:
			replied = replied || binary.BigEndian.Uint16(b[40:]) == seq
		case err == nil && n >= 54+8 && b[12] == 0x86 && b[20] == 58 && b[54] == 129:
			replied = replied || binary.BigEndian.Uint16(b[60:]) == seq
		case err == nil && n > 34+8 && b[12] == 8 && b[23] == 1 && b[34] != 8:
			got = append(got, fmt.Sprintf("ICMP %d %d %x", b[34], b[35], b[38:42]))
		case err == nil && n > 54+8 && b[12] == 0x86 && b[20] == 58 && b[54] < 128:
			got = append(got, fmt.Sprintf("ICMPv6 %d %d %x", b[54], b[55], b[58:62]))
		case err == nil:
		default:
			time.Sleep(time.Millisecond)
		}
	}
	return got
}

// TestHeadersAsKernel: packets with odd headers are read, or answered, as the kernel
// does: options of IPv4, extension headers of IPv6 (attack 23), a fragment header on a
// whole packet.
func TestHeadersAsKernel(t *testing.T) {
	for _, fam := range families {
		t.Run(fam.name, func(t *testing.T) { testHeadersAsKernel(t, fam) })
	}
}

func testHeadersAsKernel(t *testing.T, fam family) {
	oneProcessor(t)
	var ends [2]headerEnd
	for i := range ends {
		p := lab.NewPair(t, lab.Options{Neighbors: true})
		for _, key := range []string{"net/ipv4/icmp_ratelimit", "net/ipv6/icmp/ratelimit"} {
			if err := p.A.Sysctl(key, "0"); err != nil {
				t.Fatal(err)
			}
		}
		var e packetHost = p.A
		if i == 0 {
			e = engine(t, p.A)
		}
		dst, src := netip.AddrPortFrom(fam.addr(p.A), 1001), netip.AddrPortFrom(fam.addr(p.B), 9)
		c, err := e.ListenPacket("udp", dst.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		w := wireOf(t, p.B)
		ends[i] = headerEnd{reader{c, w, p.B, p.A, src, dst}, packetSocket(t, p.B, everything)}
	}
	for n, c := range headerCases[fam.name] {
		var read, answer [2]string
		for _, i := range []int{1, 0} { // the kernel first
			e := &ends[i]
			l4 := udpBytes(e.src, e.dst, []byte("odd"))
			e.w.send(c.frame(e, l4))
			e.w.send(whole(e.from, e.to, e.src.Addr(), e.dst.Addr(), udpBytes(e.src, e.dst, []byte("end"))))
			e.w.send(e.echo(uint16(n)))
			for {
				s := string(readOne(t, e.c))
				if s == "end" {
					break
				}
				read[i] += s
			}
			answer[i] = fmt.Sprint(e.heard(t, uint16(n), i == 0 && answer[1] != "[]"))
		}
		if read[0] != read[1] || answer[0] != answer[1] {
			t.Errorf("%s: read %q, answered %s; the kernel %q, %s", c.name, read[0], answer[0], read[1], answer[1])
		}
	}
}
