package tcp

import (
	"container/heap"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// FuzzBetween: two stacks talk while somebody between them drops, repeats,
// delays and forges segments with right checksums, as the bytes say. Whatever
// happens to the stream, the accounts of both stay right, nothing loops, and
// every frame comes back.
func FuzzBetween(f *testing.F) {
	for seed := range uint64(32) {
		rng := rand.New(rand.NewPCG(seed, 5))
		b := make([]byte, 300)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		f.Add(b, uint8(seed))
	}
	f.Fuzz(func(t *testing.T, script []byte, mode uint8) {
		cfg := Config{
			NoDelay: mode&1 != 0, NoSACK: mode&2 != 0, NoTimestamps: mode&4 != 0,
			RcvBuf: 32 << 10, SndBuf: 32 << 10,
		}
		if mode&8 != 0 {
			cfg.Congestion, cfg.MTUProbing = "newreno", MTUProbeAlways
		}
		if mode&16 != 0 {
			cfg.ECN = ECNOn
		}
		l := newLink(t, uint64(mode), &cfg, &cfg, Caps{MaxFrags: 1 + int(mode>>4)})
		l.mark = 0.2
		l.connect()
		l.tap = func(to *end, b []byte) bool {
			if len(script) == 0 {
				return true
			}
			op := script[0]
			script = script[1:]
			switch {
			case op < 160:
				return true
			case op < 190:
				return false
			case op < 200:
				l.insert(to, b, int64(op-189)*10*ms)
				return false
			default:
				l.insert(to, to.other().sum(forge(append([]byte{}, b...), &script)), l.delay)
				return op&1 == 0
			}
		}
		buf := make([]byte, 4096)
		for turn := range 400 {
			for i, e := range []*end{l.a, l.b} {
				if e.c.State() >= Established && turn < 200 && turn%(i+2) == 0 {
					e.c.Write(buf[:1+turn*13%len(buf)])
				}
				if turn == 250+40*i {
					e.c.CloseWrite(l.now)
				}
				for {
					n, _, update := e.c.Read(buf)
					if update {
						e.c.WindowUpdate(l.now)
					}
					if n == 0 {
						break
					}
				}
				e.c.Output(l.now)
				e.check()
			}
			l.run(int64(1+turn%7)*ms, nil)
			if l.sent > 20000 {
				t.Fatalf("%d segments", l.sent)
			}
		}
		l.tap = nil
		l.a.c.Abort(l.now)
		l.b.c.Abort(l.now)
		l.run(sec, nil)
	})
}

// insert puts a segment on the link.
func (l *link) insert(to *end, b []byte, delay int64) {
	l.seq++
	heap.Push(&l.queue, packet{at: l.now + delay, seq: l.seq, to: to, b: append([]byte{}, b...)})
}

// forge changes a segment as the script says.
func forge(b []byte, script *[]byte) []byte {
	next := func() byte {
		if len(*script) == 0 {
			return 0
		}
		v := (*script)[0]
		*script = (*script)[1:]
		return v
	}
	add := func(at int) {
		d := int32(int8(next())) << (next() % 24)
		binary.BigEndian.PutUint32(b[at:], binary.BigEndian.Uint32(b[at:])+uint32(d))
	}
	switch next() % 6 {
	case 0:
		add(4) // sequence number
	case 1:
		add(8) // acknowledgement
	case 2:
		b[13] ^= next() // flags
	case 3:
		b[14], b[15] = next(), next() // window
	case 4:
		if hl := int(b[12]>>4) * 4; hl > headerSize { // options
			b[headerSize+int(next())%(hl-headerSize)] ^= next()
		}
	case 5: // SACK blocks of its own
		if hl := int(b[12]>>4) * 4; hl >= headerSize+tsSize {
			ack := binary.BigEndian.Uint32(b[8:])
			lo := ack + uint32(next())<<(next()%12)
			putSACK(b[headerSize:], []SACKBlock{{lo, lo + uint32(next())<<(next()%12)}})
		}
	}
	return b
}
