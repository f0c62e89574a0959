package tcp

import (
	"math"
	"testing"
	"time"
)

func TestInfo(t *testing.T) {
	w := dial(t, Config{})
	i := w.c.Info(w.now)
	if i.State != Established || i.Congestion != "cubic" || i.SendMSS != 1000 || i.PathMTU != 1500 || !i.SACK ||
		!i.Timestamps || i.SendScale != 0 || i.RecvScale != 7 || i.Cwnd != 10000 || i.Ssthresh != math.MaxUint32 ||
		i.SendWindow != 65535 || i.RTT != 10*time.Millisecond || i.MinRTT != i.RTT || i.RTTVar != 5*time.Millisecond ||
		i.RTO != 210*time.Millisecond || i.SegsIn != 1 || i.SegsOut != 2 {
		t.Errorf("%+v", i)
	}
	w.write(3000)
	w.feed("A", 1, 1, 500)
	if i = w.c.Info(w.now); i.InFlight != 3000 || i.BytesSent != 3000 || i.BytesAcked != 0 || i.Unread != 500 || i.BytesReceived != 500 {
		t.Errorf("%+v", i)
	}
	w.write(8000)
	w.now += 10 * ms
	w.feed("A", 501, 1, 0, w.sack(1001, 5001))
	if i = w.c.Info(w.now); i.Recovery != "recovery" || i.SACKed != 4000 || i.BytesDelivered != 4000 || i.BytesAcked != 0 ||
		i.BytesRetrans != 1000 || i.TotalRetrans != 1 || i.Lost != 1000 || i.Ssthresh != 7000 ||
		i.BytesSent != uint64(i.InFlight)+1000 || i.InFlight+i.Unsent != 11000 {
		t.Errorf("%+v", i)
	}
	w.feed("A", 501, 9001, 0)
	if i = w.c.Info(w.now); i.Recovery != "recovery" || i.BytesAcked != 9000 || i.BytesDelivered != 9000 || i.Lost != 0 {
		t.Errorf("%+v", i)
	}
	w.read(500)
	w.c.Close(w.now)
	w.c.Output(w.now)
	w.feed("A", 501, 11001, 0)
	if i = w.c.Info(w.now); i.State != FinWait1 || i.InFlight != 0 || i.BytesAcked != 11000 || i.BytesSent != 12000 {
		t.Errorf("%+v", i)
	}
	w.feed("A", 501, 11002, 0)
	if i = w.c.Info(w.now); i.State != FinWait2 || i.BytesAcked != 11000 || i.BytesSent != 12000 || i.Limit != LimitIdle {
		t.Errorf("%+v", i)
	}
	w.out = nil
}

// The reasons that keep the sender from sending, and for how long.
func TestInfoLimit(t *testing.T) {
	w := dial(t, Config{SndBuf: 20000})
	limit := func(want Limit) {
		t.Helper()
		if i := w.c.Info(w.now); i.Limit != want {
			t.Errorf("limited by %v, want %v\n%+v", i.Limit, want, i)
		}
	}
	limit(LimitIdle)
	w.advance(5 * ms)
	w.write(500)
	limit(LimitApplication)
	w.advance(10 * ms)
	w.write(500)
	limit(LimitApplication) // Nagle
	w.advance(ms)
	w.feed("A", 1, 501, 0, wnd(4000))
	w.feed("A", 1, 1001, 0, wnd(4000))
	w.write(10000)
	limit(LimitReceiver)
	w.advance(20 * ms)
	w.feed("A", 1, 2001, 0, wnd(60000))
	limit(LimitApplication)
	w.write(10000)
	limit(LimitCwnd)
	w.advance(7 * ms)
	w.c.cc.SetCwnd(100000)
	w.write(10000)
	limit(LimitSendBuffer)
	w.advance(3 * ms)
	w.c.SetMaxPacingRate(1e6)
	w.feed("A", 1, 9001, 0, wnd(60000))
	w.write(10000)
	limit(LimitPacing)
	w.now += 2 * ms // nothing may leave
	i := w.c.Info(w.now)
	for _, x := range []struct {
		name      string
		got, want time.Duration
	}{
		{"busy", i.BusyTime, 43 * time.Millisecond}, {"receiver", i.ReceiverLimited, 20 * time.Millisecond},
		{"cwnd", i.CwndLimited, 7 * time.Millisecond}, {"send buffer", i.SendBufferLimited, 3 * time.Millisecond},
		{"pacing", i.PacingLimited, 2 * time.Millisecond},
	} {
		if x.got != x.want {
			t.Errorf("%s: %v, want %v", x.name, x.got, x.want)
		}
	}
	w.out = nil
}

func TestLimitString(t *testing.T) {
	for l := range limits {
		if l.String() == "invalid" || l.String() == "" {
			t.Errorf("limit %d has no name", l)
		}
	}
	if limits.String() != "invalid" {
		t.Error(limits)
	}
}

// A FIN that is acknowledged ends what Info counts as busy.
func TestInfoBusyUntilFIN(t *testing.T) {
	w := dial(t, Config{})
	w.c.Info(w.now)
	w.write(10)
	w.c.CloseWrite(w.now)
	w.advance(10 * ms)
	w.feed("A", 1, 12, 0)
	w.state(FinWait2)
	w.advance(60 * sec)
	if d := w.c.Info(w.now).BusyTime; d != 10*time.Millisecond {
		t.Errorf("busy for %v", d)
	}
	w.out = nil
}

// A connection's counts stay known after its end.
func TestInfoAfterEnd(t *testing.T) {
	w := dial(t, Config{})
	w.c.Info(w.now)
	w.write(5000)
	w.now += 10 * ms
	w.feed("A", 1, 1001, 0, w.sack(2001, 4001))
	retrans := w.c.Info(w.now).BytesRetrans
	w.now += 10 * ms
	w.in("R", 1, 0, 0)
	w.now += 60 * sec
	i := w.c.Info(w.now)
	if i.State != Closed || i.BytesAcked != 1000 || i.BytesSent != 5000+retrans || i.InFlight != 0 || i.SACKed != 0 {
		t.Errorf("%+v", i)
	}
	if i.BusyTime != 10*time.Millisecond {
		t.Errorf("busy for %v", i.BusyTime)
	}
	w = dial(t, Config{})
	w.feed("FA", 1, 1, 0)
	w.write(10)
	w.c.Close(w.now)
	w.feed("A", 2, 12, 0)
	if i = w.c.Info(w.now); i.State != Closed || i.BytesAcked != 10 || i.BytesSent != 10 {
		t.Errorf("%+v", i)
	}
	w.out = nil
}
