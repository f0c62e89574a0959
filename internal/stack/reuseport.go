package stack

import (
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// boundTable finds the sockets bound to a port: one, or several that share it
// (SO_REUSEPORT).
type boundTable[T comparable] map[portKey][]boundSocket[T]

type boundSocket[T comparable] struct {
	socket T
	salt   uint64 // makes its share of the flows
	shared bool
}

// add enters v under all keys. false: another value has one of them, and the two do
// not share.
func (b boundTable[T]) add(keys []portKey, v T, shared bool) bool {
	for _, k := range keys {
		if l := b[k]; len(l) > 0 && !(shared && l[0].shared) {
			return false
		}
	}
	x := boundSocket[T]{v, rand.Uint64(), shared}
	for _, k := range keys {
		b[k] = append(b[k], x)
	}
	return true
}

// remove takes v out.
func (b boundTable[T]) remove(keys []portKey, v T) {
	for _, k := range keys {
		l := slices.DeleteFunc(b[k], func(x boundSocket[T]) bool { return x.socket == v })
		if b[k] = l; len(l) == 0 {
			delete(b, k)
		}
	}
}

// find returns the socket of k for the flow, else the zero T. Among sockets that
// share a port it is the one with the highest hash (rendezvous hashing): when a
// socket comes or goes, only its own flows move, so that the handshakes of the
// others complete.
func (b boundTable[T]) find(k portKey, seed maphash.Seed, local, remote netip.AddrPort) (v T) {
	l := b[k]
	switch len(l) {
	case 0:
		return v
	case 1:
		return l[0].socket
	}
	flow := flowHash(seed, local, remote)
	var most uint64
	for _, x := range l {
		if h := mix(flow ^ x.salt); h >= most {
			most, v = h, x.socket
		}
	}
	return v
}

// mix spreads the bits of x: the finalizer of a multiplicative hash.
func mix(x uint64) uint64 {
	for range 2 {
		x ^= x >> 32
		x *= 0xd6e8feb86659fd93
	}
	return x ^ x>>32
}
