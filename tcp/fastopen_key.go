package tcp

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
)

// FastOpenKey is a secret, as Linux holds it, that servers share so that each
// accepts the cookies of the others.
type FastOpenKey [16]byte

// FastOpenKeys are the first N of Keys. The first one makes cookies; those of the
// second are accepted too.
type FastOpenKeys struct {
	Keys [2]FastOpenKey
	N    int
}

// NewFastOpenKeys makes keys of the bytes that TCP_FASTOPEN_KEY has, 16 for each
// key. ok is false where b is not one or two keys.
func NewFastOpenKeys(b []byte) (k FastOpenKeys, ok bool) {
	const size = len(FastOpenKey{})
	if k.N = len(b) / size; k.N < 1 || k.N > len(k.Keys) || len(b)%size != 0 {
		return FastOpenKeys{}, false
	}
	for i := range k.N {
		copy(k.Keys[i][:], b[size*i:])
	}
	return k, true
}

// Bytes returns the keys as NewFastOpenKeys takes them.
func (k *FastOpenKeys) Bytes() (b []byte) {
	for i := range k.N {
		b = append(b, k.Keys[i][:]...)
	}
	return b
}

var errFastOpenKey = errors.New("a key for Fast Open is four hexadecimal numbers of at most 8 digits, a-b-c-d; a second key, of older cookies, may follow a comma")

// ParseFastOpenKeys reads one key, or two, as Linux's sysctl
// net.ipv4.tcp_fastopen_key has them. Its errors do not quote the secret.
func ParseFastOpenKeys(s string) (FastOpenKeys, error) {
	var b []byte
	for _, t := range strings.Split(s, ",") {
		words := strings.Split(t, "-")
		if len(words) != 4 {
			return FastOpenKeys{}, errFastOpenKey
		}
		for _, w := range words {
			n, err := strconv.ParseUint(w, 16, 32)
			if err != nil || len(w) > 8 {
				return FastOpenKeys{}, errFastOpenKey
			}
			b = binary.LittleEndian.AppendUint32(b, uint32(n))
		}
	}
	k, ok := NewFastOpenKeys(b)
	if !ok {
		return k, errFastOpenKey
	}
	return k, nil
}

// cookie is the cookie of a client (p.Remote) as Linux computes it: SipHash of the
// two addresses as they are in the IP header, its lowest byte first.
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

// newFastOpenCookie is the cookie that a client is given.
func (l *Listener) newFastOpenCookie(p *Pair, now int64) [maxFastOpen]byte {
	if k := &l.cfg.FastOpenKeys; k.N > 0 {
		return k.Keys[0].cookie(p)
	}
	return l.h.fastOpenCookie(p, period(now))
}

// oldFastOpenCookie is the cookie that the client may have been given before.
func (l *Listener) oldFastOpenCookie(p *Pair, now int64) [maxFastOpen]byte {
	if k := &l.cfg.FastOpenKeys; k.N > 0 {
		return k.Keys[k.N-1].cookie(p)
	}
	return l.h.fastOpenCookie(p, period(now)-1)
}
