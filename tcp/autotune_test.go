package tcp

import "testing"

// stream has a write to b, which reads all, for d; it returns the bytes read.
func (l *link) stream(d int64) (n int) {
	b := make([]byte, 64<<10)
	end := l.now + d
	l.run(d, func() bool {
		for l.a.c.Write(b) > 0 {
		}
		l.a.c.Output(l.now)
		for {
			k, _, update := l.b.c.Read(b)
			if update {
				l.b.c.WindowUpdate(l.now)
			}
			if k == 0 {
				break
			}
			n += k
		}
		return l.now >= end
	})
	return n
}

// Buffers grow to what a long path needs, and on a short one not at all.
func TestAutoTuning(t *testing.T) {
	l := newLink(t, 1, &Config{}, &Config{}, Caps{MaxFrags: 4})
	l.delay = 50 * ms
	l.single = true // the reader keeps up
	l.connect()
	l.stream(4 * sec)
	most := uint32(l.a.c.mostBuf())
	if got := l.b.c.rcvLimit.Load(); got != most || most <= DefaultBuf {
		t.Errorf("receive buffer %d, can be %d", got, most)
	}
	if got := l.a.c.sndLimit.Load(); got <= DefaultBuf || got > most {
		t.Errorf("send buffer %d, can be %d", got, most)
	}
	tuned := l.stream(2 * sec)
	l.b.c.SetRcvBuf(DefaultBuf)
	l.a.c.SetSndBuf(DefaultBuf)
	l.stream(sec)
	if fixed := l.stream(2 * sec); tuned < fixed*23/20 {
		t.Errorf("%d bytes in 20 round trips, %d with the buffers of the beginning", tuned, fixed)
	}

	l = newLink(t, 1, &Config{}, &Config{}, Caps{MaxFrags: 4})
	l.connect()
	l.stream(sec / 4)
	if r, s := l.b.c.rcvLimit.Load(), l.a.c.sndLimit.Load(); r != DefaultBuf || s != DefaultBuf {
		t.Errorf("buffers %d and %d for a path of 0.2 ms", r, s)
	}
}

// A buffer that was set stays as it is, as with SO_RCVBUF and SO_SNDBUF.
func TestAutoTuningOff(t *testing.T) {
	for name, set := range map[string]func(l *link){
		"config":  nil,
		"options": func(l *link) { l.b.c.SetRcvBuf(DefaultBuf); l.a.c.SetSndBuf(DefaultBuf) },
	} {
		cfg := Config{}
		if set == nil {
			cfg.RcvBuf, cfg.SndBuf = DefaultBuf, DefaultBuf
		}
		l := newLink(t, 1, &cfg, &cfg, Caps{MaxFrags: 4})
		l.delay = 50 * ms
		l.connect()
		if set != nil {
			set(l)
		}
		l.stream(2 * sec)
		if r, s := l.b.c.rcvLimit.Load(), l.a.c.sndLimit.Load(); r != DefaultBuf || s != DefaultBuf {
			t.Errorf("%s: buffers %d and %d", name, r, s)
		}
	}
}

// Without an RTT sample of its own a receiver goes by the timestamps that come
// back.
func TestAutoTuningEcho(t *testing.T) {
	l := newLink(t, 1, &Config{}, &Config{}, Caps{MaxFrags: 4})
	l.delay = 50 * ms
	l.connect()
	l.b.c.rtt.Init()
	l.stream(4 * sec)
	if got := l.b.c.rcvLimit.Load(); got <= DefaultBuf {
		t.Errorf("receive buffer %d", got)
	}
}

// A reader that does not read gets no larger buffer.
func TestAutoTuningIdleReader(t *testing.T) {
	l := newLink(t, 1, &Config{}, &Config{}, Caps{MaxFrags: 4})
	l.delay = 50 * ms
	l.connect()
	b := make([]byte, 64<<10)
	l.run(5*sec, func() bool {
		for l.a.c.Write(b) > 0 {
		}
		return false
	})
	if got := l.b.c.rcvLimit.Load(); got != DefaultBuf {
		t.Errorf("receive buffer %d", got)
	}
	if _, n := l.b.c.rcvUsed.load(); n > DefaultBuf+1<<l.b.c.rcvWS {
		t.Errorf("%d bytes unread", n)
	}
}

// The send buffer does not grow where the peer's window holds the stream back,
// nor on a path so short that it could not.
func TestAutoTuningSendLimits(t *testing.T) {
	for _, tt := range []struct {
		wnd  uint32
		rtt  int64
		want uint32
	}{{20000, 10 * ms, 40000}, {10000, 10 * ms, 10000}, {20000, ms / 2, 10000}} {
		w := dial(t, Config{})
		w.c.sndLimit.Store(10000)
		w.c.cc.SetCwnd(20000)
		w.write(10000)
		w.c.rtt = RTT{srtt: tt.rtt, rttv: 200 * ms, least: tt.rtt}
		w.c.sndWnd = tt.wnd
		w.c.tuneSnd()
		if got := w.c.sndLimit.Load(); got != tt.want {
			t.Errorf("window %d, RTT %d us: buffer %d, want %d", tt.wnd, tt.rtt/1000, got, tt.want)
		}
		w.out = nil
	}
}
