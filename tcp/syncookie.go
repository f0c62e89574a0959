package tcp

import "net/netip"

// SYN cookies (RFC 4987 section 3.6): when the SYN queue is full, a SYN costs
// no memory at all. What the entry would hold is put into the initial
// sequence number, as in Linux:
//
//	ISN = hash(addresses) + SEG.SEQ + minute<<24 + (hash(addresses, minute) + MSS<<22) mod 2^24
//
// and, where the peer sends timestamps, window scale, SACK and ECN into the low
// six bits of our timestamp, which it echoes.
const (
	synCookiePeriod = 60e9
	synCookieAge    = 2 // in periods, how long a cookie is good
	synCookieShift  = 22
)

// synCookieMSS are the segment sizes that a cookie can express. It has two bits for
// them, the upper two of 24, so that no number close to a good cookie is good too.
// More sizes would make guessing easier.
var synCookieMSS = [1 << (24 - synCookieShift)]uint16{536, 1220, 1440, 1460}

const (
	synCookieWSMask = 0xf // 15: no window scale
	synCookieSACK   = 1 << 4
	synCookieECN    = 1 << 5
	synCookieBits   = 0x3f
)

// hashSYNCookie and the hash of the minute share the key of the ISNs. The last word
// of the message distinguishes their uses.
const hashSYNCookie = 2

func synCookieHashes(key *[16]byte, local, remote netip.AddrPort, minute uint32) (fixed, timed uint32) {
	return uint32(hashPair(key, local, remote, hashSYNCookie)),
		uint32(hashPair(key, local, remote, hashSYNCookie|1<<8|uint64(minute)<<32))
}

// cookie is the initial sequence number for a SYN with sequence number irs
// from a peer that accepts segments of mss bytes.
func (h *Host) synCookie(local, remote netip.AddrPort, irs uint32, mss uint16, now int64) uint32 {
	var i uint32
	for n := range synCookieMSS {
		if synCookieMSS[n] <= mss {
			i = uint32(n)
		}
	}
	minute := uint32(now / synCookiePeriod)
	fixed, timed := synCookieHashes(&h.ISNKey, local, remote, minute)
	return fixed + irs + minute<<24 + (timed+i<<synCookieShift)&0xffffff
}

// openSYNCookie returns the MSS in a cookie. ok is false if the cookie is not ours
// or too old.
func (h *Host) openSYNCookie(local, remote netip.AddrPort, irs, cookie uint32, now int64) (mss uint16, ok bool) {
	minute := uint32(now / synCookiePeriod)
	fixed, _ := synCookieHashes(&h.ISNKey, local, remote, minute)
	rest := cookie - fixed - irs
	age := (minute - rest>>24) & 0xff
	if age >= synCookieAge {
		return 0, false
	}
	_, timed := synCookieHashes(&h.ISNKey, local, remote, minute-age)
	i := (rest - timed) & 0xffffff
	if i&(1<<synCookieShift-1) != 0 {
		return 0, false
	}
	return synCookieMSS[i>>synCookieShift], true
}

// synCookieTimestamp is the latest timestamp, before the offset, that is not in the
// future and has the options in its low bits.
func synCookieTimestamp(now int64, options uint32) uint32 {
	ts := timestamp(now)
	v := ts&^synCookieBits | options
	if seqGT(v, ts) {
		v -= synCookieBits + 1
	}
	return v
}
