package tcp

import (
	"bytes"
	"encoding"
	"math"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// FuzzFreeze has connections change hands at both ends, at any moment of any
// transfer. Each byte of ops is one thing to do.
func FuzzFreeze(f *testing.F) {
	f.Add(uint64(1), []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11})
	f.Add(uint64(5), []byte{0, 2, 4, 2, 5, 2, 8, 2, 4, 2, 5, 2, 9, 2, 4, 5, 2, 2, 2})
	f.Add(uint64(15), []byte{1, 1, 2, 6, 7, 2, 4, 8, 2, 4, 2, 5, 2, 9, 2, 5, 4, 2})
	f.Fuzz(func(t *testing.T, seed uint64, ops []byte) {
		if len(ops) > 500 {
			return
		}
		l := frozenLink(t, seed%1024)
		pa := &pump{e: l.a, chunk: 20000, buf: make([]byte, 20000)}
		pb := &pump{e: l.b, chunk: 20000, buf: make([]byte, 20000)}
		wrote := [2]int{}
		for _, op := range ops {
			n := int(op>>4)*700 + 1
			switch op % 12 {
			case 0:
				if !pa.closeAtEnd {
					pa.write += n
					wrote[0] += n
				}
			case 1:
				if !pb.closeAtEnd {
					pb.write += n
					wrote[1] += n
				}
			case 2, 3:
				for range n {
					if !l.step(l.now + ms) {
						break
					}
				}
			case 4:
				l.a.change(false)
			case 5:
				l.b.change(false)
			case 6:
				l.a.change(true)
			case 7:
				l.b.change(true)
			case 8:
				pa.closeAtEnd = true
			case 9:
				pb.closeAtEnd = true
			case 10:
				pa.run()
			case 11:
				pb.run()
			}
		}
		pa.closeAtEnd, pb.closeAtEnd = true, true
		for limit := l.now + 3600*sec; !pa.eof || !pb.eof; {
			pa.run()
			pb.run()
			if !pa.eof || !pb.eof {
				if !l.step(l.now+10*ms) && l.now >= limit {
					t.Fatalf("stuck\na %+v\nb %+v", l.a.c.Info(l.now), l.b.c.Info(l.now))
				}
			}
		}
		if pa.read != wrote[1] || pb.read != wrote[0] {
			t.Fatalf("read %d and %d, want %d and %d", pb.read, pa.read, wrote[0], wrote[1])
		}
		l.finish()
	})
}

// fullSnapshot has something in every field.
func fullSnapshot() *Snapshot {
	return &Snapshot{
		Local:  netip.MustParseAddrPort("[fe80::1%eth7]:80"),
		Remote: netip.MustParseAddrPort("[fe80::2%eth7]:50000"),
		State:  Closing, ReadClosed: true,
		SndUna: math.MaxUint32 - 2, SndNxt: 2, SndWnd: 70000, MaxSndWnd: 80000, SndWL1: 9,
		Send: []byte("hello"), SendFIN: true,
		RcvNxt: 10, RcvAcked: 8, RcvAdv: 100, Recv: []byte("world"), RecvFIN: true,
		SndScale: 7, RcvScale: 14, SACK: true, ECN: true, ECT: true, ECNEcho: true, ECNCWR: true,
		Timestamps: true, TSVal: 1, TSRecent: 2, TSRecentAge: time.Second,
		PeerMSS: 1440, SendMSS: 1428, RecvMSS: 1400, PathMTU: 1500,
		Options: SnapshotOptions{
			NoDelay: true, QuickAck: true, KeepAlive: KeepAlive{true, time.Minute, time.Second, 3}, Linger: 5,
			UserTimeout: time.Minute, RcvBuf: 1 << 20, SndBuf: 1 << 19, RcvFixed: true, SndFixed: true,
			Congestion: "newreno", MaxPacingRate: 1 << 40, MaxSeg: 1000, FinWait2: -time.Millisecond,
			KeepIdleCwnd: true, MTUProbing: MTUProbeOff, TOS: 0x10, TTL: 3, Mark: 77,
		},
		SoftErr: syscall.EHOSTUNREACH,
		Hints: SnapshotHints{
			RTT: 1, RTTVar: 2, MinRTT: 3, Cwnd: 4, Ssthresh: 5, Age: 6, DataAge: 7, Retries: 8, Backoff: 9, Probes: 10,
			KeepProbes: 11, Stuck: 12, Timeout: 19, AckDelay: 20, Probe: true, BytesAcked: 13, BytesReceived: 14, BytesRetrans: 15, SegsIn: 16, SegsOut: 17, SegsRetrans: 18, Passive: true,
		},
	}
}

var (
	_ encoding.BinaryAppender    = (*Snapshot)(nil)
	_ encoding.BinaryMarshaler   = (*Snapshot)(nil)
	_ encoding.BinaryUnmarshaler = (*Snapshot)(nil)
)

// FuzzSnapshot reads any bytes. What is accepted is the one form of what it says,
// and can be thawed, or is refused for want of frames.
func FuzzSnapshot(f *testing.F) {
	full, err := fullSnapshot().MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	w := dial(f, Config{})
	w.write(5000)
	w.feed("A", 1, 1, 700)
	s, err := w.c.Freeze(w.now)
	if err != nil {
		f.Fatal(err)
	}
	b, _ := s.MarshalBinary()
	f.Add(b)
	w.c.Resume(s)
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Snapshot
		if s.UnmarshalBinary(b) != nil {
			return
		}
		if again, err := s.MarshalBinary(); err != nil || !bytes.Equal(b, again) {
			t.Fatalf("%x is %+v, which is %x, %v", b, s, again, err)
		}
		w := newWire(t, Config{})
		w.c = Conn{}
		if err := w.c.Thaw(w.h, w, &Config{}, &s, w.now); err != nil {
			if err != ErrThawFrames {
				t.Fatal(err)
			}
			return
		}
		w.check()
		w.c.Output(w.now)
		w.check()
		w.advance(10 * sec)
		w.c.Abort(w.now)
	})
}
