package wire

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Text is words in UTF-8, padded with zeros. Text that is too long is cut.
type Text [120]byte

// MakeText returns s as Text.
func MakeText(s string) (t Text) {
	s = strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "")
	if len(s) > len(t) {
		s = strings.ToValidUTF8(s[:len(t)], "")
	}
	copy(t[:], s)
	return t
}

// String is the text.
func (t Text) String() string {
	s, _, _ := strings.Cut(string(t[:]), "\x00")
	return s
}

func (t Text) check() error {
	s := t.String()
	if strings.Trim(string(t[len(s):]), "\x00") != "" || !utf8.ValidString(s) {
		return malformed("text is not padded with zeros, or no UTF-8")
	}
	return nil
}

// Addr is an IP address without a zone. Family is 4, 6, or 0 for none; bytes that
// an address does not have are zero.
type Addr struct {
	Family uint8
	Bytes  [16]byte
}

// MakeAddr returns a, whose zone is lost.
func MakeAddr(a netip.Addr) (w Addr) {
	switch {
	case a.Is4():
		b := a.As4()
		w.Family = 4
		copy(w.Bytes[:], b[:])
	case a.Is6():
		w.Family, w.Bytes = 6, a.As16()
	}
	return w
}

// Addr is the address; the zero Addr for family 0.
func (w Addr) Addr() netip.Addr {
	switch w.Family {
	case 4:
		return netip.AddrFrom4([4]byte(w.Bytes[:]))
	case 6:
		return netip.AddrFrom16(w.Bytes)
	}
	return netip.Addr{}
}

func (w Addr) check() error {
	if w != MakeAddr(w.Addr()) || w.Addr().Is4In6() {
		return malformed("address of family %d", w.Family)
	}
	return nil
}

// Endpoint is a port of TCP or UDP at an address.
type Endpoint struct {
	Proto uint8
	Addr  Addr
	Port  uint16
}

// MakeEndpoint returns the endpoint of a.
func MakeEndpoint(proto uint8, a netip.AddrPort) Endpoint {
	return Endpoint{proto, MakeAddr(a.Addr()), a.Port()}
}

// AddrPort is the address and port.
func (e Endpoint) AddrPort() netip.AddrPort { return netip.AddrPortFrom(e.Addr.Addr(), e.Port) }

func (e Endpoint) check() error {
	switch {
	case e.Proto != unix.IPPROTO_TCP && e.Proto != unix.IPPROTO_UDP:
		return malformed("protocol %d", e.Proto)
	case e.Port == 0:
		return malformed("port 0")
	}
	return e.Addr.check()
}
