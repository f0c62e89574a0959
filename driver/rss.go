package driver

import (
	"encoding/binary"
	"net/netip"
)

// Toeplitz computes receive-side scaling hashes for one key. It is safe for
// concurrent use.
type Toeplitz struct {
	// The contribution of each value of each input byte: a hash is one look-up
	// per byte instead of one step per bit.
	table [36][256]uint32
}

// NewToeplitz prepares the hash for key (40 bytes on most NICs, 52 on some,
// of which the first 40 count; a shorter one is continued with zeros).
func NewToeplitz(key []byte) *Toeplitz {
	t := new(Toeplitz)
	var k [40]byte
	copy(k[:], key)
	for i := range t.table {
		// The 32-bit window of the key that belongs to each bit of byte i.
		w := uint64(binary.BigEndian.Uint32(k[i:]))<<8 | uint64(k[i+4])
		for v := range t.table[i] {
			for bit := range 8 {
				if v&(0x80>>bit) != 0 {
					t.table[i][v] ^= uint32(w >> (8 - bit))
				}
			}
		}
	}
	return t
}

func (t *Toeplitz) sum(at int, b []byte) (h uint32) {
	for i, v := range b {
		h ^= t.table[at+i][v]
	}
	return h
}

// Flow is the hash of a TCP or UDP packet as the NIC that receives it sees
// it. Both addresses are of one family.
func (t *Toeplitz) Flow(src, dst netip.AddrPort) uint32 {
	h, n := t.addrs(src.Addr(), dst.Addr())
	var p [4]byte
	binary.BigEndian.PutUint16(p[:], src.Port())
	binary.BigEndian.PutUint16(p[2:], dst.Port())
	return h ^ t.sum(n, p[:])
}

// Addrs is the hash of a packet of another protocol, or of a fragment.
func (t *Toeplitz) Addrs(src, dst netip.Addr) uint32 {
	h, _ := t.addrs(src, dst)
	return h
}

func (t *Toeplitz) addrs(src, dst netip.Addr) (h uint32, n int) {
	if src.Is4() && dst.Is4() {
		s, d := src.As4(), dst.As4()
		return t.sum(0, s[:]) ^ t.sum(4, d[:]), 8
	}
	s, d := src.As16(), dst.As16()
	return t.sum(0, s[:]) ^ t.sum(16, d[:]), 32
}

// RSSQueue is the queue to which a hash leads through an indirection table.
func RSSQueue(table []uint32, hash uint32) int {
	if len(table) == 0 {
		return 0
	}
	return int(table[int(hash)%len(table)])
}
