package tcp

import (
	"syscall"
	"testing"
	"time"
)

// Section 3.5, figure 6: the basic handshake.
func TestRFC9293Connect(t *testing.T) {
	w := newWire(t, Config{})
	w.c.Connect(w.now)
	w.want("S 0:0")
	if w.last.Opt.MSS != 1460 || !w.last.Opt.SACKPermitted || !w.last.Opt.HasTS || w.last.Opt.WScale != 7 {
		t.Errorf("options %+v", w.last.Opt)
	}
	w.synAck()
	w.want("A 1:1")
	w.state(Established)
	if w.ev != EvConnected|EvWritable {
		t.Errorf("events %b", w.ev)
	}
}

// Section 3.5, figure 8, in all orders that its segments may come in.
func TestRFC9293SimultaneousOpen(t *testing.T) {
	for _, drop := range []int{0, 1, 2} {
		l := newLink(t, 1, &Config{}, &Config{}, Caps{MaxFrags: 1})
		l.a.c.Connect(l.now)
		l.b.c.Connect(l.now)
		n := drop
		l.filter = func(to *end, s *Segment) bool {
			if s.Flags.Has(FlagSYN|FlagACK) && n > 0 {
				n--
				return false
			}
			return true
		}
		if !l.run(30*sec, func() bool { return l.a.c.State() == Established && l.b.c.State() == Established }) {
			t.Fatalf("drop %d: %v %v", drop, l.a.c.State(), l.b.c.State())
		}
		l.transfer(50000, 50000, 0)
		l.finish()
	}
}

// Section 3.6, figure 13: both ends close at once, and both end in TIME-WAIT.
func TestRFC9293SimultaneousClose(t *testing.T) {
	l := newLink(t, 1, &Config{}, &Config{}, Caps{MaxFrags: 1})
	l.connect()
	l.a.c.Close(l.now)
	l.b.c.Close(l.now)
	l.run(sec, nil)
	if l.a.tw == nil || l.b.tw == nil {
		t.Fatalf("states %v %v", l.a.c.State(), l.b.c.State())
	}
}

// Section 3.6: every path through the closing states.
func TestRFC9293Close(t *testing.T) {
	t.Run("FIN-WAIT-1, FIN-WAIT-2, TIME-WAIT", func(t *testing.T) {
		w := dial(t, Config{})
		w.c.Close(w.now)
		w.want("FA 1:1")
		w.state(FinWait1)
		w.feed("A", 1, 2, 0)
		w.state(FinWait2)
		w.feed("FA", 1, 2, 0)
		w.want("A 2:2")
		w.state(TimeWaiting)
		if w.ev&(EvTimeWait|EvClosed) != EvTimeWait {
			t.Errorf("events %b", w.ev)
		}
	})
	t.Run("FIN and its ACK in one segment", func(t *testing.T) {
		w := dial(t, Config{})
		w.c.Close(w.now)
		w.want("FA 1:1")
		w.feed("FA", 1, 2, 0)
		w.want("A 2:2")
		w.state(TimeWaiting)
	})
	t.Run("CLOSING", func(t *testing.T) {
		w := dial(t, Config{})
		w.c.Close(w.now)
		w.want("FA 1:1")
		w.feed("FA", 1, 1, 0)
		w.want("A 2:2")
		w.state(Closing)
		w.feed("A", 2, 2, 0)
		w.state(TimeWaiting)
	})
	t.Run("CLOSE-WAIT, LAST-ACK", func(t *testing.T) {
		w := dial(t, Config{})
		w.feed("FA", 1, 1, 0)
		w.want("A 1:2")
		w.state(CloseWait)
		if _, eof, _ := w.c.Read(make([]byte, 1)); !eof {
			t.Error("no end of stream")
		}
		w.write(10)
		w.want("PA 1:2 len 10")
		w.c.Close(w.now)
		w.want("FA 11:2")
		w.state(LastAck)
		w.feed("A", 2, 12, 0)
		w.state(Closed)
		w.err(nil)
		if w.ev&EvClosed == 0 {
			t.Error("no EvClosed")
		}
	})
	t.Run("FIN behind data", func(t *testing.T) {
		w := dial(t, Config{})
		w.c.Write(make([]byte, 1500))
		w.c.Close(w.now)
		w.want("A 1:1 len 1000", "FPA 1001:1 len 500")
		w.feed("A", 1, 1502, 0)
		w.state(FinWait2)
	})
	t.Run("SYN-SENT", func(t *testing.T) {
		w := newWire(t, Config{})
		w.c.Connect(w.now)
		w.c.Close(w.now)
		w.want("S 0:0")
		w.state(Closed)
	})
	t.Run("orphan's FIN-WAIT-2 ends", func(t *testing.T) {
		w := dial(t, Config{})
		w.c.Close(w.now)
		w.feed("A", 1, 2, 0)
		w.want("FA 1:1")
		w.advance(59 * sec)
		w.state(FinWait2)
		w.advance(2 * sec)
		w.state(Closed)
	})
	t.Run("both directions shut", func(t *testing.T) {
		w := dial(t, Config{})
		w.c.CloseRead()
		w.feed("PA", 1, 1, 100) // only one is shut: the data is kept
		w.c.CloseWrite(w.now)
		w.want("FA 1:101")
		w.feed("A", 101, 2, 0)
		w.state(FinWait2)
		w.feed("PA", 1, 2, 100) // a repetition is no new data
		w.state(FinWait2)
		w.out = nil
		w.feed("PA", 101, 2, 100)
		w.want("R 2:0")
		w.state(Closed)
		if err := w.c.Err(); err != syscall.ECONNRESET || w.h.Stats.TCPAbortOnData != 1 {
			t.Errorf("error %v, TCPAbortOnData %d", err, w.h.Stats.TCPAbortOnData)
		}
	})
	t.Run("half close stays", func(t *testing.T) {
		w := dial(t, Config{})
		w.c.CloseWrite(w.now)
		w.feed("A", 1, 2, 0)
		w.want("FA 1:1")
		w.advance(3600 * sec)
		w.state(FinWait2)
		w.feed("PA", 1, 2, 100)
		if n := w.read(200); n != 100 {
			t.Errorf("read %d", n)
		}
		if n := w.c.Write([]byte("x")); n != 0 {
			t.Error("wrote after CloseWrite")
		}
	})
	t.Run("retransmitted FIN", func(t *testing.T) {
		w := dial(t, Config{})
		w.c.Close(w.now)
		w.want("FA 1:1")
		w.advance(300 * ms)
		w.want("FA 1:1")
		w.feed("A", 1, 2, 0)
		w.state(FinWait2)
	})
}

// Section 3.6.1, as Linux: closing with data unread resets.
func TestRFC9293CloseUnread(t *testing.T) {
	w := dial(t, Config{})
	w.feed("PA", 1, 1, 100)
	w.c.Close(w.now)
	w.want("RA 1:101")
	w.state(Closed)
}

// Section 3.6.1: data for a connection that was closed resets.
func TestRFC9293DataAfterClose(t *testing.T) {
	w := dial(t, Config{})
	w.c.Close(w.now)
	w.feed("A", 1, 2, 0)
	w.want("FA 1:1")
	w.feed("PA", 1, 2, 10)
	w.want("R 2:0")
	w.state(Closed)
}

func TestLinger(t *testing.T) {
	w := dial(t, Config{})
	w.c.SetLinger(0)
	w.write(10)
	w.c.Close(w.now)
	w.want("PA 1:1 len 10", "RA 11:1")
	w.state(Closed)
}

func TestAbort(t *testing.T) {
	w := dial(t, Config{})
	w.c.Abort(w.now)
	w.want("RA 1:1")
	w.state(Closed)
	w.err(syscall.ECONNABORTED)
}

// Section 3.10.7.3: answers in SYN-SENT.
func TestRFC9293SynSent(t *testing.T) {
	open := func(t *testing.T) *wire {
		w := newWire(t, Config{})
		w.c.Connect(w.now)
		w.want("S 0:0")
		return w
	}
	t.Run("refused", func(t *testing.T) {
		w := open(t)
		w.in("RA", 0, 1, 0)
		w.state(Closed)
		w.err(syscall.ECONNREFUSED)
	})
	t.Run("RST of another connection", func(t *testing.T) {
		w := open(t)
		w.in("RA", 0, 7, 0)
		w.in("R", 0, 1, 0)
		w.state(SynSent)
		w.want()
	})
	t.Run("bad ACK", func(t *testing.T) {
		w := open(t)
		w.in("SA", 0, 7, 0)
		w.in("A", 0, 9, 0)
		w.state(SynSent)
		w.want("R 7:0", "R 9:0")
	})
	t.Run("no SYN", func(t *testing.T) {
		w := open(t)
		w.in("A", 0, 1, 0)
		w.state(SynSent)
		w.want()
	})
	t.Run("echo of a timestamp never sent", func(t *testing.T) {
		w := open(t)
		w.in("SA", 0, 1, 0, tsecr(w.lastTS+1000))
		w.state(SynSent)
		w.want("R 1:0")
	})
	t.Run("timeout", func(t *testing.T) {
		w := open(t)
		start := w.now
		w.advance(126 * sec)
		w.want("S 0:0", "S 0:0", "S 0:0", "S 0:0", "S 0:0", "S 0:0")
		w.state(SynSent)
		w.advance(2 * sec)
		w.err(syscall.ETIMEDOUT)
		if w.now-start > 130*sec {
			t.Error("too late")
		}
	})
	t.Run("timeout after ICMP while the ring is full", func(t *testing.T) {
		w := newWire(t, Config{})
		w.full = true
		w.c.Connect(w.now)
		w.advance(1005 * ms)
		w.full = false
		w.advance(10 * ms)
		w.want("S 0:0")
	})
}

// Section 3.10.7.4: the segments that are answered in the synchronized states.
func TestRFC9293Acceptability(t *testing.T) {
	w := dial(t, Config{RcvBuf: 8192, NoWindowScale: true}, wscale(-1))
	w.feed("PA", 1, 1, 100)
	w.advance(50 * ms)
	w.want("A 1:101")

	w.feed("PA", 1, 1, 100) // all old
	w.want("A 1:101 sack 1-101")
	w.feed("PA", 51, 1, 100) // half old
	w.want("A 1:151 sack 51-101")
	w.feed("PA", 20000, 1, 100) // beyond the window
	w.want("A 1:151")
	w.feed("A", 20000, 1, 0)
	w.want("A 1:151")
	w.feed("P", 151, 1, 100) // no ACK
	w.want()

	// The edges, in segments that acknowledge something: one that begins where
	// the window ends is taken (as Linux), and one that ends with what was
	// acknowledged.
	for _, tt := range []struct {
		seq uint32
		ok  bool
	}{{150, false}, {151, true}, {151 + w.c.openWindow(), true}, {152 + w.c.openWindow(), false}} {
		una := w.c.sndUna
		w.write(10)
		w.feed("A", tt.seq, w.c.sndNxt-w.iss, 0)
		if ok := w.c.sndUna != una; ok != tt.ok {
			t.Errorf("segment %d: taken %v", tt.seq, ok)
		}
		w.now += oowInterval
	}
	w.out = nil
	if n := w.read(1000); n != 150 {
		t.Errorf("read %d", n)
	}
}

// Section 3.8.6: the window never shrinks, data above it is refused.
func TestRFC9293ReceiveWindow(t *testing.T) {
	w := dial(t, Config{RcvBuf: 4096, NoWindowScale: true}, wscale(-1))
	for i := range uint32(4) {
		w.feed("A", 1+1000*i, 1, 1000)
	}
	w.feed("PA", 4001, 1, 96)
	w.advance(100 * ms)
	if last := w.wnds[len(w.wnds)-1]; last != 0 {
		t.Errorf("window %d, want 0", last)
	}
	w.out, w.wnds = nil, nil
	w.feed("PA", 4097, 1, 1) // probe
	w.want("A 1:4097")
	w.read(10) // not worth a segment: silly window avoidance, section 3.8.6.2.2
	w.c.Output(w.now)
	w.feed("PA", 4097, 1, 1)
	if w.wnds[0] != 0 {
		t.Errorf("window %d after reading 10 bytes", w.wnds[0])
	}
	w.want("A 1:4097")
	w.read(3000)
	if len(w.wnds) != 1 || w.wnds[0] < 3000 {
		t.Errorf("windows %v after reading 3000 bytes", w.wnds)
	}
	w.want("A 1:4097")
	// A smaller buffer does not take the window back.
	edge := w.c.rcvAdv
	w.c.SetRcvBuf(4096 / 2)
	w.feed("A", 4097, 1, 1000)
	w.advance(50 * ms)
	if w.c.rcvAdv != edge {
		t.Errorf("window moved by %d", int32(w.c.rcvAdv-edge))
	}
}

// Section 3.10.7.4: of data that begins in front of a window that is shut
// nothing is kept, not even an empty frame.
func TestRFC9293ShutWindowOverlap(t *testing.T) {
	w := dial(t, Config{RcvBuf: 4096, NoWindowScale: true}, wscale(-1))
	for i := range uint32(4) {
		w.feed("A", 1+1000*i, 1, 1000)
	}
	w.feed("PA", 4001, 1, 96)
	w.advance(100 * ms)
	w.read(4096)
	w.c.rcvAdv = w.c.rcvNxt // shut, with nothing to read
	w.out, w.wnds = nil, nil
	w.feed("PA", 4096, 1, 2)
	w.want("A 1:4097 sack 4096-4097")
	if w.c.Readable() {
		t.Error("there is something to read")
	}
	if n := w.read(10); n != 0 {
		t.Errorf("read %d bytes", n)
	}
}

// Section 3.8.6.1: zero-window probes back off, and never give up while the
// peer answers.
func TestRFC9293ZeroWindowProbe(t *testing.T) {
	w := dial(t, Config{})
	w.feed("A", 1, 1, 0, wnd(0))
	w.write(100)
	w.want()
	var at []int64
	for range 20 {
		d := w.c.Deadline()
		at = append(at, (d-w.now)/ms)
		w.advance(d - w.now)
		w.want("A 0:1")
		w.feed("A", 1, 1, 0, wnd(0))
	}
	if at[0] > 1000 || at[1] < at[0]*2-1 || at[2] < at[1]*2-1 || at[19] > 120001 {
		t.Errorf("probes after %v ms", at)
	}
	w.state(Established)
	w.feed("A", 1, 1, 0, wnd(1000))
	w.want("PA 1:1 len 100")
}

func TestZeroWindowUnanswered(t *testing.T) {
	w := dial(t, Config{})
	w.feed("A", 1, 1, 0, wnd(0))
	w.write(100)
	w.advance(3600 * sec)
	w.state(Closed)
	w.err(syscall.ETIMEDOUT)
}

// Attack 16: a peer that answers probes but never reads does not hold a
// connection that was closed, or one with a user timeout.
func TestZeroWindowHeld(t *testing.T) {
	for _, user := range []bool{false, true} {
		w := dial(t, Config{})
		if user {
			w.c.SetUserTimeout(30 * 1e9)
		}
		w.feed("A", 1, 1, 0, wnd(0))
		w.write(100)
		if !user {
			w.c.Close(w.now)
		}
		start := w.now
		for w.c.State() != Closed && w.now-start < 4000*sec {
			w.advance(w.c.Deadline() - w.now)
			w.feed("A", 1, 1, 0, wnd(0))
		}
		d := (w.now - start) / sec
		if w.c.State() != Closed || user && (d < 30 || d > 31) || d > 300 {
			t.Errorf("user timeout %v: %v after %d s", user, w.c.State(), d)
		}
	}
}

// Section 3.8.6.2.1: the sender does not send less than half of the largest window,
// unless the persist timer expired.
func TestRFC9293SenderSWS(t *testing.T) {
	w := dial(t, Config{})
	w.feed("A", 1, 1, 0, wnd(100))
	w.write(1000)
	w.want()
	w.advance(300 * ms)
	w.want("A 1:1 len 100")
	w.feed("A", 1, 101, 0, wnd(2000))
	w.want("PA 101:1 len 900")
}

// Nagle's algorithm, as Minshall amended it.
func TestNagle(t *testing.T) {
	w := dial(t, Config{})
	w.write(10)
	w.want("PA 1:1 len 10")
	w.write(10)
	w.write(10)
	w.want()
	w.feed("A", 1, 11, 0)
	w.want("PA 11:1 len 20")
	w.write(1000) // a full segment goes; tops up nothing that is in flight
	w.want("PA 31:1 len 1000")
	w.feed("A", 1, 1031, 0)
	w.write(1500) // Minshall: full segments in flight do not hold back a small one
	w.want("A 1031:1 len 1000", "PA 2031:1 len 500")
	w.c.SetNoDelay(true)
	w.write(1)
	w.want("PA 2531:1 len 1")
}

// Section 3.8.3 and Linux: retransmissions back off, then ETIMEDOUT.
func TestRFC9293DataTimeout(t *testing.T) {
	w := dial(t, Config{})
	w.write(10)
	start := w.now
	for w.c.State() == Established {
		w.advance(sec)
	}
	w.err(syscall.ETIMEDOUT)
	if d := (w.now - start) / sec; d < 800 || d > 1100 {
		t.Errorf("gave up after %d s", d)
	}
	if len(w.out) != 2+dataRetries+1 { // with a loss probe
		t.Errorf("sent %v", w.out)
	}
	w.out = nil
}

// RFC 5482, as TCP_USER_TIMEOUT.
func TestUserTimeout(t *testing.T) {
	w := dial(t, Config{UserTimeout: 5e9})
	w.write(10)
	w.advance(4900 * ms)
	w.state(Established)
	w.advance(200 * ms)
	w.state(Closed)
	w.err(syscall.ETIMEDOUT)
}

// A device that takes nothing, with nothing in flight whose retransmission
// would end the connection.
func TestDeviceRefuses(t *testing.T) {
	for _, c := range []struct {
		limit, ends int64
	}{{3 * sec, 3 * sec}, {0, 900 * sec}} {
		w := dial(t, Config{UserTimeout: time.Duration(c.limit)})
		w.full = true
		w.write(10)
		w.advance(c.ends - 20*ms)
		w.state(Established)
		w.advance(520 * ms)
		w.state(Closed)
		w.err(syscall.ETIMEDOUT)
	}
	// A device that takes it late does no harm.
	w := dial(t, Config{UserTimeout: 3e9})
	w.full = true
	w.write(10)
	w.advance(2900 * ms)
	if n := w.c.Info(w.now).Probes; n < 5 {
		t.Errorf("asked %d times in 2.9 s", n)
	}
	w.full = false
	w.advance(10 * ms)
	w.want("PA 1:1 len 10")
	w.feed("A", 1, 11, 0)
	w.advance(10 * sec)
	w.state(Established)
	w.want()
}

// Section 3.8.4.
func TestRFC9293KeepAlive(t *testing.T) {
	k := KeepAlive{Enable: true, Idle: 10e9, Interval: 1e9, Count: 3}
	t.Run("dead", func(t *testing.T) {
		w := dial(t, Config{KeepAlive: k})
		w.advance(10500 * ms)
		w.want("A 0:1")
		w.advance(2 * sec)
		w.want("A 0:1", "A 0:1")
		w.advance(sec)
		w.want("RA 1:1")
		w.err(syscall.ETIMEDOUT)
	})
	t.Run("alive", func(t *testing.T) {
		w := dial(t, Config{})
		w.c.SetKeepAlive(k, w.now)
		for range 5 {
			w.advance(10500 * ms)
			w.want("A 0:1")
			w.feed("A", 1, 1, 0)
		}
		w.advance(5 * sec)
		w.feed("PA", 1, 1, 1) // a sign of life
		w.advance(6 * sec)
		w.want("A 1:2")
		w.advance(4500 * ms)
		w.want("A 0:2")
	})
	t.Run("zero window", func(t *testing.T) {
		// A sender that waits for the window probes it already, and gives up later.
		w := dial(t, Config{KeepAlive: KeepAlive{Enable: true, Idle: 1e9, Interval: 1e9, Count: 1}})
		w.feed("A", 1, 1, 0, wnd(0))
		w.write(10)
		w.advance(60 * sec)
		w.state(Established)
		if n := w.h.Stats.TCPKeepAlive.Load(); n != 0 || len(w.out) == 0 {
			t.Errorf("%d keepalive probes, sent %q", n, w.out)
		}
		// When all is acknowledged the peer is watched again.
		w.feed("A", 1, 1, 0)
		w.feed("A", 1, 11, 0)
		w.out = nil
		w.advance(3500 * ms)
		w.err(syscall.ETIMEDOUT)
		w.out = nil
	})
	t.Run("answer", func(t *testing.T) {
		w := dial(t, Config{})
		w.feed("A", 0, 1, 0)
		w.want("A 1:1")
	})
}

// TCP_USER_TIMEOUT, where set, decides instead of the number of probes, sooner
// or later, as on Linux: a probe was sent, and the silence is that long.
func TestRFC5482KeepAlive(t *testing.T) {
	for _, tt := range []struct {
		limit time.Duration
		count int
		dies  int64
	}{{3500 * time.Millisecond, 100, 4 * sec}, {20 * time.Second, 2, 20 * sec}, {time.Second / 2, 100, 2 * sec}} {
		w := dial(t, Config{UserTimeout: tt.limit, KeepAlive: KeepAlive{Enable: true, Idle: 1e9, Interval: 1e9, Count: tt.count}})
		w.advance(tt.dies - 10*ms)
		w.state(Established)
		w.advance(20 * ms)
		w.err(syscall.ETIMEDOUT)
		w.out = nil
	}
}
