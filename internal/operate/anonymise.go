package operate

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// anonymiser replaces addresses by others, the same ones each time. Two addresses that
// have a prefix in common have a prefix of that length in common afterwards, so that
// subnets are recognised (Crypto-PAn: Xu, Fan, Ammar and Moon, "Prefix-Preserving IP
// Address Anonymization", ICNP 2002). Without the key it is not undone.
type anonymiser struct {
	block cipher.Block
	pad   [16]byte
}

// newAnonymiser takes a key of 32 bytes.
func newAnonymiser(key []byte) (*anonymiser, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("a key has 32 bytes, this one %d", len(key))
	}
	b, err := aes.NewCipher(key[:16])
	if err != nil {
		return nil, err
	}
	a := &anonymiser{block: b}
	b.Encrypt(a.pad[:], key[16:])
	return a, nil
}

// bits replaces b. Bit n of the result depends on bit n and those before it only.
func (a *anonymiser) bits(b []byte) []byte {
	out := make([]byte, len(b))
	for n := range len(b) * 8 {
		in := a.pad
		for i := range n { // the first n bits are the address's, the others the pad's
			mask := byte(0x80) >> (i % 8)
			in[i/8] = in[i/8]&^mask | b[i/8]&mask
		}
		in[15] ^= byte(n) // where the prefix ends counts too
		var enc [16]byte
		a.block.Encrypt(enc[:], in[:])
		mask := byte(0x80) >> (n % 8)
		out[n/8] |= (b[n/8] ^ enc[0]>>7<<(7-n%8)) & mask
	}
	return out
}

// addr replaces an address. The unspecified and the loopback address say nothing.
func (a *anonymiser) addr(ip netip.Addr) netip.Addr {
	if ip.IsUnspecified() || ip.IsLoopback() {
		return ip
	}
	if ip.Is4() || ip.Is4In6() {
		b := ip.Unmap().As4()
		return netip.AddrFrom4([4]byte(a.bits(b[:])))
	}
	b := ip.As16()
	return netip.AddrFrom16([16]byte(a.bits(b[:]))).WithZone(ip.Zone())
}

var (
	macs      = regexp.MustCompile(`\b[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}\b`)
	addresses = regexp.MustCompile(`[0-9A-Fa-f:.]*[:.][0-9A-Fa-f:.]+`)
)

// text replaces all addresses of a text: IPv4, IPv6 and link-layer ones.
func (a *anonymiser) text(s string) string {
	// A replaced MAC is not read again as an address: it is none of IPv6.
	s = macs.ReplaceAllStringFunc(s, func(m string) string {
		b := make([]byte, 0, 6)
		for part := range strings.SplitSeq(m, ":") {
			var n byte
			_, _ = fmt.Sscanf(part, "%x", &n) // two digits: it matched
			b = append(b, n)
		}
		b = a.bits(b)
		return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
	})
	return addresses.ReplaceAllStringFunc(s, func(w string) string {
		trimmed := strings.TrimRight(w, ".:")
		for _, candidate := range []string{w, trimmed} {
			rest := w[len(candidate):]
			if ip, err := netip.ParseAddr(candidate); err == nil {
				return a.addr(ip).String() + rest
			}
			if ap, err := netip.ParseAddrPort(candidate); err == nil {
				return netip.AddrPortFrom(a.addr(ap.Addr()), ap.Port()).String() + rest
			}
		}
		return w
	})
}
