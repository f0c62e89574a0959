package tcp

import (
	"net/netip"
	"syscall"
	"testing"
)

// TCP_FASTOPEN_NO_COOKIE, of a client: data leaves without a cookie, and one that
// the server offers is not kept. Still a path that drops the SYN is remembered.
func TestRFC7413ClientNoCookie(t *testing.T) {
	cfg := Config{FastOpenConnect: true, FastOpenNoCookie: true, NoDelay: true}
	w := newWire(t, cfg)
	w.c.Connect(w.now)
	w.want()
	w.write(2000)
	w.want("S 0:0 len 1420")
	w.synAckAt(1421, func(s *Segment) {
		s.Opt.FastOpen = fastOpenOurs
		copy(s.Opt.FastOpenCookie[:], "12345678")
	})
	w.want("PA 1421:1 len 580")
	w.again(cfg)
	w.write(2000)
	w.want("S 0:0 len 972") // what the server accepted before
	w.synAckAt(1)
	w.want("A 1:1 len 1000", "PA 1001:1 len 1000")
	w.again(cfg)
	w.write(100)
	w.want("S 0:0 len 100")
	w.advance(1100 * ms)
	w.want("S 0:0")
	w.synAck()
	w.want("PA 1:1 len 100")
	w.again(cfg)
	w.want("S 0:0")
	w.now += 2 * fastOpenPause
	w.again(Config{})
	w.want("S 0:0 fo")
}

// Data that was cut for the SYN is cut again for the path. Otherwise the last
// segment would wait behind one that is not full (Nagle).
func TestRFC7413Requeue(t *testing.T) {
	w := fastWire(t, Config{})
	w.write(1900)
	w.want("S 0:0 len 972 fo 12345678")
	w.synAckAt(973, mss(1400+tsSize))
	w.want("PA 973:1 len 928")
	// Two of those are one now.
	w.again(Config{})
	w.write(2500)
	w.want("S 0:0 len 1372 fo 12345678")
	w.synAckAt(1, mss(500+tsSize))
	w.want("A 1:1 len 500", "A 501:1 len 500", "A 1001:1 len 500", "A 1501:1 len 500", "PA 2001:1 len 500")
	if e := w.c.inconsistent(); e != "" {
		t.Error(e)
	}
}

// A writer of more than the SYN takes does not wait for an acknowledgement: the
// data to come carries it (as Linux).
func TestRFC7413Dialogue(t *testing.T) {
	for _, c := range []struct {
		n    int
		want []string
	}{
		{500, []string{"A 501:101"}},
		{1000, nil},
	} {
		w := fastWire(t, Config{})
		w.write(c.n)
		w.synAckAt(uint32(min(c.n, 972)) + 1)
		w.out = nil
		w.feed("PA", 1, uint32(c.n)+1, 100)
		w.want(c.want...)
	}
}

// RFC 9293 section 3.10.7.3: a SYN-ACK may carry text, and FIN.
func TestRFC9293SynAckFIN(t *testing.T) {
	for _, fl := range []string{"SFA", "SFPA"} {
		w := newWire(t, Config{})
		w.c.Connect(w.now)
		w.want("S 0:0")
		w.feed(fl, 0, 1, 100, mss(1000+tsSize), wscale(0), sackOK(true))
		w.want("A 1:102")
		w.state(CloseWait)
		if n := w.read(200); n != 100 {
			t.Errorf("read %d bytes", n)
		}
		w.c.Close(w.now)
		w.want("FA 1:102")
	}
	// Without an acknowledgement it is no answer, nor an open.
	w := newWire(t, Config{})
	w.c.Connect(w.now)
	w.want("S 0:0")
	w.feed("SF", 0, 0, 0)
	w.want()
	w.state(SynSent)
	for fl, want := range map[Flags]bool{
		FlagSYN | FlagFIN | FlagACK: true, FlagSYN | FlagFIN: false, FlagSYN | FlagRST: false,
		FlagSYN | FlagRST | FlagACK: false, FlagFIN: false, FlagFIN | FlagPSH | FlagURG: false, 0: false,
		FlagSYN: true, FlagSYN | FlagACK: true, FlagRST: true, FlagFIN | FlagACK: true,
	} {
		if fl.Sane() != want {
			t.Errorf("%v: %v", fl, fl.Sane())
		}
	}
}

// TCP_SYNCNT.
func TestSYNRetries(t *testing.T) {
	for retries, secs := range map[int]int64{0: 127, 1: 3, 2: 7} {
		w := newWire(t, Config{SYNRetries: retries})
		w.c.Connect(w.now)
		w.advance((secs - 1) * sec)
		w.state(SynSent)
		w.advance(sec + 1)
		w.err(syscall.ETIMEDOUT)
	}
	w := newWire(t, Config{})
	w.c.Connect(w.now)
	w.c.SetSYNRetries(1)
	w.advance(3*sec + 1)
	w.err(syscall.ETIMEDOUT)
}

// Section 4.2.2: the window of a SYN counts data, and so does the congestion
// window: the SYN-ACK in flight takes nothing of them.
func TestRFC7413ServerWindow(t *testing.T) {
	b := newBench(t, 8, Config{FastOpen: 4})
	b.keep = true
	k := b.askCookie(testRemote)
	for _, wnd := range []uint16{14480, 65535} {
		syn := fastSYN(k)
		syn.Wnd, syn.Remote = wnd, netip.AddrPortFrom(testRemote.Addr(), wnd)
		b.in(syn, "x")
		b.one(FlagSYN | FlagACK)
		c := b.accepted[len(b.accepted)-1]
		c.Write(make([]byte, 20000))
		b.sent = nil
		c.Output(b.now)
		if n := len(b.sent); n != 10 || b.sent[n-1].Len != 1448 {
			t.Errorf("window %d: %d segments", wnd, n)
		}
	}
}
