package engine

import (
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/onload-go/onload/internal/event"
	"github.com/onload-go/onload/internal/stack"
)

// A counter that grows fast is logged once in five minutes; one that grows slowly, or
// not, never.
func TestWatch(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	w := &watch{e: &Engine{log: zap.New(core)}}
	start := time.Unix(1e9, 0)
	was := &seen{at: start}
	var st stack.Stats
	step := func(after time.Duration, cookies, bogus uint64) int {
		st.TCP.SyncookiesSent.Add(cookies)
		st.RxBogus += bogus
		n := &seen{at: start.Add(after), stats: st, said: was.said}
		if n.said == nil {
			n.said = map[string]time.Time{}
		}
		w.compare("a,b", was, n)
		was = n
		return logs.Len()
	}
	for i, s := range []struct {
		after          time.Duration
		cookies, bogus uint64
		logged         int
	}{
		{10 * time.Second, 500, 0, 0},
		{20 * time.Second, 1000, 999, 1},
		{30 * time.Second, 5000, 0, 1},
		{40 * time.Second, 0, 5000, 2},
		{20*time.Second + alarmAgain, 1e6, 0, 3},
	} {
		if n := step(s.after, s.cookies, s.bogus); n != s.logged {
			t.Errorf("step %d: %d entries, want %d", i, n, s.logged)
		}
	}
	e := logs.All()[0]
	f := e.ContextMap()
	if f["event"] != string(event.CounterHigh) || f["counter"] != "TCP.SyncookiesSent" || f["interface"] != "a,b" || f["rate"] != uint64(100) {
		t.Errorf("%v", f)
	}
}

// Each reason is logged once, and not without end.
func TestNotes(t *testing.T) {
	var n notes
	if !n.fresh("a") || n.fresh("a") || !n.fresh("b") {
		t.Error("a reason is fresh once")
	}
	fresh := 0
	for i := range 2 * mostNotes {
		if n.fresh(string(rune(0x1000 + i))) {
			fresh++
		}
	}
	if fresh != mostNotes-2 {
		t.Errorf("%d reasons more, want %d", fresh, mostNotes-2)
	}
}
