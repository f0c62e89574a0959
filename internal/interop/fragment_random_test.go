package interop

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
	onload "github.com/onload-go/onload/net"
)

// fragmentCase is a random sequence of fragments of some datagrams: piece i is of the
// datagram ids[i].
type fragmentCase struct {
	pieces []piece
	ids    []int
}

func (c *fragmentCase) String() string {
	var b strings.Builder
	for i, p := range c.pieces {
		fmt.Fprintf(&b, " %d:%d-%d", c.ids[i], p.off, p.off+len(p.data))
		if p.more {
			b.WriteByte('+')
		}
	}
	return b.String()
}

// randomFragments makes a case of datagrams to port. Some are as they should be,
// others have fragments twice, too few, cut otherwise, of no length, of an odd one,
// or beyond what a datagram can have.
func randomFragments(r *rand.Rand, src, dst netip.AddrPort, fill byte) (c fragmentCase) {
	for id := range 1 + r.IntN(3) {
		data := bytes.Repeat([]byte{fill, byte(id)}, 50+r.IntN(1000))
		for i := range data {
			data[i] += byte(i >> 3)
		}
		l4 := udpBytes(src, dst, data)
		size := len(l4)
		all := append(l4, make([]byte, 1<<17)...)
		ps := pieces(l4, 8*(1+r.IntN(80)))
		if len(ps) > 40 {
			ps = pieces(l4, 8*80)
		}
		switch r.IntN(4) {
		case 0:
			slices.Reverse(ps)
		case 1:
			r.Shuffle(len(ps), func(i, j int) { ps[i], ps[j] = ps[j], ps[i] })
		}
		for range r.IntN(4) {
			at := r.IntN(len(ps))
			p := ps[at]
			switch r.IntN(8) {
			case 0: // twice
			case 1: // missing
				ps = slices.Delete(ps, at, at+1)
				if len(ps) == 0 {
					return c
				}
				continue
			case 2: // cut otherwise
				p.off = 8 * r.IntN(size/8)
				p.data, p.more = all[p.off:p.off+8*(1+r.IntN(100))], true
			case 3: // another end
				end := min(p.off+1+r.IntN(600), max(size, p.off+1))
				p.data, p.more = all[p.off:end], r.IntN(2) == 0
			case 4: // nothing
				p.data, p.more = nil, r.IntN(2) == 0
			case 5: // more, of an odd length
				p.data, p.more = all[p.off:p.off+1+r.IntN(700)], true
			case 6: // too far
				p.off = 65528 - 8*r.IntN(100)
				p.data, p.more = all[:1+r.IntN(800)], r.IntN(2) == 0
			case 7: // within what is there
				p.more = true
				if n := len(p.data) / 8; n > 1 {
					k := r.IntN(n)
					p.data = p.data[8*k : 8*(k+1+r.IntN(n-k))]
					p.off = min(p.off+8*k, 65528)
				}
			}
			ps = slices.Insert(ps, r.IntN(len(ps)+1), p)
		}
		for _, p := range ps {
			c.pieces, c.ids = append(c.pieces, p), append(c.ids, id)
		}
	}
	if r.IntN(2) == 0 { // the datagrams between each other
		at := r.Perm(len(c.pieces))
		slices.SortStableFunc(at, func(a, b int) int { return a%7 - b%7 })
		var m fragmentCase
		for _, i := range at {
			m.pieces, m.ids = append(m.pieces, c.pieces[i]), append(m.ids, c.ids[i])
		}
		return m
	}
	return c
}

// reader is one end of the comparison: a socket, and the wire to it.
type reader struct {
	c        net.PacketConn
	w        *wire
	from, to *lab.NS
	src, dst netip.AddrPort
}

// deliver sends the case and then a whole datagram, and returns what the socket
// reads before that.
func (e *reader) deliver(t testing.TB, c *fragmentCase, id uint32) (got [][]byte) {
	for i, p := range c.pieces {
		e.w.send(p.frame(e.from, e.to, e.src.Addr(), e.dst.Addr(), 17, id+uint32(c.ids[i])))
	}
	end := fmt.Sprintf("end %d", id)
	l4 := udpBytes(e.src, e.dst, []byte(end))
	e.w.send(whole(e.from, e.to, e.src.Addr(), e.dst.Addr(), l4))
	for {
		b := slices.Clone(readOne(t, e.c))
		if string(b) == end {
			return got
		}
		got = append(got, b)
	}
}

// whole is the frame of a datagram that is no fragment.
func whole(from, to *lab.NS, src, dst netip.Addr, l4 []byte) []byte {
	p := piece{0, l4, false}
	b := p.frame(from, to, src, dst, 17, 0)
	if src.Is4() {
		return b
	}
	b = append(b[:14+40], b[14+48:]...) // without the fragment header
	b[14+6], b[14+4], b[14+5] = 17, byte(len(l4)>>8), byte(len(l4))
	return b
}

// TestFragmentsAsKernel: of random fragments, good and bad, in any order, a socket of
// ours reads the same datagrams as the kernel's (attacks 11, 12). With -long there are
// thousands of cases.
func TestFragmentsAsKernel(t *testing.T) {
	for _, fam := range families {
		t.Run(fam.name, func(t *testing.T) { testFragmentsAsKernel(t, fam) })
	}
}

// oneProcessor keeps the test's thread on one processor. The kernel's backlog is a
// processor's: what the thread sends then comes in order. The thread ends with the
// test.
func oneProcessor(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	var cpus, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &cpus); err != nil {
		t.Fatal(err)
	}
	for i := range len(cpus) * 64 {
		if cpus.IsSet(i) {
			one.Set(i)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
}

func testFragmentsAsKernel(t *testing.T, fam family) {
	oneProcessor(t)
	var ends [2]reader
	for i := range ends {
		p := lab.NewPair(t, lab.Options{Neighbors: true})
		for _, key := range []string{"net/ipv4/ipfrag_high_thresh", "net/ipv6/ip6frag_high_thresh"} {
			if err := p.A.Sysctl(key, "268435456"); err != nil { // what never becomes whole is held long
				t.Fatal(err)
			}
		}
		var e packetHost = p.A
		if i == 0 {
			e = engine(t, p.A, func(c *onload.Config) { c.Mode = onload.ModeNative })
		}
		dst, src := netip.AddrPortFrom(fam.addr(p.A), 1001), netip.AddrPortFrom(fam.addr(p.B), 9)
		c, err := e.ListenPacket("udp", dst.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		ends[i] = reader{c, wireOf(t, p.B), p.B, p.A, src, dst}
	}
	cases := testlong.Pick(300, 10_000)
	if testing.Short() {
		cases = 50
	}
	delivered := 0
	for seed := range cases {
		r := rand.New(rand.NewPCG(uint64(seed), 7))
		c := randomFragments(r, ends[0].src, ends[0].dst, byte(seed))
		id := uint32(seed * 4)
		ours, kernels := ends[0].deliver(t, &c, id), ends[1].deliver(t, &c, id)
		delivered += len(kernels)
		if !slices.EqualFunc(ours, kernels, bytes.Equal) {
			t.Errorf("seed %d: %d datagrams, the kernel %d:%v", seed, len(ours), len(kernels), &c)
		}
		if t.Failed() && seed > 20 {
			t.FailNow()
		}
	}
	if delivered < cases/2 {
		t.Errorf("%d datagrams of %d cases: nothing is compared", delivered, cases)
	}
}
