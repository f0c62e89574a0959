package tcp

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
)

// FastOpenKey is a secret that servers share whose cookies for Fast Open are
// to be good at each other, as Linux holds it (TCP_FASTOPEN_KEY).
type FastOpenKey [16]byte

var errFastOpenKey = errors.New("a key for Fast Open is four hexadecimal numbers of at most 8 digits, a-b-c-d; a second key, of older cookies, may follow a comma")

// ParseFastOpenKeys reads one key, or two, as Linux's sysctl
// net.ipv4.tcp_fastopen_key has them: the first makes cookies, those of the
// second are taken too. Its errors do not quote the secret.
func ParseFastOpenKeys(s string) (keys []FastOpenKey, err error) {
	for _, t := range strings.Split(s, ",") {
		words := strings.Split(t, "-")
		if len(words) != 4 || len(keys) == 2 {
			return nil, errFastOpenKey
		}
		var k FastOpenKey
		for i, w := range words {
			n, err := strconv.ParseUint(w, 16, 32)
			if err != nil || len(w) > 8 || w[0] == '+' {
				return nil, errFastOpenKey
			}
			binary.LittleEndian.PutUint32(k[4*i:], uint32(n))
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// cookie is the cookie of a client (p.Remote) as Linux computes it: SipHash of
// the two addresses as they stand in the IP header, its bytes the lowest first.
func (k *FastOpenKey) cookie(p *Pair) (b [maxFastOpen]byte) {
	var a [32]byte
	n := 8
	if p.Local.Is4() {
		from, to := p.Remote.As4(), p.Local.As4()
		copy(a[:], from[:])
		copy(a[4:], to[:])
	} else {
		from, to := p.Remote.As16(), p.Local.As16()
		copy(a[:], from[:])
		n = copy(a[16:], to[:]) + 16
	}
	var msg [4]uint64
	for i := range n / 8 {
		msg[i] = binary.LittleEndian.Uint64(a[8*i:])
	}
	binary.LittleEndian.PutUint64(b[:], sipHash((*[16]byte)(k), msg[:n/8]))
	return b
}

// newCookie is the cookie that a client is given.
func (l *Listener) newCookie(p *Pair, now int64) [maxFastOpen]byte {
	if keys := l.cfg.FastOpenKeys; len(keys) > 0 {
		return keys[0].cookie(p)
	}
	return l.h.fastOpenCookie(p, period(now))
}

// oldCookie is the one that it may have been given before.
func (l *Listener) oldCookie(p *Pair, now int64) [maxFastOpen]byte {
	if keys := l.cfg.FastOpenKeys; len(keys) > 0 {
		return keys[len(keys)-1].cookie(p)
	}
	return l.h.fastOpenCookie(p, period(now)-1)
}
