package bpf

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Owners of ports and flows, as in table.h.
const (
	OwnerKernel  uint32 = iota // of a flow whose port somebody else has
	OwnerSockets               // the process that has the interface's queues
	OwnerLink                  // the process that has the first link; the next one's is 1 more, and so on
)

var native = binary.NativeEndian

// words lays an address out as the program sees it: network order in memory.
func words(a netip.Addr) (w [4]uint32) {
	if a.Is4() {
		b := a.As4()
		w[0] = native.Uint32(b[:])
		return w
	}
	b := a.As16()
	for i := range w {
		w[i] = native.Uint32(b[4*i:])
	}
	return w
}

// address is the reverse of words.
func address(w [4]uint32, family uint8) netip.Addr {
	var b [16]byte
	for i := range w {
		native.PutUint32(b[4*i:], w[i])
	}
	if family == 4 {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16(b)
}

func bePort(p uint16) uint16 { return native.Uint16([]byte{byte(p >> 8), byte(p)}) }

func hostPort(p uint16) uint16 {
	var b [2]byte
	native.PutUint16(b[:], p)
	return binary.BigEndian.Uint16(b[:])
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return 4
	}
	return 6
}

// CheckPort returns the reason why a port cannot be steered: EPROTONOSUPPORT or EINVAL.
func CheckPort(proto uint8, local netip.AddrPort) error {
	if proto != unix.IPPROTO_TCP && proto != unix.IPPROTO_UDP {
		return fmt.Errorf("afxdp: steering of protocol %d: %w", proto, unix.EPROTONOSUPPORT)
	}
	if local.Port() == 0 {
		return fmt.Errorf("afxdp: steering of port 0: %w", unix.EINVAL)
	}
	return nil
}

// CheckFlow returns the reason why a flow cannot be steered, as CheckPort does: both
// ends must be exact.
func CheckFlow(proto uint8, local, remote netip.AddrPort) error {
	if err := CheckPort(proto, local); err != nil {
		return err
	}
	l, r := local.Addr().Unmap(), remote.Addr().Unmap()
	if !l.IsValid() || !r.IsValid() || l.Is4() != r.Is4() || l.IsUnspecified() || r.IsUnspecified() || remote.Port() == 0 {
		return fmt.Errorf("afxdp: flow %v to %v: must be exact: %w", local, remote, unix.EINVAL)
	}
	return nil
}

// PortKeys returns the entries for local; two if it is any address of either
// family.
func PortKeys(proto uint8, local netip.AddrPort) []SteerPortKey {
	k := SteerPortKey{Port: bePort(local.Port()), Proto: proto}
	a := local.Addr().Unmap()
	if !a.IsValid() {
		k4, k6 := k, k
		k4.Family, k6.Family = 4, 6
		return []SteerPortKey{k4, k6}
	}
	k.Family = family(a)
	k.Local.W = words(a)
	return []SteerPortKey{k}
}

// FlowKey returns the entry of a flow.
func FlowKey(proto uint8, local, remote netip.AddrPort) SteerFlowKey {
	k := SteerFlowKey{Lport: bePort(local.Port()), Rport: bePort(remote.Port()), Proto: proto}
	l, r := local.Addr().Unmap(), remote.Addr().Unmap()
	k.Family = family(l)
	k.Local.W, k.Remote.W = words(l), words(r)
	return k
}

// Addr returns the local address and port of the entry. Any address of a family is
// that family's unspecified one.
func (k SteerPortKey) Addr() netip.AddrPort {
	return netip.AddrPortFrom(address(k.Local.W, k.Family), hostPort(k.Port))
}

// Addrs returns both ends of the flow.
func (k SteerFlowKey) Addrs() (local, remote netip.AddrPort) {
	return netip.AddrPortFrom(address(k.Local.W, k.Family), hostPort(k.Lport)),
		netip.AddrPortFrom(address(k.Remote.W, k.Family), hostPort(k.Rport))
}

// Words returns an address as the programs see it, with its family.
func Words(a netip.Addr) (w [4]uint32, fam uint8) {
	a = a.Unmap()
	return words(a), family(a)
}

// MACs returns link-layer addresses as the program's variable macs wants them; all 0
// if there are none, or more than it takes.
func MACs(macs [][6]byte) (words [8]uint64) {
	if len(macs) > 0 && len(macs) <= len(words) {
		for i := range words {
			m := macs[min(i, len(macs)-1)] // no word is free for the address 0
			words[i] = native.Uint64([]byte{m[0], m[1], m[2], m[3], m[4], m[5], 0, 0})
		}
	}
	return words
}
