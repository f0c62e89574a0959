package tcp

import (
	"fmt"
	"testing"

	"github.com/onload-go/onload/ring"
)

// pump is an application at one end: it writes a known stream and checks what
// it reads.
type pump struct {
	e           *end
	write       int // bytes to write yet
	wrote, read int
	chunk       int // largest Write
	slow        float64
	eof, closed bool
	closeAtEnd  bool
	buf         []byte
}

func pattern(i int) byte { return byte(i*7 + i>>8*13 + i>>16) }

func (p *pump) run() {
	e, c, l := p.e, &p.e.c, p.e.l
	for p.write > 0 {
		n := min(p.write, 1+l.rng.IntN(p.chunk))
		b := p.buf[:n]
		for i := range b {
			b[i] = pattern(p.wrote + i)
		}
		k := c.Write(b)
		p.wrote += k
		p.write -= k
		if k < n {
			break
		}
	}
	if p.write == 0 && p.closeAtEnd && !p.closed {
		p.closed = true
		c.CloseWrite(l.now)
	}
	c.Output(l.now)
	if p.slow > 0 && l.rng.Float64() < p.slow {
		return
	}
	for !p.eof {
		n, eof, update := c.Read(p.buf[:1+l.rng.IntN(len(p.buf))])
		for i, v := range p.buf[:n] {
			if v != pattern(p.read+i) {
				l.t.Fatalf("%s: byte %d is %d, want %d", e.name, p.read+i, v, pattern(p.read+i))
			}
		}
		p.read += n
		p.eof = eof
		if update {
			c.WindowUpdate(l.now)
		}
		if n == 0 {
			break
		}
	}
	e.check()
}

// transfer moves na bytes from a to b and nb back, and closes both.
func (l *link) transfer(na, nb int, slow float64) {
	l.t.Helper()
	pa := &pump{e: l.a, write: na, chunk: 20000, buf: make([]byte, 20000), slow: slow, closeAtEnd: true}
	pb := &pump{e: l.b, write: nb, chunk: 20000, buf: make([]byte, 20000), slow: slow, closeAtEnd: true}
	limit := l.now + 3600*sec
	for !pa.eof || !pb.eof {
		pa.run()
		pb.run()
		if pa.eof && pb.eof {
			break
		}
		// A reader that had no mind to read tries again later.
		if !l.step(l.now+10*ms) && l.now >= limit {
			l.t.Fatalf("stuck: a wrote %d read %d, b wrote %d read %d\na %+v\nb %+v",
				pa.wrote, pa.read, pb.wrote, pb.read, l.a.c.Info(l.now), l.b.c.Info(l.now))
		}
		for _, e := range []*end{l.a, l.b} {
			if err := e.c.Err(); err != nil {
				l.t.Fatalf("%s: %v; a read %d, b read %d", e.name, err, pa.read, pb.read)
			}
		}
	}
	if pa.read != nb || pb.read != na {
		l.t.Fatalf("a read %d of %d, b read %d of %d", pa.read, nb, pb.read, na)
	}
}

// finish closes both ends and waits until the protocol is done.
func (l *link) finish() {
	l.t.Helper()
	l.a.c.Close(l.now)
	l.b.c.Close(l.now)
	over := func(e *end) bool { return e.ev&(EvClosed|EvTimeWait) != 0 }
	if !l.run(1000*sec, func() bool { return over(l.a) && over(l.b) }) {
		l.t.Fatalf("not closed: %v %v", l.a.c.State(), l.b.c.State())
	}
	for _, e := range []*end{l.a, l.b} {
		if e.ev&EvClosed != 0 && e.ev&EvTimeWait != 0 {
			l.t.Errorf("%s: both EvClosed and EvTimeWait", e.name)
		}
	}
	l.run(sec, nil)
}

func TestTransfer(t *testing.T) {
	for name, cfg := range map[string]Config{
		"default":   {},
		"nosack":    {NoSACK: true},
		"nots":      {NoTimestamps: true},
		"nows":      {NoWindowScale: true},
		"bare":      {NoSACK: true, NoTimestamps: true, NoWindowScale: true},
		"nodelay":   {NoDelay: true},
		"newreno":   {Congestion: "newreno"},
		"smallbuf":  {RcvBuf: 8192, SndBuf: 8192},
		"jumbo":     {MTU: 9000},
		"mtu576":    {MTU: 576},
		"jumbobare": {MTU: 9000, NoTimestamps: true, NoSACK: true},
	} {
		t.Run(name, func(t *testing.T) {
			for _, caps := range []Caps{{MaxFrags: 1}, {MaxFrags: 17}, {MaxFrags: 20, TSO: 65535}, {MaxFrags: 3, TSO: 65000, TSOFrags: 48}, {MaxFrags: 17, TxCsum: true}} {
				t.Run(fmt.Sprintf("%+v", caps), func(t *testing.T) {
					l := newLink(t, 1, &cfg, &cfg, caps)
					l.connect()
					l.transfer(1<<20, 300000, 0)
					l.finish()
					if l.a.c.retransmitted()+l.b.c.retransmitted() != 0 {
						t.Errorf("%d and %d retransmissions on a perfect link", l.a.c.retransmitted(), l.b.c.retransmitted())
					}
				})
			}
		})
	}
}

// RFC 9293 is to deliver the stream over a link that loses, reorders and
// duplicates, in both directions.
func TestTransferImpaired(t *testing.T) {
	seeds, size := 60, 100000
	if testing.Short() {
		seeds = 10
	}
	if *long {
		seeds = 1000
	}
	for seed := range seeds {
		cfg := Config{
			NoSACK: seed%5 == 1, NoTimestamps: seed%7 == 1, NoDelay: seed%2 == 0,
			NoWindowScale: seed%11 == 3,
		}
		if seed%3 == 2 {
			cfg.MTU = 9000
		}
		if seed%4 == 3 {
			cfg.RcvBuf, cfg.SndBuf = 16384, 16384
		}
		if seed%6 == 5 {
			cfg.Congestion = "newreno"
		}
		caps := Caps{MaxFrags: 1 + seed%20}
		if seed%8 == 7 {
			caps.TSO = 65535
		}
		if seed%8 == 3 || seed%8 == 4 {
			caps.TSO, caps.TSOFrags = 65513, 48
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := newLink(t, uint64(seed), &cfg, &cfg, caps)
			l.loss, l.reorder, l.dup, l.corrupt = 0.05, 0.05, 0.05, 0.01
			l.refuse = 0.02
			l.nicHold = l.rng.Int64N(500e3)
			l.connect()
			slow := 0.0
			if seed%2 == 1 {
				slow = 0.5
			}
			l.transfer(size, size/2, slow)
			l.finish()
		})
	}
}

// A frame that is in the NIC's ring when it is to be retransmitted must not
// get a new header.
func TestRetransmitWhileInNIC(t *testing.T) {
	l := newLink(t, 3, &Config{}, &Config{}, Caps{MaxFrags: 4})
	l.connect()
	l.nicHold = 10 * sec
	drop := 5
	l.filter = func(to *end, s *Segment) bool {
		if to == l.b && s.Len > 0 && drop > 0 {
			drop--
			return false
		}
		return true
	}
	inNIC := 0
	l.transfer(200000, 0, 0)
	for range l.a.held {
		inNIC++
	}
	if inNIC == 0 || l.a.c.retransmitted() == 0 {
		t.Errorf("%d frames in the NIC, %d retransmissions", inNIC, l.a.c.retransmitted())
	}
	l.nicHold = 0
	l.finish()
	l.run(20*sec, nil)
}

var _ = ring.NoFrame
