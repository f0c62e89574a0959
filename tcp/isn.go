package tcp

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Initial sequence numbers, timestamp offsets and SYN cookies come from
// SipHash-2-4 under keys from crypto/rand. hash/maphash would be as fast, but
// it promises nothing to somebody who sees its outputs, as peers do here.

// ISN is the initial sequence number of a connection: a clock of 4 us a tick
// plus a keyed hash of the addresses (RFC 6528 section 3), so that it cannot
// be guessed and yet moves on between two connections of the same addresses.
func (h *Host) ISN(local, remote netip.AddrPort, now int64) uint32 {
	return uint32(now/4000) + uint32(hashPair(&h.ISNKey, local, remote, 0))
}

// TSOffset is what a connection's timestamps are shifted by (RFC 7323 section
// 7). It is the same for the same addresses, so that PAWS and RFC 6191 hold
// between one connection and the next.
func (h *Host) TSOffset(local, remote netip.AddrPort) uint32 {
	return uint32(hashPair(&h.TSKey, local, remote, 0))
}

// timestamp is the timestamp clock before the offset, in milliseconds.
func timestamp(now int64) uint32 { return uint32(now / 1e6) }

// hashPair hashes two endpoints and a word.
func hashPair(key *[16]byte, local, remote netip.AddrPort, extra uint64) uint64 {
	l, r := local.Addr().As16(), remote.Addr().As16()
	s := newSip(key)
	s.word(binary.LittleEndian.Uint64(l[:]))
	s.word(binary.LittleEndian.Uint64(l[8:]))
	s.word(binary.LittleEndian.Uint64(r[:]))
	s.word(binary.LittleEndian.Uint64(r[8:]))
	s.word(uint64(local.Port())<<16 | uint64(remote.Port()))
	s.word(extra)
	return s.sum(48)
}

// sip is the state of SipHash-2-4 over whole 64-bit words.
type sip struct{ v0, v1, v2, v3 uint64 }

func newSip(key *[16]byte) sip {
	k0 := binary.LittleEndian.Uint64(key[:])
	k1 := binary.LittleEndian.Uint64(key[8:])
	return sip{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d,
		k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
}

func (s *sip) round() {
	s.v0 += s.v1
	s.v1 = bits.RotateLeft64(s.v1, 13) ^ s.v0
	s.v0 = bits.RotateLeft64(s.v0, 32)
	s.v2 += s.v3
	s.v3 = bits.RotateLeft64(s.v3, 16) ^ s.v2
	s.v0 += s.v3
	s.v3 = bits.RotateLeft64(s.v3, 21) ^ s.v0
	s.v2 += s.v1
	s.v1 = bits.RotateLeft64(s.v1, 17) ^ s.v2
	s.v2 = bits.RotateLeft64(s.v2, 32)
}

func (s *sip) word(m uint64) {
	s.v3 ^= m
	s.round()
	s.round()
	s.v0 ^= m
}

// sum ends the message of n bytes, a multiple of 8.
func (s *sip) sum(n int) uint64 {
	s.word(uint64(n) << 56)
	s.v2 ^= 0xff
	for range 4 {
		s.round()
	}
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3
}
