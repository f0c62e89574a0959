package tcp

import "testing"

// Packets that the device cuts are as large as the path is fast (Linux's
// tcp_tso_autosize).
func TestAutosize(t *testing.T) {
	for _, c := range []struct {
		rtt  int64 // us
		cwnd int   // segments
		slow bool  // in slow start, far from ssthresh
		want int   // bytes
	}{
		{100, 10, true, autosizeGSO},
		{511, 10, true, autosizeGSO},
		{600, 100, true, autosizeGSO/2 + 2*100_000*1000/600},
		{1100, 100, false, autosizeGSO/4 + 120_000*1000/1100},
		{100_000, 10, true, 2000},             // at least two segments
		{100_000, 1000, true, 20_000},         // 2 MB in 100 ms
		{100_000, 1000, false, 12_000},        // 1.2 MB
		{17_000, 1000, false, 1_200_000 / 17}, // far enough for no more
	} {
		w := dial(t, Config{NoTimestamps: true}, mss(1000))
		w.c.rtt.Init()
		w.c.rtt.Sample(c.rtt*1000, w.now, 1, 1)
		w.c.cc.SetCwnd(uint32(c.cwnd * 1000))
		if !c.slow {
			w.c.cc.ssthresh = w.c.cc.cwnd
		}
		if got := w.c.autosize(); got < c.want*99/100 || got > c.want*101/100 {
			t.Errorf("RTT %d us, cwnd %d, slow start %v: %d bytes, want %d", c.rtt, c.cwnd, c.slow, got, c.want)
		}
	}
}

// A write on a slow path leaves in packets of two segments, on a fast one in
// one packet.
func TestAutosizePackets(t *testing.T) {
	for rtt, want := range map[int64][]string{
		100_000: {"PA 1:1 len 2000", "PA 2001:1 len 2000", "PA 4001:1 len 1500"},
		100:     {"PA 1:1 len 5000", "PA 5001:1 len 500"},
	} {
		w := dial(t, Config{NoTimestamps: true}, mss(1000))
		w.h.TSOFrags = maxFrags
		w.c.SetTSO(1 << 16)
		w.c.rtt.Init()
		w.c.rtt.Sample(rtt*1000, w.now, 1, 1)
		w.out = nil
		w.write(5500)
		w.want(want...)
	}
}

// TestSetTSO: new data leaves in packets for the device that the path has now.
func TestSetTSO(t *testing.T) {
	w := dial(t, Config{NoTimestamps: true}, mss(1000))
	w.h.TSOFrags = maxFrags
	w.c.rtt.Init()
	w.c.rtt.Sample(100_000, w.now, 1, 1)
	for _, step := range []struct {
		tso  int
		want []string
	}{
		{0, []string{"A 1:1 len 1000", "PA 1001:1 len 1000"}},
		{1 << 20, []string{"PA 2001:1 len 2000"}},
		{-1, []string{"A 4001:1 len 1000", "PA 5001:1 len 1000"}},
		{1500, []string{"A 6001:1 len 1000", "PA 7001:1 len 1000"}}, // no room for two segments
	} {
		w.c.SetTSO(step.tso)
		w.out = nil
		w.write(2000)
		w.want(step.want...)
	}
}
