package tcp

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Initial sequence numbers, timestamp offsets and SYN cookies come from
// SipHash-2-4 under keys from crypto/rand. hash/maphash would be as fast, but it
// promises nothing against an attacker that sees its outputs, as peers do here.

// ISN is the initial sequence number of a connection: a clock of 4 us a tick
// plus a keyed hash of the addresses (RFC 6528 section 3), so that it cannot
// be guessed and yet moves on between two connections of the same addresses.
func (h *Host) ISN(local, remote netip.AddrPort, now int64) uint32 {
	return uint32(now/4000) + uint32(hashPair(&h.ISNKey, local, remote, 0))
}

// TSOffset returns the shift of a connection's timestamps (RFC 7323 section 7). It
// is the same for the same addresses, so that PAWS and RFC 6191 work between one
// connection and the next.
func (h *Host) TSOffset(local, remote netip.AddrPort) uint32 {
	return uint32(hashPair(&h.TSKey, local, remote, 0))
}

// timestamp is the timestamp clock before the offset, in milliseconds.
func timestamp(now int64) uint32 { return uint32(now / 1e6) }

// hashPair hashes two endpoints and a word.
func hashPair(key *[16]byte, local, remote netip.AddrPort, extra uint64) uint64 {
	l, r := local.Addr().As16(), remote.Addr().As16()
	return sipHash(key, []uint64{
		binary.LittleEndian.Uint64(l[:]), binary.LittleEndian.Uint64(l[8:]),
		binary.LittleEndian.Uint64(r[:]), binary.LittleEndian.Uint64(r[8:]),
		uint64(local.Port())<<16 | uint64(remote.Port()), extra,
	})
}

// sipHash is SipHash-2-4 of a message of whole words.
func sipHash(key *[16]byte, msg []uint64) uint64 {
	k0, k1 := binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:])
	v0, v1 := k0^0x736f6d6570736575, k1^0x646f72616e646f6d
	v2, v3 := k0^0x6c7967656e657261, k1^0x7465646279746573
	for _, m := range msg {
		v3 ^= m
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0 ^= m
	}
	end := 8 * uint64(len(msg)) << 56 // the length's low byte, and no bytes left over
	v3 ^= end
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	v0 ^= end
	v2 ^= 0xff
	for range 4 {
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	}
	return v0 ^ v1 ^ v2 ^ v3
}

func sipRound(v0, v1, v2, v3 uint64) (uint64, uint64, uint64, uint64) {
	v0 += v1
	v2 += v3
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 = bits.RotateLeft64(v0, 32) + v3
	v2 += v1
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	return v0, v1, bits.RotateLeft64(v2, 32), v3
}
